import { afterAll, describe, expect, test } from 'vitest';
import { createDecodePool } from '../../../packages/core/src/slide/decode-pool.ts';
import { openSlide } from '../../../packages/core/src/slide/open.ts';
import { readOverview } from '../../../packages/core/src/slide/overview.ts';
import { readRegion } from '../../../packages/core/src/slide/tiles.ts';
import { openFile } from '../../../packages/core/src/source/file.ts';
import { describeShared, shared } from '../../fixtures/shared.ts';
import { aperioPages, drawPicture, jpegTiles, memorySource, writeTiff } from '../../fixtures/slides/write-tiff.ts';

const pool = createDecodePool({ threads: 2 });
afterAll(() => pool.close());

/** Mean of each box of `factor` px, the last ones clipped: the definition, computed slowly. */
function boxes(rgb: Uint8Array, width: number, height: number, factor: number): Uint8Array {
  const [w, h] = [Math.ceil(width / factor), Math.ceil(height / factor)];
  const out = new Uint8Array(3 * w * h);
  for (let i = 0; i < out.length; i++) {
    const [x, y, c] = [(Math.floor(i / 3) % w) * factor, Math.floor(i / 3 / w) * factor, i % 3];
    let [sum, count] = [0, 0];
    for (let v = y; v < Math.min(height, y + factor); v++) {
      for (let u = x; u < Math.min(width, x + factor); u++, count++) sum += rgb[3 * (v * width + u) + c]!;
    }
    out[i] = Math.round(sum / count);
  }
  return out;
}

const [page] = await aperioPages({ width: 900, height: 500 });
const damaged = {
  ...page!,
  tiles: page!.tiles
    .with(17, Buffer.from('no JPEG'))
    .with(20, Buffer.alloc(0x40, 0xff))
    .with(25, null as never),
};

describe('of one level', () => {
  test('a small slide is given whole', async () => {
    const slide = await openSlide(memorySource(writeTiff([page!])));
    const overview = await readOverview(slide, { maxPixels: 1_000_000 }, pool);
    expect(overview).toMatchObject({ width: 900, height: 500, downsampleX: 1, downsampleY: 1, blocksFailed: 0 });
    expect(Buffer.compare(overview.rgb, await readRegion(slide, 0, 0, 0, 900, 500, pool))).toBe(0);
    expect(overview.unreadable.includes(1)).toBe(false);
  });

  test('by an odd factor it is the exact mean of each box', async () => {
    const slide = await openSlide(memorySource(writeTiff([page!])));
    const overview = await readOverview(slide, { maxPixels: 66_000 }, pool);
    expect(overview).toMatchObject({ width: 300, height: 167, downsampleX: 3, downsampleY: 3 });
    const expected = boxes(await readRegion(slide, 0, 0, 0, 900, 500, pool), 900, 500, 3);
    expect(Buffer.compare(overview.rgb, expected)).toBe(0);
  });

  test('by an even factor it is decoded smaller, close to that mean', async () => {
    const width = 1_290;
    const height = 701;
    const tiles = await jpegTiles(drawPicture(width, height), 128, '4:4:4');
    const slide = await openSlide(memorySource(writeTiff([{ width, height, tile: 128, tiles }])));
    const overview = await readOverview(slide, { maxPixels: 65_536 }, pool);
    expect(overview).toMatchObject({ width: 323, height: 176, downsampleX: 4, downsampleY: 4 });
    const expected = boxes(await readRegion(slide, 0, 0, 0, width, height, pool), width, height, 4);
    const difference = overview.rgb.reduce((sum, value, i) => sum + Math.abs(value - expected[i]!), 0);
    expect(difference / expected.length).toBeLessThan(1);
  });

  test('what cannot be decoded is counted and marked, and nothing else', async () => {
    const slide = await openSlide(memorySource(writeTiff([damaged])));
    const overview = await readOverview(slide, { maxPixels: 66_000 }, pool);
    expect(overview.blocksFailed).toBe(2);
    const marked = [...overview.unreadable.keys()].filter((i) => overview.unreadable[i] === 1);
    // Blocks (2, 1) and (5, 1) of 64 px, in bins of 3 px.
    const touches = (i: number, column: number) => {
      const [x, y] = [(i % 300) * 3, Math.floor(i / 300) * 3];
      return x < 64 * (column + 1) && x + 3 > 64 * column && y < 128 && y + 3 > 64;
    };
    const expected = [...overview.unreadable.keys()].filter((i) => touches(i, 2) || touches(i, 5));
    expect(marked).toEqual(expected);
    const inside = 3 * (30 * 300 + 50);
    expect([...overview.rgb.subarray(inside, inside + 3)]).toEqual([255, 255, 255]);
  });

  test('what a sparse file stores nothing of is white and not marked: nobody scanned there', async () => {
    const kept = [20, 21, 35, 36];
    const sparse = { ...page!, tiles: page!.tiles.map((tile, i) => (kept.includes(i) ? tile : null)) };
    const slide = await openSlide(memorySource(writeTiff([sparse])));
    const overview = await readOverview(slide, { maxPixels: 66_000 }, pool);
    expect(overview.blocksFailed).toBe(0);
    expect(overview.unreadable.includes(1)).toBe(false);
    // Blocks (5..6, 1..2) of 64 px on white, in bins of 3 px: the bins at the edges are averages of both.
    const whole = await readRegion(await openSlide(memorySource(writeTiff([page!]))), 0, 0, 0, 900, 500, pool);
    for (let y = 0; y < 500; y++) {
      for (let x = 0; x < 900; x++) {
        if (x < 320 || x >= 448 || y < 64 || y >= 192) whole.fill(255, 3 * (y * 900 + x), 3 * (y * 900 + x) + 3);
      }
    }
    expect(Buffer.compare(overview.rgb, boxes(whole, 900, 500, 3))).toBe(0);
  });

  test('an abort ends it with its reason', async () => {
    const slide = await openSlide(memorySource(writeTiff([page!])));
    const reason = new Error('enough');
    await expect(readOverview(slide, { maxPixels: 1e6 }, pool, AbortSignal.abort(reason))).rejects.toBe(reason);
  });
});

