import { NightshiftError } from '../errors.ts';
import { evenly } from './grid.ts';
import { keepsTile } from './hsv.ts';
import { isBlack, isInk } from './ink.ts';
import type { FilterName, Plan, Recipe } from './plan.ts';

/**
 * Variance of the Laplacian (4 neighbours, of luma 0 to 255) below which a tile is out of focus, or so flat that nobody can tell. Tiles of real
 * scans have 115 and more at 0.5 um/px, and 17 and more where a scan is enlarged twice; blurred by a Gaussian of 4 px at most 7.
 */
const LEAST_SHARPNESS = 15;
/** Part of a tile in the colours of ink or black from which it is a drawing; of the colours alone tissue of real H&E scans has at most 0.15. */
const MOST_INK = 0.3;

/** The filters of a recipe, in the order of its name. */
export const filtersOf = (filter: Recipe['filter']): FilterName[] =>
  filter === 'none' ? [] : (filter.split('+') as FilterName[]);

const PASSES: Record<FilterName, (rgb: Uint8Array, side: number) => boolean> = {
  hsv: (rgb) => keepsTile(rgb),
  blur: (rgb, side) => sharpness(rgb, side) >= LEAST_SHARPNESS,
  pen: (rgb) => inkShare(rgb) < MOST_INK,
};

/** Which of the filters a tile does not pass: bit i for `filters[i]`. The tile is uint8 RGB [side, side, 3]. */
export function faultsOf(rgb: Uint8Array, side: number, filters: readonly FilterName[]): number {
  return filters.reduce((faults, name, i) => (PASSES[name](rgb, side) ? faults : faults | (1 << i)), 0);
}

/** Variance of the Laplacian of the luma. */
export function sharpness(rgb: Uint8Array, side: number): number {
  const luma = new Int32Array(side * side);
  for (let i = 0, p = 0; i < luma.length; i++, p += 3) luma[i] = 77 * rgb[p] + 150 * rgb[p + 1] + 29 * rgb[p + 2];
  let sum = 0;
  let squares = 0;
  for (let y = 1; y < side - 1; y++) {
    for (let i = y * side + 1; i < (y + 1) * side - 1; i++) {
      const value = (luma[i - 1] + luma[i + 1] + luma[i - side] + luma[i + side] - 4 * luma[i]) / 256;
      sum += value;
      squares += value * value;
    }
  }
  const count = Math.max(1, (side - 2) ** 2);
  return squares / count - (sum / count) ** 2;
}

export function inkShare(rgb: Uint8Array): number {
  let ink = 0;
  for (let i = 0; i < rgb.length; i += 3) {
    if (isInk(rgb[i], rgb[i + 1], rgb[i + 2]) || isBlack(rgb[i], rgb[i + 1], rgb[i + 2])) ink++;
  }
  return (3 * ink) / rgb.length;
}

/** Tiles looked at together at least, so that few rounds are needed where most fail. */
const LEAST_ROUND = 256;

/**
 * The plan without the tiles that fail a filter, and of the others at most `limit`. Only as many are judged as it takes: first `limit` of them,
 * spread evenly, then as many again as failed, spread over those not yet seen. `judge` is given places in the plan, ascending, and answers the
 * faults of each, as `faultsOf`.
 */
export async function filterPlan(
  plan: Plan,
  filters: readonly FilterName[],
  limit: number | null,
  judge: (tiles: readonly number[]) => Promise<ArrayLike<number>>,
): Promise<Plan> {
  let unseen = Array.from(plan.x, (_, i) => i);
  const passed: number[] = [];
  const failing = filters.map(() => 0);
  let failed = 0;
  const wanted = Math.min(limit ?? unseen.length, unseen.length);
  while (passed.length < wanted && unseen.length > 0) {
    const round = Math.min(unseen.length, Math.max(wanted - passed.length, LEAST_ROUND));
    const places = evenly(round, unseen.length);
    const tiles = places.map((i) => unseen[i]);
    const looked = new Set(places);
    unseen = unseen.filter((_, i) => !looked.has(i));
    const faults = await judge(tiles);
    if (faults.length !== tiles.length) {
      throw new NightshiftError('internal', `${faults.length} filter verdicts for ${tiles.length} tiles`);
    }
    for (const [i, tile] of tiles.entries()) {
      if (faults[i] === 0) passed.push(tile);
      else failed++;
      for (const f of filters.keys()) if (faults[i] & (1 << f)) failing[f]++;
    }
  }
  passed.sort((a, b) => a - b);
  const kept = evenly(Math.min(wanted, passed.length), passed.length).map((i) => passed[i]);
  const { counts } = plan;
  return {
    ...plan,
    x: kept.map((i) => plan.x[i]),
    y: kept.map((i) => plan.y[i]),
    counts: {
      ...counts,
      rejectedByFilter: failed,
      rejectedByLimit: counts.planned - failed - kept.length,
      planned: kept.length,
      filters: Object.fromEntries(filters.map((name, i) => [name, failing[i]])),
    },
  };
}
