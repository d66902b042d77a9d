import { readFile } from 'node:fs/promises';
import sharp from 'sharp';
import { afterAll, describe, expect, test } from 'vitest';
import { createDecodePool } from '../../../packages/core/src/slide/decode-pool.ts';
import { resolveMpp } from '../../../packages/core/src/slide/mpp.ts';
import { openSlide } from '../../../packages/core/src/slide/open.ts';
import { readOverview } from '../../../packages/core/src/slide/overview.ts';
import { readRegion } from '../../../packages/core/src/slide/tiles.ts';
import { mpp } from '../../../packages/core/src/units.ts';
import { describeShared, shared } from '../../fixtures/shared.ts';
import { drawPicture, memorySource } from '../../fixtures/slides/write-tiff.ts';

const picture = drawPicture(300, 200);
const raw = () => sharp(picture.data, { raw: { width: 300, height: 200, channels: 3 } });
const png = await raw().png().toBuffer();
const jpeg = await raw().jpeg({ quality: 90 }).toBuffer();
const pool = createDecodePool({ threads: 2 });
afterAll(() => pool.close());

const open = (bytes: Uint8Array) => openSlide(memorySource(bytes, 'field'));
const pixels = async (bytes: Uint8Array) => Buffer.from(await readRegion(await open(bytes), 0, 0, 0, 300, 200, pool));
const codeOf = (doing: Promise<unknown>) =>
  doing.then(
    () => 'done',
    (error) => error.code,
  );

describe('a field of view', () => {
  test.each([
    ['png', png],
    ['jpeg', jpeg],
  ])('%s: one level of one block, whose mpp the person states', async (format, bytes) => {
    const slide = await open(bytes);
    expect(slide).toMatchObject({
      format,
      mpp: null,
      objectivePower: null,
      levels: [{ width: 300, height: 200, columns: 1, rows: 1, downsample: 1 }],
    });
    expect(() => resolveMpp(slide, null)).toThrow(
      expect.objectContaining({ code: 'mpp-missing', next: expect.stringContaining('--slide-mpp') }),
    );
    expect(resolveMpp(slide, mpp(0.5))).toMatchObject({ source: 'override' });
  });

  test('every pixel of a PNG, and of a JPEG as another decoder has it', async () => {
    expect((await pixels(png)).equals(picture.data)).toBe(true);
    expect((await pixels(jpeg)).equals(await sharp(jpeg).raw().toBuffer())).toBe(true);
  });

  test('a PNG may be interlaced, have an opaque fourth channel, or a palette', async () => {
    expect((await pixels(await raw().png({ progressive: true }).toBuffer())).equals(picture.data)).toBe(true);
    expect((await pixels(await raw().ensureAlpha().png().toBuffer())).equals(picture.data)).toBe(true);
    const palette = await raw().png({ palette: true }).toBuffer();
    expect((await pixels(palette)).equals(await sharp(palette).removeAlpha().raw().toBuffer())).toBe(true);
  });

  test('what is transparent is white', async () => {
    const clear = await sharp({ create: { width: 300, height: 200, channels: 4, background: '#00000000' } })
      .png()
      .toBuffer();
    expect((await pixels(clear)).every((value) => value === 255)).toBe(true);
  });

  test('the samples are as stored: no colour profile is applied, no turn of a camera', async () => {
    const profiled = await raw().withIccProfile('p3').png().toBuffer();
    const stored = await sharp(profiled, { ignoreIcc: true }).raw().toBuffer();
    expect((await pixels(profiled)).equals(stored)).toBe(true);
    const turned = await raw().withMetadata({ orientation: 6 }).jpeg({ quality: 90 }).toBuffer();
    expect((await pixels(turned)).equals(await sharp(turned).raw().toBuffer())).toBe(true);
  });

  test('the dots per inch of the file are not believed', async () => {
    expect((await open(await raw().withMetadata({ density: 50_800 }).png().toBuffer())).mpp).toBeNull();
    expect((await open(await raw().withMetadata({ density: 50_800 }).jpeg().toBuffer())).mpp).toBeNull();
  });

  test('a JPEG may have megabytes of metadata before its frame', async () => {
    const segment = Buffer.alloc(65_535 + 2);
    segment.writeUInt32BE(0xffe1_ffff);
    const long = Buffer.concat([jpeg.subarray(0, 2), ...Array(40).fill(segment), jpeg.subarray(2)]);
    expect((await pixels(long)).equals(await pixels(jpeg))).toBe(true);
  });

  test('an overview is their mean', async () => {
    const slide = await open(png);
    expect(await readOverview(slide, { maxPixels: 1_000_000 }, pool)).toMatchObject({
      width: 300,
      height: 200,
      blocksFailed: 0,
    });
  });
});

describe('what cannot be read', () => {
  test('is refused with the reason', async () => {
    const grey = raw().toColourspace('b-w');
    expect(await codeOf(open(await grey.png().toBuffer()))).toBe('slide-unsupported');
    expect(await codeOf(open(await grey.jpeg().toBuffer()))).toBe('slide-unsupported');
    expect(await codeOf(open(await raw().toColourspace('rgb16').png().toBuffer()))).toBe('slide-unsupported');
    const large = Buffer.from(png);
    large.writeUInt32BE(100_000, 16);
    expect(await codeOf(open(large))).toBe('slide-unsupported');
    large.writeUInt32BE(0, 16);
    expect(await codeOf(open(large))).toBe('slide-corrupt');
  });

  test.each([
    ['png', png],
    ['jpeg', jpeg],
  ])('%s cut short anywhere is an error, never grey pixels', async (_, bytes) => {
    const codes = new Set<string>();
    for (let end = 0; end < bytes.length; end += 331) codes.add(await codeOf(pixels(bytes.subarray(0, end))));
    codes.add(await codeOf(pixels(bytes.subarray(0, -20))));
    expect(codes).not.toContain('done');
    expect([...codes].filter((code) => !/^(slide|tile)-(truncated|corrupt|not-a-slide)$/.test(code))).toEqual([]);
  });

  test('damaged pixels are an error', async () => {
    const damaged = Buffer.from(png);
    damaged.fill(0x55, 2_000, 2_100);
    expect(await codeOf(pixels(damaged))).toBe('tile-corrupt');
    expect(await codeOf(pixels(png))).toBe('done');
  });
});

describeShared('a real one', () => {
  test('ihc.png: every pixel', async () => {
    const bytes = await readFile(shared('slides/ihc.png'));
    const rgb = await readRegion(await open(bytes), 0, 0, 0, 512, 512, pool);
    expect((await sharp(bytes, { ignoreIcc: true }).removeAlpha().raw().toBuffer()).equals(rgb)).toBe(true);
  });
});
