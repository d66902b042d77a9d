import type { ErrorRecord } from '../errors.ts';

export type Role = 'plan' | 'embed' | 'index';

/**
 * One unit of work, small and self-contained: names, never data, paths of machines or secrets. `id` is derived from what the
 * job does; it only avoids doing work twice, the record decides what is done.
 */
export interface Job {
  readonly id: string;
  readonly run: string;
  /** Key of the slide. */
  readonly slide: string;
  /** For `embed`: the shard [from, to) of the plan and how many shards the plan has. */
  readonly shard?: { readonly index: number; readonly from: number; readonly to: number; readonly of: number };
}

/** A job that this process holds. Exactly one of the three ends it. */
export interface Lease {
  readonly role: Role;
  readonly job: Job;
  /** How often it was started before, by anybody. */
  readonly attempt: number;
  /** Aborted when the lease is lost: stop, and commit nothing more. */
  readonly signal: AbortSignal;
  done(): Promise<void>;
  /** Give it back untouched, e.g. when draining: somebody else takes it at once, no attempt is spent. */
  release(): Promise<void>;
  /** It failed. Retried after a pause when the error says that helps and attempts are left; else dead. Returns which. */
  fail(error: ErrorRecord): Promise<'retried' | 'dead'>;
}

export interface QueueCounts {
  readonly waiting: number;
  readonly active: number;
  readonly dead: number;
}

/** Hands jobs to roles. It schedules only: losing it costs time, never results. Drivers: memory, BullMQ later. */
export interface Queue {
  /** Adds the jobs that are not waiting or active already. */
  add(role: Role, jobs: readonly Job[]): Promise<void>;
  /** The next job of the role; waits for one. Null once the signal aborts or the queue is closed. */
  take(role: Role, signal: AbortSignal): Promise<Lease | null>;
  counts(role: Role): Promise<QueueCounts>;
  /** Resolves when no job of any role waits or is active. */
  idle(): Promise<void>;
  close(): Promise<void>;
}
