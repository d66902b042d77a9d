import { isNightshiftError, NightshiftError, toErrorRecord } from '../errors.ts';
import type { Encoder } from '../model/encoder.ts';
import { levelPositions } from '../plan/grid.ts';
import type { Plan } from '../plan/plan.ts';
import type { Lease } from '../queue/queue.ts';
import { readTiles } from '../slide/tiles.ts';
import { type Batcher, type BatchStats, createBatcher, type TileSink } from './batcher.ts';
import { byteBudget } from './budget.ts';
import { type RunContext, slideJobId } from './context.ts';
import type { Stage } from './progress.ts';
import { type ShardVectors, shardVectors } from './shard-vectors.ts';

/** Vectors of shards that are read or wait for their last batch: 20 shards of 1,024 tiles at 3,072 float32. */
const VECTOR_BYTES = 256 * 1024 * 1024;

export interface EmbedRole {
  /**
   * Takes shards until the signal aborts or the queue closes. Several shards are read at once and share batches. After an abort
   * the shards in flight are released.
   * @throws the error that stops the run: `encoder-failed`, `disk-full`, ...
   */
  run(signal: AbortSignal): Promise<void>;
  /** What the device waits for right now. */
  stage(): Stage | null;
  readonly batches: BatchStats;
}

export function createEmbedRole(
  context: RunContext,
  encoder: Encoder,
  options: { readonly readers: number },
): EmbedRole {
  const { queue, record, recipe, recipeId, meter } = context;
  const batcher: Batcher = createBatcher(encoder);
  const room = byteBudget(VECTOR_BYTES);
  const { dims, embedding } = recipe.model;
  const from = embedding === 'mean' && encoder.model.embedding === 'cls+mean' ? dims : 0;
  let reading = 0;

  /** Where a tile's vector goes; counted when it comes. */
  function counted(vectors: ShardVectors, i: number): TileSink {
    const sink = vectors.sink(i);
    return {
      vector(values) {
        sink.vector(values);
        meter.tilesEmbedded(1);
      },
      failed: sink.failed,
    };
  }

  /** Reads a shard's tiles and puts them into batches; the vectors come later. */
  async function read(lease: Lease, plan: Plan, signal: AbortSignal): Promise<ShardVectors> {
    const shard = lease.job.shard!;
    const { x, y } = levelPositions(plan);
    const vectors = shardVectors(shard.to - shard.from, dims, from);
    const { slide, giveBack } = await context.slides.borrow(lease.job.slide);
    try {
      const request = {
        ...plan.geometry,
        filter: recipe.tile.resampling,
        fit: context.fit,
        x: x.subarray(shard.from, shard.to),
        y: y.subarray(shard.from, shard.to),
      };
      const onStats = (stats: { readonly bytesRead: number }) => meter.bytesRead(stats.bytesRead);
      for await (const chunk of readTiles(slide, request, context.pool, { signal, onStats })) {
        const tileBytes = chunk.pixels.length / chunk.count;
        const failed = new Map(chunk.failures.map(({ index, error }) => [index, error]));
        for (let i = 0; i < chunk.count; i++) {
          const error = failed.get(chunk.first + i);
          if (error) {
            vectors.failed(chunk.first + i, error);
            meter.tilesFailed(1);
          } else {
            await batcher.push(
              chunk.pixels.subarray(i * tileBytes, (i + 1) * tileBytes),
              counted(vectors, chunk.first + i),
            );
          }
        }
      }
    } finally {
      giveBack();
    }
    return vectors;
  }

  /**
   * Publishes a shard whose vectors are all there, and tells `index` when it was the slide's last one. The only shard of a slide is
   * published as the slide file at once.
   */
  async function commit(lease: Lease, plan: Plan, vectors: ShardVectors): Promise<void> {
    const shard = lease.job.shard!;
    const { ok, vectors: values } = vectors.rows();
    const at = (axis: readonly number[]) => Int32Array.from(ok, (i) => axis[shard.from + i]);
    const failures = [...vectors.failures].map(([i, error]) => ({
      x: plan.x[shard.from + i],
      y: plan.y[shard.from + i],
      error,
    }));
    const rows = { x: at(plan.x), y: at(plan.y), vectors: values };
    const index = { id: slideJobId(context.run, plan.slide), run: context.run, slide: plan.slide };
    if (shard.of === 1) {
      await record.publishSlide(recipe, plan, { rows, failures });
      return queue.add('index', [index]);
    }
    await record.putShard(recipe, plan, shard, rows, failures);
    const present = await record.listShards(recipeId, plan.slide.key);
    if (present.length === shard.of) await queue.add('index', [index]);
  }

  async function run(outer: AbortSignal): Promise<void> {
    const stop = new AbortController();
    const signal = AbortSignal.any([outer, stop.signal]);
    let fatal: unknown = null;
    const commits = new Set<Promise<void>>();
    signal.addEventListener('abort', () => batcher.abort(signal.reason), { once: true });

    /** Ends a lease after an error, by what the error stops. */
    async function giveUp(lease: Lease, error: unknown): Promise<void> {
      if (signal.aborted) return lease.release();
      const failure = isNightshiftError(error)
        ? error
        : new NightshiftError('internal', String(error), { cause: error });
      if (failure.scope === 'run' || failure.scope === 'worker') {
        fatal = error;
        await lease.release();
        return stop.abort(failure);
      }
      if ((await lease.fail(toErrorRecord(failure))) === 'dead') {
        await record.putFailures(recipeId, lease.job.slide, { slide: toErrorRecord(failure), tiles: [] });
        meter.slideFailed(lease.job.slide, toErrorRecord(failure));
      }
    }

    async function readOne(lease: Lease): Promise<void> {
      const shard = lease.job.shard!;
      const release = await room.acquire((shard.to - shard.from) * dims * 4, signal).catch(() => null);
      if (!release) return lease.release();
      reading += 1;
      batcher.expectMore(true);
      try {
        const plan = await record.getPlan(recipeId, lease.job.slide.key);
        if (!plan) throw new NightshiftError('record-corrupt', `the plan of ${lease.job.slide.key} is gone`);
        const vectors = await read(lease, plan, AbortSignal.any([signal, lease.signal]));
        const committed = vectors.complete
          .then(() => commit(lease, plan, vectors))
          .then(() => lease.done())
          .then(() => meter.shardDone(lease.job.slide, lease.job.shard!))
          .catch((error) => giveUp(lease, error))
          .finally(() => {
            release();
            commits.delete(committed);
          });
        commits.add(committed);
      } catch (error) {
        release();
        await giveUp(lease, error);
      } finally {
        reading -= 1;
        if (reading === 0) batcher.expectMore(false);
      }
    }

    async function reader(): Promise<void> {
      for (let lease = await queue.take('embed', signal); lease; lease = await queue.take('embed', signal)) {
        await readOne(lease);
      }
    }

    await Promise.all(Array.from({ length: options.readers }, reader));
    await Promise.all(commits);
    if (fatal) throw fatal;
  }

  return {
    run,
    batches: batcher.stats,
    stage() {
      if (batcher.outstanding > 0) return 'inference';
      if (reading === 0) return null;
      return context.pool.busy > 0 ? 'decoding' : 'reading';
    },
  };
}
