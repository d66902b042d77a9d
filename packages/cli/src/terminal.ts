import { styleText } from 'node:util';
import { toErrorRecord } from '@nightshift/core';

export type Style = 'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'cyan';

/**
 * Where output goes. Data goes to standard output, everything for people to standard error: a pipe sees data only.
 * One live line may stand below what was said; it moves down when something is said.
 */
export interface Terminal {
  readonly json: boolean;
  readonly quiet: boolean;
  /** True when standard output goes to a program or a file. */
  readonly piped: boolean;
  /** True when a live line can be shown. */
  readonly live: boolean;
  /** Columns of the screen that people read. */
  readonly width: number;
  /** A line of data. */
  data(line: string): void;
  /** A line for people; nothing with --quiet or --json. */
  say(line: string): void;
  /** A line for people that even --quiet shows. */
  insist(line: string): void;
  /** Shows, replaces or (null) removes the live line. */
  status(line: string | null): void;
  /** Styles for standard error; plain text where it is no terminal, or with NO_COLOR. */
  paint(style: Style, text: string): string;
}

export interface Streams {
  readonly stdout: NodeJS.WriteStream;
  readonly stderr: NodeJS.WriteStream;
}

export function openTerminal(streams: Streams, mode: { readonly json: boolean; readonly quiet: boolean }): Terminal {
  const { stdout, stderr } = streams;
  const live = stderr.isTTY === true && process.env.TERM !== 'dumb' && !mode.json && !mode.quiet;
  let status: string | null = null;
  const write = (line: string): void => {
    stderr.write(status === null ? `${line}\n` : `\r\x1b[2K${line}\n${status}`);
  };
  return {
    ...mode,
    piped: !stdout.isTTY,
    live,
    get width() {
      // A pseudo-terminal may not know its size and say 0.
      return stderr.columns || 80;
    },
    data(line) {
      if (status !== null && stdout.isTTY) stderr.write('\r\x1b[2K');
      stdout.write(`${line}\n`);
    },
    say(line) {
      if (!mode.json && !mode.quiet) write(line);
    },
    insist(line) {
      write(line);
    },
    status(line) {
      if (!live || line === status) return;
      stderr.write(`\r\x1b[2K${line ?? ''}`);
      status = line;
    },
    paint: (style, text) => styleText(style, text, { stream: stderr }),
  };
}

/** An error as people read it: what happened, then the next step. A bug brings its stack. */
export function errorLines(error: unknown, paint: Terminal['paint']): string[] {
  const { code, message, next } = toErrorRecord(error);
  const lines = [`${paint('red', `error[${code}]`)}: ${message}`, `${paint('cyan', 'next')}: ${next}`];
  if (code === 'internal' && error instanceof Error && error.stack !== undefined) {
    lines.unshift(paint('dim', error.stack));
  }
  return lines;
}
