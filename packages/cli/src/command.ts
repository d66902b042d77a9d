import { type FlagTable, integer, list, needed, text, toggle, type Values } from './flags.ts';
import type { Terminal } from './terminal.ts';

/** Exit codes: 0 all done; 1 bug; 2 usage; 3 finished, something failed; 4 configuration; 5 a dependency is down; 130 interrupted. */
export type ExitCode = 0 | 1 | 2 | 3 | 4 | 5 | 130;

export interface Invocation<F extends FlagTable> {
  readonly args: readonly string[];
  readonly flags: Values<F>;
  readonly terminal: Terminal;
  /** Aborted by the first Ctrl-C or SIGTERM. */
  readonly signal: AbortSignal;
}

/** What a command ends with. `main.ts` prints it: data to standard output, the rest to standard error, or all of it as JSON. */
export interface Outcome {
  readonly exit: ExitCode;
  /** Standard output, unless --json. */
  readonly data: readonly string[];
  /** Standard output where a program reads it: what a person finds in the notes. */
  readonly piped?: readonly string[];
  /** Standard error, for people. */
  readonly notes: readonly string[];
  /** Commands that a person may want to type now. */
  readonly next: readonly string[];
  /** Standard output with --json, beside `version` and `command`. */
  readonly json: object;
}

export interface Command<F extends FlagTable = FlagTable> {
  /** One or two words. */
  readonly name: string;
  readonly about: string;
  /** Positional arguments: how the help writes them, and how many there may be. */
  readonly args: { readonly usage: string; readonly min: number; readonly max: number };
  /** Lines that can be typed, each with what it does. */
  readonly examples: readonly (readonly [line: string, about: string])[];
  /** Paragraphs below the flags. */
  readonly details?: readonly string[];
  readonly flags: F;
  run(invocation: Invocation<F>): Promise<Outcome>;
}

/** Checks a command against its own flag table, then forgets the table's type. */
export const command = <F extends FlagTable>(definition: Command<F>): Command => definition as unknown as Command;

/** Flags of every command. */
export const COMMON_FLAGS = {
  json: toggle({ about: 'one JSON object on standard output, nothing else' }),
  quiet: toggle({ short: 'q', about: 'say nothing but errors' }),
  help: toggle({ short: 'h', about: 'this help' }),
};

/** Flags that several commands share. */
export const SHARED = {
  model: { about: 'model directory, or the name of one in --models', placeholder: 'DIR|NAME' },
  models: list({
    about: 'where models are looked for by name',
    placeholder: 'DIR',
    defaultText: './models',
  }),
  store: text({
    about: 'vector store: lancedb:DIR, or none',
    placeholder: 'URI',
    defaultText: 'lancedb in <out>/store',
  }),
  redis: text({
    about: 'the queue: redis://, rediss://, redis+sentinel://, redis+cluster://',
    placeholder: 'URL',
    defaultText: 'REDIS_URL',
  }),
  run: text({ about: 'which run of the record, where there are several', placeholder: 'ID' }),
  out: needed({ about: 'directory of the record; made when it is not there', placeholder: 'DIR' }),
  threads: integer({
    about: 'threads of the model',
    min: 1,
    max: 1024,
    unit: 'threads',
    fallback: null,
    defaultText: 'all cores',
  }),
  decodeThreads: integer({
    unit: 'threads',
    min: 1,
    max: 1024,
    about: 'threads that decode tiles',
    fallback: null,
    defaultText: 'by the number of cores',
  }),
  batch: integer({
    unit: 'tiles',
    min: 1,
    max: 1024,
    about: 'tiles a run of the model',
    fallback: null,
    defaultText: 'by the device',
  }),
  device: text({ about: 'cpu, cuda:0, webgpu, or auto', placeholder: 'DEVICE', defaultText: 'auto' }),
  metricsHost: text({
    about: 'address of that port; anything but loopback shows it to the network',
    placeholder: 'HOST',
    defaultText: '127.0.0.1',
  }),
} as const;

export const modelDirs = (given: readonly string[]): readonly string[] => (given.length === 0 ? ['models'] : given);

/** An argument as a POSIX shell takes it. */
export const quoted = (argument: string): string =>
  /^[\w@%+=:,./-]+$/.test(argument) ? argument : `'${argument.replaceAll("'", `'\\''`)}'`;
