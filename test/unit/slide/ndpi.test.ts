import sharp from 'sharp';
import { afterAll, describe, expect, test } from 'vitest';
import { createDecodePool } from '../../../packages/core/src/slide/decode-pool.ts';
import { openSlide } from '../../../packages/core/src/slide/open.ts';
import { readOverview } from '../../../packages/core/src/slide/overview.ts';
import { readRegion } from '../../../packages/core/src/slide/tiles.ts';
import { openFile } from '../../../packages/core/src/source/file.ts';
import { describeShared, shared } from '../../fixtures/shared.ts';
import {
  type NdpiOptions,
  type NdpiPage,
  ndpiSource,
  type RestartJpeg,
  restartJpeg,
} from '../../fixtures/slides/write-ndpi.ts';

const pool = createDecodePool({ threads: 2 });
afterAll(() => pool.close());

const oneAcross = await restartJpeg(192, 150, 192);
const threeAcross = await restartJpeg(192, 150, 64);
const small = await restartJpeg(96, 80, 96);
const level = (jpeg: RestartJpeg, change: Partial<NdpiPage> = {}): NdpiPage => ({ ...jpeg, lens: 40, ...change });
const open = (pages: readonly NdpiPage[], options?: NdpiOptions) => openSlide(ndpiSource(pages, options));

async function isWhole(slide: Awaited<ReturnType<typeof open>>, index: number, jpeg: RestartJpeg): Promise<boolean> {
  const rgb = await readRegion(slide, index, 0, 0, jpeg.width, jpeg.height, pool);
  return (await sharp(jpeg.jpeg).raw().toBuffer()).equals(rgb);
}

describe('levels', () => {
  test('are cut at the restart markers: rows of eight intervals, or the intervals of a row', async () => {
    const slide = await open([level(oneAcross), level(small, { lens: 20 })]);
    expect(slide).toMatchObject({
      vendor: 'hamamatsu',
      objectivePower: 40,
      mpp: { x: 0.25, y: 0.25, source: 'tiff-resolution' },
      levels: [
        { width: 192, height: 150, blockWidth: 192, blockHeight: 64, columns: 1, rows: 3 },
        { width: 96, height: 80, blockWidth: 96, blockHeight: 64, downsample: 1.9375 },
      ],
    });
    expect(await isWhole(slide, 0, oneAcross)).toBe(true);
    expect(await isWhole(slide, 1, small)).toBe(true);
    const across = await open([level(threeAcross)]);
    expect(across.levels[0]).toMatchObject({ blockWidth: 64, blockHeight: 8, columns: 3, rows: 19 });
    expect(await isWhole(across, 0, threeAcross)).toBe(true);
  });

  test('without a table of restart markers are one block', async () => {
    const slide = await open([level(small, { noStarts: true })]);
    expect(slide.levels[0]).toMatchObject({ blockWidth: 96, blockHeight: 80, columns: 1, rows: 1 });
    expect(await isWhole(slide, 0, small)).toBe(true);
  });

  test('whose tags are wrong about a picture of one block have the size of the picture', async () => {
    const slide = await open([level(small, { noStarts: true, width: 97, height: 81 })]);
    expect(slide.levels[0]).toMatchObject({ width: 96, height: 80 });
    expect(await isWhole(slide, 0, small)).toBe(true);
  });

  test('larger than a JPEG can say in its header have 0 there', async () => {
    const jpeg = Buffer.from(oneAcross.jpeg);
    jpeg.writeUInt32BE(0, jpeg.indexOf('\xff\xc0', 0, 'latin1') + 5);
    const slide = await open([level({ ...oneAcross, jpeg })]);
    expect(await isWhole(slide, 0, oneAcross)).toBe(true);
  });

  test('with chroma of half the height are whole, but for the interpolation at the edges of blocks', async () => {
    const subsampled = await restartJpeg(192, 320, 192, '4:2:0');
    const slide = await open([level(subsampled)]);
    expect(slide.levels[0]).toMatchObject({ blockHeight: 128 });
    const rgb = await readRegion(slide, 0, 0, 0, 192, 320, pool);
    const expected = await sharp(subsampled.jpeg).raw().toBuffer();
    const different = new Set<number>();
    for (const [i, value] of rgb.entries()) if (value !== expected[i]) different.add(Math.floor(i / (3 * 192)));
    expect([...different].every((row) => [127, 128, 255, 256].includes(row))).toBe(true);
  });

  test('the macro picture, the map and other focal planes are none', async () => {
    const pages = [
      level(oneAcross),
      level(oneAcross, { focalPlane: 5 }),
      level(oneAcross, { focalPlane: 2 ** 32 - 5 }),
      level(small, { lens: 20 }),
      level(small, { lens: -1 }),
      level(small, { lens: -2 }),
    ];
    expect((await open(pages)).levels.map(({ width }) => width)).toEqual([192, 96]);
    await expect(open([level(small, { lens: -1 })])).rejects.toMatchObject({ code: 'slide-unsupported' });
  });
});

