import { describe, expect, it } from 'vitest';
import { MEASURES, measureTile } from '../../../packages/core/src/slide/measure/measure.ts';

const tile = (side: number, colour: (x: number, y: number) => readonly [number, number, number]): Uint8Array =>
  Uint8Array.from({ length: 3 * side * side }, (_, i) => {
    const pixel = Math.floor(i / 3);
    return colour(pixel % side, Math.floor(pixel / side))[i % 3]!;
  });

describe('a measure of a tile', () => {
  it('equals what exact fractions give for a pattern of every kind of colour', () => {
    const pattern = tile(64, (x, y) => [
      (37 * x + 11 * y) % 256,
      (13 * x * x + 5 * y) % 256,
      (91 * x + 3 * y * y) % 256,
    ]);
    // By Python, in fractions.Fraction and integers. The share of H&E colours has OpenCV's own numbers: hsv.test.ts.
    expect(measureTile('blur', pattern, 64)).toBeCloseTo(18659.12802930307, 8);
    expect(measureTile('pen', pattern, 64)).toBe(1427 / 4096);
  });

  it('of sharpness is 0 where nothing or the slope alone changes, and largest for single pixels', () => {
    expect(
      measureTile(
        'blur',
        tile(224, (x) => [x, x, x]),
        224,
      ),
    ).toBe(0);
    // A chequerboard of 0 and 255: the Laplacian is +-4 x 255.
    const board = tile(224, (x, y) => ((x + y) % 2 ? [255, 255, 255] : [0, 0, 0]));
    expect(measureTile('blur', board, 224)).toBeCloseTo(1020 ** 2, 0);
  });

  it('of ink is the share of pixels in its colours, black among them', () => {
    const drawn = tile(224, (x) => (x < 56 ? [40, 150, 90] : x < 112 ? [25, 20, 22] : [190, 110, 160]));
    expect(measureTile('pen', drawn, 224)).toBe(0.5);
    expect(measureTile('hsv', drawn, 224)).toBe(0.5);
  });

  it.each(MEASURES)('%s is refused of what is no square', (measure) => {
    expect(() => measureTile(measure, new Uint8Array(300), 9)).toThrow('no square');
  });
});
