import { NightshiftError, shardVectors, toErrorRecord } from '@nightshift/core';
import { describe, expect, it } from 'vitest';

const broken = toErrorRecord(new NightshiftError('tile-corrupt', 'bad block'));

describe('vectors of a shard', () => {
  it('keeps plan order whatever order the batches come back in, and leaves failed tiles out', async () => {
    const shard = shardVectors({ tiles: 4, dims: 2, from: 0, patch: 0 });
    shard.sink(3).vector(Float32Array.of(30, 31));
    shard.failed(1, broken);
    shard.sink(0).vector(Float32Array.of(0, 1));
    shard.sink(2).vector(Float32Array.of(20, 21));
    await shard.complete;
    const { ok, vectors } = shard.rows();
    expect(ok).toEqual([0, 2, 3]);
    expect([...vectors]).toEqual([0, 1, 20, 21, 30, 31]);
    expect([...shard.failures]).toEqual([[1, broken]]);
  });

  it('takes CLS or mean out of CLS+mean', async () => {
    const mean = shardVectors({ tiles: 1, dims: 2, from: 2, patch: 0 });
    mean.sink(0).vector(Float32Array.of(1, 2, 3, 4));
    expect([...mean.rows().vectors]).toEqual([3, 4]);
  });

  it('keeps patch grids beside the vectors, rounded to float16, and closes the gaps of failed tiles', async () => {
    const shard = shardVectors({ tiles: 3, dims: 1, from: 0, patch: 2 });
    expect(shard.sink(0).patch).toBe(true);
    shard.sink(2).vector(Float32Array.of(2), Float32Array.of(20, 1 / 3));
    shard.sink(0).vector(Float32Array.of(0), Float32Array.of(0, -1));
    shard.failed(1, broken);
    await shard.complete;
    const { ok, vectors, patch } = shard.rows();
    expect([ok, [...vectors], [...patch!]]).toEqual([
      [0, 2],
      [0, 2],
      [0, -1, 20, Math.f16round(1 / 3)],
    ]);
  });

  it('asks for no patch grid where none is wanted', () => {
    const shard = shardVectors({ tiles: 1, dims: 1, from: 0, patch: 0 });
    expect(shard.sink(0).patch).toBe(false);
    shard.sink(0).vector(Float32Array.of(1), Float32Array.of(5, 6));
    expect(shard.rows()).toEqual({ ok: [0], vectors: Float32Array.of(1) });
  });

  it('refuses a patch grid that is not finite, be it only as a float16', async () => {
    const shard = shardVectors({ tiles: 2, dims: 1, from: 0, patch: 1 });
    shard.sink(0).vector(Float32Array.of(1), Float32Array.of(Number.NaN));
    shard.sink(1).vector(Float32Array.of(1), Float32Array.of(70_000));
    await shard.complete;
    expect([...shard.failures.values()].map(({ code }) => code)).toEqual(['vector-not-finite', 'vector-not-finite']);
  });

  it('refuses NaN and infinity', async () => {
    const shard = shardVectors({ tiles: 2, dims: 2, from: 0, patch: 0 });
    shard.sink(0).vector(Float32Array.of(1, Number.NaN));
    shard.sink(1).vector(Float32Array.of(Number.POSITIVE_INFINITY, 1));
    await shard.complete;
    expect(shard.rows().ok).toEqual([]);
    expect([...shard.failures.values()].map(({ code }) => code)).toEqual(['vector-not-finite', 'vector-not-finite']);
  });

  it('rejects as a whole when the encoder gives up', async () => {
    const shard = shardVectors({ tiles: 2, dims: 2, from: 0, patch: 0 });
    shard.sink(0).failed(new Error('gone'));
    await expect(shard.complete).rejects.toThrow('gone');
  });
});
