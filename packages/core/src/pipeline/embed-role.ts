import { fromErrorRecord, NightshiftError } from '../errors.ts';
import type { Encoder } from '../model/encoder.ts';
import type { Plan, Recipe } from '../plan/plan.ts';
import { byMeasure, type QcValues } from '../plan/qc.ts';
import { patchValues } from '../plan/recipe.ts';
import type { Lease } from '../queue/queue.ts';
import { MEASURES } from '../slide/measure/measure.ts';
import { readTiles } from '../slide/tiles.ts';
import type { ReadCost } from '../source/counted.ts';
import { type BatchStats, createBatcher } from './batcher.ts';
import { byteBudget } from './budget.ts';
import { indexJob, type Run, type Workplace } from './context.ts';
import { endAfterError } from './end-lease.ts';
import { type CachedPlan, planCache } from './plan-cache.ts';
import type { Stage } from './progress.ts';
import { type ShardVectors, shardBytes, shardVectors } from './shard-vectors.ts';

/** Vectors of shards that are read or wait for their last batch: 20 shards of 1,024 tiles at 3,072 float32. */
const VECTOR_BYTES = 256 * 1024 * 1024;

/** Compressed and decoded blocks and chunks of one shard that is read: twice what a stripe of 32 tiles of 224 px needs. */
const READER_BYTES = 32 * 1024 * 1024;

/** A shard whose tiles are read. */
interface ReadShard {
  readonly vectors: ShardVectors;
  /** Of each tile of the shard, where its plan wants them; NaN where it could not be read. */
  readonly qc: QcValues | null;
  readonly reads: ReadCost;
}

export interface EmbedRole {
  /**
   * Takes shards until the signal aborts or the queue closes. Several shards are read at once and share batches. After an abort
   * the shards in flight are released.
   * @throws the error that stops this process: `encoder-failed`, `disk-full`, ...
   */
  run(signal: AbortSignal): Promise<void>;
  /** What the device waits for right now; null while there is no work. */
  stage(): Stage | null;
  readonly batches: BatchStats;
}

