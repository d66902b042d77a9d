import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, describe, expect, test } from 'vitest';
import { createDecodePool } from '../../../packages/core/src/slide/decode-pool.ts';
import { openSlide } from '../../../packages/core/src/slide/open.ts';
import type { Slide } from '../../../packages/core/src/slide/slide.ts';
import { readRegion } from '../../../packages/core/src/slide/tiles.ts';
import { joinParts } from '../../../packages/core/src/source/parts.ts';
import type { ByteSource } from '../../../packages/core/src/source/source.ts';
import { type WrittenInstance, writeDicom } from '../../fixtures/slides/write-dicom.ts';
import { drawPicture, jpegTiles, memorySource } from '../../fixtures/slides/write-tiff.ts';

const [WIDTH, HEIGHT, TILE] = [300, 200, 64];
const frames = await jpegTiles(drawPicture(WIDTH, HEIGHT), TILE);
const small = await jpegTiles(drawPicture(150, 100), TILE);
const volume: WrittenInstance = { width: WIDTH, height: HEIGHT, tile: TILE, frames };
const level1: WrittenInstance = { width: 150, height: 100, tile: TILE, frames: small, spacing: ['0.001', '0.0005'] };
const pool = createDecodePool({ threads: 2 });
afterAll(() => pool.close());

/** The frames as sharp, another JPEG decoder, puts them together. */
async function together(jpegs: readonly Buffer[], width: number, height: number): Promise<Buffer> {
  const parts = await Promise.all(
    jpegs.map(async (jpeg, i) => {
      const across = Math.ceil(width / TILE);
      const [left, top] = [(i % across) * TILE, Math.floor(i / across) * TILE];
      const part = { left: 0, top: 0, width: Math.min(TILE, width - left), height: Math.min(TILE, height - top) };
      return { input: await sharp(jpeg).extract(part).png().toBuffer(), left, top };
    }),
  );
  return sharp({ create: { width, height, channels: 3, background: 'black' } })
    .composite(parts)
    .removeAlpha()
    .raw()
    .toBuffer();
}
const whole = await together(frames, WIDTH, HEIGHT);

const one = (instance: Partial<WrittenInstance> = {}) =>
  openSlide(memorySource(writeDicom({ ...volume, ...instance }), 'slide.dcm'));
const folder = (...files: Uint8Array[]) =>
  joinParts(
    'folder',
    files.map((file, i) => memorySource(file, `folder/${i}.dcm`)),
  );
const series = (...instances: WrittenInstance[]) => openSlide(folder(...instances.map(writeDicom)));
const pixels = async (slide: Slide, level = 0) => {
  const { width, height } = slide.levels[level]!;
  return Buffer.from(await readRegion(slide, level, 0, 0, width, height, pool));
};
const codeOf = (opening: Promise<Slide>) =>
  opening.then(
    () => 'opened',
    (error) => error.code,
  );

