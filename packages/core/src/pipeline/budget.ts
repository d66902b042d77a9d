/** A number of bytes that several tasks share. */
export interface Budget {
  /**
   * Waits until `amount` is free, in the order asked, and answers how to give it back. More than the whole is granted alone:
   * one large thing may pass, never two.
   */
  acquire(amount: number, signal?: AbortSignal): Promise<() => void>;
  readonly used: number;
  /** Tasks that wait. */
  readonly waiting: number;
}

export function byteBudget(total: number): Budget {
  let used = 0;
  const queue: { amount: number; grant: () => void }[] = [];

  function pump(): void {
    for (let head = queue[0]; head && (used === 0 || used + head.amount <= total); head = queue[0]) {
      queue.shift();
      used += head.amount;
      head.grant();
    }
  }

  return {
    get used() {
      return used;
    },
    get waiting() {
      return queue.length;
    },
    acquire(amount, signal) {
      return new Promise((resolve, reject) => {
        if (signal?.aborted) return reject(signal.reason);
        const abort = () => {
          queue.splice(queue.indexOf(entry), 1);
          reject(signal?.reason);
          pump();
        };
        const entry = {
          amount,
          grant() {
            signal?.removeEventListener('abort', abort);
            let held = true;
            resolve(() => {
              if (!held) return;
              held = false;
              used -= amount;
              pump();
            });
          },
        };
        signal?.addEventListener('abort', abort, { once: true });
        queue.push(entry);
        pump();
      });
    },
  };
}
