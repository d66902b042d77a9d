import { NightshiftError } from '../errors.ts';
import type { Level, MppReading } from '../slide/slide.ts';
import { basePx, levelPx } from '../units.ts';
import type { Recipe, TileGeometry } from './plan.ts';

/** A level this close to the target mpp is read as it is: 0.499 um/px is the same scale as 0.5, and needs no resampling. */
const SAME_SCALE = 0.005;
/** Coarsest slide still accepted, as a multiple of the target: a 20x scan read for a 40x model, with a warning. */
const MAX_UPSAMPLING = 2.05;
/** Pixels that differ more than this in width and height are warned of: tiles use the mean, so that each axis is off by half of it. */
const MAX_ANISOTROPY = 0.01;
/** Beyond this they are refused. */
const MOST_ANISOTROPY = 0.1;

/**
 * How to cut tiles of `tile.px` at `tile.mpp`: from the coarsest level that is at least as fine as the target. The mpp of a level is
 * mean(x, y) * downsample; `mpp` is what `resolveMpp` found plausible.
 * @throws `mpp-too-coarse`, `mpp-absurd` (pixels far from square), `usage` (overlap)
 */
export function tileGeometry(
  levels: readonly Level[],
  mpp: MppReading,
  tile: Recipe['tile'],
): { readonly geometry: TileGeometry; readonly warnings: string[] } {
  const warnings: string[] = [];
  const baseMpp = (mpp.x + mpp.y) / 2;
  warnOfAnisotropy(mpp, baseMpp, warnings);
  if (!(tile.overlap >= 0 && tile.overlap < tile.px)) {
    throw new NightshiftError('usage', `an overlap of ${tile.overlap} px does not fit a tile of ${tile.px} px`, {
      next: 'Give an --overlap of at least 0 and less than --tile.',
    });
  }

  const fineEnough = levels.flatMap(({ downsample }, index) =>
    baseMpp * downsample <= tile.mpp * (1 + SAME_SCALE) ? [{ index, downsample }] : [],
  );
  const { index: level, downsample } = fineEnough.at(-1) ?? { index: 0, downsample: levels[0].downsample };
  const levelMpp = baseMpp * downsample;
  if (fineEnough.length === 0) {
    const factor = levelMpp / tile.mpp;
    const scales = `its finest level has ${um(levelMpp)}, the tiles are asked for at ${um(tile.mpp)}`;
    if (factor > MAX_UPSAMPLING) {
      throw new NightshiftError('mpp-too-coarse', `the slide is too coarse: ${scales}`, { data: { levelMpp, factor } });
    }
    warnings.push(`Tiles are enlarged ${factor.toFixed(2)} times, which adds no detail: ${scales}.`);
  }

  const scale = Math.abs(levelMpp / tile.mpp - 1) <= SAME_SCALE ? 1 : tile.mpp / levelMpp;
  const dct = tile.dct ? dctScale(levels[level], scale) : 1;
  const rounded = (px: number) => dct * Math.max(1, Math.round((px * scale) / dct));
  const readPx = rounded(tile.px);
  const stride = tile.overlap === 0 ? readPx : rounded(tile.px - tile.overlap);
  return {
    geometry: {
      level,
      downsample,
      readPx: levelPx(readPx),
      strideLevelPx: levelPx(stride),
      ...(dct === 1 ? {} : { dct }),
      tilePx: tile.px,
      sizeBase: basePx(Math.round(readPx * downsample)),
    },
    warnings,
  };
}

/** The most that a level can be decoded smaller and still be as fine as the tiles. */
function dctScale({ blockWidth, blockHeight }: Level, scale: number): 1 | 2 | 4 | 8 {
  const fits = (s: number) => s <= scale * (1 + SAME_SCALE) && blockWidth % s === 0 && blockHeight % s === 0;
  return ([8, 4, 2] as const).find(fits) ?? 1;
}

function warnOfAnisotropy({ x, y }: MppReading, mean: number, warnings: string[]): void {
  const anisotropy = Math.abs(x - y) / mean;
  if (anisotropy <= MAX_ANISOTROPY) return;
  const percent = (anisotropy * 100).toFixed(1);
  const what = `${um(x)} across, ${um(y)} down (${percent} %)`;
  if (anisotropy > MOST_ANISOTROPY) {
    throw new NightshiftError(
      'mpp-absurd',
      `pixels are not square: ${what}, where ${100 * MOST_ANISOTROPY} % are allowed`,
      {
        data: { x, y },
      },
    );
  }
  warnings.push(`Pixels are not square: ${what}; tiles use the mean.`);
}

const um = (value: number): string => `${Number(value.toPrecision(4))} um/px`;
