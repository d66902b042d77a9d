#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { isNightshiftError, NightshiftError, toErrorRecord } from '@nightshift/core';
import { COMMON_FLAGS, type Command, type ExitCode, type Outcome } from './command.ts';
import { demoCommand } from './commands/demo.ts';
import { doctorCommand } from './commands/doctor.ts';
import { embedCommand } from './commands/embed.ts';
import { inspectCommand } from './commands/inspect.ts';
import { modelConvertCommand, modelListCommand } from './commands/model.ts';
import { searchCommand } from './commands/search.ts';
import { verifyCommand } from './commands/verify.ts';
import { readFlags, unknown } from './flags.ts';
import { commandHelp, overview } from './help.ts';
import { onSignals } from './signals.ts';
import { errorLines, openTerminal, type Terminal } from './terminal.ts';

const COMMANDS: readonly Command[] = [
  embedCommand,
  searchCommand,
  verifyCommand,
  inspectCommand,
  modelListCommand,
  modelConvertCommand,
  doctorCommand,
  demoCommand,
];

/** Version of the objects that --json prints. */
const JSON_VERSION = 1;

/** Arguments -> command -> exit code. */
async function main(argv: readonly string[]): Promise<ExitCode> {
  const asks = (...flags: string[]): boolean => flags.some((flag) => argv.includes(flag));
  const terminal = openTerminal(process, { json: asks('--json'), quiet: asks('--quiet', '-q') });
  const signals = onSignals(terminal);
  let name: string | null = null;
  try {
    const start = argv.findIndex((word) => !word.startsWith('-'));
    if (start === -1) return withoutCommand(argv, terminal);
    const words = argv.slice(start);
    const help = asks('--help', '-h') || words[0] === 'help';
    if (words[0] === 'help') words.shift();
    if (words.length === 0) return show(overview(COMMANDS), terminal);
    const { command, rest } = commandOf(words);
    name = command.name;
    if (help) return show(commandHelp(command), terminal);
    const outcome = await run(command, [...argv.slice(0, start), ...rest], terminal, signals.signal);
    print(outcome, name, terminal);
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

function withoutCommand(argv: readonly string[], terminal: Terminal): ExitCode {
  const known = ['--help', '--version', '--json', '--quiet'];
  const wrong = argv.find((flag) => ![...known, '-h', '-q'].includes(flag));
  if (wrong !== undefined) throw unknown('flag', wrong, known);
  if (argv.includes('--version')) return show([version()], terminal);
  show(overview(COMMANDS), terminal);
  return argv.includes('--help') || argv.includes('-h') ? 0 : 2;
}

function commandOf(words: readonly string[]): { command: Command; rest: readonly string[] } {
  const command = COMMANDS.find(({ name }) => name.split(' ').every((part, i) => part === words[i]));
  if (command !== undefined) return { command, rest: words.slice(command.name.split(' ').length) };
  const family = COMMANDS.filter(({ name }) => name.startsWith(`${words[0]} `)).map(({ name }) => name);
  if (family.length === 0)
    throw unknown('command', words[0]!, [...new Set(COMMANDS.map(({ name }) => name.split(' ')[0]!))]);
  const second = words[1];
  if (second !== undefined && !second.startsWith('-')) throw unknown('command', `${words[0]} ${second}`, family);
  throw new NightshiftError('usage', `${words[0]} is a family of commands`, {
    next: `Say one of: ${family.join(', ')}.`,
  });
}

async function run(
  command: Command,
  argv: readonly string[],
  terminal: Terminal,
  signal: AbortSignal,
): Promise<Outcome> {
  const { values, args } = readFlags({ ...command.flags, ...COMMON_FLAGS }, argv, {
    env: process.env,
    cwd: process.cwd(),
    knownKeys: new Set(COMMANDS.flatMap(({ flags }) => Object.keys(flags))),
  });
  const { usage, min, max } = command.args;
  if (args.length < min || args.length > max) {
    const what = args.length < min ? `${usage} is missing` : `"${args[max]}" is one argument too many`;
    throw new NightshiftError('usage', `${command.name}: ${what}`, { next: `See nightshift ${command.name} --help.` });
  }
  return await command.run({ args, flags: values, terminal, signal });
}

function print({ data, piped = [], notes, next, json }: Outcome, name: string, terminal: Terminal): void {
  if (terminal.json) {
    terminal.data(JSON.stringify({ ...json, version: JSON_VERSION, command: name }));
    return;
  }
  for (const line of notes) terminal.say(line);
  for (const line of data) terminal.data(line);
  if (terminal.piped) for (const line of piped) terminal.data(line);
  for (const line of next) terminal.say(`${terminal.paint('cyan', 'next')}: ${asTyped(line)}`);
}

/** A command line as the person can type it: through npx where npm started this one. */
const asTyped = (line: string): string =>
  process.env.npm_lifecycle_event === undefined ? line : line.replace(/^nightshift /, 'npx nightshift ');

function show(lines: readonly string[], terminal: Terminal): ExitCode {
  for (const line of lines) terminal.data(line);
  return 0;
}

function version(): string {
  const file = new URL('../package.json', import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}

// A reader that left early (`| head`) is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit(0);
});
process.exitCode = await main(process.argv.slice(2));
