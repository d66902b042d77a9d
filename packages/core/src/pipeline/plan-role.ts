import { setTimeout } from 'node:timers/promises';
import { isNightshiftError, NightshiftError, toErrorRecord } from '../errors.ts';
import { tissueOverlay } from '../picture/overlay.ts';
import { applyFilter, levelPositions, shardsOf } from '../plan/grid.ts';
import { keepsTile } from '../plan/hsv.ts';
import { makePlan } from '../plan/make-plan.ts';
import type { Plan, SlideRef } from '../plan/plan.ts';
import type { Lease } from '../queue/queue.ts';
import { resolveMpp } from '../slide/mpp.ts';
import { readOverview } from '../slide/overview.ts';
import type { Slide } from '../slide/slide.ts';
import { readTiles } from '../slide/tiles.ts';
import { embedJobs, type RunContext, slideJobId } from './context.ts';

/** Size of the picture that tissue is found on: outlines are tight enough and a median filter is still cheap. */
const OVERVIEW_PIXELS = 1_000_000;
const MOST_WAITING_SHARDS = 256;

/**
 * Takes slides until the signal aborts or the queue closes: finds tissue, cuts the plan, adds the shards that the record lacks.
 * A slide that cannot be planned goes to the ledger; the others go on.
 * @throws the error that stops the run.
 */
export async function runPlanRole(context: RunContext, signal: AbortSignal): Promise<void> {
  const { queue, record, recipeId, meter } = context;
  for (let lease = await queue.take('plan', signal); lease; lease = await queue.take('plan', signal)) {
    const { slide } = lease.job;
    try {
      await roomForShards(context, signal);
      await planSlide(context, slide, AbortSignal.any([signal, lease.signal]));
      await lease.done();
    } catch (error) {
      await giveUp(lease, error);
    }
  }

  async function giveUp(lease: Lease, error: unknown): Promise<void> {
    if (signal.aborted) return lease.release();
    const failure = isNightshiftError(error) ? error : new NightshiftError('internal', String(error), { cause: error });
    if (failure.scope === 'run' || failure.scope === 'worker') {
      await lease.release();
      throw error;
    }
    if ((await lease.fail(toErrorRecord(failure))) === 'dead') {
      await record.putFailures(recipeId, lease.job.slide, { slide: toErrorRecord(failure), tiles: [] });
      meter.slideFailed(lease.job.slide, toErrorRecord(failure));
    }
  }
}

/** Waits while many shards wait: the queue stays small whatever the size of the dataset. */
async function roomForShards({ queue }: RunContext, signal: AbortSignal): Promise<void> {
  while (!signal.aborted && (await queue.counts('embed')).waiting > MOST_WAITING_SHARDS) {
    await setTimeout(200, undefined, { signal }).catch(() => {});
  }
}

async function planSlide(context: RunContext, ref: SlideRef, signal: AbortSignal): Promise<void> {
  const { record, recipeId, queue, meter, run } = context;
  const plan = (await record.getPlan(recipeId, ref.key)) ?? (await makeAndStore(context, ref, signal));
  meter.slidePlanned(ref, plan.x.length, plan.warnings);
  const index = { id: slideJobId(run, ref), run, slide: ref };
  if (await record.hasSlide(recipeId, ref.key)) {
    meter.slideFound(ref);
    meter.tilesFound(plan.x.length);
    return queue.add('index', [index]);
  }
  const shards = shardsOf(plan);
  const present = new Set((await record.listShards(recipeId, ref.key)).map((shard) => shard.index));
  for (const shard of shards) if (present.has(shard.index)) meter.tilesFound(shard.to - shard.from);
  const missing = embedJobs(run, plan, shards, present);
  await (missing.length > 0 ? queue.add('embed', missing) : queue.add('index', [index]));
}

async function makeAndStore(context: RunContext, ref: SlideRef, signal: AbortSignal): Promise<Plan> {
  const { record, recipe, recipeId, pool } = context;
  const { slide, giveBack } = await context.slides.borrow(ref);
  try {
    const mpp = resolveMpp(slide, ref.mpp ?? recipe.slideMpp);
    const overview = await readOverview(slide, { maxPixels: OVERVIEW_PIXELS }, pool, signal);
    let plan = makePlan({ slide, ref, mpp, overview, recipe, recipeId, shardTiles: context.shardTiles });
    if (recipe.filter === 'hsv') plan = await filterTiles(context, slide, plan, signal);
    const stored = await record.putPlan(plan);
    await record.putQc(recipeId, ref.key, await tissueOverlay({ overview, plan: stored, name: ref.uri }));
    return stored;
  } finally {
    giveBack();
  }
}

/**
 * Drops the tiles that fail the HSV rule, read as the encoder will see them. A tile that cannot be read stays in the plan: the
 * embed role reports it.
 */
async function filterTiles(context: RunContext, slide: Slide, plan: Plan, signal: AbortSignal): Promise<Plan> {
  const keep = new Uint8Array(plan.x.length).fill(1);
  const request = {
    ...plan.geometry,
    filter: context.recipe.tile.resampling,
    fit: null,
    ...levelPositions(plan),
  };
  const onStats = (stats: { readonly bytesRead: number }) => context.meter.bytesRead(stats.bytesRead);
  for await (const chunk of readTiles(slide, request, context.pool, { signal, onStats })) {
    const tileBytes = chunk.pixels.length / chunk.count;
    const failed = new Set(chunk.failures.map(({ index }) => index));
    for (let i = 0; i < chunk.count; i++) {
      if (failed.has(chunk.first + i)) continue;
      keep[chunk.first + i] = keepsTile(chunk.pixels.subarray(i * tileBytes, (i + 1) * tileBytes)) ? 1 : 0;
    }
  }
  return applyFilter(plan, keep);
}
