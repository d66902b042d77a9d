import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { connect } from '@lancedb/lancedb';
import type { VectorStore } from '@nightshift/core';
import { describe, expect, it, onTestFinished } from 'vitest';
import { type LanceOptions, openLance } from '../../packages/core/src/store/lancedb.ts';
import { temporaryDirectory } from '../fixtures/record.ts';
import { batches, bruteForce, random, randomRows, storeContract } from './store.ts';

storeContract('LanceDB', async () => {
  const dir = join(await temporaryDirectory(), 'store');
  return { open: (dims) => openLance({ dir, recipe: 'abc', dims }) };
});

async function open(options: Partial<LanceOptions> = {}): Promise<VectorStore & { readonly dir: string }> {
  const dir = join(await temporaryDirectory(), 'store');
  const store = await openLance({ dir, recipe: 'abc', dims: 16, ...options });
  onTestFinished(() => store.close());
  return { ...store, dir: options.dir ?? dir };
}

describe('LanceDB', () => {
  it('makes nothing until something is written', async () => {
    const store = await open();
    await store.search(new Float32Array(16).fill(1), { k: 1 });
    await store.optimize();
    await expect(readdir(store.dir)).rejects.toThrow('ENOENT');
  });

  it('takes a relative directory that begins with "db" for a directory', async () => {
    const parent = await temporaryDirectory();
    const cwd = process.cwd();
    process.chdir(parent);
    onTestFinished(() => process.chdir(cwd));
    const store = await open({ dir: 'db1' });
    await store.upsertSlide('a', batches(randomRows('a', 5, 16, 1), 5));
    expect(await readdir(join(parent, 'db1'))).toEqual(['tiles_abc.lance']);
  });

  it('keeps the recipes in one directory apart', async () => {
    const store = await open();
    const other = await open({ dir: store.dir, recipe: 'def', dims: 8 });
    await store.upsertSlide('a', batches(randomRows('a', 5, 16, 1), 5));
    await other.upsertSlide('a', batches(randomRows('a', 7, 8, 1), 5));
    expect([await store.count('a'), await other.count('a')]).toEqual([5, 7]);
  });

  it('makes the table again whose maker was killed before its first version', async () => {
    const dir = join(await temporaryDirectory(), 'store');
    await mkdir(join(dir, 'tiles_abc.lance/_transactions'), { recursive: true });
    const store = await open({ dir });
    expect(await store.slides()).toEqual(new Map());
    await store.upsertSlide('a', batches(randomRows('a', 5, 16, 1), 5));
    expect(await store.count('a')).toBe(5);
  });

  it('writes a slide larger than a commit in several, and replaces it so', async () => {
    const store = await open({ commitBytes: 100 * 16 * 2 });
    const rows = randomRows('a', 450, 16, 1);
    expect(await store.upsertSlide('a', batches(rows, 60))).toBe(450);
    const fewer = randomRows('a', 320, 16, 2);
    expect(await store.upsertSlide('a', batches(fewer, 60))).toBe(320);
    expect(await store.slides()).toEqual(new Map([['a', 320]]));
    const query = fewer.vectors.slice(0, 16);
    expect((await store.search(query, { k: 1 }))[0]!.score).toBeGreaterThan(0.999);
  });

  it('holds none of a large slide whose rows break off', async () => {
    const store = await open({ commitBytes: 100 * 16 * 2 });
    async function* broken() {
      yield* batches(randomRows('a', 450, 16, 1), 60);
      throw new Error('broken off');
    }
    await expect(store.upsertSlide('a', broken())).rejects.toThrow('broken off');
    expect(await store.count('a')).toBe(0);
  });

  it('merges the fragments of many small commits by itself', async () => {
    const store = await open();
    for (let i = 0; i < 70; i++) await store.upsertSlide(`s${i}`, batches(randomRows(`s${i}`, 2, 16, i), 2));
    const table = await (await connect(store.dir)).openTable('tiles_abc');
    expect((await table.stats()).fragmentStats.numFragments).toBeLessThan(10);
    expect((await store.slides()).size).toBe(70);
  });

  it('builds an index from so many rows on, which finds nearly what brute force finds', async () => {
    const dims = 64;
    const rows = clustered(12_000, dims);
    const store = await open({ dims, indexRows: 10_000 });
    const part = (from: number, to: number) => ({
      ...rows,
      x: rows.x.subarray(from, to),
      y: rows.y.subarray(from, to),
      vectors: rows.vectors.subarray(from * dims, to * dims),
    });
    await store.upsertSlide('a', batches({ ...part(0, 9000), slide: 'a' }, 3000));
    expect(await store.optimize()).toEqual({ rows: 9000, indexed: false });
    await store.upsertSlide('b', batches({ ...part(9000, 11_000), slide: 'b' }, 3000));
    expect(await store.optimize()).toEqual({ rows: 11_000, indexed: true });
    // Rows that came after the index was built are found, too.
    await store.upsertSlide('c', batches({ ...part(11_000, 12_000), slide: 'c' }, 3000));

    const all = [
      { ...part(0, 9000), slide: 'a' },
      { ...part(9000, 11_000), slide: 'b' },
      { ...part(11_000, 12_000), slide: 'c' },
    ];
    let found = 0;
    for (let i = 0; i < 20; i++) {
      const query = rows.vectors.slice(i * 600 * dims, (i * 600 + 1) * dims);
      const exact = new Set(
        bruteForce(all, query)
          .slice(0, 10)
          .map(({ slide, x, y }) => `${slide} ${x},${y}`),
      );
      const hits = await store.search(query, { k: 10 });
      found += hits.filter(({ slide, x, y }) => exact.has(`${slide} ${x},${y}`)).length;
      const within = await store.search(query, { k: 10, slides: ['b'] });
      const exactWithin = bruteForce(all.slice(1, 2), query).slice(0, 10);
      expect(within.every((hit, rank) => Math.abs(hit.score - exactWithin[rank]!.score) < 1e-3)).toBe(true);
      expect(within).toHaveLength(10);
    }
    expect(found / 200).toBeGreaterThan(0.95);
    expect(await store.optimize()).toEqual({ rows: 12_000, indexed: true });
  });

  it('indexes vectors whose dims are no multiple of eight', async () => {
    const store = await open({ dims: 12, indexRows: 1000 });
    const rows = randomRows('a', 1000, 12, 1);
    await store.upsertSlide('a', batches(rows, 500));
    expect(await store.optimize()).toEqual({ rows: 1000, indexed: true });
    const query = rows.vectors.slice(0, 12);
    expect((await store.search(query, { k: 1 }))[0]).toMatchObject({ x: 0, y: 0 });
  });

  it('is store-failed, with the place, when its files are damaged', async () => {
    const store = await open();
    await store.upsertSlide('a', batches(randomRows('a', 5, 16, 1), 5));
    await store.close();
    await rm(join(store.dir, 'tiles_abc.lance/data'), { recursive: true });
    const again = await openLance({ dir: store.dir, recipe: 'abc', dims: 16 });
    onTestFinished(() => again.close());
    const search = again.search(new Float32Array(16).fill(1), { k: 1 });
    await expect(search).rejects.toMatchObject({ code: 'store-failed', exit: 5 });
    await expect(again.slides()).rejects.toThrow(store.dir);
  });
});

/** Vectors as embeddings lie: around some centres, not evenly. */
function clustered(count: number, dims: number) {
  const next = random(11);
  const centres = Array.from({ length: 40 }, () => Float32Array.from({ length: dims }, () => next() - 0.5));
  const rows = randomRows('all', count, dims, 5);
  for (let i = 0; i < count; i++) {
    const centre = centres[Math.floor(next() * centres.length)]!;
    for (let d = 0; d < dims; d++) rows.vectors[i * dims + d] = centre[d]! + 0.3 * (next() - 0.5);
  }
  return rows;
}
