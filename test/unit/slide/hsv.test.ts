import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { faultsOf } from '../../../packages/core/src/plan/tile-filter.ts';
import { hsvShare, toHsv } from '../../../packages/core/src/slide/measure/hsv.ts';
import { measureTile } from '../../../packages/core/src/slide/measure/measure.ts';
import { describeShared, shared } from '../../fixtures/shared.ts';

const inRange = (hsv: Uint8Array, i: number) =>
  hsv[i]! >= 90 && hsv[i]! <= 180 && hsv[i + 1]! >= 8 && hsv[i + 2]! >= 103;

describe('the HSV tile filter', () => {
  it('counts every one of the 16,777,216 colours as the HSV conversion does', () => {
    const rgb = new Uint8Array(65536 * 3);
    const wrong: number[] = [];
    for (let r = 0; r < 256; r++) {
      for (let i = 0; i < 65536; i++) rgb.set([r, i >> 8, i & 255], i * 3);
      const hsv = toHsv(rgb);
      let expected = 0;
      for (let i = 0; i < hsv.length; i += 3) if (inRange(hsv, i)) expected++;
      if (hsvShare(rgb, 0, 65536).inside !== expected) wrong.push(r);
    }
    expect(wrong).toEqual([]);
  });

  it('knows OpenCV values worked out by hand', () => {
    // cv2: pure blue is 120, magenta 150, eosin pink and haematoxylin violet lie between 120 and 179, a hue just below 360 degrees rounds to 0.
    const rgb = Uint8Array.from([0, 0, 255, 255, 0, 255, 180, 90, 170, 255, 0, 1, 240, 240, 238]);
    expect([...toHsv(rgb)]).toEqual([120, 255, 255, 150, 255, 255, 153, 128, 180, 0, 255, 255, 30, 2, 240]);
  });

  it('looks at the pixels it was given only', () => {
    const rgb = Uint8Array.from([180, 90, 170, 180, 90, 170, 240, 240, 238, 180, 90, 170]);
    expect(hsvShare(rgb, 3, 2)).toEqual({ inside: 1 });
    expect(hsvShare(rgb, 0, 4)).toEqual({ inside: 3 });
  });
});

describeShared('the HSV tile filter against OpenCV', () => {
  interface Result {
    readonly index: number;
    readonly pixels_inside: number;
    readonly pixels: number;
    readonly keep: boolean;
  }

  function golden() {
    const file = readFileSync(shared('golden/hsv/hsv.safetensors'));
    const headerBytes = Number(file.readBigUInt64LE(0));
    const header = JSON.parse(file.toString('utf8', 8, 8 + headerBytes));
    const tensor = (name: string) => {
      const [from, to] = header[name].data_offsets;
      return new Uint8Array(file.subarray(8 + headerBytes + from, 8 + headerBytes + to));
    };
    const { results } = JSON.parse(readFileSync(shared('golden/hsv/expected.json'), 'utf8'));
    const named = (name: string): Result => results.find((result: { name: string }) => result.name === name);
    return { tiles: tensor('tiles'), hsv: tensor('hsv'), named };
  }

  it.each([
    ['epithelium', true],
    ['epithelium_stroma', true],
    ['background', false],
    ['tissue_edge', false],
    ['dark_keratin', false],
    ['frozen_section', true],
    ['threshold_colours', false],
    ['noise', false],
    ['exactly_60_percent', true],
    ['one_pixel_below_60_percent', false],
  ])('counts %s as cv2 does, and keeps it: %s', (name, kept) => {
    const { tiles, named } = golden();
    const { index, pixels, pixels_inside, keep } = named(name);
    const offset = index * pixels * 3;
    expect(hsvShare(tiles, offset, pixels)).toEqual({ inside: pixels_inside });
    const share = measureTile('hsv', tiles.subarray(offset, offset + pixels * 3), Math.sqrt(pixels));
    expect(share).toBe(pixels_inside / pixels);
    expect(faultsOf(() => share, ['hsv'])).toBe(keep ? 0 : 1);
    expect(keep).toBe(kept);
  });

  it('converts borderline colours and real epithelium value for value', () => {
    const { tiles, hsv, named } = golden();
    const size = 160 * 160 * 3;
    const borderline = named('threshold_colours').index;
    expect(toHsv(tiles.subarray(borderline * size, (borderline + 1) * size))).toEqual(hsv.subarray(0, size));
    expect(toHsv(tiles.subarray(0, size))).toEqual(hsv.subarray(size, 2 * size));
  });
});
