import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, onTestFinished, test } from 'vitest';
import { composeSource } from '../../../packages/core/src/compose.ts';
import { NightshiftError } from '../../../packages/core/src/errors.ts';
import { createDecodePool } from '../../../packages/core/src/slide/decode-pool.ts';
import { openSlide } from '../../../packages/core/src/slide/open.ts';
import { readRegion } from '../../../packages/core/src/slide/tiles.ts';
import { openMiraxFiles } from '../../../packages/core/src/source/folder.ts';
import { listSources } from '../../../packages/core/src/source/list.ts';
import { joinParts } from '../../../packages/core/src/source/parts.ts';
import { openS3 } from '../../../packages/core/src/source/s3.ts';
import { s3Listing } from '../../../packages/core/src/source/s3-list.ts';
import { faultyS3 } from '../../fixtures/s3.ts';
import { type MiraxOptions, miraxSlide } from '../../fixtures/slides/write-mirax.ts';
import { memorySource } from '../../fixtures/slides/write-tiff.ts';

const pool = createDecodePool({ threads: 2 });
afterAll(() => pool.close());

async function open(options: MiraxOptions = {}, without = '') {
  const files = [...(await miraxSlide(options))].filter(([name]) => name !== without);
  const sources = files.map(([name, bytes]) => memorySource(bytes, name));
  return openSlide(joinParts('mirax.mrxs', sources));
}

async function folderOf(files: Iterable<readonly [string, Buffer]>): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'nightshift-mirax-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  for (const [name, bytes] of files) {
    await mkdir(join(folder, name, '..'), { recursive: true });
    await writeFile(join(folder, name), bytes);
  }
  return folder;
}

describe('a MIRAX slide', () => {
  test('has the levels, the mpp and the objective of its Slidedat.ini', async () => {
    const slide = await open();
    expect(slide).toMatchObject({
      format: 'mirax',
      vendor: 'mirax',
      mpp: { x: 0.25, y: 0.25, source: 'vendor' },
      objectivePower: 20,
      levels: [
        { width: 352, height: 240, downsample: 1, columns: 6, rows: 4, blockWidth: 64 },
        { width: 176, height: 120, downsample: 2, columns: 3, rows: 2 },
        { width: 88, height: 60, downsample: 4, columns: 2, rows: 1 },
      ],
    });
    const { source: _, ...facts } = slide;
    expect(JSON.stringify(facts)).not.toContain('CANARY');
  });

  test('joins photos in the pictures of coarse levels: there each is a piece of its own', async () => {
    const { layout } = await (await open()).blocks(2);
    expect(layout!.of(0)).toEqual([
      { block: 0, left: 0, top: 0, width: 32, height: 32, x: 0, y: 0 },
      { block: 0, left: 32, top: 0, width: 32, height: 32, x: 29, y: 1 },
      { block: 0, left: 0, top: 32, width: 32, height: 32, x: 1, y: 28 },
      { block: 0, left: 32, top: 32, width: 32, height: 31, x: 28, y: 29 },
    ]);
  });

  test('the photo that was not taken is no piece of any level, though its pictures are stored in joined ones', async () => {
    const slide = await open();
    for (const [level, at] of [300, 150, 75].entries()) {
      const y = Math.floor(200 / 2 ** level);
      await expect(readRegion(slide, level, at, y, 8, 8, pool)).rejects.toMatchObject({ code: 'tile-missing' });
    }
  });

  test('is the same with its positions deflated', async () => {
    const [plain, deflated] = [await open(), await open({ positions: 'deflated' })];
    const read = (slide: typeof plain) => readRegion(slide, 0, 50, 50, 200, 150, pool);
    expect(Buffer.from(await read(deflated)).equals(await read(plain))).toBe(true);
  });

  test('with pictures in bitmaps holds what the one with PNG holds, on every level', async () => {
    const [png, bmp] = [await open({ format: 'PNG' }), await open({ format: 'BMP24' })];
    for (const level of [0, 1, 2]) {
      const read = (slide: typeof png) => readRegion(slide, level, 3, 2, 50, 40, pool);
      const pixels = Buffer.from(await read(bmp));
      expect(pixels.equals(await read(png))).toBe(true);
      expect(new Set(pixels).size).toBeGreaterThan(50);
    }
  });

  test('without positions lies on a grid of photos that overlap as stated', async () => {
    const { layout } = await (await open({ positions: 'none' })).blocks(0);
    expect(layout!.of(2)[0]).toMatchObject({ x: 112, y: 0 });
    expect(layout!.of(4 * 6 - 1 - 2 - 6)[0]).toMatchObject({ x: 112 + 64, y: 112 });
  });

  test('without positions and overlap lies edge to edge, and no picture is cut', async () => {
    const slide = await open({ positions: 'none', overlap: 0 });
    expect(slide.levels[0]).toMatchObject({ width: 384, height: 256 });
    expect((await slide.blocks(2)).layout!.of(1)).toEqual([
      { block: 1, left: 0, top: 0, width: 32, height: 64, x: 64, y: 0 },
    ]);
  });

  test('a data file that ends early fails the tiles in it and never shows what lies in the next file', async () => {
    const files = await miraxSlide();
    const cut = [...files].map(([name, bytes]) =>
      memorySource(name.endsWith('0000.dat') ? bytes.subarray(0, 600) : bytes, name),
    );
    const slide = await openSlide(joinParts('mirax.mrxs', cut));
    await expect(readRegion(slide, 0, 0, 0, 20, 20, pool)).rejects.toMatchObject({ code: 'tile-truncated' });
    expect(await readRegion(slide, 0, 70, 0, 20, 20, pool)).toHaveLength(1_200);
  });
});

