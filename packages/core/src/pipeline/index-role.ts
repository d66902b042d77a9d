import { isNightshiftError, NightshiftError, toErrorRecord } from '../errors.ts';
import type { SlideRef } from '../plan/plan.ts';
import { indexSlide } from '../store/index-slides.ts';
import type { VectorStore } from '../store/store.ts';
import type { RunContext } from './context.ts';

/**
 * Takes finished slides until the signal aborts or the queue closes: joins the shards into the slide file, brings it into the
 * vector store, drops the shards.
 * @throws the error that stops the run.
 */
export async function runIndexRole(context: RunContext, store: VectorStore | null, signal: AbortSignal): Promise<void> {
  const { queue, record, recipeId, meter } = context;
  for (let lease = await queue.take('index', signal); lease; lease = await queue.take('index', signal)) {
    const { slide } = lease.job;
    try {
      await publish(slide);
      await lease.done();
    } catch (error) {
      if (signal.aborted) {
        await lease.release();
        continue;
      }
      const failure = isNightshiftError(error)
        ? error
        : new NightshiftError('internal', String(error), { cause: error });
      if (failure.scope !== 'slide') {
        await lease.release();
        throw error;
      }
      if ((await lease.fail(toErrorRecord(failure))) === 'dead') meter.slideFailed(slide, toErrorRecord(failure));
    }
  }

  async function publish(ref: SlideRef): Promise<void> {
    const plan = await record.getPlan(recipeId, ref.key);
    if (!plan) throw new NightshiftError('record-corrupt', `the plan of ${ref.key} is gone`);
    await record.publishSlide(context.recipe, plan);
    const failures = await record.getFailures(recipeId, ref.key);
    if (store) await indexSlide(record, recipeId, ref.key, store);
    meter.slideDone(ref, { tiles: plan.x.length, failed: failures?.tiles.length ?? 0 });
  }
}
