import { setTimeout as sleep } from 'node:timers/promises';

export interface PumpOptions<T> {
  /** Waits for the next item for some seconds at most; undefined when none came. */
  readonly fetch: () => Promise<T | undefined>;
  /** Takes back an item that came when nobody waited any more. */
  readonly giveBack: (item: T) => Promise<void>;
  readonly onError: (error: unknown) => void;
}

export interface Pump<T> {
  /** The next item; null once the signal aborts or the pump is closed. */
  take(signal: AbortSignal): Promise<T | null>;
  /** Waiting takers get null. Resolves when the fetch in flight has ended and what it brought is given back. */
  close(): Promise<void>;
}

const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5_000;

/**
 * Hands out what one fetch at a time brings, to whoever waits longest. It fetches only while somebody waits. After an error it pauses,
 * twice as long after each (with jitter, up to 5 s): a full or restarting Redis is asked a few times, not thousands of times.
 */
export function pump<T>({ fetch, giveBack, onError }: PumpOptions<T>): Pump<T> {
  const takers = new Set<(item: T | null) => void>();
  const stop = new AbortController();
  let running: Promise<void> | null = null;

  async function run(): Promise<void> {
    let errors = 0;
    let quick = 0;
    while (takers.size > 0 && !stop.signal.aborted) {
      const started = performance.now();
      try {
        const item = await fetch();
        errors = 0;
        const [taker] = takers;
        if (item !== undefined && taker) taker(item);
        else if (item !== undefined) await giveBack(item);
        // An empty queue is waited for inside fetch. Should that answer at once again and again, the loop must not spin.
        quick = item === undefined && performance.now() - started < 5 ? quick + 1 : 0;
        if (quick > 3) await pause(FIRST_PAUSE_MS);
      } catch (error) {
        onError(error);
        errors += 1;
        await pause(Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** errors) * (0.5 + Math.random() / 2));
      }
    }
  }

  const pause = (ms: number) => sleep(ms, undefined, { signal: stop.signal, ref: false }).catch(() => {});

  /** A taker that comes while the last fetch ends must find a loop that still sees it. */
  function start(): void {
    running ??= run().finally(() => {
      running = null;
      if (takers.size > 0 && !stop.signal.aborted) start();
    });
  }

  return {
    take(signal) {
      if (signal.aborted || stop.signal.aborted) return Promise.resolve(null);
      return new Promise((resolve) => {
        const give = (item: T | null) => {
          takers.delete(give);
          signal.removeEventListener('abort', abort);
          resolve(item);
        };
        const abort = () => give(null);
        signal.addEventListener('abort', abort, { once: true });
        takers.add(give);
        start();
      });
    },
    async close() {
      stop.abort();
      for (const taker of takers) taker(null);
      await running;
    },
  };
}