describe('its files', () => {
  test('are one slide in a listing, by the name of the .mrxs file, and open by that name', async () => {
    const folder = await folderOf(await miraxSlide());
    const entries = await Array.fromAsync(listSources([folder]));
    expect(entries.map(({ uri }) => uri)).toEqual([join(folder, 'mirax.mrxs')]);
    const slide = await openSlide(await composeSource(entries[0]!.uri));
    expect(slide.source.parts!.map(({ uri }) => uri.slice(folder.length + 1))).toEqual([
      ...['mirax.mrxs', 'mirax/Data0000.dat', 'mirax/Data0001.dat', 'mirax/Index.dat', 'mirax/Slidedat.ini'],
    ]);
    await slide.close();
  });

  test('on S3 are one slide too, whose pixels are read by ranges', async () => {
    const { server, client } = await faultyS3();
    for (const [name, bytes] of await miraxSlide()) server.put(`in/${name}`, bytes);
    const listing = s3Listing(client);
    for (const source of ['s3://bucket/in/', 's3://bucket/in/mirax.mrxs']) {
      const entries = await Array.fromAsync(listSources([source], { objects: async () => listing }));
      // The content is that of all files: whoever seals the dataset asks for it.
      expect(entries).toEqual([{ uri: 's3://bucket/in/mirax.mrxs' }]);
    }
    const uri = 's3://bucket/in/mirax.mrxs';
    const source = await openMiraxFiles(uri, listing.filesOf('s3://bucket/in/mirax/'), (file) => openS3(file, client));
    const slide = await openSlide(source);
    const local = await open();
    const read = (from: typeof slide) => readRegion(from, 0, 100, 90, 150, 140, pool);
    expect(Buffer.from(await read(slide)).equals(await read(local))).toBe(true);
    await slide.close();
  });

  test('without the folder are slide-not-found, without one of them slide-truncated', async () => {
    const folder = await folderOf([['mirax.mrxs', Buffer.from('x')]]);
    await expect(composeSource(join(folder, 'mirax.mrxs'))).rejects.toMatchObject({
      code: 'slide-not-found',
      next: expect.stringContaining('side by side'),
    });
    await expect(open({}, 'mirax/Data0001.dat')).rejects.toMatchObject({ code: 'slide-truncated' });
    await expect(open({}, 'mirax/Index.dat')).rejects.toMatchObject({ code: 'slide-truncated' });
  });

  test('are looked for by their bare names: a Slidedat.ini cannot name others', async () => {
    const ini = (text: string) => text.replace('FILE_1 = Data0001.dat', 'FILE_1 = ../../Data0001.dat');
    await expect(open({ ini })).rejects.toMatchObject({ code: 'slide-truncated' });
  });
});