describe('one file', () => {
  test.each<[string, Partial<WrittenInstance>]>([
    ['a basic offset table', {}],
    ['an empty offset table', { table: 'empty' }],
    ['an extended offset table', { table: 'extended' }],
    ['an extended offset table that is empty', { table: 'extended-empty' }],
    ['sequences of undefined length', { undefinedLengths: true }],
    ['a data set of a megabyte', { profileBytes: 1 << 20 }],
    [
      'places for its frames, in their order',
      { positions: frames.map((_, i) => [(i % 5) * 64 + 1, Math.floor(i / 5) * 64 + 1]) },
    ],
    ['no word on its organization', { organization: '' }],
  ])('with %s: metadata and every pixel', async (_, change) => {
    const slide = await one(change);
    expect(slide).toMatchObject({
      format: 'dicom',
      vendor: 'dicom',
      objectivePower: 20,
      mpp: { x: 0.25, y: 0.5, source: 'dicom' },
      levels: [{ width: 300, height: 200, blockWidth: 64, blockHeight: 64, columns: 5, rows: 4, downsample: 1 }],
    });
    expect((await pixels(slide)).equals(whole)).toBe(true);
  });

  test.each(['1.2.840.10008.1.2', '1.2.840.10008.1.2.1'])('uncompressed (%s): every pixel', async (transferSyntax) => {
    const raw = await Promise.all(frames.map((jpeg) => sharp(jpeg).raw().toBuffer()));
    const slide = await one({ frames: raw, transferSyntax, photometric: 'RGB' });
    expect(slide.codec(0)).toEqual({ kind: 'raw', predictor: 1 });
    expect((await pixels(slide)).equals(whole)).toBe(true);
  });

  test('JPEG 2000: every pixel is that of the same tiles in a TIFF', async () => {
    const path = join(import.meta.dirname, '../../fixtures/slides/j2k-33005.svs');
    const tiff = await openSlide(memorySource(readFileSync(path)));
    const index = await tiff.blocks(0);
    const tiles = await tiff.source.read([0, 1, 2, 3, 4, 5].map((i) => index.range(i % 3, Math.floor(i / 3))!));
    const j2k = { width: 150, height: 100, frames: tiles, photometric: 'RGB' };
    const slide = await one({ ...j2k, transferSyntax: '1.2.840.10008.1.2.4.91' });
    expect((await pixels(slide)).equals(await pixels(tiff))).toBe(true);
  });

  test('the markers of a frame tell its colours where the data set is wrong about them', async () => {
    const jfif = frames.map((jpeg) =>
      Buffer.concat([
        jpeg.subarray(0, 2),
        Buffer.from('ffe000104a46494600010100000100010000', 'hex'),
        jpeg.subarray(2),
      ]),
    );
    expect((await pixels(await one({ frames: jfif, photometric: 'RGB' }))).equals(whole)).toBe(true);
    expect((await pixels(await one({ photometric: 'RGB' }))).equals(whole)).toBe(false);
  });

  test('a sparse one has no pixels where it has no frame', async () => {
    const kept = [0, 7, 13];
    const slide = await one({
      frames: kept.map((i) => frames[i]!),
      positions: kept.map((i) => [(i % 5) * 64 + 1, Math.floor(i / 5) * 64 + 1]),
    });
    const index = await slide.blocks(0);
    const stored = Array.from({ length: 20 }, (_, i) => i).filter(
      (i) => index.range(i % 5, Math.floor(i / 5)) !== null,
    );
    expect(stored).toEqual(kept);
    const at = await readRegion(slide, 0, 128, 64, 64, 64, pool);
    expect(Buffer.from(at).equals(await sharp(frames[7]).raw().toBuffer())).toBe(true);
    await expect(readRegion(slide, 0, 64, 64, 64, 64, pool)).rejects.toMatchObject({ code: 'tile-missing' });
  });

  test('no mpp where it states no spacing', async () => {
    expect((await one({ spacing: null })).mpp).toBeNull();
    expect((await one({ spacing: ['x', ''] })).mpp).toBeNull();
  });

  test('nothing of the patient is passed on', async () => {
    const slide = await one();
    expect(JSON.stringify([{ ...slide, source: null }, slide.codec(0)])).not.toContain('CANARY');
    const error = await one({ bits: 16 }).catch((e) => e);
    expect(JSON.stringify(error, Object.getOwnPropertyNames(error))).not.toContain('CANARY');
  });
});

