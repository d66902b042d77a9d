import { describe, expect, it } from 'vitest';
import { hedged } from '../../../packages/core/src/source/hedge.ts';

interface Asked {
  readonly signal: AbortSignal;
  answer(value: string): void;
  fail(error: Error): void;
}

/** A question whose answers the test gives; `asked(n)` waits until it was put n times. */
function question() {
  const calls: Asked[] = [];
  let heard = () => {};
  return {
    calls,
    discarded: [] as string[],
    ask: (signal: AbortSignal) =>
      new Promise<string>((answer, fail) => {
        calls.push({ signal, answer, fail });
        heard();
      }),
    async asked(count: number) {
      while (calls.length < count) await new Promise<void>((resolve) => (heard = resolve));
    },
  };
}

const options = { deadlineMs: 60_000, hedgeMs: 60_000, mayHedge: () => true, late: () => new Error('late') };

describe('hedged', () => {
  it('takes the first answer and asks once when it comes in time', async () => {
    const q = question();
    const result = hedged(q.ask, () => {}, options);
    q.calls[0]!.answer('one');
    expect(await result).toBe('one');
    expect(q.calls).toHaveLength(1);
    expect(q.calls[0]!.signal.aborted).toBe(false);
  });

  it('asks again when the answer is late, aborts the loser, and hands its answer back', async () => {
    const q = question();
    const result = hedged(q.ask, (late) => q.discarded.push(late), { ...options, hedgeMs: 1 });
    await q.asked(2);
    q.calls[1]!.answer('two');
    expect(await result).toBe('two');
    expect(q.calls.map(({ signal }) => signal.aborted)).toEqual([true, false]);
    q.calls[0]!.answer('one');
    await Promise.resolve();
    expect(q.discarded).toEqual(['one']);
  });

  it('waits for the second when the first fails', async () => {
    const q = question();
    const result = hedged(q.ask, () => {}, { ...options, hedgeMs: 1 });
    await q.asked(2);
    q.calls[0]!.fail(new Error('broken'));
    q.calls[1]!.answer('two');
    expect(await result).toBe('two');
  });

  it('fails at once when its only question fails', async () => {
    const q = question();
    const result = hedged(q.ask, () => {}, options);
    q.calls[0]!.fail(new Error('broken'));
    await expect(result).rejects.toThrow('broken');
  });

  it('gives up at the deadline, and asks no second time where it may not', async () => {
    const q = question();
    const result = hedged(q.ask, () => {}, { ...options, deadlineMs: 20, hedgeMs: 1, mayHedge: () => false });
    await expect(result).rejects.toThrow('late');
    expect(q.calls.map(({ signal }) => signal.aborted)).toEqual([true]);
  });

  it('ends with the reason of its signal', async () => {
    const q = question();
    const abort = new AbortController();
    const result = hedged(q.ask, () => {}, { ...options, signal: abort.signal });
    abort.abort(new Error('enough'));
    await expect(result).rejects.toThrow('enough');
    expect(q.calls[0]!.signal.aborted).toBe(true);
  });
});
