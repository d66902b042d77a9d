import { describe, expect, test } from 'vitest';
import { NightshiftError } from '../../../packages/core/src/errors.ts';
import { createDecodePool } from '../../../packages/core/src/slide/decode-pool.ts';
import { openSlide } from '../../../packages/core/src/slide/open.ts';
import { readTiles } from '../../../packages/core/src/slide/tiles.ts';
import { levelPx, tilePx } from '../../../packages/core/src/units.ts';
import {
  aperioPages,
  drawPicture,
  jpegTiles,
  memorySource,
  type TagValue,
  type TiffOptions,
  type WrittenPage,
  writeTiff,
} from '../../fixtures/slides/write-tiff.ts';

const pages = await aperioPages({ width: 130, height: 70, levels: 2 });
const long = (...values: number[]): TagValue => ({ type: 'long', values });

async function codeOf(bytes: Uint8Array): Promise<string> {
  try {
    const slide = await openSlide(memorySource(bytes));
    for (const level of slide.levels.keys()) await slide.blocks(level);
    return 'opened';
  } catch (error) {
    if (error instanceof NightshiftError) return error.code;
    throw error;
  }
}
const withTags = (tags: Record<number, TagValue | null>, options?: TiffOptions) =>
  codeOf(writeTiff([{ ...pages[0]!, tags }], options));

describe('structure', () => {
  test.each([0, 1])('an IFD chain that loops back to IFD %i is slide-corrupt', async (loopTo) => {
    expect(await codeOf(writeTiff(pages, { loopTo }))).toBe('slide-corrupt');
  });

  test('more than a thousand IFDs are slide-limits', async () => {
    const strip: WrittenPage = { ...pages[1]!, striped: true, tiles: [new Uint8Array(4)], tags: { 270: null } };
    expect(await codeOf(writeTiff([pages[0]!, ...Array.from({ length: 999 }, () => strip)]))).toBe('opened');
    expect(await codeOf(writeTiff([pages[0]!, ...Array.from({ length: 1_000 }, () => strip)]))).toBe('slide-limits');
  });

  test.each<TiffOptions>([{}, { bigEndian: true }, { big: true }, { big: true, bigEndian: true }])(
    'an IFD of absurdly many tags is refused: %j',
    async (options) => {
      const bytes = writeTiff(pages, options);
      const { big = false, bigEndian = false } = options;
      const at = big
        ? Number(bigEndian ? bytes.readBigUInt64BE(8) : bytes.readBigUInt64LE(8))
        : bigEndian
          ? bytes.readUInt32BE(4)
          : bytes.readUInt32LE(4);
      bytes.fill(0xff, at, at + (big ? 8 : 2));
      expect(await codeOf(bytes)).toBe('slide-limits');
    },
  );

  test.each(['II*\0', 'MM\0*', 'II+\0\x08\0\0\0'])('a header alone (%j) is refused', async (head) => {
    expect(await codeOf(Buffer.from(head, 'latin1'))).toMatch(/slide-(not-a-slide|truncated)/);
    expect(await codeOf(Buffer.from(`${head}\0\0\0\0\0\0\0\0`, 'latin1'))).toBe('slide-corrupt');
  });

  test('an empty file is not a slide', async () => {
    expect(await codeOf(new Uint8Array(0))).toBe('slide-not-a-slide');
  });
});

