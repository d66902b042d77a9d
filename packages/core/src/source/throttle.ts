/** What became of a request, as far as the number of requests at once goes. */
export type Outcome = 'good' | 'slow' | 'other';

/**
 * How many requests may run at once, found out by trying: one more for every round of good answers, half where the store says
 * that it is too much or keeps silent (additive increase, multiplicative decrease, as in TCP: Chiu and Jain, 1989).
 */
export interface Throttle {
  /** Waits for its turn, in the order asked. Give the place back with what became of it. */
  enter(signal?: AbortSignal): Promise<(outcome: Outcome) => void>;
  /** A place if there is one now. */
  tryEnter(): ((outcome: Outcome) => void) | null;
  readonly limit: number;
  readonly active: number;
}

export interface ThrottleOptions {
  readonly min?: number;
  readonly max?: number;
  readonly start?: number;
}

export function throttle({ min = 4, max = 64, start = 16 }: ThrottleOptions = {}): Throttle {
  let limit = start;
  let active = 0;
  // Requests that began before the latest decrease belong to the load that caused it: they decrease nothing again.
  let round = 0;
  // Good answers say that the limit could be higher only where it has held something back.
  let tight = false;
  const queue: (() => void)[] = [];

  function grant(): (outcome: Outcome) => void {
    active++;
    tight ||= active >= Math.floor(limit);
    const began = round;
    let held = true;
    return (outcome) => {
      if (!held) return;
      held = false;
      if (outcome === 'good' && tight) limit = Math.min(max, limit + 1 / limit);
      if (outcome === 'slow' && began === round) {
        limit = Math.max(min, limit / 2);
        round++;
      }
      active--;
      if (active < limit / 2) tight = false;
      pump();
    };
  }

  function pump(): void {
    while (queue.length > 0 && active < Math.floor(limit)) queue.shift()!();
  }

  return {
    get limit() {
      return Math.floor(limit);
    },
    get active() {
      return active;
    },
    tryEnter: () => (queue.length === 0 && active < Math.floor(limit) ? grant() : null),
    enter(signal) {
      return new Promise((resolve, reject) => {
        if (signal?.aborted) return reject(signal.reason);
        const abort = () => {
          queue.splice(queue.indexOf(go), 1);
          reject(signal?.reason);
        };
        const go = () => {
          signal?.removeEventListener('abort', abort);
          resolve(grant());
        };
        signal?.addEventListener('abort', abort, { once: true });
        queue.push(go);
        pump();
      });
    },
  };
}
