import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, describe, expect, test } from 'vitest';
import { NightshiftError } from '../../../packages/core/src/errors.ts';
import type { DctScale } from '../../../packages/core/src/slide/codec/block.ts';
import { readCodestream } from '../../../packages/core/src/slide/codec/codestream.ts';
import { J2kBlocks } from '../../../packages/core/src/slide/codec/j2k.ts';
import { loadOpenJpeg } from '../../../packages/core/src/slide/codec/openjpeg.ts';
import { createDecodePool } from '../../../packages/core/src/slide/decode-pool.ts';
import { openSlide } from '../../../packages/core/src/slide/open.ts';
import { readOverview } from '../../../packages/core/src/slide/overview.ts';
import type { Slide } from '../../../packages/core/src/slide/slide.ts';
import { readRegion } from '../../../packages/core/src/slide/tiles.ts';
import { openFile } from '../../../packages/core/src/source/file.ts';
import { memorySource, writeTiff } from '../../fixtures/slides/write-tiff.ts';

const fixtures = join(import.meta.dirname, '../../fixtures/slides');
const { own } = JSON.parse(readFileSync(join(fixtures, 'openslide.json'), 'utf8'));
const pool = createDecodePool({ threads: 2 });
afterAll(() => pool.close());

async function whole(name: string): Promise<{ slide: Slide; rgb: Uint8Array }> {
  const slide = await openSlide(await openFile(join(fixtures, name)));
  const rgb = await readRegion(slide, 0, 0, 0, 150, 100, pool);
  await slide.close();
  return { slide, rgb };
}

async function blocksOf(name: string): Promise<Buffer[]> {
  const slide = await openSlide(await openFile(join(fixtures, name)));
  const index = await slide.blocks(0);
  const ranges = [0, 1, 2, 3, 4, 5].map((i) => index.range(i % 3, Math.floor(i / 3))!);
  const blocks = await slide.source.read(ranges);
  await slide.close();
  return blocks.map((block) => Buffer.from(block));
}

describe('whole slides', () => {
  test.each(['j2k-33003-444.svs', 'j2k-33005.svs'])('%s: every pixel is OpenSlide’s', async (name) => {
    const { slide, rgb } = await whole(name);
    const { vendor, mpp, objectivePower, regions } = own[name];
    expect(slide).toMatchObject({ vendor, objectivePower, mpp: { x: mpp[0], y: mpp[1] } });
    expect(createHash('sha256').update(rgb).digest('hex')).toBe(regions[0].sha256);
  });

  test('j2k-33003-422.svs: chroma of half the width is OpenSlide’s but for rounding, never converted twice', async () => {
    const { rgb } = await whole('j2k-33003-422.svs');
    const expected = await sharp(join(fixtures, 'j2k-33003-422.png')).removeAlpha().raw().toBuffer();
    expect(rgb.reduce((most, value, i) => Math.max(most, Math.abs(value - expected[i]!)), 0)).toBe(1);
  });
});

