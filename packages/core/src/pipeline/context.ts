import type { Filter, Recipe, Shard, SlideRef } from '../plan/plan.ts';
import type { Job, Queue } from '../queue/queue.ts';
import type { Record } from '../record/record.ts';
import type { DecodePool } from '../slide/decode-pool.ts';
import type { Slide } from '../slide/slide.ts';
import type { ReadCost } from '../source/counted.ts';
import type { VectorStore } from '../store/store.ts';
import type { Meter } from './meter.ts';

/** What the roles of a process share, whatever runs they work for. Ports only. */
export interface Workplace {
  readonly queue: Queue;
  readonly pool: DecodePool;
  readonly slides: SlideCache;
  readonly meter: Meter;
  /** The run that a job is of, opened once. Fails as opening its record does. */
  runOf(job: Job): Promise<Run>;
}

/** One run as the roles see it. */
export interface Run {
  readonly id: string;
  /** URI of the record. */
  readonly out: string;
  readonly recipe: Recipe;
  readonly recipeId: string;
  readonly record: Record;
  /** The run's vector store, opened when first asked for; null where it keeps none. */
  store(): Promise<VectorStore | null>;
  /** What the model does to a tile that is not its input size; null where tiles are cut at that size. */
  readonly fit: { readonly shortEdge: number; readonly filter: Filter; readonly crop: number } | null;
  /** Tiles a shard of the plans that are still to be cut. */
  readonly shardTiles: number;
  /** Whether these ask for QC columns. */
  readonly qc: boolean;
}

/** Open slides, shared by the shards in work. */
export interface SlideCache {
  /** The slide, opened once; give it back when done. Fails with `slide-changed` when it is not the one that the ref names. */
  borrow(ref: SlideRef): Promise<BorrowedSlide>;
  close(): Promise<void>;
}

export interface BorrowedSlide {
  readonly slide: Slide;
  /** What this process has read of the slide and nobody has claimed, by whomever it was read: shards that share a slide share its header. */
  claimReads(): ReadCost;
  giveBack(): void;
}

/** The job of a whole slide, as the role `plan` takes it. */
export const planJob = (run: Run, slide: SlideRef, priority?: number): Job => ({
  id: `${run.id}-${slide.key}`,
  out: run.out,
  run: run.id,
  model: run.recipe.model.digest,
  slide,
  ...(priority === undefined ? {} : { priority }),
});

/** The job of a slide whose shards are all in, from any job of the slide. */
export const indexJob = ({ shard: _, ...job }: Job): Job => ({ ...job, id: `${job.run}-${job.slide.key}` });

/** The jobs of a plan's shards that the record does not hold, from the slide's job. */
export const shardJobs = (job: Job, shards: readonly Shard[], present: ReadonlySet<number>): Job[] =>
  shards
    .filter(({ index }) => !present.has(index))
    .map((shard) => ({
      ...job,
      id: `${job.run}-${job.slide.key}-${shard.index}`,
      shard: { ...shard, of: shards.length },
    }));
