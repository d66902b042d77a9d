import { NightshiftError, shardVectors, toErrorRecord } from '@nightshift/core';
import { describe, expect, it } from 'vitest';

const broken = toErrorRecord(new NightshiftError('tile-corrupt', 'bad block'));

describe('vectors of a shard', () => {
  it('keeps plan order whatever order the batches come back in, and leaves failed tiles out', async () => {
    const shard = shardVectors(4, 2, 0);
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
    const mean = shardVectors(1, 2, 2);
    mean.sink(0).vector(Float32Array.of(1, 2, 3, 4));
    expect([...mean.rows().vectors]).toEqual([3, 4]);
  });

  it('refuses NaN and infinity', async () => {
    const shard = shardVectors(2, 2, 0);
    shard.sink(0).vector(Float32Array.of(1, Number.NaN));
    shard.sink(1).vector(Float32Array.of(Number.POSITIVE_INFINITY, 1));
    await shard.complete;
    expect(shard.rows().ok).toEqual([]);
    expect([...shard.failures.values()].map(({ code }) => code)).toEqual(['vector-not-finite', 'vector-not-finite']);
  });

  it('rejects as a whole when the encoder gives up', async () => {
    const shard = shardVectors(2, 2, 0);
    shard.sink(0).failed(new Error('gone'));
    await expect(shard.complete).rejects.toThrow('gone');
  });
});
