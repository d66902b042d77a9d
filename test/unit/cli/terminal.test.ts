import { NightshiftError } from '@nightshift/core';
import { describe, expect, it } from 'vitest';
import { errorLines, openTerminal, type Streams } from '../../../packages/cli/src/terminal.ts';

function fakeStreams({ tty = false } = {}): { streams: Streams; out: () => string; err: () => string } {
  const written = { out: '', err: '' };
  const stream = (name: 'out' | 'err') =>
    Object.assign(Object.create(process.stderr), {
      isTTY: tty,
      columns: 80,
      write: (text: string) => {
        written[name] += text;
        return true;
      },
    }) as NodeJS.WriteStream;
  return {
    streams: { stdout: stream('out'), stderr: stream('err') },
    out: () => written.out,
    err: () => written.err,
  };
}

describe('a terminal', () => {
  it('puts data on standard output and words on standard error', () => {
    const { streams, out, err } = fakeStreams();
    const terminal = openTerminal(streams, { json: false, quiet: false });
    terminal.data('data');
    terminal.say('words');
    expect(out()).toBe('data\n');
    expect(err()).toBe('words\n');
  });

  it.each([
    { json: true, quiet: false },
    { json: false, quiet: true },
  ])('says nothing with %j, but insists', (mode) => {
    const { streams, err } = fakeStreams({ tty: true });
    const terminal = openTerminal(streams, mode);
    terminal.say('words');
    terminal.status('50 %');
    terminal.insist('stop');
    expect(err()).toBe('stop\n');
  });

  it('keeps the live line below what is said, and erases it', () => {
    const { streams, err } = fakeStreams({ tty: true });
    const terminal = openTerminal(streams, { json: false, quiet: false });
    terminal.status('50 %');
    terminal.say('words');
    terminal.status(null);
    expect(err()).toBe('\r\x1b[2K50 %\r\x1b[2Kwords\n50 %\r\x1b[2K');
  });

  it('writes no live line where nobody watches', () => {
    const { streams, err } = fakeStreams({ tty: false });
    openTerminal(streams, { json: false, quiet: false }).status('50 %');
    expect(err()).toBe('');
  });
});

describe('an error', () => {
  const plain = (_: string, text: string): string => text;

  it('says what happened and the next step', () => {
    const error = new NightshiftError('mpp-missing', 'a.tif states no mpp');
    expect(errorLines(error, plain)).toEqual([
      'error[mpp-missing]: a.tif states no mpp',
      'next: State it with --slide-mpp, e.g. --slide-mpp 0.25 for a 40x scan.',
    ]);
  });

  it('that is a bug brings its stack', () => {
    const lines = errorLines(new TypeError('x is not a function'), plain);
    expect(lines[0]).toContain('terminal.test.ts');
    expect(lines[1]).toBe('error[internal]: x is not a function');
  });
});