describe('blocks', async () => {
  const j2k = new J2kBlocks(await loadOpenJpeg());
  const [block] = (await blocksOf('j2k-33005.svs')) as [Buffer];
  const shape = { width: 64, height: 64, usedWidth: 64, usedHeight: 64 };
  function decode(bytes: Uint8Array, scale: DctScale = 1, of = shape): Buffer | string {
    const out = Buffer.alloc(3 * (of.width / scale) * (of.height / scale));
    try {
      j2k.decode(bytes, false, of, out, scale);
      return out;
    } catch (error) {
      if (error instanceof NightshiftError) return error.code;
      throw error;
    }
  }
  const good = decode(block) as Buffer;

  test('the header says what it holds', () => {
    const expected = { width: 64, height: 64, bits: [8, 8, 8], fullChroma: true, decompositions: 3 };
    expect(readCodestream(block)).toEqual(expected);
  });

  test('one cut short anywhere is tile-truncated, never a picture of less detail or the one before', () => {
    const outcomes = new Set<unknown>();
    for (let end = 0; end < block.length; end++) {
      try {
        readCodestream(block.subarray(0, end));
        outcomes.add('whole');
      } catch (error) {
        outcomes.add((error as NightshiftError).code);
      }
    }
    for (let end = 1; end < block.length; end += 101) outcomes.add(decode(block.subarray(0, end)));
    expect([...outcomes]).toEqual(['tile-truncated']);
    expect(decode(block)).toEqual(good);
  });

  test('a byte of padding behind the end is allowed', () => {
    expect(decode(Buffer.concat([block, Buffer.alloc(1)]))).toEqual(good);
  });

  const tilePart = block.indexOf('\xff\x90', 0, 'latin1');
  test.each<[string, (bytes: Buffer) => unknown, string]>([
    ['no codestream', (b) => b.fill(7), 'tile-corrupt'],
    ['another size', (b) => b.writeUInt32BE(128, 8), 'tile-size-mismatch'],
    ['components of 12 bits', (b) => b.writeUInt8(11, 42), 'tile-corrupt'],
    ['signed components', (b) => b.writeUInt8(0x87, 42), 'tile-corrupt'],
    ['a first component smaller than the picture', (b) => b.writeUInt8(2, 43), 'tile-corrupt'],
    ['a component of a third of the rows', (b) => b.writeUInt8(3, 47), 'tile-corrupt'],
    ['components without samples', (b) => b.writeUInt8(0, 46), 'tile-corrupt'],
    ['a marker among its packets', (b) => b.writeUInt16BE(0xffff, b.length - 200), 'tile-corrupt'],
    ['a tile-part beyond the end', (b) => b.writeUInt32BE(1e6, tilePart + 6), 'tile-truncated'],
    ['a tile-part of no length', (b) => b.writeUInt32BE(3, tilePart + 6), 'tile-corrupt'],
  ])('%s is an error', (_, change, code) => {
    const damaged = Buffer.from(block);
    change(damaged);
    expect(decode(damaged)).toBe(code);
  });

  test('of damaged ones each is a picture or a typed error, and the next whole one is right', () => {
    const codes = new Set<string>();
    for (let i = 2; i < block.length; i += 9) {
      const damaged = Buffer.from(block);
      damaged[i] = damaged[i]! ^ 0x5a;
      const outcome = decode(damaged);
      if (typeof outcome === 'string') codes.add(outcome);
    }
    expect([...codes].sort()).toEqual(['tile-corrupt', 'tile-size-mismatch', 'tile-truncated']);
    expect(decode(block)).toEqual(good);
  });

  test.each([2, 4, 8] as const)('decodes at 1/%i, close to the mean of the pixels', (scale) => {
    const small = decode(block, scale) as Buffer;
    const side = 64 / scale;
    let sum = 0;
    for (let i = 0; i < small.length; i++) {
      const [x, y, c] = [Math.floor(i / 3) % side, Math.floor(i / 3 / side), i % 3];
      let mean = 0;
      for (let v = 0; v < scale; v++) {
        for (let u = 0; u < scale; u++) mean += good[3 * ((y * scale + v) * 64 + x * scale + u) + c]! / scale ** 2;
      }
      sum += Math.abs(small[i]! - mean);
    }
    expect(sum / small.length).toBeLessThan(5);
  });

  test('memory of the codec does not grow from block to block', () => {
    const before = process.memoryUsage().rss;
    for (let i = 0; i < 1_500; i++) decode(block);
    expect(process.memoryUsage().rss - before).toBeLessThan(64 << 20);
  });
});

test('an overview decodes blocks smaller', async () => {
  const tiles = await blocksOf('j2k-33005.svs');
  const many = Array.from({ length: 9 * 9 }, (_, i) => tiles[i % 2]!);
  const slide = await openSlide(
    memorySource(writeTiff([{ width: 576, height: 576, tile: 64, tiles: many, compression: 33_005, photometric: 2 }])),
  );
  const overview = await readOverview(slide, { maxPixels: 65_536 }, pool);
  expect(overview).toMatchObject({ width: 192, height: 192, downsampleX: 3, blocksFailed: 0 });
  const large = await openSlide(
    memorySource(
      writeTiff([
        {
          width: 64 * 21,
          height: 64 * 21,
          tile: 64,
          tiles: Array.from({ length: 441 }, () => tiles[0]!),
          compression: 33_005,
          photometric: 2,
        },
      ]),
    ),
  );
  const small = await readOverview(large, { maxPixels: 65_536 }, pool);
  expect(small).toMatchObject({ downsampleX: 6, blocksFailed: 0 });
});
