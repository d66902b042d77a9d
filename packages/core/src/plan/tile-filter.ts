import { NightshiftError } from '../errors.ts';
import type { Measure } from '../slide/measure/measure.ts';
import { evenly } from './grid.ts';
import type { FilterName, Plan, Recipe } from './plan.ts';

/**
 * Which values of its measure a filter lets pass.
 *
 * `hsv`: Midnight's rule, exactly 60 % is kept. `blur`: below 15 a tile is out of focus, or so flat that nobody can tell; tiles of real scans have 115
 * and more at 0.5 um/px, and 17 and more where a scan is enlarged twice; blurred by a Gaussian of 4 px at most 7. `pen`: from 0.3 on a tile is a drawing;
 * of the colours without black tissue of real H&E scans has at most 0.15.
 */
const PASSES: Record<FilterName, (value: number) => boolean> = {
  hsv: (share) => share >= 0.6,
  blur: (sharpness) => sharpness >= 15,
  pen: (share) => share < 0.3,
};

/** The filters of a recipe, in the order of its name. */
export const filtersOf = (filter: Recipe['filter']): FilterName[] =>
  filter === 'none' ? [] : (filter.split('+') as FilterName[]);

/** Which of the filters a tile of these measures does not pass: bit i for `filters[i]`. */
export function faultsOf(measured: (measure: Measure) => number, filters: readonly FilterName[]): number {
  return filters.reduce((faults, name, i) => (PASSES[name](measured(name)) ? faults : faults | (1 << i)), 0);
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
