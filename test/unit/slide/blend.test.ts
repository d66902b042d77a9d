import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { composeSource } from '../../../packages/core/src/compose.ts';
import { blendPieces, SHIFTS } from '../../../packages/core/src/slide/blend.ts';
import { createDecodePool } from '../../../packages/core/src/slide/decode-pool.ts';
import { openSlide } from '../../../packages/core/src/slide/open.ts';
import { readRegion } from '../../../packages/core/src/slide/tiles.ts';

const SIDE = 8;
const HALF = SHIFTS / 2;

/** Two blocks of one colour each. */
const blocks = new Uint8Array(2 * 3 * SIDE * SIDE).fill(100, 0, 3 * SIDE * SIDE).fill(200, 3 * SIDE * SIDE);
const whole = (slot: number, x: number, y: number) => [slot, 0, 0, SIDE, SIDE, x, y];

/** The red of each pixel of a row of 20. */
function row(pieces: readonly number[][], shifts: readonly (readonly [number, number])[]): number[] {
  const out = new Uint8Array(3 * 20);
  const size = { width: SIDE, height: SIDE };
  blendPieces(blocks, size, Int32Array.from(pieces.flat()), Int32Array.from(shifts.flat()), out, 0, 20, 1);
  return Array.from({ length: 20 }, (_, x) => out[3 * x]!);
}

const times = (count: number, value: number): number[] => Array(count).fill(value);

describe('pieces between pixels', () => {
  test('share the pixel between them, and fade into the white beyond', () => {
    const pixels = row([whole(0, 2, 0), whole(1, 10, 0)], [[HALF, 0] as const, [HALF, 0] as const]);
    expect(pixels).toEqual([255, 255, 177, ...times(7, 100), 150, ...times(7, 200), 227, 255]);
  });

  test('of one colour show no seam, wherever between two pixels they meet', () => {
    for (let shift = 1_000; shift < SHIFTS; shift += 1_000) {
      const pixels = row([whole(0, 2, 0), whole(0, 10, 0)], [[shift, 0] as const, [shift, 0] as const]);
      for (const value of pixels.slice(3, 18)) expect(Math.abs(value - 100)).toBeLessThanOrEqual(1);
    }
  });

  test('lie over one another: the last one on top, and below it what it leaves open', () => {
    const pixels = row([whole(0, 2, 0), whole(1, 6, 0)], [[0, 0] as const, [HALF, 0] as const]);
    expect(pixels).toEqual([255, 255, ...times(4, 100), 150, ...times(7, 200), 227, ...times(5, 255)]);
  });

  test('may begin before the tile and end behind it', () => {
    expect(row([whole(0, -3, -2), whole(1, 17, -7)], [[HALF, 0] as const, [0, 0] as const])).toEqual([
      ...times(5, 100),
      177,
      ...times(11, 255),
      ...times(3, 200),
    ]);
  });

  test('show nothing of the block around them', () => {
    const inner = [0, 2, 2, 3, 3, 5, 0];
    const framed = blocks.slice();
    const size = { width: SIDE, height: SIDE };
    const draw = () => {
      const out = new Uint8Array(3 * 20 * 5);
      blendPieces(framed, size, Int32Array.from(inner), Int32Array.of(HALF, HALF), out, 0, 20, 5);
      return out;
    };
    const before = draw();
    for (let y = 0; y < SIDE; y++) {
      for (let x = 0; x < SIDE; x++) {
        if (x < 2 || x > 4 || y < 2 || y > 4) framed.fill(0, 3 * (SIDE * y + x), 3 * (SIDE * y + x + 1));
      }
    }
    expect(draw()).toEqual(before);
  });
});

describe('a slide with pieces between pixels', () => {
  const pool = createDecodePool({ threads: 1 });
  afterAll(() => pool.close());

  test.each(['mirax.mrxs', 'ventana.bif'])('%s gives each pixel alike, whatever rectangle is read', async (name) => {
    const path = join(import.meta.dirname, '../../fixtures/slides/vendors/between', name);
    const slide = await openSlide(await composeSource(path));
    const { width, height } = slide.levels[1]!;
    const all = Buffer.from(await readRegion(slide, 1, 0, 0, width, height, pool));
    const [side, step] = [13, 11];
    for (let y = 0; y + side <= height; y += step) {
      for (let x = 0; x + side <= width; x += step) {
        const part = await readRegion(slide, 1, x, y, side, side, pool).catch((error) => error.code as string);
        if (part === 'tile-missing') continue;
        for (let v = 0; v < side; v++) {
          const from = 3 * ((y + v) * width + x);
          const expected = all.subarray(from, from + 3 * side);
          expect(
            Buffer.from(part)
              .subarray(3 * side * v, 3 * side * (v + 1))
              .equals(expected),
          ).toBe(true);
        }
      }
    }
    await slide.close();
  });
});
