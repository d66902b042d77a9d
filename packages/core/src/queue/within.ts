import { setTimeout as sleep } from 'node:timers/promises';

/** Nobody waits longer for the work than this, or once it is over; it goes on by itself. */
export async function within<T, L>(ms: number, work: Promise<T>, late: () => L, over?: AbortSignal): Promise<T | L> {
  if (ms === Number.POSITIVE_INFINITY) return work;
  const stop = new AbortController();
  const signal = over ? AbortSignal.any([stop.signal, over]) : stop.signal;
  work.catch(() => {});
  try {
    return await Promise.race([work, sleep(ms, undefined, { signal }).then(late, late)]);
  } finally {
    stop.abort();
  }
}
