import { readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Blobs, bytes, fileBlobs, type TileRows } from '@nightshift/core';
import { beforeEach, describe, expect, it } from 'vitest';
import { encodeTiles, firstNotFinite, openTiles } from '../../../packages/core/src/record/arrow.ts';
import type { ByteSource } from '../../../packages/core/src/source/source.ts';
import { temporaryDirectory } from '../../fixtures/record.ts';

const metadata = new Map([
  ['nightshift.version', '1'],
  ['nightshift.slide_uri', '/slides/größe 1.svs'],
]);

function rows(count: number, dims: number, from = 0): TileRows {
  return {
    x: Int32Array.from({ length: count }, (_, i) => 224 * (from + i)),
    y: new Int32Array(count).fill(from),
    vectors: Float32Array.from({ length: count * dims }, (_, i) => Math.fround((from + i) / 7)),
  };
}

let dir: string;
let blobs: Blobs;
beforeEach(async () => {
  dir = await temporaryDirectory();
  blobs = fileBlobs(dir);
});

async function readAll(source: ByteSource): Promise<TileRows[]> {
  const table = await openTiles(source);
  try {
    return await Array.fromAsync(table.batches());
  } finally {
    await table.close();
  }
}

const back = async (key: string): Promise<TileRows[]> => readAll((await blobs.open(key))!);

const inMemory = (content: Uint8Array): ByteSource => ({
  uri: 'memory',
  size: bytes(content.length),
  contentId: '',
  read: async (ranges) => ranges.map(({ offset, length }) => content.slice(offset, offset + length)),
  close: async () => {},
});

describe('a tile file', () => {
  it('gives back rows and metadata, batch by batch', async () => {
    const batches = [rows(3, 5), rows(1, 5, 10), rows(4, 5, 20)];
    await blobs.put('t.arrow', encodeTiles(5, metadata, batches));
    expect(await back('t.arrow')).toEqual(batches);
    const table = await openTiles((await blobs.open('t.arrow'))!);
    expect([table.dims, Object.fromEntries(table.metadata)]).toEqual([5, Object.fromEntries(metadata)]);
    await table.close();
  });

  it('holds no rows when there are none', async () => {
    await blobs.put('t.arrow', encodeTiles(5, metadata, [rows(0, 5)]));
    expect(await back('t.arrow')).toEqual([]);
  });

  it('gives back patch grids too, in float16, and refuses rows without the grids they should have', async () => {
    const withGrids = (count: number, from: number) => ({
      ...rows(count, 5, from),
      patch: Float16Array.from({ length: count * 7 }, (_, i) => (from + i) / 3),
    });
    const batches = [withGrids(3, 0), withGrids(1, 10)];
    await blobs.put('p.arrow', encodeTiles(5, metadata, batches, 7));
    expect(await back('p.arrow')).toEqual(batches);
    const table = await openTiles((await blobs.open('p.arrow'))!);
    expect([table.dims, table.patch]).toEqual([5, 7]);
    await table.close();
    for (const [wrong, patch] of [
      [rows(2, 5), 7],
      [withGrids(2, 0), 0],
      [withGrids(2, 0), 6],
    ] as const) {
      const writing = blobs.put('wrong.arrow', encodeTiles(5, metadata, [wrong], patch));
      await expect(writing).rejects.toMatchObject({ code: 'internal' });
    }
  });

  it('gives back QC columns too, beside patch grids or alone, and refuses rows without those they should have', async () => {
    const withQc = (count: number, from: number) => {
      const column = (scale: number) => Float32Array.from({ length: count }, (_, i) => (from + i) * scale);
      return { ...rows(count, 5, from), qc: { hsv: column(0.01), blur: column(7.5), pen: column(0.001) } };
    };
    const withGrids = (count: number) => ({ ...withQc(count, 3), patch: new Float16Array(count * 7).fill(2) });
    for (const [batches, patch] of [
      [[withQc(3, 0), withQc(1, 10)], 0],
      [[withGrids(3), withGrids(2)], 7],
    ] as const) {
      await blobs.put('q.arrow', encodeTiles(5, metadata, batches, patch, true));
      expect(await back('q.arrow')).toEqual(batches);
      const table = await openTiles((await blobs.open('q.arrow'))!);
      expect([table.dims, table.patch, table.qc]).toEqual([5, patch, true]);
      await table.close();
    }
    const { qc, ...bare } = withQc(2, 0);
    for (const [wrong, columns] of [
      [bare, true],
      [{ ...bare, qc }, false],
      [{ ...bare, qc: { ...qc, pen: qc.pen.subarray(1) } }, true],
    ] as const) {
      const writing = blobs.put('wrong.arrow', encodeTiles(5, metadata, [wrong], 0, columns));
      await expect(writing).rejects.toMatchObject({ code: 'internal' });
    }
  });

  it('has the same bytes when written twice', async () => {
    for (const key of ['1', '2']) await blobs.put(key, encodeTiles(8, metadata, [rows(3, 8), rows(2, 8)]));
    expect(await readFile(join(dir, '1'))).toEqual(await readFile(join(dir, '2')));
  });

  it('is written batch by batch: none is made before the one before it was taken', async () => {
    let made = 0;
    let taken = 0;
    async function* batches() {
      for (; made < 20; ) {
        expect(taken).toBe(made * 100 * 16 * 4);
        made += 1;
        yield rows(100, 16, made);
      }
    }
    for await (const chunk of encodeTiles(16, metadata, batches()))
      if (chunk.length === 100 * 16 * 4) taken += chunk.length;
    expect(taken).toBe(20 * 100 * 16 * 4);
  });

  it('is read batch by batch: no read is larger than one', async () => {
    const batches = Array.from({ length: 10 }, (_, i) => rows(1000, 32, i));
    await blobs.put('t.arrow', encodeTiles(32, metadata, batches));
    const source = (await blobs.open('t.arrow'))!;
    let largest = 0;
    const table = await openTiles({
      ...source,
      read: (ranges) => {
        largest = Math.max(largest, ...ranges.map((range) => range.length));
        return source.read(ranges);
      },
    });
    expect((await Array.fromAsync(table.batches())).length).toBe(10);
    expect(largest).toBeLessThan(1000 * (32 + 2) * 4 + 1000);
    await table.close();
  });

  it('is refused when rows do not fit together', async () => {
    const bad = { ...rows(3, 5), y: new Int32Array(2) };
    await expect(blobs.put('t.arrow', encodeTiles(5, metadata, [bad]))).rejects.toMatchObject({ code: 'internal' });
    expect(await blobs.get('t.arrow')).toBeNull();
  });
});