describe('a folder', () => {
  test('is one slide: volumes are levels by their size, in whatever order', async () => {
    const slide = await series(level1, volume);
    expect(slide.levels.map(({ width, downsample }) => [width, downsample])).toEqual([
      [300, 1],
      [150, 2],
    ]);
    expect(slide.mpp).toMatchObject({ x: 0.25, y: 0.5 });
    expect((await pixels(slide)).equals(whole)).toBe(true);
    expect((await pixels(slide, 1)).equals(await together(small, 150, 100))).toBe(true);
  });

  test('of the label, the overview and the thumbnail no more than the beginning is read', async () => {
    const other = (flavor: string) =>
      writeDicom({ ...volume, flavor, frames: [Buffer.alloc(50_000, 1)], numberOfFrames: 1 });
    const source = folder(other('LABEL'), writeDicom(volume), other('OVERVIEW'), other('THUMBNAIL'));
    const reads: { offset: number; length: number }[] = [];
    const counting: ByteSource = {
      ...source,
      read: (ranges, signal) => {
        reads.push(...ranges);
        return source.read(ranges, signal);
      },
    };
    const slide = await openSlide(counting);
    expect((await pixels(slide)).equals(whole)).toBe(true);
    for (const [i, part] of source.parts!.entries()) {
      const inside = reads.filter(({ offset }) => offset >= part.offset && offset < part.offset + part.size);
      const bytes = inside.reduce((sum, { length }) => sum + length, 0);
      if (i !== 1) expect(bytes).toBeLessThanOrEqual(4_096);
    }
  });

  test('with a label whose data set is long stops there', async () => {
    const label = writeDicom({ ...volume, flavor: 'LABEL', profileBytes: 1 << 20 });
    const source = folder(label, writeDicom(volume));
    let most = 0;
    await openSlide({
      ...source,
      read: (ranges, signal) => {
        for (const { offset, length } of ranges) if (offset < label.length) most = Math.max(most, length);
        return source.read(ranges, signal);
      },
    });
    expect(most).toBe(4_096);
  });

  test('may hold reports and annotations', async () => {
    const report = writeDicom({ ...volume, sopClass: '1.2.840.10008.5.1.4.1.1.88.34' });
    expect((await openSlide(folder(report, writeDicom(volume)))).levels).toHaveLength(1);
  });

  test('has no level whose sides do not shrink alike, since one scale is told of each', async () => {
    const half = { ...volume, width: 150, frames: frames.slice(0, Math.ceil(150 / volume.tile) * 4) };
    const slide = await series({ ...half, height: volume.height }, level1, volume);
    expect(slide.levels.map(({ width, height }) => [width, height])).toEqual([
      [300, 200],
      [150, 100],
    ]);
    const rounded = await series({ ...level1, height: 101 }, volume);
    expect(rounded.levels).toHaveLength(2);
  });

  test('may have a level in several files', async () => {
    const part = (from: number, to: number): WrittenInstance => ({
      ...volume,
      frames: frames.slice(from, to),
      concatenation: { uid: '1.9', firstFrame: from },
    });
    const slide = await series(part(13, 20), part(0, 6), part(6, 13), level1);
    expect(slide.levels).toHaveLength(2);
    expect((await pixels(slide)).equals(whole)).toBe(true);
    expect(await codeOf(series(part(0, 6), part(7, 20)))).toBe('slide-corrupt');
    expect(await codeOf(series(part(0, 6), part(6, 13)))).toBe('slide-unsupported');
  });

  test('of several series is refused, with the next step', async () => {
    await expect(series(volume, { ...level1, series: '9' })).rejects.toMatchObject({
      code: 'slide-unsupported',
      message: expect.stringContaining('2 series'),
      next: expect.stringContaining('folder'),
    });
  });

  test('whose files hold one size twice is refused', async () => {
    expect(await codeOf(series(volume, volume))).toBe('slide-unsupported');
  });

  test('without a volume is refused', async () => {
    expect(await codeOf(series({ ...volume, flavor: 'LABEL' }))).toBe('slide-unsupported');
    expect(await codeOf(openSlide(folder(Buffer.from('no dicom'))))).toBe('slide-not-a-slide');
    expect(await codeOf(openSlide(folder(writeDicom(volume), Buffer.alloc(400))))).toBe('slide-corrupt');
  });
});

