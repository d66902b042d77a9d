import { availableParallelism } from 'node:os';
import { setTimeout } from 'node:timers/promises';
import { composeEncoder, composeSource, composeStore } from '../compose.ts';
import { planJob, type Run, type Workplace } from '../pipeline/context.ts';
import { createMeter } from '../pipeline/meter.ts';
import type { RunEvent, RunProgress, RunReport, Stage } from '../pipeline/progress.ts';
import { runRoles } from '../pipeline/run-roles.ts';
import { slideCache } from '../pipeline/slide-cache.ts';
import type { SlideRef } from '../plan/plan.ts';
import { memoryQueue } from '../queue/memory.ts';
import type { Job, Queue } from '../queue/queue.ts';
import { createDecodePool } from '../slide/decode-pool.ts';
import { fitOf } from './recipe-options.ts';
import { reportOf } from './report.ts';
import { type SealOptions, sealRun } from './seal-run.ts';

export interface EmbedOptions extends SealOptions {
  /** Tiles a batch; null: what the encoder chooses for its device. */
  readonly batch: number | null;
  /** Inference threads; null: all cores. */
  readonly threads: number | null;
  /** Threads that decode tiles; null: one less than the cores, at least one. */
  readonly decodeThreads: number | null;
  readonly device: string;
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
 * @throws NightshiftError of scope `run` or `worker` when nothing can be done: no source, no model, no room, ...
 */
export async function embed(options: EmbedOptions, hooks: RunHooks): Promise<RunReport> {
  const { signal, onEvent, onProgress } = hooks;
  const started = performance.now();
  const { run, record, model } = await sealRun(options, {
    signal,
    onNotice: (message) => onEvent?.({ type: 'notice', message }),
  });
  const { recipe, recipeId } = run;

  const queue = memoryQueue();
  const decodeThreads = options.decodeThreads ?? Math.max(1, availableParallelism() - 1);
  const pool = createDecodePool({ threads: decodeThreads });
  const cache = slideCache(composeSource);
  const store = await composeStore(options.store, { out: options.out, recipeId, dims: recipe.model.dims });
  let stage: () => Stage | null = () => null;
  const meter = createMeter({
    slides: run.dataset.slides,
    probe: () => stage(),
    ...(onEvent && { onEvent }),
    ...(onProgress && { onProgress }),
  });
  const only: Run = {
    id: run.id,
    out: options.out,
    recipe,
    recipeId,
    record,
    store: async () => store,
    fit: fitOf(recipe, model.info),
    shardTiles: options.shardTiles,
    qc: options.qc === true,
  };
  const over = new AbortController();
  const work: Workplace = { queue, pool, slides: cache, meter, runOf: async () => only };

  try {
    const slides = record.runSlides(run.id);
    await addSome(queue, only, slides);
    const roles = runRoles(
      work,
      {
        roles: new Set(['plan', 'embed', 'index']),
        openEncoder: () =>
          composeEncoder({ dir: model.dir, device: options.device, threads: options.threads, batch: options.batch }),
        readers: decodeThreads + 1,
        untilIdle: true,
        fed: addRest(queue, only, slides, over.signal),
      },
      signal,
    );
    stage = roles.stage;
    const { deviceBusy } = await roles.finished;
    if (store && !signal.aborted) await store.optimize();
    return await reportOf({
      record,
      run: run.id,
      recipeId,
      model: recipe.model.name,
      out: options.out,
      dataset: run.dataset.slides,
      unfinished: signal.aborted ? 'interrupted' : null,
      totals: meter.totals,
      seconds: (performance.now() - started) / 1000,
      deviceBusy,
    });
  } finally {
    over.abort();
    meter.close();
    await Promise.all([pool.close(), cache.close(), store?.close()]);
  }
}

/** Slides that wait to be planned, at most, and how often more are added, ms: the queue stays small whatever the size of the dataset. */
const MOST_WAITING_SLIDES = 1_000;
const FEED_MS = 100;

/** Adds slides until as many wait as may. @returns whether some may be left */
async function addSome(queue: Queue, run: Run, slides: AsyncIterator<SlideRef>): Promise<boolean> {
  const jobs: Job[] = [];
  const room = MOST_WAITING_SLIDES - (await queue.counts('plan')).waiting;
  while (jobs.length < room) {
    const { done, value } = await slides.next();
    if (done) break;
    jobs.push(planJob(run, value));
  }
  await queue.add('plan', jobs);
  return jobs.length === Math.max(0, room);
}

async function addRest(queue: Queue, run: Run, slides: AsyncIterator<SlideRef>, signal: AbortSignal): Promise<void> {
  while (!signal.aborted && (await addSome(queue, run, slides))) {
    await setTimeout(FEED_MS, undefined, { signal }).catch(() => {});
  }
  await slides.return?.();
}
