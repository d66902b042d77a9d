import { afterEach, describe, expect, it } from 'vitest';
import { onSignals, type Signals } from '../../../packages/cli/src/signals.ts';
import type { Terminal } from '../../../packages/cli/src/terminal.ts';

let signals: Signals | null = null;
afterEach(() => signals?.close());

function listen(): { insisted: string[]; exits: number[]; clock: { now: number }; signal: AbortSignal } {
  const insisted: string[] = [];
  const exits: number[] = [];
  const clock = { now: 0 };
  const terminal: Terminal = {
    json: false,
    quiet: true,
    piped: false,
    live: false,
    width: 80,
    data: () => {},
    say: () => {},
    insist: (line) => insisted.push(line),
    status: () => {},
    paint: (_, text) => text,
  };
  signals = onSignals(terminal, { now: () => clock.now, exit: (code) => exits.push(code) });
  return { insisted, exits, clock, signal: signals.signal };
}

describe.each(['SIGINT', 'SIGTERM'] as const)('%s', (name) => {
  it('aborts the run first, and says so even with --quiet', () => {
    const { insisted, exits, signal } = listen();
    process.emit(name);
    expect(signal.aborted).toBe(true);
    expect(insisted).toEqual([expect.stringContaining('Stopping')]);
    expect(exits).toEqual([]);
  });

  it('a second time leaves at once with 130', () => {
    const { exits, clock } = listen();
    process.emit(name);
    clock.now = 1000;
    process.emit(name);
    expect(exits).toEqual([130]);
  });
});

it('one key press that arrives twice counts once', () => {
  const { exits, clock } = listen();
  process.emit('SIGINT');
  clock.now = 20;
  process.emit('SIGINT');
  expect(exits).toEqual([]);
});

it('closing stops listening', () => {
  const before = process.listenerCount('SIGINT');
  listen();
  expect(process.listenerCount('SIGINT')).toBe(before + 1);
  signals!.close();
  expect(process.listenerCount('SIGINT')).toBe(before);
});