describe('of several levels', () => {
  test('the coarsest level of enough pixels is read, the others are not', async () => {
    const pages = await aperioPages({ width: 1_200, height: 1_000, tile: 128, levels: 3 });
    const broken = pages.map((p, i) => (i === 1 ? p : { ...p, tiles: p.tiles.map(() => Buffer.from('none')) }));
    const slide = await openSlide(memorySource(writeTiff(broken)));
    const overview = await readOverview(slide, { maxPixels: 320_000 }, pool);
    expect(overview).toMatchObject({ width: 600, height: 500, downsampleX: 2, downsampleY: 2, blocksFailed: 0 });
  });
});

describeShared('of real slides', () => {
  test.each([
    ['CMU-1-Small-Region.svs', 740, 989, 3],
    ['derived/cmu-mosaic-16x12.svs', 720, 720, 48],
    ['derived/cmu-mosaic-48x36-big.svs', 810, 810, 128],
  ])('%s', async (name, width, height, downsample) => {
    const slide = await openSlide(await openFile(shared(`slides/${name}`)));
    const overview = await readOverview(slide, { maxPixels: 1_000_000 }, pool);
    expect(overview).toMatchObject({
      width,
      height,
      downsampleX: downsample,
      downsampleY: downsample,
      blocksFailed: 0,
    });
    await slide.close();
  });

  test('memory does not grow with the slide: 26 million pixels of one level in a picture of 65 thousand', async () => {
    const slide = await openSlide(await openFile(shared('slides/derived/cmu-mosaic-16x12.svs')));
    const single = {
      ...slide,
      levels: slide.levels.slice(1, 2),
      codec: () => slide.codec(1),
      blocks: () => slide.blocks(1),
    };
    let peak = 0;
    const source = {
      ...slide.source,
      size: slide.source.size,
      read: async (...args: Parameters<typeof slide.source.read>) => {
        peak = Math.max(peak, process.memoryUsage().arrayBuffers);
        return slide.source.read(...args);
      },
    };
    const before = process.memoryUsage().arrayBuffers;
    const overview = await readOverview({ ...single, source }, { maxPixels: 65_536 }, pool);
    expect(overview.blocksFailed).toBe(0);
    expect(peak - before).toBeLessThan(32 << 20);
    await slide.close();
  });
});
