/** One job that this process holds, by what Redis knows it by. */
export interface Hold {
  readonly queue: string;
  readonly id: string;
  readonly token: string;
}

export interface Kept {
  /** Aborted when the lock is lost or may be: it was taken over, is gone, or could not be renewed in time. */
  readonly signal: AbortSignal;
  /** Stops renewing: the job has ended. */
  drop(): void;
  /** Stops renewing and aborts the signal: the job is given away. */
  surrender(): void;
}

export interface LockKeeper {
  readonly size: number;
  /** @param since when the lock was asked for, `performance.now()`: it holds at least `leaseMs` from then. */
  keep(hold: Hold, since: number): Kept;
  close(): void;
}

export interface LockKeeperOptions {
  readonly leaseMs: number;
  /** Renews the locks that still are this process's; false for each that is not. Rejects when nobody knows. */
  readonly renew: (holds: readonly Hold[]) => Promise<readonly boolean[]>;
  /** Called once for each lock that is lost. */
  readonly onLost: (hold: Hold, why: string) => void;
}

interface Entry {
  readonly hold: Hold;
  readonly loss: AbortController;
  /** The lock surely holds for `leaseMs` from here. */
  since: number;
}

/**
 * Renews locks at a third of the lease, all of them with one call, and never two calls at once: while Redis does not answer, the
 * calls do not pile up. What was not renewed for a whole lease counts as lost, by this process's own monotonic clock:
 * after a freeze (SIGSTOP, a suspended machine) the first tick says so before anything else runs.
 */
export function lockKeeper({ leaseMs, renew, onLost }: LockKeeperOptions): LockKeeper {
  const entries = new Set<Entry>();
  let renewing = false;

  function lose(entry: Entry, why: string): void {
    if (!entries.delete(entry)) return;
    onLost(entry.hold, why);
    entry.loss.abort(new Error(`lease of job ${entry.hold.id} lost: ${why}`));
  }

  async function tick(): Promise<void> {
    const now = performance.now();
    for (const entry of entries) if (now - entry.since >= leaseMs) lose(entry, 'not renewed in time');
    const due = [...entries].filter(({ since }) => now - since >= leaseMs / 3);
    if (renewing || due.length === 0) return;
    renewing = true;
    try {
      const held = await renew(due.map(({ hold }) => hold));
      due.forEach((entry, i) => {
        if (held[i]) entry.since = now;
        else lose(entry, 'another process took it over, or Redis lost it');
      });
    } catch {
      // Nobody knows whose the locks are: the deadline decides.
    } finally {
      renewing = false;
    }
  }

  const timer = setInterval(tick, leaseMs / 12);
  timer.unref();
  return {
    get size() {
      return entries.size;
    },
    keep(hold, since) {
      const entry: Entry = { hold, since, loss: new AbortController() };
      entries.add(entry);
      const drop = () => entries.delete(entry);
      return {
        signal: entry.loss.signal,
        drop,
        surrender() {
          drop();
          entry.loss.abort(new Error(`job ${hold.id} was handed back`));
        },
      };
    },
    close: () => clearInterval(timer),
  };
}
