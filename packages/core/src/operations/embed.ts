import { availableParallelism } from 'node:os';
import { composeBlobs, composeEncoder, composeSource, composeStore } from '../compose.ts';
import { findModel } from '../model/find.ts';
import type { RunContext } from '../pipeline/context.ts';
import { slideJobId } from '../pipeline/context.ts';
import { createMeter } from '../pipeline/meter.ts';
import type { RunEvent, RunProgress, RunReport, Stage } from '../pipeline/progress.ts';
import { runRoles } from '../pipeline/run-roles.ts';
import { slideCache } from '../pipeline/slide-cache.ts';
import { recipeId } from '../plan/recipe.ts';
import { memoryQueue } from '../queue/memory.ts';
import { openRecord } from '../record/record.ts';
import { datasetDigest, runId } from '../record/run.ts';
import { createDecodePool } from '../slide/decode-pool.ts';
import { listDataset } from './dataset.ts';
import { fitOf, type RecipeOptions, recipeOf } from './recipe-options.ts';
import { reportOf } from './report.ts';
import { versions } from './versions.ts';

export interface EmbedOptions extends RecipeOptions {
  /** Files, directories, globs, manifests. */
  readonly sources: readonly string[];
  /** A model directory, or a name to look for in `modelDirs`. */
  readonly model: string;
  readonly modelDirs: readonly string[];
  /** The record's directory. */
  readonly out: string;
  /** Tiles a shard, at most. */
  readonly shardTiles: number;
  /** Tiles a batch; null: what the encoder chooses for its device. */
  readonly batch: number | null;
  /** Inference threads; null: all cores. */
  readonly threads: number | null;
  /** Threads that decode tiles; null: one less than the cores, at least one. */
  readonly decodeThreads: number | null;
  readonly device: string;
  /** `lancedb:<dir>`, `none`, or null for `<out>/store`. */
  readonly store: string | null;
}

export interface RunHooks {
  /** Aborting drains the run: shards in flight are handed back, what is committed stays. */
  readonly signal: AbortSignal;
  readonly onProgress?: (progress: RunProgress) => void;
  readonly onEvent?: (event: RunEvent) => void;
}

/**
 * Embeds every slide of the sources on this machine, into a record. The same options again complete what is missing.
 * A slide that fails is in the report and in the record's ledger; the others go on.
 * @throws NightshiftError of scope `run` when nothing can be done: no source, no model, no room, ...
 */
export async function embed(options: EmbedOptions, hooks: RunHooks): Promise<RunReport> {
  const { signal, onEvent, onProgress } = hooks;
  const started = performance.now();
  const notice = (message: string) => onEvent?.({ type: 'notice', message });

  const model = await findModel(options.model, options.modelDirs);
  const recipe = recipeOf(options, model.info);
  const slides = await listDataset(options.sources, { signal, onWarning: notice });
  const blobs = await composeBlobs(options.out);
  const record = await openRecord(blobs, { create: true });
  const id = recipeId(recipe);
  const digest = datasetDigest(slides);
  const run = runId(digest, id);
  for (const other of await record.listRuns()) {
    if (other.recipeId !== id) {
      notice(
        `This record also holds run ${other.id} of another recipe (${other.recipe.model.name}); the two are kept apart.`,
      );
    }
  }
  await record.putRun(
    {
      version: 1,
      id: run,
      recipeId: id,
      recipe,
      dataset: { digest, slides: slides.length },
      sealed: true,
      options: { shardTiles: options.shardTiles, batch: options.batch, device: options.device },
      versions: versions(),
    },
    slides,
  );

  const queue = memoryQueue();
  const decodeThreads = options.decodeThreads ?? Math.max(1, availableParallelism() - 1);
  const pool = createDecodePool({ threads: decodeThreads });
  const cache = slideCache(composeSource);
  const store = await composeStore(options.store, { out: options.out, recipeId: id, dims: recipe.model.dims });
  let stage: () => Stage | null = () => null;
  const meter = createMeter({
    slides: slides.length,
    probe: () => stage(),
    ...(onEvent && { onEvent }),
    ...(onProgress && { onProgress }),
  });
  const context: RunContext = {
    run,
    recipe,
    recipeId: id,
    fit: fitOf(recipe, model.info),
    shardTiles: options.shardTiles,
    record,
    queue,
    pool,
    slides: cache,
    meter,
  };

  try {
    await queue.add(
      'plan',
      slides.map((slide) => ({ id: slideJobId(run, slide), run, slide })),
    );
    const roles = runRoles(
      context,
      {
        openEncoder: () =>
          composeEncoder({ dir: model.dir, device: options.device, threads: options.threads, batch: options.batch }),
        store,
        readers: decodeThreads + 1,
      },
      signal,
    );
    stage = roles.stage;
    const { deviceBusy } = await roles.finished;
    if (store && !signal.aborted) await store.optimize();
    return await reportOf({
      record,
      run,
      recipeId: id,
      model: recipe.model.name,
      out: options.out,
      slides,
      interrupted: signal.aborted,
      totals: meter.totals,
      seconds: (performance.now() - started) / 1000,
      deviceBusy,
    });
  } finally {
    meter.close();
    await Promise.all([pool.close(), cache.close(), store?.close()]);
  }
}
