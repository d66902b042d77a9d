import type { Hit, StoreRows, VectorStore } from '@nightshift/core';
import { NightshiftError } from '@nightshift/core';
import { beforeEach, describe, expect, it } from 'vitest';

export interface StoreUnderTest {
  /** Opens the store of one and the same recipe; more than once gives the same rows. The test closes what it opens. */
  open(dims: number): Promise<VectorStore>;
}

const DIMS = 16;

/** Same numbers on every run: mulberry32. */
export function random(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function randomRows(slide: string, count: number, dims: number, seed: number): StoreRows {
  const next = random(seed);
  return {
    slide,
    uri: `/slides/${slide}.svs`,
    x: Int32Array.from({ length: count }, (_, i) => 224 * (i % 100)),
    y: Int32Array.from({ length: count }, (_, i) => 224 * Math.floor(i / 100)),
    vectors: Float32Array.from({ length: count * dims }, () => 20 * (next() - 0.5)),
  };
}

/** The rows in batches. */
export async function* batches(rows: StoreRows, size: number): AsyncGenerator<StoreRows> {
  const dims = rows.vectors.length / rows.x.length;
  for (let from = 0; from < rows.x.length; from += size) {
    const to = Math.min(from + size, rows.x.length);
    yield {
      ...rows,
      x: rows.x.subarray(from, to),
      y: rows.y.subarray(from, to),
      vectors: rows.vectors.subarray(from * dims, to * dims),
    };
  }
}

const none = async function* (): AsyncGenerator<StoreRows> {};

/** Cosines in double precision, best first. */
export function bruteForce(all: readonly StoreRows[], query: Float32Array): Hit[] {
  const norm = (v: Float32Array) => Math.sqrt(v.reduce((sum, a) => sum + a * a, 0));
  const hits = all.flatMap(({ slide, uri, x, y, vectors }) =>
    Array.from(x, (_, i) => {
      const v = vectors.subarray(i * query.length, (i + 1) * query.length);
      const dot = v.reduce((sum, a, d) => sum + a * query[d]!, 0);
      return { slide, uri, x: x[i], y: y[i], score: dot / (norm(v) * norm(query)) } as Hit;
    }),
  );
  return hits.sort((a, b) => b.score - a.score);
}

/** What every driver of `VectorStore` promises. `make` gives an empty place. */
export function storeContract(name: string, make: () => Promise<StoreUnderTest>): void {
  describe(`store: ${name}`, () => {
    let place: StoreUnderTest;
    let store: VectorStore;
    beforeEach(async () => {
      place = await make();
      store = await place.open(DIMS);
      return () => store.close();
    });
    const put = (rows: StoreRows, size = 64) => store.upsertSlide(rows.slide, batches(rows, size));
    const placesOf = (hits: readonly Hit[]) => hits.map(({ slide, x, y }) => `${slide} ${x},${y}`);

    it('holds nothing at first, and says so', async () => {
      expect(await store.slides()).toEqual(new Map());
      expect(await store.count('a')).toBe(0);
      expect(await store.search(new Float32Array(DIMS).fill(1), { k: 5 })).toEqual([]);
      expect(await store.optimize()).toEqual({ rows: 0, indexed: false });
    });

    it('counts rows per slide', async () => {
      expect(await put(randomRows('a', 150, DIMS, 1))).toBe(150);
      expect(await put(randomRows('b', 30, DIMS, 2))).toBe(30);
      expect(await store.slides()).toEqual(
        new Map([
          ['a', 150],
          ['b', 30],
        ]),
      );
      expect([await store.count('a'), await store.count('b'), await store.count('c')]).toEqual([150, 30, 0]);
    });

    it('holds the same rows after the same upsert again', async () => {
      const rows = randomRows('a', 150, DIMS, 1);
      const query = rows.vectors.slice(0, DIMS);
      await put(rows);
      const before = await store.search(query, { k: 200 });
      await put(rows, 40);
      expect(await store.slides()).toEqual(new Map([['a', 150]]));
      expect(await store.search(query, { k: 200 })).toEqual(before);
    });

    it('replaces the rows of a slide: new vectors, fewer tiles, other tiles, and leaves other slides alone', async () => {
      const other = randomRows('b', 30, DIMS, 9);
      await put(other);
      await put(randomRows('a', 150, DIMS, 1));
      const fresh = randomRows('a', 40, DIMS, 2);
      fresh.x[0] = 99_999;
      await put(fresh);
      expect(await store.slides()).toEqual(
        new Map([
          ['a', 40],
          ['b', 30],
        ]),
      );
      const query = fresh.vectors.slice(0, DIMS);
      const [first] = await store.search(query, { k: 1 });
      expect(first).toMatchObject({ slide: 'a', x: 99_999, y: 0 });
      expect(placesOf(await store.search(query, { k: 70 })).sort()).toEqual(
        placesOf(bruteForce([fresh, other], query)).sort(),
      );
    });

    it('removes a slide that is replaced by no rows', async () => {
      await put(randomRows('a', 20, DIMS, 1));
      expect(await store.upsertSlide('a', none())).toBe(0);
      expect(await store.upsertSlide('never there', none())).toBe(0);
      expect(await store.slides()).toEqual(new Map());
    });

    it('keeps what it had when the new rows break off', async () => {
      await put(randomRows('a', 20, DIMS, 1));
      async function* broken() {
        yield* batches(randomRows('a', 10, DIMS, 2), 5);
        throw new NightshiftError('record-corrupt', 'the slide file is damaged');
      }
      await expect(store.upsertSlide('a', broken())).rejects.toMatchObject({ code: 'record-corrupt' });
      await expect(store.upsertSlide('b', broken())).rejects.toMatchObject({ code: 'record-corrupt' });
      expect(await store.slides()).toEqual(new Map([['a', 20]]));
    });

    it('ranks as cosine similarity in double precision does, with its scores', async () => {
      const slides = [randomRows('a', 300, DIMS, 1), randomRows('b', 200, DIMS, 2)];
      for (const rows of slides) await put(rows);
      const next = random(7);
      for (let i = 0; i < 5; i++) {
        const query = Float32Array.from({ length: DIMS }, () => next() - 0.5);
        const exact = bruteForce(slides, query);
        const hits = await store.search(query, { k: 20 });
        expect(hits).toHaveLength(20);
        hits.forEach((hit, rank) => {
          // Half precision may swap neighbours that differ by less than its step.
          expect(Math.abs(hit.score - exact[rank]!.score)).toBeLessThan(1e-3);
          const same = exact.find(({ slide, x, y }) => slide === hit.slide && x === hit.x && y === hit.y)!;
          expect(Math.abs(hit.score - same.score)).toBeLessThan(1e-3);
          expect(hit.uri).toBe(same.uri);
        });
        expect(placesOf(hits).slice(0, 3)).toEqual(placesOf(exact).slice(0, 3));
      }
    });

    it('finds by direction, whatever the length: tiny, huge and opposite vectors', async () => {
      const rows = randomRows('a', 3, DIMS, 3);
      const [tiny, huge, opposite] = [1e-6, 1e6, -1];
      const base = rows.vectors.slice(0, DIMS);
      [tiny, huge, opposite].forEach((scale, i) => {
        rows.vectors.set(
          base.map((value) => value * scale),
          i * DIMS,
        );
      });
      await put(rows);
      const scores = (await store.search(base, { k: 3 })).map(({ x, score }) => [x, Math.round(score * 1e3) / 1e3]);
      expect(scores.sort()).toEqual([
        [0, 1],
        [224, 1],
        [448, -1],
      ]);
    });

    it('never finds a vector of zeros, which has no direction, and counts it', async () => {
      const rows = randomRows('a', 3, DIMS, 3);
      rows.vectors.fill(0, DIMS, 2 * DIMS);
      await put(rows);
      expect(await store.count('a')).toBe(3);
      const hits = await store.search(rows.vectors.slice(0, DIMS), { k: 3 });
      expect(hits.map(({ x }) => x)).toEqual([0, 448]);
    });

    it('searches some slides only, when told which', async () => {
      const slides = ['a', 'b', "it's c"].map((slide, i) => randomRows(slide, 50, DIMS, i));
      for (const rows of slides) await put(rows);
      const query = slides[0]!.vectors.slice(0, DIMS);
      const hits = await store.search(query, { k: 10, slides: ['b', "it's c"] });
      expect(placesOf(hits)).toEqual(placesOf(bruteForce(slides.slice(1), query)).slice(0, 10));
      expect(await store.search(query, { k: 10, slides: [] })).toEqual([]);
      expect(await store.search(query, { k: 10, slides: ['nowhere'] })).toEqual([]);
      expect(await store.search(query, { k: 200, slides: ['b'] })).toHaveLength(50);
    });

    it('refuses vectors of other dims', async () => {
      await expect(put(randomRows('a', 5, DIMS + 1, 1))).rejects.toMatchObject({ code: 'model-mismatch' });
      await put(randomRows('a', 5, DIMS, 1));
      await expect(put(randomRows('b', 5, DIMS - 1, 1))).rejects.toMatchObject({ code: 'model-mismatch' });
      await expect(store.search(new Float32Array(DIMS * 2), { k: 1 })).rejects.toMatchObject({
        code: 'model-mismatch',
      });
      await expect(place.open(DIMS * 2)).rejects.toMatchObject({ code: 'model-mismatch' });
      expect(await store.slides()).toEqual(new Map([['a', 5]]));
    });

    it('holds its rows when it is opened again, and others see what is written', async () => {
      const other = await place.open(DIMS);
      await put(randomRows('a', 20, DIMS, 1));
      expect(await other.slides()).toEqual(new Map([['a', 20]]));
      await put(randomRows('b', 10, DIMS, 2));
      expect(await other.count('b')).toBe(10);
      await other.close();
      const again = await place.open(DIMS);
      expect(await again.slides()).toEqual(
        new Map([
          ['a', 20],
          ['b', 10],
        ]),
      );
      await again.close();
    });

    it('makes no duplicates when two write the same slide at once', async () => {
      const other = await place.open(DIMS);
      const rows = randomRows('a', 200, DIMS, 1);
      await put(randomRows('b', 1, DIMS, 2));
      await Promise.all([store, other, store, other].map((one) => one.upsertSlide('a', batches(rows, 50))));
      expect(await store.slides()).toEqual(
        new Map([
          ['a', 200],
          ['b', 1],
        ]),
      );
      await other.close();
    });

    it('holds the same rows after optimize', async () => {
      const slides = Array.from({ length: 10 }, (_, i) => randomRows(`s${i}`, 20, DIMS, i));
      for (const rows of slides) await put(rows);
      const query = slides[3]!.vectors.slice(0, DIMS);
      const before = await store.search(query, { k: 50 });
      expect(await store.optimize()).toMatchObject({ rows: 200 });
      expect(await store.search(query, { k: 50 })).toEqual(before);
    });
  });
}