describe('a damaged tile file', () => {
  it('is record-corrupt wherever it is cut', async () => {
    await blobs.put('t.arrow', encodeTiles(5, metadata, [rows(30, 5), rows(30, 5)]));
    const whole = await readFile(join(dir, 't.arrow'));
    for (const size of [0, 5, 20, 100, 700, whole.length >> 1, whole.length - 11, whole.length - 1]) {
      await writeFile(join(dir, 'cut.arrow'), whole);
      await truncate(join(dir, 'cut.arrow'), size);
      await expect(back('cut.arrow'), `${size} bytes`).rejects.toMatchObject({ code: 'record-corrupt' });
    }
  });

  it('is record-corrupt whichever bit of it is flipped', async () => {
    await blobs.put('t.arrow', encodeTiles(3, metadata, [rows(3, 3), rows(2, 3)]));
    const whole = await readFile(join(dir, 't.arrow'));
    const sound = new Set<number>();
    for (let at = 0; at < whole.length; at++) {
      const changed = Uint8Array.from(whole);
      changed[at]! ^= 1 << (at % 8);
      const source = inMemory(changed);
      const error = await readAll(source).then(
        () => sound.add(at),
        (reason) => reason,
      );
      if (!sound.has(at)) expect(error, `byte ${at}`).toMatchObject({ code: 'record-corrupt' });
    }
    // The end-of-stream mark, which this reader has no use for.
    expect(sound.size).toBe(8);
  });

  it('is record-corrupt when it is another Arrow file or none', async () => {
    await writeFile(join(dir, 'text'), 'ARROW1 is how it begins, and nothing more of it is so. ARROW1');
    await expect(back('text')).rejects.toMatchObject({ code: 'record-corrupt' });
  });
});

describe('firstNotFinite', () => {
  it('finds the row of the first NaN or infinity', () => {
    const vectors = new Float32Array(12).fill(1e38);
    expect(firstNotFinite(vectors, 3)).toBe(-1);
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      const one = Float32Array.from(vectors);
      one[7] = bad;
      expect(firstNotFinite(one, 3)).toBe(2);
    }
  });
});
