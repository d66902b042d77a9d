import type { Plan, Recipe, Shard, SlideRef } from '../plan/plan.ts';
import type { Queue } from '../queue/queue.ts';
import type { Record } from '../record/record.ts';
import type { DecodePool } from '../slide/decode-pool.ts';
import type { Slide } from '../slide/slide.ts';
import type { Meter } from './meter.ts';

/** What the roles of one run share. Ports only. */
export interface RunContext {
  readonly run: string;
  readonly recipe: Recipe;
  readonly recipeId: string;
  /** What the model does to a tile that is not its input size; null where tiles are cut at that size. */
  readonly fit: {
    readonly shortEdge: number;
    readonly filter: Recipe['tile']['resampling'];
    readonly crop: number;
  } | null;
  readonly shardTiles: number;
  readonly record: Record;
  readonly queue: Queue;
  readonly pool: DecodePool;
  readonly slides: SlideCache;
  readonly meter: Meter;
}

/** Open slides, shared by the shards in work. */
export interface SlideCache {
  /** The slide, opened once; give it back when done. Fails with `slide-changed` when it is not the one that the ref names. */
  borrow(ref: SlideRef): Promise<{ readonly slide: Slide; giveBack(): void }>;
  close(): Promise<void>;
}

export const embedJobId = (run: string, slide: SlideRef, shard: Shard): string => `${run}-${slide.key}-${shard.index}`;
export const slideJobId = (run: string, slide: SlideRef): string => `${run}-${slide.key}`;

/** Rows of a plan's range that the record does not hold yet are the embed jobs to add. */
export function embedJobs(run: string, plan: Plan, shards: readonly Shard[], present: ReadonlySet<number>) {
  return shards
    .filter((shard) => !present.has(shard.index))
    .map((shard) => ({
      id: embedJobId(run, plan.slide, shard),
      run,
      slide: plan.slide,
      shard: { ...shard, of: shards.length },
    }));
}