describe('files that lie', () => {
  async function codeOf(options: MiraxOptions): Promise<string> {
    try {
      const slide = await open(options);
      for (const level of slide.levels.keys()) await slide.blocks(level);
      return 'opened';
    } catch (error) {
      if (error instanceof NightshiftError) return error.code;
      throw error;
    }
  }
  const ini = (from: string | RegExp, to: string): MiraxOptions => ({ ini: (text) => text.replace(from, to) });
  const first = (change: object): MiraxOptions => ({
    pictures: (pictures) => [{ ...pictures[0]!, ...change }, ...pictures.slice(1)],
  });
  /** Byte 37 holds the root of the levels, 41 that of the records; at 45 the first page begins. */
  const patched = (change: (bytes: Buffer) => void): MiraxOptions => ({
    index(bytes) {
      const copy = Buffer.from(bytes);
      change(copy);
      return copy;
    },
  });

  test.each<[string, MiraxOptions, string]>([
    ['no section', { ini: () => 'IMAGENUMBER_X = 4' }, 'slide-corrupt'],
    ['no number of pictures', ini('IMAGENUMBER_X = 6', ''), 'slide-corrupt'],
    ['a number that is none', ini('IMAGENUMBER_X = 6', 'IMAGENUMBER_X = six'), 'slide-corrupt'],
    [
      'a number of a million digits',
      ini('IMAGENUMBER_X = 6', `IMAGENUMBER_X = ${'1'.repeat(1_000_000)}x`),
      'slide-corrupt',
    ],
    ['a negative number', ini('IMAGENUMBER_X = 6', 'IMAGENUMBER_X = -6'), 'slide-corrupt'],
    ['no picture', ini('IMAGENUMBER_Y = 4', 'IMAGENUMBER_Y = 0'), 'slide-corrupt'],
    ['a billion pictures', ini('IMAGENUMBER_X = 6', 'IMAGENUMBER_X = 1000000000'), 'slide-limits'],
    ['photos of more pictures than there are', ini('PerSide = 2', 'PerSide = 7'), 'slide-corrupt'],
    ['a thousand levels', ini('HIER_0_COUNT = 3', 'HIER_0_COUNT = 1000'), 'slide-limits'],
    ['a level without a section', ini('HIER_0_COUNT = 3', 'HIER_0_COUNT = 4'), 'slide-corrupt'],
    ['no zoom levels', ini('Slide zoom level', 'Focus level'), 'slide-unsupported'],
    ['a million data files', ini('FILE_COUNT = 2', 'FILE_COUNT = 1000000'), 'slide-limits'],
    ['a level that joins nothing', ini(/CONCAT_FACTOR = 1/, 'CONCAT_FACTOR = 0'), 'slide-corrupt'],
    ['a level that joins 2^100', ini(/CONCAT_FACTOR = 1/, 'CONCAT_FACTOR = 100'), 'slide-corrupt'],
    ['a level of no pixel', ini(/CONCAT_FACTOR = 1/, 'CONCAT_FACTOR = 20'), 'slide-corrupt'],
    ['pictures of no width', ini(/DIGITIZER_WIDTH = 64/, 'DIGITIZER_WIDTH = 0'), 'slide-corrupt'],
    ['pictures of gigapixels', ini(/DIGITIZER_WIDTH = 64/, 'DIGITIZER_WIDTH = 99999999'), 'slide-limits'],
    ['an overlap of all', ini(/OVERLAP_X = 16/, 'OVERLAP_X = 1e9'), 'slide-corrupt'],
    ['an overlap below nothing', ini(/OVERLAP_X = 16/, 'OVERLAP_X = -1e9'), 'slide-limits'],
    ['JPEG XR pictures', ini('IMAGE_FORMAT = JPEG', 'IMAGE_FORMAT = JPEGXR'), 'slide-unsupported'],
    ['a Slidedat.ini of 2 MB', { ini: (text) => text + ' '.repeat(2 << 20) }, 'slide-limits'],
    ['an index of another slide', ini('SLIDE_ID = 00', 'SLIDE_ID = 11'), 'slide-corrupt'],
    ['an empty index', { index: () => Buffer.alloc(0) }, 'slide-corrupt'],
    ['an index that ends early', { index: (bytes) => bytes.subarray(0, 300) }, 'slide-corrupt'],
    ['a root past the end', patched((bytes) => bytes.writeInt32LE(1 << 30, 37)), 'slide-corrupt'],
    ['a negative root', patched((bytes) => bytes.writeInt32LE(-4, 37)), 'slide-corrupt'],
    ['pages that lead back', patched((bytes) => bytes.writeInt32LE(45, 49)), 'slide-corrupt'],
    ['a page of a billion pictures', patched((bytes) => bytes.writeInt32LE(1 << 30, 45)), 'slide-limits'],
    ['a picture beyond the last', first({ image: 600 }), 'slide-corrupt'],
    ['a negative picture', first({ image: -1 }), 'slide-corrupt'],
    ['a picture in no file', first({ file: 7 }), 'slide-corrupt'],
    ['a negative offset', first({ offset: -8 }), 'slide-corrupt'],
    ['a picture past the end of its file', first({ offset: 1 << 30 }), 'opened'],
    [
      'a picture between two places',
      { pictures: (all, level) => all.map((p) => ({ ...p, image: p.image + (level && 1) })) },
      'slide-corrupt',
    ],
    ['a picture many times', { pictures: (all) => Array.from({ length: 9_000 }, () => all[0]!) }, 'opened'],
    ['too few positions', { positionBytes: (bytes) => bytes.subarray(9) }, 'slide-corrupt'],
    ['positions with another flag', { positionBytes: (bytes) => Buffer.from(bytes.fill(2, 0, 1)) }, 'slide-corrupt'],
    [
      'positions that are not deflated',
      { ...ini('VIMSLIDE_POSITION_BUFFER', 'StitchingIntensityLayer') },
      'slide-corrupt',
    ],
    [
      'positions that inflate to megabytes',
      { positions: 'deflated', positionBytes: () => Buffer.alloc(8 << 20) },
      'slide-corrupt',
    ],
    ['positions beside the glass', { places: Array(6).fill([-(2 ** 31), 2 ** 31 - 1]) }, 'opened'],
    ['all photos in one place', { places: Array(6).fill([10, 10]) }, 'opened'],
  ])('%s', async (_, options, code) => {
    expect(await codeOf(options)).toBe(code);
  });
});
