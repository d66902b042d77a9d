import { deflateSync } from 'node:zlib';
import sharp from 'sharp';
import { afterAll, describe, expect, test } from 'vitest';
import type { NightshiftError } from '../../../packages/core/src/errors.ts';
import { unpackLzw } from '../../../packages/core/src/slide/codec/lzw.ts';
import { createDecodePool } from '../../../packages/core/src/slide/decode-pool.ts';
import { openSlide } from '../../../packages/core/src/slide/open.ts';
import { readOverview } from '../../../packages/core/src/slide/overview.ts';
import { readRegion } from '../../../packages/core/src/slide/tiles.ts';
import { drawPicture, memorySource, writeTiff } from '../../fixtures/slides/write-tiff.ts';

const picture = drawPicture(300, 200);
const pool = createDecodePool({ threads: 2 });
afterAll(() => pool.close());

const byLibtiff = (compression: 'none' | 'lzw' | 'deflate', predictor: 'none' | 'horizontal', smooth = false) =>
  sharp(smooth ? Buffer.alloc(picture.data.length, 200) : picture.data, { raw: { ...picture, channels: 3 } })
    .tiff({ compression, predictor, tile: true, tileWidth: 64, tileHeight: 64 })
    .toBuffer();

describe('tiles without loss', () => {
  test.each([
    ['none', 'none'],
    ['lzw', 'none'],
    ['lzw', 'horizontal'],
    ['deflate', 'none'],
    ['deflate', 'horizontal'],
  ] as const)('%s, predictor %s: every pixel that libtiff wrote', async (compression, predictor) => {
    const slide = await openSlide(memorySource(await byLibtiff(compression, predictor)));
    expect(slide.codec(0).kind).toBe({ none: 'raw', lzw: 'lzw', deflate: 'deflate' }[compression]);
    const rgb = await readRegion(slide, 0, 0, 0, 300, 200, pool);
    expect(picture.data.equals(rgb)).toBe(true);
  });

  test('LZW strings as long as the table allows', async () => {
    const slide = await openSlide(memorySource(await byLibtiff('lzw', 'none', true)));
    expect((await readRegion(slide, 0, 0, 0, 300, 200, pool)).every((value) => value === 200)).toBe(true);
  });

  test('an overview is their mean', async () => {
    const slide = await openSlide(memorySource(await byLibtiff('lzw', 'horizontal', true)));
    const overview = await readOverview(slide, { maxPixels: 65_536 }, pool);
    expect(overview.blocksFailed).toBe(0);
    expect(overview.rgb.every((value) => value === 200)).toBe(true);
  });

  const raw = Buffer.alloc(3 * 64 * 64, 90);
  const open = (compression: number, tile: Uint8Array) =>
    openSlide(
      memorySource(writeTiff([{ width: 64, height: 64, tile: 64, tiles: [tile], compression, photometric: 2 }])),
    );
  const codeOf = async (compression: number, tile: Uint8Array) =>
    readRegion(await open(compression, tile), 0, 0, 0, 64, 64, pool).then(
      () => 'decoded',
      (error: NightshiftError) => error.code,
    );

  test('one that holds too little, too much or nonsense is an error', async () => {
    const deflated = deflateSync(raw);
    expect(await codeOf(1, raw)).toBe('decoded');
    expect(await codeOf(1, raw.subarray(0, -1))).toBe('tile-truncated');
    expect(await codeOf(8, deflated)).toBe('decoded');
    expect(await codeOf(32_946, deflated)).toBe('decoded');
    expect(await codeOf(8, deflated.subarray(0, -6))).toBe('tile-truncated');
    expect(await codeOf(8, deflateSync(raw.subarray(0, -3)))).toBe('tile-truncated');
    expect(await codeOf(8, deflateSync(Buffer.alloc(1 << 26)))).toBe('tile-corrupt');
    expect(await codeOf(8, Buffer.alloc(90, 7))).toBe('tile-corrupt');
    expect(await codeOf(5, Buffer.alloc(90, 0xff))).toBe('tile-corrupt');
    expect(await codeOf(5, Buffer.from([0x80, 0x00]))).toBe('tile-truncated');
  });
});

describe('LZW', () => {
  test('the example of the TIFF specification', () => {
    // 7 7 7 8 8 7 7 6 6: codes 256 7 258 8 8 258 6 6 257 of 9 bits each.
    const bits = [256, 7, 258, 8, 8, 258, 6, 6, 257].map((code) => code.toString(2).padStart(9, '0')).join('');
    const bytes = bits.match(/.{1,8}/g)!.map((byte) => Number.parseInt(byte.padEnd(8, '0'), 2));
    expect([...unpackLzw(Uint8Array.from(bytes), 100)]).toEqual([7, 7, 7, 8, 8, 7, 7, 6, 6]);
  });

  test('damaged data is an error or bytes, never more than asked for', () => {
    let random = 7;
    const codes = new Set<string>();
    for (let i = 0; i < 2_000; i++) {
      const data = Uint8Array.from({ length: 40 }, () => {
        random = (Math.imul(random, 1_103_515_245) + 12_345) >>> 0;
        return random >>> 24;
      });
      if (i % 2) data.set([0x80, 0x00]);
      try {
        expect(unpackLzw(data, 25).length).toBeLessThanOrEqual(25);
      } catch (error) {
        codes.add((error as NightshiftError).code);
      }
    }
    expect([...codes]).toEqual(['tile-corrupt']);
  });
});
