import { NightshiftError } from '../errors.ts';
import type { Level, MppReading } from '../slide/slide.ts';
import { basePx, levelPx, type Mpp, mpp as umPerPx } from '../units.ts';
import type { Recipe, TileGeometry, TileSide } from './plan.ts';

/** A level this close to the target mpp is read as it is: 0.499 um/px is the same scale as 0.5, and needs no resampling. */
const SAME_SCALE = 0.005;
/** Coarsest slide still accepted, as a multiple of the target: a 20x scan read for a 40x model, with a warning. */
const MAX_UPSAMPLING = 2.05;
/** Scanners state sides that differ by what their calibration leaves. Up to here pixels are square and have the mean: each axis is off by half, `SAME_SCALE`. */
const SQUARE = 0.01;

/** The scale of each axis of level 0: the same number, the mean, where pixels are square to 1 %. */
export function axisMpp({ x, y }: Pick<MppReading, 'x' | 'y'>): { readonly x: Mpp; readonly y: Mpp } {
  const mean = (x + y) / 2;
  return Math.abs(x - y) > SQUARE * mean ? { x, y } : { x: umPerPx(mean), y: umPerPx(mean) };
}

/**
 * How to cut tiles of `tile.px` at `tile.mpp`: from the coarsest level that is at least as fine as the target on both axes. The scale of a
 * level is `axisMpp` * downsample; `mpp` is what `resolveMpp` found plausible. Where pixels are not square, neither is what is read.
 * @throws `mpp-too-coarse`, `usage` (overlap)
 */
export function tileGeometry(
  levels: readonly Level[],
  mpp: MppReading,
  tile: Recipe['tile'],
): { readonly geometry: TileGeometry; readonly warnings: string[] } {
  const warnings: string[] = [];
  const base = axisMpp(mpp);
  const coarser = Math.max(base.x, base.y);
  if (base.x !== base.y) {
    const sides = `${um(base.x)} across, ${um(base.y)} down`;
    warnings.push(`Pixels are not square: ${sides}; each axis is resampled by itself, so that tiles are.`);
  }
  if (!(tile.overlap >= 0 && tile.overlap < tile.px)) {
    throw new NightshiftError('usage', `an overlap of ${tile.overlap} px does not fit a tile of ${tile.px} px`, {
      next: 'Give an --overlap of at least 0 and less than --tile.',
    });
  }

  const fineEnough = levels.flatMap(({ downsample }, index) =>
    coarser * downsample <= tile.mpp * (1 + SAME_SCALE) ? [{ index, downsample }] : [],
  );
  const { index: level, downsample } = fineEnough.at(-1) ?? { index: 0, downsample: levels[0].downsample };
  const levelMpp = coarser * downsample;
  if (fineEnough.length === 0) {
    const factor = levelMpp / tile.mpp;
    const scales = `its finest level has ${um(levelMpp)}, the tiles are asked for at ${um(tile.mpp)}`;
    if (factor > MAX_UPSAMPLING) {
      throw new NightshiftError('mpp-too-coarse', `the slide is too coarse: ${scales}`, { data: { levelMpp, factor } });
    }
    warnings.push(`Tiles are enlarged ${factor.toFixed(2)} times, which adds no detail: ${scales}.`);
  }

  const dct = tile.dct ? dctScale(levels[level], scaleOf(levelMpp, tile.mpp)) : 1;
  const { readPx, strideLevelPx, sizeBase } = along(scaleOf(base.x * downsample, tile.mpp));
  return {
    geometry: {
      level,
      downsample,
      readPx,
      strideLevelPx,
      ...(dct === 1 ? {} : { dct }),
      tilePx: tile.px,
      sizeBase,
      ...(base.x === base.y ? {} : { down: along(scaleOf(base.y * downsample, tile.mpp)) }),
    },
    warnings,
  };

  function along(scale: number): TileSide {
    const rounded = (px: number) => dct * Math.max(1, Math.round((px * scale) / dct));
    const readPx = rounded(tile.px);
    const stride = tile.overlap === 0 ? readPx : rounded(tile.px - tile.overlap);
    return {
      readPx: levelPx(readPx),
      strideLevelPx: levelPx(stride),
      sizeBase: basePx(Math.round(readPx * downsample)),
    };
  }
}

/** Pixels of a level per pixel of a tile. */
const scaleOf = (levelMpp: number, tileMpp: number): number =>
  Math.abs(levelMpp / tileMpp - 1) <= SAME_SCALE ? 1 : tileMpp / levelMpp;

/** The most that a level can be decoded smaller and still be as fine as the tiles. */
function dctScale({ blockWidth, blockHeight }: Level, scale: number): 1 | 2 | 4 | 8 {
  const fits = (s: number) => s <= scale * (1 + SAME_SCALE) && blockWidth % s === 0 && blockHeight % s === 0;
  return ([8, 4, 2] as const).find(fits) ?? 1;
}

const um = (value: number): string => `${Number(value.toPrecision(4))} um/px`;
