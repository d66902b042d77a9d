import { describe, expect, it } from 'vitest';
import { throttle } from '../../../packages/core/src/source/throttle.ts';

/** Rounds of as many requests as are let in, each round ending as told. */
async function rounds(lanes: ReturnType<typeof throttle>, count: number, outcome: 'good' | 'slow' | 'other') {
  for (let round = 0; round < count; round++) {
    const leaves = await Promise.all(Array.from({ length: lanes.limit }, () => lanes.enter()));
    for (const leave of leaves) leave(outcome);
  }
}

describe('throttle', () => {
  it('lets in as many as the limit says, the rest in the order asked', async () => {
    const lanes = throttle({ min: 1, start: 2, max: 2 });
    const order: number[] = [];
    const first = await lanes.enter();
    const second = await lanes.enter();
    const waiting = [3, 4].map(async (name) => {
      const leave = await lanes.enter();
      order.push(name);
      return leave;
    });
    expect([lanes.active, lanes.tryEnter()]).toEqual([2, null]);
    second('other');
    (await waiting[0]!)('other');
    await waiting[1];
    expect(order).toEqual([3, 4]);
    first('other');
  });

  it('grows while all goes well, up to the most', async () => {
    const lanes = throttle({ start: 4, max: 10 });
    await rounds(lanes, 3, 'good');
    expect(lanes.limit).toBeGreaterThan(4);
    await rounds(lanes, 40, 'good');
    expect(lanes.limit).toBe(10);
  });

  it('does not grow while it is not full', async () => {
    const lanes = throttle({ start: 8 });
    for (let i = 0; i < 100; i++) (await lanes.enter())('good');
    expect(lanes.limit).toBe(8);
  });

  it('halves once for a burst of slow answers, down to the least', async () => {
    const lanes = throttle({ min: 4, start: 32 });
    await rounds(lanes, 1, 'slow');
    expect(lanes.limit).toBe(16);
    await rounds(lanes, 10, 'slow');
    expect(lanes.limit).toBe(4);
  });

  it('lets nobody in who was told to give up', async () => {
    const lanes = throttle({ min: 1, start: 1 });
    const leave = await lanes.enter();
    const abort = new AbortController();
    const given = lanes.enter(abort.signal);
    const next = lanes.enter();
    abort.abort(new Error('no more'));
    await expect(given).rejects.toThrow('no more');
    leave('other');
    (await next)('other');
    expect(lanes.active).toBe(0);
  });
});
