import { isNightshiftError, NightshiftError, toErrorRecord } from '../errors.ts';
import type { Lease } from '../queue/queue.ts';
import type { Workplace } from './context.ts';

/**
 * Ends a lease whose work failed, by what the error stops:
 * - a drain or a lost lease: given back, or let go;
 * - this process (`worker`), or every process that would do the same (`run`, no retry): given back, and the error is the answer, for
 *   the role to stop with;
 * - anything else, a dependency that is down and a bug that one slide brings out too: retried where that may help, and when no
 *   attempt is left the slide goes to the ledger and the others go on.
 */
export async function endAfterError(
  { meter, runOf }: Workplace,
  lease: Lease,
  error: unknown,
  signal: AbortSignal,
): Promise<NightshiftError | null> {
  if (lease.signal.aborted) {
    meter.leaseLost(lease.role);
    await lease.release();
    return null;
  }
  if (signal.aborted) {
    await lease.release();
    return null;
  }
  const failure = isNightshiftError(error)
    ? error
    : new NightshiftError('internal', error instanceof Error ? (error.stack ?? error.message) : String(error), {
        cause: error,
      });
  meter.error(failure.code);
  const stops =
    failure.scope === 'worker' || (failure.scope === 'run' && !failure.retry && failure.code !== 'internal');
  if (stops) {
    await lease.release();
    return failure;
  }
  if ((await lease.fail(toErrorRecord(failure))) === 'dead') {
    const { slide } = lease.job;
    const { record, recipeId } = await runOf(lease.job);
    await record.putFailures(recipeId, slide, { slide: toErrorRecord(failure), tiles: [] });
    meter.slideFailed(slide, toErrorRecord(failure));
  }
  return null;
}
