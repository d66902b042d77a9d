import { levelPositions } from '../plan/grid.ts';
import type { Plan, Recipe } from '../plan/plan.ts';
import { qcCounter } from '../plan/qc.ts';
import { faultsOf, filterPlan, filtersOf } from '../plan/tile-filter.ts';
import type { DecodePool } from '../slide/decode-pool.ts';
import { MEASURES, type Measure } from '../slide/measure/measure.ts';
import type { Slide } from '../slide/slide.ts';
import { readTiles, type TileOptions } from '../slide/tiles.ts';

/**
 * Drops the tiles that fail the recipe's filter, read as they are cut for the encoder, and of a plan with QC counts their measures. A tile that
 * cannot be read stays in the plan: the embed role reports it. `onTile` is told of every other tile that is looked at.
 */
export async function filterTiles(
  slide: Slide,
  plan: Plan,
  recipe: Pick<Recipe, 'filter' | 'limit' | 'tile'>,
  pool: DecodePool,
  options: TileOptions & {
    readonly onTile?: (measured: (measure: Measure) => number, passes: boolean) => void;
  },
): Promise<Plan> {
  const filters = filtersOf(recipe.filter);
  const measures = plan.qc ? MEASURES : filters;
  const { x, y } = levelPositions(plan);
  const dropped = qcCounter();

  async function judge(tiles: readonly number[]): Promise<Uint8Array> {
    const faults = new Uint8Array(tiles.length);
    const at = { x: Int32Array.from(tiles, (i) => x[i]), y: Int32Array.from(tiles, (i) => y[i]) };
    const request = { ...plan.geometry, filter: recipe.tile.resampling, fit: null, measures, ...at };
    for await (const chunk of readTiles(slide, request, pool, options)) {
      const failed = new Set(chunk.failures.map(({ index }) => index));
      for (let i = 0; i < chunk.count; i++) {
        if (failed.has(chunk.first + i)) continue;
        const measured = (measure: Measure) => chunk.measured[measure]![i];
        const fault = faultsOf(measured, filters);
        faults[chunk.first + i] = fault;
        if (plan.qc && fault !== 0) dropped.add(measured);
        options.onTile?.(measured, fault === 0);
      }
    }
    return faults;
  }

  const kept = await filterPlan(plan, filters, recipe.limit, judge);
  return plan.qc ? { ...kept, qc: { dropped: dropped.histograms } } : kept;
}
