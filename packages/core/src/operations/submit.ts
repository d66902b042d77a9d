import { availableParallelism } from 'node:os';
import { setTimeout } from 'node:timers/promises';
import { composeQueue, composeSource, recordUri } from '../compose.ts';
import { NightshiftError } from '../errors.ts';
import { combineMeters, type Metrics } from '../metrics.ts';
import type { ModelInfo } from '../model/encoder.ts';
import { planJob, type Run } from '../pipeline/context.ts';
import { createMeter, type ProgressMeter } from '../pipeline/meter.ts';
import type { RunProgress, RunReport } from '../pipeline/progress.ts';
import { runRoles } from '../pipeline/run-roles.ts';
import { slideCache } from '../pipeline/slide-cache.ts';
import type { SlideRef } from '../plan/plan.ts';
import type { Queue, Role } from '../queue/queue.ts';
import { createDecodePool } from '../slide/decode-pool.ts';
import type { RunHooks } from './embed.ts';
import { asRun, runRegistry } from './open-run.ts';
import { refuseUnreadable } from './preflight.ts';
import { reportOf } from './report.ts';
import { type SealOptions, sealRun } from './seal-run.ts';
import { type StatusReader, type StatusReport, statusReader } from './status.ts';

export interface SubmitOptions extends SealOptions {
  readonly redis: string;
  /** Add the jobs and leave: workers of the roles `plan`, `embed` and `index` do the rest. */
  readonly detach: boolean;
  /** Threads that decode for planning; null: one less than the cores, at least one. */
  readonly decodeThreads: number | null;
  /** 1 to 1,000, lower goes first. */
  readonly priority: number;
}

export interface SubmitHooks extends RunHooks {
  /** Told what the planner does, how long the queue is and how far the run is. */
  readonly metrics?: Metrics;
}

/** How often the record is looked at, ms. */
const LOOK_MS = 2_000;
/** How long nothing may wait or be active, with slides unfinished, before what is missing is added again, ms. */
const STUCK_MS = 10_000;
/** Slides that wait at most, so that the queue stays small whatever the size of the dataset, and how many are added at once. */
const MOST_WAITING_SLIDES = 1_000;
const CHUNK = 500;
/** The rate is taken over this long, ms. */
const WINDOW_MS = 30_000;

/**
 * Submits every slide of the sources to a queue, for workers to embed into a record. Plans the slides itself and waits until all
 * are done, unless detached. The same options again go on where anything stopped; two at once are one run.
 * @throws NightshiftError of scope `run` when nothing can be done: no source, no model, no Redis, ...
 */
export async function submit(given: SubmitOptions, hooks: SubmitHooks): Promise<RunReport> {
  const options = { ...given, out: recordUri(given.out) };
  const { signal, onEvent } = hooks;
  const started = performance.now();
  // Reached before anything is written: a run that cannot be queued leaves no trace.
  const queue = await composeQueue(options.redis, {
    // Who waits for the run waits for room too; who leaves is told at once.
    fullSeconds: options.detach ? 0 : Number.POSITIVE_INFINITY,
    onTrouble: seldom((message) => onEvent?.({ type: 'notice', message })),
  });
  try {
    const { run, record, model } = await sealRun(options, {
      signal,
      onNotice: (message) => onEvent?.({ type: 'notice', message }),
    });
    const { recipe, recipeId } = run;
    const only = asRun(options.out, record, run, model.info);
    const meter = createMeter({ slides: run.dataset.slides, probe: () => null, ...(onEvent && { onEvent }) });
    const status = statusReader(record, run, await Array.fromAsync(record.runSlides(run.id)));
    await status.read();
    // A slide that failed before is tried again: that is what the same command is given for.
    for (const slide of status.failed()) await record.putFailures(recipeId, slide, { slide: null, tiles: [] });
    const fit = await refuseUnreadable(only, [...status.unfinished(), ...status.failed()], meter, signal);
    const todo = [...fit, ...(await unindexed(only, status))];
    const feed = feeder(queue, only, options.priority);
    try {
      feed.give(todo);
      if (options.detach) await feed.all();
      else await supervise({ options, hooks, run: only, model: model.info, queue, meter, status, feed });
      return await reportOf({
        record,
        run: run.id,
        recipeId,
        model: recipe.model.name,
        out: options.out,
        dataset: run.dataset.slides,
        unfinished: options.detach ? 'submitted' : signal.aborted ? 'interrupted' : null,
        totals: meter.totals,
        seconds: (performance.now() - started) / 1000,
        deviceBusy: null,
      });
    } finally {
      meter.close();
    }
  } finally {
    await queue.close();
  }
}

