import type { ErrorRecord } from '../errors.ts';
import type { Shard, SlideRef } from '../plan/plan.ts';

/** What a process does: cut plans, embed shards, publish and index slides. One process may take any set. */
export type Role = 'plan' | 'embed' | 'index';

/**
 * One unit of work, small (under 4 KB) and self-contained: names and numbers, never pixels or secrets. `id` is derived from what
 * the job does; it only avoids doing work twice, the record decides what is done.
 */
export interface Job {
  readonly id: string;
  /** URI of the record: a directory or `s3://bucket/prefix`. */
  readonly out: string;
  readonly run: string;
  /** Digest of the run's model. A process takes `embed` jobs of the one model that it has loaded. */
  readonly model: string;
  readonly slide: SlideRef;
  /** For `embed`: which shard of the plan, and how many the plan has. */
  readonly shard?: Shard & { readonly of: number };
  /** 1 to 1,000, lower goes first; runs of the same priority in the order added. Default 100. */
  readonly priority?: number;
}

/** A job that this process holds. Exactly one of `done`, `release` and `fail` ends it. */
export interface Lease {
  readonly role: Role;
  readonly job: Job;
  /** How often it failed, or was lost by its holder, before. */
  readonly attempt: number;
  /**
   * Set when it was started too often: it may be what kills its holders. Do not work on it: write this to the ledger, and `fail` it
   * with it. Null, as good as always, else.
   */
  readonly exhausted: ErrorRecord | null;
  /**
   * Aborted when the lease is lost, or may be: stop, and commit nothing more. Ending a lost lease does nothing: another process has
   * the job.
   */
  readonly signal: AbortSignal;
  done(): Promise<void>;
  /** Gives it back untouched, e.g. when draining: somebody else takes it at once, no attempt is spent. */
  release(): Promise<void>;
  /** It failed. Retried after a pause when the error's code says that helps and attempts are left; else dead. */
  fail(error: ErrorRecord): Promise<'retried' | 'dead'>;
}

export interface QueueCounts {
  readonly waiting: number;
  readonly active: number;
  readonly dead: number;
}

/** Hands jobs to roles. It schedules only: losing it costs time, never results. Drivers: memory, BullMQ. */
export interface Queue {
  /** Adds the jobs whose id is not waiting or active already. */
  add(role: Role, jobs: readonly Job[]): Promise<void>;
  /** The next job of the role, oldest first; waits for one. Null once the signal aborts or the queue is closed. */
  take(role: Role, signal: AbortSignal): Promise<Lease | null>;
  counts(role: Role): Promise<QueueCounts>;
  /** How long ago the oldest of the waiting jobs was added; null: none waits. Those that wait out a pause before a retry are left out. */
  oldestWaitingSeconds(role: Role): Promise<number | null>;
  /** Resolves once no job of any role waits or is active, or the queue is closed. */
  idle(): Promise<void>;
  /**
   * Whether jobs may be gone since this was last asked (or the queue opened): the server was emptied, restarted or failed over. Then
   * add again what the record lacks. Jobs that still wait are not added twice.
   */
  jobsLost(): Promise<boolean>;
  /** Waiting `take` calls answer null; what is held can still be ended while this waits for it. */
  close(): Promise<void>;
}