describe('what cannot be read is refused with the reason', () => {
  test.each<[Partial<WrittenInstance>, string]>([
    [{ bits: 16 }, '16 bits'],
    [{ samples: 1, photometric: 'MONOCHROME2' }, '1 channel'],
    [{ focalPlanes: 3 }, '3 focal planes'],
    [{ transferSyntax: '1.2.840.10008.1.2.4.80' }, '1.2.840.10008.1.2.4.80'],
    [{ transferSyntax: '1.2.840.10008.1.2.2' }, '1.2.840.10008.1.2.2'],
    [{ transferSyntax: '1.2.840.10008.1.2.1', photometric: 'YBR_FULL' }, 'YBR_FULL'],
    [{ transferSyntax: '1.2.840.10008.1.2.1', photometric: 'RGB', planar: 1 }, 'channels apart'],
    [{ numberOfFrames: 12 }, '12 frames for 5 x 4'],
    [{ positions: frames.map(() => [1, 1]) }, 'in one place'],
    [{ positions: frames.map((_, i) => [i + 1, 1]) }, 'on no grid'],
    [{ positions: frames.map(() => [100_000, 1]) }, 'on no grid'],
  ])('%j', async (change, reason) => {
    await expect(one(change)).rejects.toMatchObject({
      code: 'slide-unsupported',
      message: expect.stringContaining(reason),
    });
  });

  test('frames of several fragments', async () => {
    for (const table of ['basic', 'empty'] as const) {
      const slide = await one({ fragments: 2, table });
      await expect(slide.blocks(0)).rejects.toMatchObject({
        code: 'slide-unsupported',
        message: expect.stringContaining('fragments'),
      });
    }
  });
});

describe('hostile files', () => {
  const file = writeDicom({
    ...volume,
    profileBytes: 100,
    positions: frames.map((_, i) => [(i % 5) * 64 + 1, Math.floor(i / 5) * 64 + 1]),
  });
  const open = async (bytes: Uint8Array): Promise<string> => {
    try {
      const slide = await openSlide(memorySource(bytes, 'slide.dcm'));
      await slide.blocks(0);
      return 'opened';
    } catch (error) {
      return (error as { code?: string }).code ?? String(error);
    }
  };
  const start = file.indexOf(Buffer.from('e07f1000', 'hex'));

  const dataset = (hex: string) => open(writeDicom({ ...volume, dataset: Buffer.from(hex, 'hex') }));
  test.each([
    ['nothing', ''],
    ['an element without a representation', '0800080000000000'],
    ['items without end', `0800121153510000ffffffff${'feff00e0ffffffff08001211'.repeat(40)}`],
    ['a value of 4 GB', '080008004f420000f0ffffff'],
  ])('%s is a typed error', async (_, hex) => {
    expect(await dataset(hex)).toMatch(/slide-(corrupt|truncated)/);
  });

  test('frames beyond the end of their file fail alone, and never read the next file', async () => {
    const file = writeDicom(volume);
    const next = writeDicom(level1);
    const ends = await openSlide(folder(file.subarray(0, -frames[19]!.length), next));
    await readRegion(ends, 0, 0, 0, 256, 192, pool);
    await expect(readRegion(ends, 0, 256, 192, 8, 8, pool)).rejects.toMatchObject({ code: 'tile-truncated' });
    const early = await openSlide(folder(file.subarray(0, -frames[19]!.length - 20), next));
    await expect(early.blocks(0)).rejects.toMatchObject({ code: 'slide-truncated' });
    const raw = writeDicom({
      ...volume,
      frames: [Buffer.alloc(3 * 64 * 64 * 18)],
      numberOfFrames: 20,
      transferSyntax: '1.2.840.10008.1.2.1',
      photometric: 'RGB',
    });
    const slide = await openSlide(folder(raw, next));
    await readRegion(slide, 0, 0, 0, 64, 64, pool);
    await expect(readRegion(slide, 0, 256, 192, 8, 8, pool)).rejects.toMatchObject({ code: 'tile-truncated' });
  });

  test('an offset table that points astray is an error or fails its tiles', async () => {
    const table = start + 12 + 8;
    const bytes = Buffer.from(writeDicom(volume));
    const at = bytes.indexOf(Buffer.from('e07f1000', 'hex')) + 20;
    expect(table).toBeGreaterThan(0);
    bytes.writeUInt32LE(0x7fff_0000, at + 4 * 7);
    const slide = await openSlide(memorySource(bytes, 'slide.dcm'));
    await expect(readRegion(slide, 0, 128, 64, 64, 64, pool)).rejects.toMatchObject({
      code: expect.stringMatching(/^tile-/),
    });
    await readRegion(slide, 0, 0, 0, 64, 64, pool);
  });
});
