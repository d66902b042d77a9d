import { describe, expect, test } from 'vitest';
import { isNightshiftError } from '../../../packages/core/src/errors.ts';
import { decodeBmp } from '../../../packages/core/src/slide/codec/bmp.ts';
import { writeBmp } from '../../fixtures/slides/write-mirax.ts';
import { drawPicture } from '../../fixtures/slides/write-tiff.ts';

/** 13 px: rows of 39 bytes, which are stored as 40. */
const [WIDTH, HEIGHT] = [13, 5];
const shape = { width: WIDTH, height: HEIGHT, usedWidth: WIDTH, usedHeight: HEIGHT };
const rgb = drawPicture(WIDTH, HEIGHT).data;
const bitmap = writeBmp(rgb, WIDTH, HEIGHT);

function decode(block: Uint8Array): Buffer | string {
  const out = Buffer.alloc(rgb.length);
  try {
    decodeBmp(block, shape, out, 1);
    return out;
  } catch (error) {
    if (isNightshiftError(error)) return error.code;
    throw error;
  }
}

function changed(change: (bytes: Buffer) => unknown): Buffer {
  const bytes = Buffer.from(bitmap);
  change(bytes);
  return bytes;
}

describe('a bitmap', () => {
  test('has its first row at its end, and blue before red', () => {
    expect(decode(bitmap)).toEqual(Buffer.from(rgb));
    expect([...bitmap.subarray(-40, -37)]).toEqual([rgb[2], rgb[1], rgb[0]]);
  });

  test('of negative height has its first row first', () => {
    const rows = Array.from({ length: HEIGHT }, (_, y) => bitmap.subarray(54 + 40 * y, 94 + 40 * y)).reverse();
    const topDown = Buffer.concat([bitmap.subarray(0, 54), ...rows]);
    topDown.writeInt32LE(-HEIGHT, 22);
    expect(decode(topDown)).toEqual(Buffer.from(rgb));
  });

  test('with a longer header is read where it says that its pixels are', () => {
    const longer = Buffer.concat([bitmap.subarray(0, 54), Buffer.alloc(70), bitmap.subarray(54)]);
    longer.writeUInt32LE(124, 10);
    longer.writeUInt32LE(108, 14);
    expect(decode(longer)).toEqual(Buffer.from(rgb));
  });

  test.each([
    ['a palette', (bytes: Buffer) => bytes.writeUInt16LE(8, 28)],
    ['run lengths', (bytes: Buffer) => bytes.writeUInt32LE(1, 30)],
    ['two planes', (bytes: Buffer) => bytes.writeUInt16LE(2, 26)],
    ['another signature', (bytes: Buffer) => bytes.write('BA')],
    ['a header of 12 bytes', (bytes: Buffer) => bytes.writeUInt32LE(12, 14)],
    ['pixels within its header', (bytes: Buffer) => bytes.writeUInt32LE(20, 10)],
  ] as const)('with %s is refused', (_, change) => {
    expect(decode(changed(change))).toBe('tile-corrupt');
  });

  test('of another size is refused', () => {
    for (const height of [0, 4, -4, -0x8000_0000]) {
      expect(decode(changed((bytes) => bytes.writeInt32LE(height, 22)))).toBe('tile-size-mismatch');
    }
    for (const width of [-WIDTH, 0, 0x7fff_ffff]) {
      expect(decode(changed((bytes) => bytes.writeInt32LE(width, 18)))).toBe('tile-size-mismatch');
    }
  });

  test('cut short anywhere is an error, but for the padding of its last row', () => {
    expect(decode(bitmap.subarray(0, -1))).toEqual(Buffer.from(rgb));
    for (let end = 0; end < bitmap.length - 1; end++) expect(decode(bitmap.subarray(0, end))).toBe('tile-truncated');
  });

  test('with any bit of its header flipped is a picture or an error of its own', () => {
    const outcomes = new Set<string>();
    for (let bit = 0; bit < 8 * 54; bit++) {
      const outcome = decode(changed((bytes) => bytes.writeUInt8(bytes[bit >> 3]! ^ (1 << (bit & 7)), bit >> 3)));
      outcomes.add(typeof outcome === 'string' ? outcome : 'picture');
    }
    expect([...outcomes].sort()).toEqual(['picture', 'tile-corrupt', 'tile-size-mismatch', 'tile-truncated']);
  });
});
