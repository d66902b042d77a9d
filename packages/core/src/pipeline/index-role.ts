import { fromErrorRecord, NightshiftError } from '../errors.ts';
import type { SlideRef } from '../plan/plan.ts';
import { indexSlide } from '../store/index-slides.ts';
import type { Run, Workplace } from './context.ts';
import { endAfterError } from './end-lease.ts';

/**
 * Takes finished slides until the signal aborts or the queue closes: joins the shards into the slide file, brings it into the
 * vector store, drops the shards.
 * @throws the error that stops this process.
 */
export async function runIndexRole(work: Workplace, signal: AbortSignal): Promise<void> {
  const { queue } = work;
  for (let lease = await queue.take('index', signal); lease; lease = await queue.take('index', signal)) {
    const started = performance.now();
    try {
      if (lease.exhausted) throw fromErrorRecord(lease.exhausted);
      await publish(work, await work.runOf(lease.job), lease.job.slide);
      await lease.done();
      work.meter.stage('index', (performance.now() - started) / 1000);
    } catch (error) {
      const stopping = await endAfterError(work, lease, error, signal);
      if (stopping) throw stopping;
    }
  }
}

async function publish({ meter }: Workplace, run: Run, ref: SlideRef): Promise<void> {
  const { record, recipe, recipeId } = run;
  const plan = await record.getPlan(recipeId, ref.key);
  if (!plan) throw new NightshiftError('record-corrupt', `the plan of ${ref.key} is gone`);
  await record.publishSlide(recipe, plan);
  const failures = await record.getFailures(recipeId, ref.key);
  const store = await run.store();
  if (store) await indexSlide(record, recipeId, ref.key, store);
  meter.slideDone(ref, { tiles: plan.x.length, failed: failures?.tiles.length ?? 0 });
}