describe('beyond 4 GiB', () => {
  test('everything lies there', async () => {
    const slide = await open([level(oneAcross), level(small, { lens: 20 })], { shift: 5 * 2 ** 30 + 6 });
    expect(slide).toMatchObject({ objectivePower: 40, mpp: { x: 0.25 } });
    expect(await isWhole(slide, 0, oneAcross)).toBe(true);
    expect(await isWhole(slide, 1, small)).toBe(true);
  });

  test('one level is as long', async () => {
    const slide = await open([level(oneAcross)], { spread: 6 * 2 ** 30 });
    expect(await isWhole(slide, 0, oneAcross)).toBe(true);
  });
});

describe('damage', () => {
  test('of one stretch fails the tiles on it and no others', async () => {
    const jpeg = Buffer.from(oneAcross.jpeg);
    const [from, to] = [oneAcross.starts[9]!, oneAcross.starts[10]!];
    jpeg.fill(0xff, from, to - 4);
    const slide = await open([level({ ...oneAcross, jpeg })]);
    await expect(readRegion(slide, 0, 0, 64, 192, 64, pool)).rejects.toMatchObject({ code: 'tile-corrupt' });
    const above = await readRegion(slide, 0, 0, 0, 192, 64, pool);
    expect((await sharp(oneAcross.jpeg).raw().toBuffer()).subarray(0, above.length).equals(above)).toBe(true);
  });

  test.each<[string, readonly number[], string]>([
    ['runs backwards', oneAcross.starts.toReversed(), 'tile-corrupt'],
    ['points between markers', oneAcross.starts.map((start) => start + 3), 'tile-corrupt'],
    ['points beyond the file', oneAcross.starts.map((start) => start + 1e8), 'tile-'],
  ])('a table of restart markers that %s is found out', async (_, starts, code) => {
    const slide = await open([level({ ...oneAcross, starts })]).catch((error) => error);
    const error = 'levels' in slide ? await readRegion(slide, 0, 0, 64, 192, 64, pool).catch((e) => e) : slide;
    expect(error.code).toMatch(code);
  });

  test.each<[string, Partial<NdpiPage>, string]>([
    ['no JPEG', { jpeg: Buffer.alloc(900, 7) }, 'slide-corrupt'],
    ['another compression', { tags: { 259: [3, 1] } }, 'slide-unsupported'],
    ['no width', { tags: { 256: [4, 0] } }, 'slide-corrupt'],
    ['a width beyond 2^20', { tags: { 256: [4, 2 ** 21] } }, 'slide-limits'],
    ['a strip beyond the file', { tags: { 273: [4, 2 ** 31] } }, 'slide-truncated'],
    ['a lens of text', { tags: { 65421: [2, 0] } }, 'slide-corrupt'],
    ['a picture that its tags and its table do not fit', { tags: { 256: [4, 200] } }, 'opened'],
  ])('%s', async (_, change, code) => {
    const outcome = await open([level(oneAcross, change)]).then(
      () => 'opened',
      (error) => error.code,
    );
    expect(outcome).toBe(code);
  });

  test('levels out of order are refused', async () => {
    await expect(open([level(small), level(oneAcross)])).rejects.toMatchObject({ code: 'slide-corrupt' });
  });

  test('a large level without a table of restart markers is refused', async () => {
    const jpeg = Buffer.from(oneAcross.jpeg);
    jpeg.writeUInt32BE(0xf000_f000, jpeg.indexOf('\xff\xc0', 0, 'latin1') + 5);
    await expect(open([level({ ...oneAcross, jpeg }, { noStarts: true })])).rejects.toMatchObject({
      code: 'slide-unsupported',
    });
  });
});

describeShared('a real one', () => {
  test('test3-DAPI-2-387.ndpi gives an overview, close to its smallest level', async () => {
    const slide = await openSlide(await openFile(shared('slides/test3-DAPI-2-387.ndpi')));
    const overview = await readOverview(slide, { maxPixels: 400_000 }, pool);
    expect(overview).toMatchObject({ width: 496, height: 608, downsampleX: 8, blocksFailed: 0 });
    await slide.close();
  });
});
