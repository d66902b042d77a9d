import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { pump } from '../../../packages/core/src/queue/pump.ts';

const forever = new AbortController().signal;

/** A fetch that brings what is put in, and an answer for each time it was called. */
function source() {
  const waiting: ((item: number | undefined) => void)[] = [];
  const items: number[] = [];
  const givenBack: number[] = [];
  const errors: unknown[] = [];
  let fetches = 0;
  const options = {
    fetch: () => {
      fetches += 1;
      const item = items.shift();
      return item !== undefined
        ? Promise.resolve(item)
        : new Promise<number | undefined>((resolve) => waiting.push(resolve));
    },
    giveBack: async (item: number) => {
      givenBack.push(item);
    },
    onError: (error: unknown) => errors.push(error),
  };
  return {
    options,
    givenBack,
    errors,
    put(item: number | undefined) {
      const fetch = waiting.shift();
      if (fetch) fetch(item);
      else if (item !== undefined) items.push(item);
    },
    get fetches() {
      return fetches;
    },
  };
}

describe('the pump between a queue and its takers', () => {
  it('hands items to whoever waits longest, one fetch at a time, and fetches for nobody', async () => {
    const from = source();
    const pumped = pump(from.options);
    await sleep(1);
    expect(from.fetches).toBe(0);
    const [first, second] = [pumped.take(forever), pumped.take(forever)];
    expect(from.fetches).toBe(1);
    from.put(1);
    expect(await first).toBe(1);
    from.put(2);
    expect(await second).toBe(2);
    expect(from.fetches).toBe(2);
    await pumped.close();
  });

  it('answers null to a taker that gave up, and gives back what came for it', async () => {
    const from = source();
    const pumped = pump(from.options);
    const gone = new AbortController();
    const taken = pumped.take(gone.signal);
    gone.abort();
    expect(await taken).toBeNull();
    from.put(1);
    await pumped.close();
    expect(from.givenBack).toEqual([1]);
  });

  it('gives what came to the next taker when the first gave up', async () => {
    const from = source();
    const pumped = pump(from.options);
    const gone = new AbortController();
    const first = pumped.take(gone.signal);
    const second = pumped.take(forever);
    gone.abort();
    from.put(1);
    expect([await first, await second]).toEqual([null, 1]);
    await pumped.close();
  });

  it('pauses after errors, longer each time, and goes on', async () => {
    const from = source();
    let failing = true;
    const fetched: number[] = [];
    const pumped = pump({
      ...from.options,
      fetch: async () => {
        fetched.push(performance.now());
        if (failing) throw new Error('OOM');
        return 7;
      },
    });
    const taken = pumped.take(forever);
    while (fetched.length < 4) await sleep(10);
    failing = false;
    const pauses = fetched.slice(1, 4).map((at, i) => at - fetched[i]!);
    // A timer is never early by more than a millisecond; the jitter halves a pause at most.
    for (const [i, least] of [100, 200, 400].entries()) expect(pauses[i]).toBeGreaterThan(least - 2);
    expect(await taken).toBe(7);
    await pumped.close();
  });

  it('does not spin when the queue answers at once that it is empty', async () => {
    let fetches = 0;
    const pumped = pump({
      ...source().options,
      fetch: async () => {
        fetches += 1;
        return undefined;
      },
    });
    const taken = pumped.take(forever);
    const started = performance.now();
    while (fetches < 12) await sleep(10);
    expect(performance.now() - started).toBeGreaterThan(300);
    await pumped.close();
    expect(await taken).toBeNull();
  });

  it('gives back what the last fetch brings after it was closed, and takes no more', async () => {
    const from = source();
    const pumped = pump(from.options);
    const taken = pumped.take(forever);
    const closing = pumped.close();
    expect(await taken).toBeNull();
    from.put(1);
    await closing;
    expect(from.givenBack).toEqual([1]);
    expect(await pumped.take(forever)).toBeNull();
  });
});