/** Tells of a kind of trouble once a minute: what is overcome by itself is tried every few seconds. */
function seldom(tell: (message: string) => void): (trouble: NightshiftError) => void {
  const told = new Map<string, number>();
  return ({ code, message }) => {
    const now = performance.now();
    if (now - (told.get(code) ?? Number.NEGATIVE_INFINITY) < 60_000) return;
    told.set(code, now);
    tell(message);
  };
}

/** Adds slides to the queue, a window of them at a time. */
interface Feeder {
  /** What is to be added from now on, instead of what was left. */
  give(slides: readonly SlideRef[]): void;
  /** What needs no adding any more: a job that an earlier command had added may have ended meanwhile. */
  drop(slides: readonly SlideRef[]): void;
  /** Adds as many as the window has room for. */
  some(): Promise<void>;
  /** Adds all that are left. */
  all(): Promise<void>;
  readonly left: number;
}

function feeder(queue: Queue, run: Run, priority: number): Feeder {
  let left: readonly SlideRef[] = [];
  const add = async (count: number) => {
    const now = left.slice(0, count);
    left = left.slice(count);
    await queue.add(
      'plan',
      now.map((slide) => planJob(run, slide, priority)),
    );
  };
  return {
    give(slides) {
      left = slides;
    },
    drop(slides) {
      const dropped = new Set(slides);
      left = left.filter((slide) => !dropped.has(slide));
    },
    async some() {
      while (left.length > 0 && (await queue.counts('plan')).waiting + CHUNK <= MOST_WAITING_SLIDES) await add(CHUNK);
    },
    async all() {
      while (left.length > 0) await add(CHUNK);
    },
    get left() {
      return left.length;
    },
  };
}

