import { composeSource } from '../compose.ts';
import { isNightshiftError, toErrorRecord } from '../errors.ts';
import type { Run } from '../pipeline/context.ts';
import type { Meter } from '../pipeline/meter.ts';
import { slideCache } from '../pipeline/slide-cache.ts';
import type { SlideRef } from '../plan/plan.ts';
import { resolveMpp } from '../slide/mpp.ts';
import { mayBeDicom } from '../source/list.ts';

const OPENED_AT_ONCE = 16;

/**
 * The slides that can be queued. Those of DICOM are opened first, headers only: what the tool cannot read of a format that holds a
 * dozen compressions is in the ledger, and told, before any worker starts. An error that may pass is left to the workers.
 */
export async function refuseUnreadable(
  run: Run,
  slides: readonly SlideRef[],
  meter: Pick<Meter, 'slideFailed'>,
  signal: AbortSignal,
): Promise<SlideRef[]> {
  const cache = slideCache(composeSource);
  const refused = new Set<SlideRef>();
  let next = 0;

  async function look(ref: SlideRef): Promise<void> {
    try {
      const { slide, giveBack } = await cache.borrow(ref);
      giveBack();
      resolveMpp(slide, ref.mpp ?? run.recipe.slideMpp, run.recipe.mppEstimate !== undefined);
    } catch (error) {
      if (!isNightshiftError(error) || error.scope !== 'slide') throw error;
      if (error.retry) return;
      const failure = toErrorRecord(error);
      await run.record.putFailures(run.recipeId, ref, { slide: failure, tiles: [] });
      meter.slideFailed(ref, failure);
      refused.add(ref);
    }
  }
  async function looker(): Promise<void> {
    for (let i = next++; i < slides.length && !signal.aborted; i = next++) {
      if (mayBeDicom(slides[i]!.uri)) await look(slides[i]!);
    }
  }

  try {
    await Promise.all(Array.from({ length: OPENED_AT_ONCE }, looker));
  } finally {
    await cache.close();
  }
  return slides.filter((slide) => !refused.has(slide));
}
