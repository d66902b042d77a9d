export interface HedgeOptions {
  /** Nothing after this long: give up with `late()`. */
  readonly deadlineMs: number;
  /** Nothing after this long: ask once more, if `mayHedge` allows it, and take what answers first. */
  readonly hedgeMs: number;
  readonly signal?: AbortSignal | undefined;
  readonly mayHedge: () => boolean;
  readonly late: () => Error;
}

/**
 * Asks; where no answer comes soon, asks a second time beside the first (Dean and Barroso, "The tail at scale", 2013). The one
 * that is not taken is aborted, and where it answers all the same, handed to `discard`. A failure counts once both have failed.
 */
export function hedged<T>(
  ask: (signal: AbortSignal) => Promise<T>,
  discard: (answer: T) => void,
  { deadlineMs, hedgeMs, signal, mayHedge, late }: HedgeOptions,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const asked = new Set<AbortController>();
    let over = false;

    function end(taken?: AbortController): boolean {
      if (over) return false;
      over = true;
      clearTimeout(deadline);
      clearTimeout(second);
      signal?.removeEventListener('abort', abort);
      for (const controller of asked) if (controller !== taken) controller.abort();
      return true;
    }
    function begin(): void {
      const controller = new AbortController();
      asked.add(controller);
      ask(controller.signal).then(
        (answer) => {
          if (end(controller)) resolve(answer);
          else discard(answer);
        },
        (error) => {
          asked.delete(controller);
          if (asked.size === 0 && end()) reject(error);
        },
      );
    }
    const abort = () => end() && reject(signal?.reason);
    const deadline = setTimeout(() => end() && reject(late()), deadlineMs);
    const second = setTimeout(() => mayHedge() && begin(), hedgeMs);
    signal?.addEventListener('abort', abort, { once: true });
    if (signal?.aborted) abort();
    else begin();
  });
}
