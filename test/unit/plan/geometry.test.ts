import { describe, expect, it } from 'vitest';
import { tileGeometry } from '../../../packages/core/src/plan/geometry.ts';
import type { Recipe } from '../../../packages/core/src/plan/plan.ts';
import type { MppReading } from '../../../packages/core/src/slide/slide.ts';
import { levelPx, mpp, tilePx } from '../../../packages/core/src/units.ts';
import { levels, square } from './samples.ts';

const tile = (px: number, target: number, overlap = 0): Recipe['tile'] => ({
  px: tilePx(px),
  mpp: mpp(target),
  overlap: tilePx(overlap),
  resampling: 'bilinear',
});
const pyramid = levels(100_000, 80_000, 4, 16);
const oblong = (x: number, y: number): MppReading => ({ x: mpp(x), y: mpp(y), source: 'ome' });

describe('tile geometry', () => {
  it.each([
    // slide mpp, target, level, read px: the next finer level, never a coarser one
    [0.25, 0.25, 0, 224],
    [0.25, 0.5, 0, 448],
    [0.25, 1, 1, 224],
    [0.25, 2, 1, 448],
    [0.25, 4, 2, 224],
    [0.25, 8, 2, 448],
    [0.2738, 0.5, 0, 409],
    [0.22818, 1, 1, 245],
    [0.25, 0.99, 0, 887],
  ])('of a %f um/px slide at %f reads level %i in %i px', (slide, target, level, readPx) => {
    const { geometry, warnings } = tileGeometry(pyramid, square(slide), tile(224, target));
    expect(geometry).toMatchObject({ level, readPx, strideLevelPx: readPx, tilePx: 224 });
    expect(geometry.sizeBase).toBe(Math.round(readPx * pyramid[level]!.downsample));
    expect(warnings).toEqual([]);
  });

  it.each([[0.499], [0.5], [0.5024], [0.4976]])(
    'takes %f for 0.5 as it is, whatever the tile size: no resampling',
    (slide) => {
      expect(tileGeometry(pyramid, square(slide), tile(224, 0.5)).geometry.readPx).toBe(224);
      expect(tileGeometry(pyramid, square(slide), tile(1024, 0.5)).geometry.readPx).toBe(1024);
    },
  );

  it('measures overlap in tile pixels', () => {
    expect(tileGeometry(pyramid, square(0.25), tile(224, 0.5, 56)).geometry).toMatchObject({
      readPx: 448,
      strideLevelPx: 336,
    });
    expect(tileGeometry(pyramid, square(0.499), tile(224, 0.5, 223)).geometry.strideLevelPx).toBe(1);
  });

  it.each([[224], [300], [-1]])('refuses an overlap of %i px for tiles of 224', (overlap) => {
    expect(() => tileGeometry(pyramid, square(0.5), tile(224, 0.5, overlap))).toThrow(
      expect.objectContaining({ code: 'usage' }),
    );
  });

  it('enlarges a 20x scan for a 40x target and says so', () => {
    const { geometry, warnings } = tileGeometry(pyramid, square(0.5), tile(224, 0.25));
    expect(geometry).toMatchObject({ level: 0, readPx: 112, strideLevelPx: 112 });
    expect(warnings).toEqual([expect.stringMatching(/enlarged 2\.00 times.*0\.5 um\/px.*0\.25 um\/px/)]);
  });

  it('refuses to enlarge further', () => {
    expect(() => tileGeometry(pyramid, square(0.52), tile(224, 0.25))).toThrow(
      expect.objectContaining({ code: 'mpp-too-coarse', message: expect.stringContaining('0.52 um/px') }),
    );
  });

  it.each([
    // slide mpp, target, levels beside the finest, decoded at 1/, read px
    [0.25, 0.5, [], 2, 448],
    [0.2501, 0.5, [4, 16], 2, 448],
    [0.25, 0.75, [], 2, 672],
    [0.499, 2, [], 4, 896],
    [0.25, 0.5, [2], undefined, 224],
    [0.25, 0.45, [], undefined, 403],
    [0.25, 8, [], 8, 7168],
    [0.251, 2.6, [], 8, 2320],
  ])('%f um/px for %f um/px may be decoded smaller', (slide, target, downsamples, dct, readPx) => {
    const of = { ...tile(224, target, 20), dct: true } as const;
    const { geometry } = tileGeometry(levels(100_000, 80_000, ...downsamples), square(slide), of);
    expect(geometry).toMatchObject({ readPx });
    expect(geometry.dct).toBe(dct);
    for (const px of [geometry.readPx, geometry.strideLevelPx]) expect(px % (dct ?? 1)).toBe(0);
    // Not coarser than the tile, and its scale as exact as ever.
    expect(geometry.readPx / (dct ?? 1)).toBeGreaterThanOrEqual(224);
    expect(Math.abs((geometry.readPx * geometry.downsample * slide) / (224 * target) - 1)).toBeLessThan(0.005);
  });

  it('decodes no blocks smaller that do not divide', () => {
    const of = { ...tile(224, 2), dct: true } as const;
    const odd = levels(10_000, 8_000).map((level) => ({ ...level, blockWidth: levelPx(254) }));
    expect(tileGeometry(odd, square(0.25), of).geometry.dct).toBe(2);
  });

  it.each([
    [0.2, 0.2015],
    [0.2521, 0.2506],
  ])('takes pixels of %f x %f um for square, at the mean', (x, y) => {
    const { geometry, warnings } = tileGeometry(pyramid, oblong(x, y), tile(224, 0.5));
    expect(geometry).toEqual(tileGeometry(pyramid, square((x + y) / 2), tile(224, 0.5)).geometry);
    expect(warnings).toEqual([]);
  });

  it.each([
    // um/px across and down, target, level, read across and down, px
    [0.25, 0.5, 0.5, 0, 448, 224],
    [0.5, 0.25, 0.5, 0, 224, 448],
    [0.3, 0.25, 0.5, 0, 373, 448],
    [0.25, 0.5024, 0.5, 0, 448, 224],
    // The coarser axis decides: level 1 has 2 um/px down.
    [0.25, 0.5, 1, 0, 896, 448],
    [0.25, 0.5, 2, 1, 448, 224],
    [0.125, 0.5, 8, 2, 896, 224],
  ])('of a slide of %f x %f um a pixel at %f reads level %i in %i x %i px', (x, y, target, level, across, down) => {
    const { geometry, warnings } = tileGeometry(pyramid, oblong(x, y), tile(224, target, 56));
    const { downsample } = pyramid[level]!;
    const side = (readPx: number) => ({
      readPx,
      strideLevelPx: Math.round(readPx * 0.75),
      sizeBase: Math.round(readPx * downsample),
    });
    expect(geometry).toEqual({ level, downsample, ...side(across), tilePx: 224, down: side(down) });
    // 224 * target um on both axes, to half a pixel.
    expect(Math.abs(across * downsample * x - 224 * target)).toBeLessThanOrEqual(0.51 * downsample * x);
    expect(Math.abs(down * downsample * y - 224 * target)).toBeLessThanOrEqual(0.0049 * 224 * target);
    expect(warnings).toEqual([
      `Pixels are not square: ${x} um/px across, ${y} um/px down; each axis is resampled by itself, so that tiles are.`,
    ]);
  });

  it('enlarges the axis that is too coarse, as far as a whole slide', () => {
    const { geometry, warnings } = tileGeometry(pyramid, oblong(0.25, 0.5), tile(224, 0.25));
    expect(geometry).toMatchObject({ readPx: 224, down: { readPx: 112 } });
    expect(warnings).toEqual([expect.stringContaining('not square'), expect.stringMatching(/enlarged 2\.00 times/)]);
    expect(() => tileGeometry(pyramid, oblong(0.25, 0.52), tile(224, 0.25))).toThrow(
      expect.objectContaining({ code: 'mpp-too-coarse', message: expect.stringContaining('0.52 um/px') }),
    );
  });

  it('decodes both axes smaller by what the coarser one allows', () => {
    const { geometry } = tileGeometry(levels(9_000, 8_000), oblong(0.25, 0.5), { ...tile(224, 1, 20), dct: true });
    expect(geometry).toMatchObject({ dct: 2, readPx: 896, down: { readPx: 448, strideLevelPx: 408 } });
  });
});
