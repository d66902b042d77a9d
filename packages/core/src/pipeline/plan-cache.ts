import { NightshiftError } from '../errors.ts';
import { levelPositions } from '../plan/grid.ts';
import type { Plan } from '../plan/plan.ts';
import type { Run } from './context.ts';

/** A stored plan, parsed once, with its tiles' corners in pixels of the level that they are read from. */
export interface CachedPlan {
  readonly plan: Plan;
  readonly x: Int32Array;
  readonly y: Int32Array;
}

/** Plans of the shards in work: parsing one of 100,000 tiles takes longer than reading a tile, and a slide has a hundred shards. */
export interface PlanCache {
  /** @throws `record-corrupt` when the record holds no such plan. */
  planOf(run: Run, slide: string): Promise<CachedPlan>;
}

/** Shards of few slides are in work at once: the queue hands them out in order. */
const MOST_PLANS = 8;

export function planCache(): PlanCache {
  const plans = new Map<string, Promise<CachedPlan>>();

  async function load({ record, recipeId }: Run, slide: string): Promise<CachedPlan> {
    const plan = await record.getPlan(recipeId, slide);
    if (!plan) throw new NightshiftError('record-corrupt', `the plan of ${slide} is gone`);
    return { plan, ...levelPositions(plan) };
  }

  return {
    planOf(run, slide) {
      const key = `${run.out}\n${run.recipeId}\n${slide}`;
      const known = plans.get(key) ?? load(run, slide);
      // Set again: the map's order is the order of last use.
      plans.delete(key);
      plans.set(key, known);
      known.catch(() => plans.delete(key));
      for (const old of [...plans.keys()].slice(0, Math.max(0, plans.size - MOST_PLANS))) plans.delete(old);
      return known;
    },
  };
}