describe('tags', () => {
  test.each([
    ['zero width', { 256: long(0) }, 'slide-corrupt'],
    ['zero tile height', { 323: long(0) }, 'slide-corrupt'],
    ['no width', { 256: null }, 'slide-corrupt'],
    ['no tile offsets', { 324: null }, 'slide-corrupt'],
    ['no tile lengths', { 325: null }, 'slide-corrupt'],
    ['too few tile offsets', { 324: long(1, 2) }, 'slide-corrupt'],
    ['a width of text', { 256: { type: 'ascii', text: '130' } }, 'slide-corrupt'],
    ['an empty width', { 256: long() }, 'slide-corrupt'],
    ['JPEG tables that are no JPEG', { 347: { type: 'bytes', bytes: Buffer.from('tables') } }, 'slide-corrupt'],
    ['a side beyond 2^20', { 256: long(2 ** 20 + 1), 257: long(64) }, 'slide-limits'],
    ['a side of 2^32 - 1', { 256: long(0xffffffff), 257: long(0xffffffff) }, 'slide-limits'],
    ['tiles beyond 4096 x 4096', { 322: long(4_096), 323: long(4_112) }, 'slide-limits'],
    ['tiles of 2^32 - 1', { 322: long(0xffffffff), 323: long(0xffffffff) }, 'slide-limits'],
    ['too many sub-IFDs', { 270: null, 330: long(...Array(1_001).fill(8)) }, 'slide-limits'],
    ['a sub-IFD past the end', { 270: null, 330: long(0xfffffff0) }, 'slide-truncated'],
    ['JPEG tables of a megabyte', { 347: { type: 'bytes', bytes: Buffer.alloc(1 << 20) } }, 'slide-limits'],
  ] as [string, Record<number, TagValue | null>, string][])('%s is %s', async (_, tags, code) => {
    expect(await withTags(tags)).toBe(code);
  });

  /** Patches the count of a tag in the first IFD of a little-endian classic TIFF. */
  function patchCount(bytes: Buffer, tag: number, count: number): Buffer {
    const ifd = bytes.readUInt32LE(4);
    for (let i = 0; i < bytes.readUInt16LE(ifd); i++) {
      const at = ifd + 2 + 12 * i;
      if (bytes.readUInt16LE(at) === tag) bytes.writeUInt32LE(count, at + 4);
    }
    return bytes;
  }

  test('a tag whose values reach past the end of the file is slide-truncated, and nothing is allocated for it', async () => {
    const before = process.memoryUsage().arrayBuffers;
    const tables = { ...pages[0]!, jpegTables: Buffer.from([0xff, 0xd8, 0xff, 0xd9, 0, 0, 0, 0]) };
    expect(await codeOf(patchCount(writeTiff([tables]), 347, 0xffff))).toBe('slide-truncated');
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(8 << 20);
  });

  test('a tag that claims gigabytes is slide-limits', async () => {
    const tiles = Array.from({ length: 2 }, () => new Uint8Array(2));
    const page = { ...pages[0]!, width: 128, height: 64, tiles };
    expect(await codeOf(patchCount(writeTiff([page]), 258, 0xffffffff))).toBe('slide-corrupt');
    expect(await codeOf(patchCount(writeTiff([page]), 270, 0xffffffff))).toBe('slide-truncated');
    const wide = { 256: long(2 ** 20), 257: long(2 ** 20), 322: long(256), 323: long(256) };
    const huge = writeTiff([{ ...page, tags: wide }]);
    for (const tag of [324, 325]) patchCount(huge, tag, 2 ** 24);
    expect(await codeOf(huge)).toBe('slide-limits');
  });

  test('tile offsets and lengths of any value open: the tiles fail, one by one', async () => {
    expect(await withTags({ 324: long(...Array(6).fill(0xffffffff)) })).toBe('opened');
    expect(await withTags({ 325: long(...Array(6).fill(0xffffffff)) })).toBe('opened');
  });
});

describe('a small slide', () => {
  const small = async (options: TiffOptions) => {
    const tiles = await jpegTiles(drawPicture(32, 32), 16, '4:4:4');
    const page = { width: 32, height: 32, tile: 16, tiles, description: 'Aperio |MPP = 0.5|AppMag = 20' };
    return writeTiff([page, { ...page, width: 16, height: 16, tiles: tiles.slice(0, 1) }], options);
  };

  test('with any byte flipped every tile is read or fails with a typed error', async () => {
    const bytes = await small({});
    const pool = createDecodePool({ threads: 2 });
    const seen = new Set<string>();
    for (let i = 8; i < bytes.length; i += 11) {
      const flipped = Buffer.from(bytes);
      flipped[i] = bytes[i]! ^ 0x55;
      try {
        const slide = await openSlide(memorySource(flipped));
        const { width, height } = slide.levels[0]!;
        const x = Int32Array.of(0, Math.max(0, Math.min(16, width - 16)));
        const y = Int32Array.of(0, Math.max(0, Math.min(16, height - 16)));
        const side = Math.min(16, width, height);
        const size = { readPx: levelPx(side), tilePx: tilePx(side), filter: 'box', fit: null } as const;
        for await (const chunk of readTiles(slide, { level: 0, ...size, x, y }, pool)) {
          for (const { error } of chunk.failures) seen.add(error.code);
        }
      } catch (error) {
        if (!(error instanceof NightshiftError)) throw error;
        seen.add(error.code);
      }
    }
    await pool.close();
    expect([...seen].filter((code) => !/^(slide|tile)-/.test(code))).toEqual([]);
    expect(seen).toContain('tile-corrupt');
  });
});
