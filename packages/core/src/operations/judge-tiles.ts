import { filterTiles } from '../pipeline/filter-tiles.ts';
import type { Plan, Recipe } from '../plan/plan.ts';
import { qcCounter } from '../plan/qc.ts';
import type { DecodePool } from '../slide/decode-pool.ts';
import type { Slide } from '../slide/slide.ts';
import type { SlideQc } from './qc-report.ts';

/** What a run would make of a plan's tiles, by reading them all. */
export interface JudgedTiles {
  /** Without the tiles that the filter drops. */
  readonly plan: Plan;
  /** Tiles that could not be read, and were judged by nobody. */
  readonly unreadable: number;
  /** Null where the plan measures nothing. */
  readonly qc: SlideQc | null;
}

export async function judgeTiles(
  slide: Slide,
  plan: Plan,
  recipe: Pick<Recipe, 'filter' | 'tile'>,
  pool: DecodePool,
  options: { readonly signal: AbortSignal; readonly onTiles?: ((done: number, total: number) => void) | undefined },
): Promise<JudgedTiles> {
  const { filter, tile } = recipe;
  const kept = qcCounter();
  let read = 0;
  const filtered = await filterTiles(slide, plan, { filter, tile, limit: null }, pool, {
    signal: options.signal,
    onTile(measured, passes) {
      read += 1;
      if (plan.qc && passes) kept.add(measured);
      options.onTiles?.(read, plan.x.length);
    },
  });
  const qc = plan.qc ? { embedded: kept.histograms, dropped: filtered.qc?.dropped ?? null } : null;
  return { plan: filtered, unreadable: plan.x.length - read, qc };
}
