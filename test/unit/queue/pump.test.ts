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
    const pumped = pump({
      ...from.options,
      fetch: async () => {
        if (failing) throw new Error('OOM');
        return 7;
      },
    });
    const taken = pumped.take(forever);
    await sleep(1000);
    expect(from.errors.length).toBeGreaterThan(1);
    expect(from.errors.length).toBeLessThan(6);
    failing = false;
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
    await sleep(500);
    expect(fetches).toBeLessThan(12);
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
