import { NightshiftError } from '../errors.ts';
import type { Level, MppReading } from '../slide/slide.ts';
import { basePx, levelPx } from '../units.ts';
import type { Recipe, TileGeometry } from './plan.ts';

/** A level this close to the target mpp is read as it is: 0.499 um/px is the same scale as 0.5, and needs no resampling. */
const SAME_SCALE = 0.005;
/** Coarsest slide still accepted, as a multiple of the target: a 20x scan read for a 40x model, with a warning. */
const MAX_UPSAMPLING = 2.05;
const MAX_ANISOTROPY = 0.01;
/** No whole-slide scanner lies outside these, um/px; a 72 dpi default tag (352.8) does. */
const PLAUSIBLE_MPP = { min: 0.05, max: 20 } as const;

/**
 * How to cut tiles of `tile.px` at `tile.mpp`: from the coarsest level that is at least as fine as the target. The mpp of a level is
 * mean(x, y) * downsample. Throws `mpp-absurd`, `mpp-too-coarse` or `usage` (overlap).
 */
export function tileGeometry(
  levels: readonly Level[],
  mpp: MppReading,
  tile: Recipe['tile'],
): { readonly geometry: TileGeometry; readonly warnings: string[] } {
  const warnings: string[] = [];
  const baseMpp = checkedMpp(mpp, warnings);
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
  const readPx = Math.max(1, Math.round(tile.px * scale));
  const stride = tile.overlap === 0 ? readPx : Math.max(1, Math.round((tile.px - tile.overlap) * scale));
  return {
    geometry: {
      level,
      downsample,
      readPx: levelPx(readPx),
      strideLevelPx: levelPx(stride),
      tilePx: tile.px,
      sizeBase: basePx(Math.round(readPx * downsample)),
    },
    warnings,
  };
}

/** Mean mpp of level 0, checked. */
function checkedMpp(mpp: MppReading, warnings: string[]): number {
  for (const value of [mpp.x, mpp.y]) {
    if (!(value >= PLAUSIBLE_MPP.min && value <= PLAUSIBLE_MPP.max)) {
      throw new NightshiftError(
        'mpp-absurd',
        `the slide states ${um(value)} (source: ${mpp.source}); a scan has ${PLAUSIBLE_MPP.min} to ${PLAUSIBLE_MPP.max}`,
        { data: { x: mpp.x, y: mpp.y, source: mpp.source } },
      );
    }
  }
  const mean = (mpp.x + mpp.y) / 2;
  const anisotropy = Math.abs(mpp.x - mpp.y) / mean;
  if (anisotropy > MAX_ANISOTROPY) {
    warnings.push(
      `Pixels are not square: ${um(mpp.x)} across, ${um(mpp.y)} down (${(anisotropy * 100).toFixed(1)} %); tiles use the mean.`,
    );
  }
  return mean;
}

const um = (value: number): string => `${Number(value.toPrecision(4))} um/px`;
