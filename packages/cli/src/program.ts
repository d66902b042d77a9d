import { isNightshiftError, NightshiftError, toErrorRecord } from '@nightshift/core';
import { COMMON_FLAGS, type Command, type ExitCode, type Outcome } from './command.ts';
import { readFlags, unknown } from './flags.ts';
import { commandHelp, overview } from './help.ts';
import { onSignals } from './signals.ts';
import { errorLines, openTerminal, type Terminal } from './terminal.ts';

/** A command line program: many commands, or one without a name. */
export interface Program {
  readonly name: string;
  readonly about: string;
  readonly version: string;
  /** Lines of the overview. */
  readonly examples: readonly string[];
  /** One command with the empty name makes a program without commands. */
  readonly commands: readonly Command[];
}

/** Version of the objects that --json prints. */
const JSON_VERSION = 1;

/** Runs the program on this process: arguments -> command -> exit code. */
export async function runProgram(program: Program): Promise<void> {
  // A reader that left early (`| head`) is no error.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    process.exit(0);
  });
  process.exitCode = await main(program, process.argv.slice(2));
}

async function main(program: Program, argv: readonly string[]): Promise<ExitCode> {
  const asks = (...flags: string[]): boolean => flags.some((flag) => argv.includes(flag));
  const terminal = openTerminal(process, { json: asks('--json'), quiet: asks('--quiet', '-q') });
  const signals = onSignals(terminal);
  let name: string | null = null;
  try {
    const found = choose(program, argv, asks('--help', '-h'), terminal);
    if (typeof found === 'number') return found;
    name = found.command.name;
    const outcome = await run(program, found.command, found.argv, terminal, signals.signal);
    print(program, outcome, name, terminal);
    return outcome.exit;
  } catch (error) {
    terminal.status(null);
    if (signals.signal.aborted && !isNightshiftError(error)) return 130;
    if (terminal.json)
      terminal.data(JSON.stringify({ version: JSON_VERSION, command: name, error: toErrorRecord(error) }));
    else for (const line of errorLines(error, terminal.paint)) terminal.insist(line);
    return isNightshiftError(error) ? (error.exit as ExitCode) : 1;
  } finally {
    signals.close();
  }
}

/** The command that the arguments name, with the arguments left; or the exit code, where help or the version was all. */
function choose(
  program: Program,
  argv: readonly string[],
  help: boolean,
  terminal: Terminal,
): { command: Command; argv: readonly string[] } | ExitCode {
  const { commands } = program;
  const only = commands.find(({ name }) => name === '');
  if (only) {
    if (argv.includes('--version')) return show([program.version], terminal);
    return help ? show(commandHelp(program.name, only), terminal) : { command: only, argv };
  }
  const start = argv.findIndex((word) => !word.startsWith('-'));
  if (start === -1) return withoutCommand(program, argv, terminal);
  const words = argv.slice(start);
  const asked = help || words[0] === 'help';
  if (words[0] === 'help') words.shift();
  if (words.length === 0) return show(overview(program), terminal);
  const { command, rest } = commandOf(commands, words);
  return asked
    ? show(commandHelp(program.name, command), terminal)
    : { command, argv: [...argv.slice(0, start), ...rest] };
}

function withoutCommand(program: Program, argv: readonly string[], terminal: Terminal): ExitCode {
  const known = ['--help', '--version', '--json', '--quiet'];
  const wrong = argv.find((flag) => ![...known, '-h', '-q'].includes(flag));
  if (wrong !== undefined) throw unknown('flag', wrong, known);
  if (argv.includes('--version')) return show([program.version], terminal);
  show(overview(program), terminal);
  return argv.includes('--help') || argv.includes('-h') ? 0 : 2;
}

function commandOf(
  commands: readonly Command[],
  words: readonly string[],
): { command: Command; rest: readonly string[] } {
  const command = commands.find(({ name }) => name.split(' ').every((part, i) => part === words[i]));
  if (command !== undefined) return { command, rest: words.slice(command.name.split(' ').length) };
  const family = commands.filter(({ name }) => name.startsWith(`${words[0]} `)).map(({ name }) => name);
  if (family.length === 0)
    throw unknown('command', words[0]!, [...new Set(commands.map(({ name }) => name.split(' ')[0]!))]);
  const second = words[1];
  if (second !== undefined && !second.startsWith('-')) throw unknown('command', `${words[0]} ${second}`, family);
  throw new NightshiftError('usage', `${words[0]} is a family of commands`, {
    next: `Say one of: ${family.join(', ')}.`,
  });
}

async function run(
  { name, commands }: Program,
  command: Command,
  argv: readonly string[],
  terminal: Terminal,
  signal: AbortSignal,
): Promise<Outcome> {
  const { values, args } = readFlags({ ...command.flags, ...COMMON_FLAGS }, argv, {
    env: process.env,
    cwd: process.cwd(),
    knownKeys: new Set(commands.flatMap(({ flags }) => Object.keys(flags))),
  });
  const { usage, min, max } = command.args;
  if (args.length < min || args.length > max) {
    const what = args.length < min ? `${usage} is missing` : `"${args[max]}" is one argument too many`;
    const line = `${name} ${command.name}`.trim();
    throw new NightshiftError('usage', `${command.name || name}: ${what}`, { next: `See ${line} --help.` });
  }
  return await command.run({ args, flags: values, terminal, signal });
}

function print(program: Program, { data, piped = [], notes, next, json }: Outcome, name: string, terminal: Terminal) {
  if (terminal.json) {
    terminal.data(JSON.stringify({ ...json, version: JSON_VERSION, command: name || program.name }));
    return;
  }
  for (const line of notes) terminal.say(line);
  for (const line of data) terminal.data(line);
  if (terminal.piped) for (const line of piped) terminal.data(line);
  for (const line of next) terminal.say(`${terminal.paint('cyan', 'next')}: ${asTyped(line)}`);
}

/** A command line as the person can type it: through npx where npm started this one. */
const asTyped = (line: string): string =>
  process.env.npm_lifecycle_event === undefined ? line : line.replace(/^nightshift/, 'npx nightshift');

function show(lines: readonly string[], terminal: Terminal): ExitCode {
  for (const line of lines) terminal.data(line);
  return 0;
}