export function createEmbedRole(work: Workplace, encoder: Encoder, options: { readonly readers: number }): EmbedRole {
  const { queue, meter } = work;
  const batcher = createBatcher(encoder, (batch) => meter.batch(batch));
  const room = byteBudget(VECTOR_BYTES);
  const plans = planCache();
  let reading = 0;

  /** Reads a shard's tiles and puts them into batches; the vectors come later. */
  async function read(lease: Lease, run: Run, { plan, x, y }: CachedPlan, signal: AbortSignal): Promise<ReadShard> {
    const { from, to } = lease.job.shard!;
    const shape = { ...shapeOf(run.recipe, encoder), tiles: to - from };
    const vectors = shardVectors(shape, () => meter.tilesEmbedded(1));
    const qc = plan.qc ? byMeasure(() => new Float32Array(to - from)) : null;
    const { slide, claimReads, giveBack } = await work.slides.borrow(lease.job.slide);
    try {
      const request = {
        ...plan.geometry,
        filter: run.recipe.tile.resampling,
        fit: run.fit,
        measures: qc ? MEASURES : [],
        x: x.subarray(from, to),
        y: y.subarray(from, to),
      };
      for await (const chunk of readTiles(slide, request, work.pool, {
        signal,
        onStats: meter.read,
        maxBytesInFlight: READER_BYTES,
      })) {
        const tileBytes = chunk.pixels.length / chunk.count;
        const failed = new Map(chunk.failures.map(({ index, error }) => [index, error]));
        if (qc) for (const measure of MEASURES) qc[measure].set(chunk.measured[measure]!, chunk.first);
        for (let i = 0; i < chunk.count; i++) {
          const tile = chunk.first + i;
          const error = failed.get(tile);
          if (error) {
            vectors.failed(tile, error);
          } else {
            await batcher.push(chunk.pixels.subarray(i * tileBytes, (i + 1) * tileBytes), vectors.sink(tile));
          }
        }
      }
      return { vectors, qc, reads: claimReads() };
    } finally {
      giveBack();
    }
  }

  /**
   * Publishes a shard whose vectors are all there. The only shard of a slide is published as the slide file at once.
   * @returns how many tiles have a vector and how many have none
   */
  async function commit(lease: Lease, run: Run, plan: Plan, { vectors, qc, reads }: ReadShard) {
    const { record, recipe } = run;
    const shard = lease.job.shard!;
    const { ok, ...values } = vectors.rows();
    const at = (axis: readonly number[]) => Int32Array.from(ok, (i) => axis[shard.from + i]);
    const failures = [...vectors.failures].map(([i, error]) => ({
      x: plan.x[shard.from + i],
      y: plan.y[shard.from + i],
      error,
    }));
    const measured = qc && { qc: byMeasure((measure) => Float32Array.from(ok, (i) => qc[measure][i])) };
    const rows = { x: at(plan.x), y: at(plan.y), ...values, ...measured };
    const started = performance.now();
    if (shard.of === 1) await record.publishSlide(recipe, plan, { rows, failures, reads });
    else await record.putShard(recipe, plan, shard, rows, failures, reads);
    meter.stage('write', (performance.now() - started) / 1000);
    await handOn(lease, run);
    return { ok: ok.length, failed: failures.length };
  }

  /** Ends the lease of a shard that is in, and tells `index` when it was the slide's last one. */
  async function handOn({ job, signal, done }: Lease, { record, recipeId }: Run): Promise<void> {
    const { of } = job.shard!;
    const last = of === 1 || (await record.listShards(recipeId, job.slide.key)).length === of;
    // Whoever took over a lost lease says it.
    signal.throwIfAborted();
    if (last) await queue.add('index', [indexJob(job)]);
    await done();
  }

  async function run(outer: AbortSignal): Promise<void> {
    const stop = new AbortController();
    const signal = AbortSignal.any([outer, stop.signal]);
    const commits = new Set<Promise<void>>();
    let fatal: NightshiftError | null = null;
    signal.addEventListener('abort', () => batcher.abort(signal.reason), { once: true });

    async function giveUp(lease: Lease, error: unknown): Promise<void> {
      const stopping = await endAfterError(work, lease, error, signal);
      if (!stopping) return;
      fatal ??= stopping;
      stop.abort(stopping);
    }

    /** Reads one shard; its commit goes on by itself. */
    async function start(lease: Lease): Promise<void> {
      const { shard, slide } = lease.job;
      if (lease.exhausted) return giveUp(lease, fromErrorRecord(lease.exhausted));
      if (!shard) return giveUp(lease, new NightshiftError('internal', `job ${lease.job.id} names no shard`));
      const opened = await work.runOf(lease.job).catch((error) => giveUp(lease, error));
      if (!opened) return;
      const release = await room
        .acquire(shardBytes({ ...shapeOf(opened.recipe, encoder), tiles: shard.to - shard.from }), signal)
        .catch(() => null);
      if (!release) return lease.release();
      reading += 1;
      batcher.expectMore(true);
      try {
        // Made by one who died before it could say so, or who had lost the lease.
        if (await opened.record.hasShard(opened.recipeId, slide.key, shard.index)) {
          release();
          return await handOn(lease, opened);
        }
        const cached = await plans.planOf(opened, slide.key);
        const { plan } = cached;
        const shardRead = await read(lease, opened, cached, AbortSignal.any([signal, lease.signal]));
        const committed = shardRead.vectors.complete
          .then(() => commit(lease, opened, plan, shardRead))
          .then(
            (tiles) => meter.shardDone(slide, shard, tiles),
            (error) => giveUp(lease, error),
          )
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
        await start(lease);
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
      return work.pool.busy > 0 ? 'decoding' : 'reading';
    },
  };
}

/** What a tile of a recipe gets of what the encoder gives: CLS is the first half of CLS+mean, mean the second. */
function shapeOf(recipe: Recipe, { model }: Encoder) {
  const { dims, embedding } = recipe.model;
  const from = embedding === 'mean' && model.embedding === 'cls+mean' ? dims : 0;
  return { dims, from, patch: patchValues(recipe) };
}
