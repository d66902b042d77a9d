import { COMMON_FLAGS, type Command } from './command.ts';
import { envName, type Flag, flagName, PROJECT_FILE } from './flags.ts';
import { table } from './format.ts';
import type { Program } from './program.ts';

const EXIT_CODES = [
  ['0', 'all done'],
  ['1', 'a bug in nightshift'],
  ['2', 'usage: a flag, a path or a manifest'],
  ['3', 'finished, but some slides or tiles failed'],
  ['4', 'configuration: model, permissions, a record of another recipe'],
  ['5', 'a dependency is down or the disk is full: try again'],
  ['130', 'interrupted; the same command goes on'],
] as const;

/** `<program> --help` */
export function overview({ name, about, examples, commands }: Program): string[] {
  return [
    `${name}: ${about}`,
    '',
    'Examples',
    ...indent(examples),
    '',
    'Commands',
    ...indent(table(commands.map((command) => [`${command.name} ${command.args.usage}`.trim(), command.about]))),
    '',
    'Everywhere',
    ...indent(
      table([
        ['--help', `help of a command: ${name} ${commands[0]?.name} --help`],
        ['--json', COMMON_FLAGS.json.about],
        ['--quiet', COMMON_FLAGS.quiet.about],
        ['--version', 'the version'],
      ]),
    ),
    '',
    'Exit codes',
    ...indent(table(EXIT_CODES)),
    '',
    `A setting is taken from its flag, else its variable NIGHTSHIFT_<FLAG>, else ${PROJECT_FILE} in this folder.`,
  ];
}

/** `<program> <command> --help` */
export function commandHelp(program: string, command: Command): string[] {
  const { name, about, args, examples, flags, details = [] } = command;
  const required = Object.entries(flags).filter(([, flag]) => flag.required);
  const usage = [program, name, args.usage, ...required.map(([key, flag]) => synopsis(key, flag)), '[flags]'];
  return [
    about,
    '',
    'Examples',
    ...indent(table(examples.map(([line, what]) => [line, `# ${what}`]))),
    '',
    'Usage',
    ...indent([usage.filter((part) => part !== '').join(' ')]),
    '',
    'Flags',
    ...indent(
      table(Object.entries({ ...flags, ...COMMON_FLAGS }).map(([key, flag]) => [label(key, flag), line(key, flag)])),
    ),
    ...details.flatMap((paragraph) => ['', paragraph]),
  ];
}

const synopsis = (key: string, flag: Flag<unknown>): string =>
  flag.placeholder === null ? flagName(key) : `${flagName(key)} ${flag.placeholder}`;

const label = (key: string, flag: Flag<unknown>): string =>
  `${flag.short === undefined ? '' : `-${flag.short}, `}${synopsis(key, flag)}`;

function line(key: string, flag: Flag<unknown>): string {
  const shown = flag.defaultText ?? (flag.placeholder === null || flag.many ? null : flag.fallback);
  const fallback = flag.required || shown === null ? '' : ` (default: ${shown})`;
  const variable = key in COMMON_FLAGS ? '' : ` [${envName(key)}]`;
  return `${flag.about}${flag.many ? '; may be repeated' : ''}${fallback}${variable}`;
}

const indent = (lines: readonly string[]): string[] => lines.map((text) => `  ${text}`);
