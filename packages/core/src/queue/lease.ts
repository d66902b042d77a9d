import { ERROR_CODES, type ErrorRecord } from '../errors.ts';
import type { Kept } from './lock-keeper.ts';
import type { Job, Lease, Role } from './queue.ts';

/** What a driver can do with a job that it holds. Each rejects when the job is no longer its own. */
export interface HeldCommands {
  done(): Promise<unknown>;
  release(): Promise<unknown>;
  retry(pauseMs: number): Promise<unknown>;
  bury(error: ErrorRecord): Promise<unknown>;
}

export interface HeldJob {
  readonly role: Role;
  readonly job: Job;
  /** Times that it failed. */
  readonly failures: number;
  /** Times that its holder died or lost it. */
  readonly stalls: number;
  readonly exhausted: ErrorRecord | null;
  readonly kept: Kept;
  readonly commands: HeldCommands;
}

export interface LeasePolicy {
  /** Failures before a job is dead. */
  readonly attempts: number;
  /** Longest pause before the first retry; doubles with every failure, up to a minute. */
  readonly backoffMs: number;
  /** Told of a job that was no longer ours when it ended, and of any other error. Neither is the caller's: the record decides. */
  readonly onError: (error: unknown) => void;
  readonly onEnd: (lease: Lease) => void;
}

/** How long ending a lease waits for an answer. The command stays: it is sent when Redis is back, and counts while the lease holds. */
const SETTLE_MS = 5_000;
const LONGEST_PAUSE_MS = 60_000;

export function leaseOf(held: HeldJob, policy: LeasePolicy): Lease {
  const { role, job, failures, stalls, exhausted, kept, commands } = held;
  let ended = false;

  async function end(command: () => Promise<unknown>): Promise<void> {
    if (ended) throw new Error(`job ${job.id} was ended twice`);
    ended = true;
    if (!kept.signal.aborted) {
      const settled = command().catch(policy.onError).finally(kept.drop);
      await firstOf(settled, kept.signal);
    }
    policy.onEnd(lease);
  }

  const lease: Lease = {
    role,
    job,
    attempt: failures + stalls,
    exhausted,
    signal: kept.signal,
    done: () => end(commands.done),
    release: () => end(commands.release),
    async fail(error) {
      const dead = exhausted !== null || !ERROR_CODES[error.code].retry || failures + 1 >= policy.attempts;
      // Whoever has it now decides its fate.
      const lost = kept.signal.aborted;
      await end(() => (dead ? commands.bury(error) : commands.retry(pauseMs(policy.backoffMs, failures))));
      return dead && !lost ? 'dead' : 'retried';
    },
  };
  return lease;
}

/** Exponential with full jitter: drawn from 1 ms up to a limit that doubles, so that what failed together does not come back together. */
export function pauseMs(backoffMs: number, failures: number): number {
  return Math.max(1, Math.round(Math.random() * Math.min(LONGEST_PAUSE_MS, backoffMs * 2 ** failures)));
}

async function firstOf(settled: Promise<unknown>, lost: AbortSignal): Promise<void> {
  let stop = () => {};
  const otherwise = new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, SETTLE_MS);
    lost.addEventListener('abort', () => resolve(), { once: true });
    stop = () => clearTimeout(timer);
  });
  await Promise.race([settled, otherwise]).finally(stop);
}
