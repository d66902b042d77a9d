import { createBatcher, type TileSink } from '@nightshift/core';
import { describe, expect, it } from 'vitest';
import { fakeEncoder } from '../../fixtures/fake-encoder.ts';

const TILE = 4 * 4 * 3;
const tile = (value: number) => new Uint8Array(TILE).fill(value);

/** Remembers what came for each tile, by the value that fills it. */
function sinks() {
  const got = new Map<number, Float32Array | unknown>();
  const sink = (value: number): TileSink => ({
    patch: false,
    vector: (values) => got.set(value, values.slice()),
    failed: (error) => got.set(value, error),
  });
  return { got, sink };
}

/** Lets promises that can settle do so. */
const settled = () => new Promise((resolve) => setImmediate(resolve));

describe('batcher', () => {
  it('fills a batch with tiles of whoever comes, and gives each its own vector', async () => {
    const encoder = fakeEncoder({ maxBatch: 3, auto: true });
    const batcher = createBatcher(encoder);
    const { got, sink } = sinks();
    for (const value of [1, 2, 3]) await batcher.push(tile(value), sink(value));
    await settled();
    expect(encoder.calls.map((call) => call.count)).toEqual([3]);
    for (const value of [1, 2, 3])
      expect(got.get(value)).toEqual(Float32Array.of(value, value * TILE, value, value * TILE));
  });

  it('holds a partial batch back while more tiles may come, and sends it when none can', async () => {
    const encoder = fakeEncoder({ maxBatch: 3, auto: true });
    const batcher = createBatcher(encoder);
    const { got, sink } = sinks();
    await batcher.push(tile(7), sink(7));
    await settled();
    expect(encoder.calls).toHaveLength(0);
    batcher.expectMore(false);
    await settled();
    expect(encoder.calls.map((call) => call.count)).toEqual([1]);
    expect(got.has(7)).toBe(true);
    expect(batcher.stats).toEqual({ batches: 1, tiles: 1, partial: 1 });
  });

  it('does not send a partial batch while the encoder is busy: a tile may still come in time', async () => {
    const encoder = fakeEncoder({ maxBatch: 2 });
    const batcher = createBatcher(encoder);
    const { sink } = sinks();
    for (const value of [1, 2, 3]) await batcher.push(tile(value), sink(value));
    batcher.expectMore(false);
    expect(encoder.calls.map((call) => call.count)).toEqual([2]);
    batcher.expectMore(true);
    await batcher.push(tile(4), sink(4));
    expect(encoder.calls.map((call) => call.count)).toEqual([2, 2]);
  });

  it('makes pushers wait when the encoder is `lookAhead` batches behind, and lets all of them go on', async () => {
    const encoder = fakeEncoder({ maxBatch: 2, lookAhead: 1 });
    const batcher = createBatcher(encoder);
    const { got, sink } = sinks();
    const pushed: number[] = [];
    const all = [1, 2, 3, 4, 5, 6].map((value) =>
      batcher.push(tile(value), sink(value)).then(() => pushed.push(value)),
    );
    await settled();
    expect(pushed).toEqual([1, 2, 3, 4]);
    expect(encoder.calls).toHaveLength(2);
    encoder.calls[0].answer();
    await Promise.all(all);
    for (const call of encoder.calls) call.answer();
    await settled();
    expect([...got.keys()].sort()).toEqual([1, 2, 3, 4, 5, 6]);
  });

  it('tells every tile of a batch that failed, and goes on with the next', async () => {
    const encoder = fakeEncoder({ maxBatch: 2 });
    const batcher = createBatcher(encoder);
    const { got, sink } = sinks();
    for (const value of [1, 2, 3, 4]) await batcher.push(tile(value), sink(value));
    const broken = new Error('the device fell off');
    encoder.calls[0].fail(broken);
    encoder.calls[1].answer();
    await settled();
    expect([got.get(1), got.get(2)]).toEqual([broken, broken]);
    expect(got.get(3)).toBeInstanceOf(Float32Array);
  });

  it('after an abort refuses what was not sent and what comes, and still answers what was sent', async () => {
    const encoder = fakeEncoder({ maxBatch: 2, lookAhead: 1 });
    const batcher = createBatcher(encoder);
    const { got, sink } = sinks();
    for (const value of [1, 2, 3]) await batcher.push(tile(value), sink(value));
    const stop = new Error('stopped');
    batcher.abort(stop);
    await expect(batcher.push(tile(4), sink(4))).rejects.toBe(stop);
    expect(got.get(3)).toBe(stop);
    encoder.calls[0].answer();
    await settled();
    expect(got.get(1)).toBeInstanceOf(Float32Array);
  });
});
