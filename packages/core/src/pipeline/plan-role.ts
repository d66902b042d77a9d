import { setTimeout } from 'node:timers/promises';
import { fromErrorRecord, isNightshiftError } from '../errors.ts';
import { tissueOverlay } from '../picture/overlay.ts';
import { shardsOf } from '../plan/grid.ts';
import { makePlan } from '../plan/make-plan.ts';
import type { Plan, SlideRef } from '../plan/plan.ts';
import type { Job } from '../queue/queue.ts';
import { resolveMpp } from '../slide/mpp.ts';
import { type Overview, readOverview } from '../slide/overview.ts';
import { indexJob, type Run, shardJobs, type Workplace } from './context.ts';
import { endAfterError } from './end-lease.ts';
import { filterTiles } from './filter-tiles.ts';

/** Size of the picture that tissue is found on: outlines are tight enough and a median filter is still cheap. */
const OVERVIEW_PIXELS = 1_000_000;
/** No slide is planned while more shards than these wait: the queue stays small whatever the size of the dataset. */
const MOST_WAITING_SHARDS = 256;
const NOT_MEASURED =
  'It was planned without --qc, and a plan stays: it has no QC columns here, and would have them under another --out.';

/**
 * Takes slides until the signal aborts or the queue closes: finds tissue, cuts the plan, adds the shards that the record lacks.
 * A slide that cannot be planned goes to the ledger; the others go on.
 * @throws the error that stops this process.
 */
export async function runPlanRole(work: Workplace, signal: AbortSignal): Promise<void> {
  const { queue } = work;
  const next = async () => {
    await roomForShards(work, signal);
    return queue.take('plan', signal);
  };
  for (let lease = await next(); lease; lease = await next()) {
    try {
      if (lease.exhausted) throw fromErrorRecord(lease.exhausted);
      const run = await work.runOf(lease.job);
      await planSlide(work, run, lease.job, AbortSignal.any([signal, lease.signal]));
      await lease.done();
    } catch (error) {
      const stopping = await endAfterError(work, lease, error, signal);
      if (stopping) throw stopping;
    }
  }
}

/** A queue that is away has no room until it is back. */
async function roomForShards({ queue }: Workplace, signal: AbortSignal): Promise<void> {
  const room = async () => {
    try {
      return (await queue.counts('embed')).waiting <= MOST_WAITING_SHARDS;
    } catch (error) {
      if (!isNightshiftError(error, 'queue-unreachable')) throw error;
      return false;
    }
  };
  while (!signal.aborted && !(await room())) await setTimeout(200, undefined, { signal }).catch(() => {});
}

async function planSlide(work: Workplace, run: Run, job: Job, signal: AbortSignal): Promise<void> {
  const { queue, meter } = work;
  const ref = job.slide;
  const { record, recipeId } = run;
  const stored = await record.getPlan(recipeId, ref.key);
  const { plan, overview } = stored ? { plan: stored, overview: null } : await makeAndStore(work, run, ref, signal);
  meter.slidePlanned(ref, plan.x.length, run.qc && !plan.qc ? [...plan.warnings, NOT_MEASURED] : plan.warnings);
  if (await record.hasSlide(recipeId, ref.key)) {
    meter.slideFound(ref);
    meter.tilesFound(plan.x.length);
    await queue.add('index', [indexJob(job)]);
  } else {
    await addMissingShards(work, run, job, plan, signal);
  }
  // After the shards are out: drawing takes longer than planning.
  if (!overview && (await record.hasQc(recipeId, ref.key))) return;
  const picture = overview ?? (await overviewOf(work, ref, signal));
  await record.putQc(recipeId, ref.key, await tissueOverlay({ overview: picture, plan, name: ref.uri }));
}

async function addMissingShards(work: Workplace, run: Run, job: Job, plan: Plan, signal: AbortSignal): Promise<void> {
  const { queue, meter } = work;
  const shards = shardsOf(plan);
  const present = new Set((await run.record.listShards(run.recipeId, job.slide.key)).map(({ index }) => index));
  for (const { index, from, to } of shards) if (present.has(index)) meter.tilesFound(to - from);
  const missing = shardJobs(job, shards, present);
  // Whoever took over a lost lease adds them.
  signal.throwIfAborted();
  await (missing.length > 0 ? queue.add('embed', missing) : queue.add('index', [indexJob(job)]));
}

async function overviewOf(work: Workplace, ref: SlideRef, signal: AbortSignal): Promise<Overview> {
  const { slide, giveBack } = await work.slides.borrow(ref);
  try {
    return await readOverview(slide, { maxPixels: OVERVIEW_PIXELS }, work.pool, signal);
  } finally {
    giveBack();
  }
}

async function makeAndStore(
  work: Workplace,
  run: Run,
  ref: SlideRef,
  signal: AbortSignal,
): Promise<{ readonly plan: Plan; readonly overview: Overview }> {
  const { record, recipe, recipeId, shardTiles, qc } = run;
  const started = performance.now();
  const { slide, claimReads, giveBack } = await work.slides.borrow(ref);
  try {
    const mpp = resolveMpp(slide, ref.mpp ?? recipe.slideMpp, recipe.mppEstimate !== undefined);
    const overview = await readOverview(slide, { maxPixels: OVERVIEW_PIXELS }, work.pool, signal);
    const drawn = ref.outline ? await record.getOutline(ref.outline) : null;
    const plan = makePlan({ slide, ref, mpp, overview, drawn, recipe, recipeId, shardTiles, qc });
    const kept =
      recipe.filter === 'none'
        ? plan
        : await filterTiles(slide, plan, recipe, work.pool, { signal, onStats: work.meter.read });
    const reads = { ...claimReads(), objectBytes: slide.source.size };
    return { plan: await record.putPlan({ ...kept, reads }), overview };
  } finally {
    giveBack();
    work.meter.stage('plan', (performance.now() - started) / 1000);
  }
}