/** Plans, tells how far the run is, and adds again what a lost queue has lost, until the record holds everything. */
async function supervise(run: {
  readonly options: SubmitOptions;
  readonly hooks: SubmitHooks;
  readonly run: Run;
  readonly model: ModelInfo;
  readonly queue: Queue;
  readonly meter: ProgressMeter;
  readonly status: StatusReader;
  readonly feed: Feeder;
}): Promise<void> {
  const { options, hooks, queue, status, feed } = run;
  const done = new AbortController();
  const signal = AbortSignal.any([hooks.signal, done.signal]);
  const threads = options.decodeThreads ?? Math.max(1, availableParallelism() - 1);
  const pool = createDecodePool({ threads });
  const slides = slideCache(composeSource);
  const { metrics } = hooks;
  const meter = metrics ? combineMeters(run.meter, metrics.meter) : run.meter;
  let committed: StatusReport['tiles'] | null = null;
  metrics?.attachQueue(queue);
  const detach = metrics?.attachRun(run.run.id, () => ({
    expected: committed?.planned ?? 0,
    committed: (committed?.embedded ?? 0) + (committed?.failed ?? 0),
  }));
  const roles = runRoles(
    // The queue is shared: the planner takes jobs of this run and of others alike.
    { queue, pool, slides, meter, runOf: runRegistry(run.model).runOf },
    { roles: new Set(['plan']), openEncoder: neverEmbeds, readers: 0, untilIdle: false },
    signal,
  );
  const planner = roles.finished.catch((error) => {
    done.abort();
    throw error;
  });
  planner.catch(() => {});
  const rate = tileRate();
  let busySince = performance.now();
  let behindBefore = Number.POSITIVE_INFINITY;
  try {
    while (!signal.aborted) {
      const looked = performance.now();
      const report = await status.read();
      committed = report.tiles;
      hooks.onProgress?.(progressOf(report, rate(report.tiles.embedded)));
      const recorded = report.state === 'done' || report.state === 'failed';
      const behind = recorded ? await unindexed(run.run, status) : [];
      if (recorded && behind.length === 0) break;
      feed.drop(status.failed());
      const lookMs = performance.now() - looked;
      await feed.some().catch((error) => {
        if (!signal.aborted) throw error;
      });
      if (await queue.jobsLost()) feed.give([...status.unfinished(), ...behind]);
      if (feed.left > 0 || (await anyWork(queue))) busySince = performance.now();
      else if (performance.now() - busySince > STUCK_MS) {
        if (recorded && behind.length >= behindBefore) {
          hooks.onEvent?.({ type: 'notice', message: `the vector store lacks ${behind.length} slides of the record` });
          break;
        }
        if (recorded) behindBefore = behind.length;
        feed.give([...status.unfinished(), ...behind]);
        busySince = performance.now();
      }
      // A record of many slides takes long to list: looking takes a twentieth of the time at most.
      const pause = Math.max(LOOK_MS, 20 * lookMs);
      await setTimeout(pause, undefined, { signal }).catch(() => {});
    }
    if (!signal.aborted) await (await run.run.store())?.optimize();
  } finally {
    done.abort();
    detach?.();
    const store = await run.run.store().catch(() => null);
    await planner.finally(() => Promise.all([pool.close(), slides.close(), store?.close()]));
  }
}

/**
 * Published slides of which the vector store does not hold every row yet: an indexer has them, or died with them, or Redis lost
 * the job. A plan job of such a slide becomes an index job.
 */
async function unindexed(run: Run, status: StatusReader): Promise<SlideRef[]> {
  const published = [...status.published()];
  const store = published.length > 0 ? await run.store() : null;
  if (!store) return [];
  const held = await store.slides();
  return published.filter(([{ key }, rows]) => (held.get(key) ?? 0) !== rows).map(([slide]) => slide);
}

const neverEmbeds = async (): Promise<never> => {
  throw new NightshiftError('internal', 'a producer embeds nothing');
};

const ROLES: readonly Role[] = ['plan', 'embed', 'index'];

/** True while a job of any role waits or is active, other runs' too: they may go before. */
async function anyWork(queue: Queue): Promise<boolean> {
  const counts = await Promise.all(ROLES.map((role) => queue.counts(role)));
  return counts.some(({ waiting, active }) => waiting + active > 0);
}

/** Tiles per second over the last half minute, from counts told one after the other. */
function tileRate(): (embedded: number) => number {
  let samples: { at: number; embedded: number }[] = [];
  return (embedded) => {
    const at = performance.now();
    samples = [...samples.filter((sample) => at - sample.at <= WINDOW_MS), { at, embedded }];
    const [first] = samples;
    return at > first.at ? ((embedded - first.embedded) / (at - first.at)) * 1000 : 0;
  };
}

function progressOf({ slides, tiles }: StatusReport, tilesPerSecond: number): RunProgress {
  const plansComplete = slides.planned + slides.failed >= slides.total;
  const expected =
    plansComplete || slides.planned === 0 ? tiles.planned : (tiles.planned / slides.planned) * slides.total;
  const left = Math.max(0, expected - tiles.embedded - tiles.failed);
  return {
    slides: { total: slides.total, done: slides.done, failed: slides.failed },
    tiles,
    plansComplete,
    tilesPerSecond,
    etaSeconds: slides.planned > 0 && tilesPerSecond > 0 ? left / tilesPerSecond : null,
    heldBackBy: plansComplete ? 'inference' : 'planning',
  };
}
