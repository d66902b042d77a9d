import { randomUUID } from 'node:crypto';
import { type ErrorRecord, NightshiftError, toErrorRecord } from '../errors.ts';
import { decodeJob } from './job-payload.ts';
import { leaseOf } from './lease.ts';
import type { LockKeeper } from './lock-keeper.ts';
import type { Job, Lease, Role } from './queue.ts';
import { isTransientError } from './redis-errors.ts';
import type { QueueNames, RedisScripts } from './redis-scripts.ts';

/** What this needs of a BullMQ job. */
interface BullJob {
  readonly id?: string | undefined;
  readonly data: unknown;
  opts: object;
  readonly processedOn?: number;
  readonly attemptsMade: number;
  readonly attemptsStarted: number;
  readonly stalledCounter: number;
  readonly deferredFailure?: string | undefined;
  readonly parent?: unknown;
  readonly parentKey?: unknown;
  readonly repeatJobKey?: unknown;
  readonly deduplicationId?: unknown;
  moveToCompleted(value: null, token: string, fetchNext: boolean): Promise<unknown>;
  moveToFailed(error: Error, token: string): Promise<unknown>;
  moveToWait(token: string): Promise<unknown>;
}

/** What this needs of a BullMQ worker without a processor. */
interface BullWorker extends QueueNames {
  getNextJob(token: string): Promise<BullJob | undefined>;
  once(event: 'error', listener: (error: Error) => void): unknown;
  off(event: 'error', listener: (error: Error) => void): unknown;
}

export interface JobSourceOptions {
  readonly role: Role;
  readonly worker: BullWorker;
  readonly scripts: RedisScripts;
  readonly keeper: LockKeeper;
  readonly leaseMs: number;
  readonly attempts: number;
  readonly backoffMs: number;
  /** Hands back what is held, for the end of the process. Removed when the lease ends. */
  readonly held: Set<() => Promise<void>>;
  readonly countDead: () => Promise<unknown>;
  readonly onLost: () => void;
  readonly onRefused: (error: NightshiftError) => void;
  readonly onError: (error: unknown) => void;
}

/** A job that stalled (its holder died or lost it) or was started this often is not worked on again: it may be what kills. */
export const MOST_STALLS = 50;
const MOST_STARTS = 100;

/**
 * From BullMQ's jobs to leases. The function waits for a job for some seconds; what is no job is removed from Redis on the way.
 */
export function jobSource(options: JobSourceOptions): () => Promise<Lease | undefined> {
  const { role, worker, scripts, keeper, leaseMs, attempts, backoffMs, held } = options;

  async function evict(job: { readonly token: string; readonly id?: string }, problem: string): Promise<boolean> {
    if (!(await scripts.evict(worker, job))) return false;
    const what = `${worker.name} held "${job.id ?? 'something'}", which is no job`;
    options.onRefused(new NightshiftError('job-invalid', `${what}: ${problem}`));
    return true;
  }

  async function hold(bull: BullJob, token: string, job: Job): Promise<Lease | undefined> {
    const mine = { queue: worker.name, id: job.id, token };
    // The lock runs from when the command was made, which may have waited for a connection.
    let since = performance.now() - Math.max(0, Date.now() - (bull.processedOn ?? 0));
    if (performance.now() - since > leaseMs / 3) {
      since = performance.now();
      const [ours] = await scripts.renew([mine], leaseMs);
      if (!ours) return undefined;
    }
    const kept = keeper.keep(mine, since);
    /** BullMQ's refusals have a negative code: the job is another's, or gone. What it cannot end otherwise would come back for ever. */
    const onError = async (error: unknown) => {
      if (Number((error as { code?: unknown }).code) < 0) options.onLost();
      else if (isTransientError(error)) options.onError(error);
      else await evict(mine, toErrorRecord(error).message).catch(options.onError);
    };
    // Whatever options came with it: it leaves Redis when it ends, and this process decides whether it is tried again.
    bull.opts = { removeOnComplete: true, removeOnFail: true, stackTraceLimit: 0, attempts: 0 };
    const commands = {
      done: () => bull.moveToCompleted(null, token, false),
      release: () => bull.moveToWait(token),
      retry(delay: number) {
        Object.assign(bull.opts, { attempts: MOST_STARTS, backoff: { type: 'fixed', delay } });
        return bull.moveToFailed(new Error('retried'), token);
      },
      bury: ({ code }: ErrorRecord) => bull.moveToFailed(new Error(code), token).then(options.countDead),
    };
    const handBack = async () => {
      kept.surrender();
      await commands.release().catch(onError);
    };
    held.add(handBack);
    const [failures, stalls, exhausted] = [bull.attemptsMade, bull.stalledCounter, exhaustion(bull)];
    return leaseOf(
      { role, job, failures, stalls, exhausted, kept, commands },
      { attempts, backoffMs, onError, onEnd: () => held.delete(handBack) },
    );
  }

  return async () => {
    for (;;) {
      const token = randomUUID();
      let failure: unknown = null;
      const listen = (error: unknown) => {
        failure = error;
      };
      worker.once('error', listen);
      const bull = await worker.getNextJob(token).catch(listen);
      worker.off('error', listen);
      if (!bull && failure === null) return undefined;
      const read = bull ? jobOf(role, bull) : { problem: 'BullMQ cannot read it' };
      if (bull && 'job' in read) return hold(bull, token, read.job);
      if (failure !== null && isTransientError(failure)) throw failure;
      const problem = 'problem' in read ? read.problem : '';
      if (!(await evict({ token }, problem)) && failure !== null) throw failure;
    }
  };
}

function jobOf(role: Role, job: BullJob): { job: Job } | { problem: string } {
  const { attemptsMade, attemptsStarted, stalledCounter, parent, parentKey, repeatJobKey, deduplicationId } = job;
  const sound = [attemptsMade, attemptsStarted, stalledCounter].every(Number.isSafeInteger);
  // BullMQ would act upon these when the job ends.
  const foreign = [parent, parentKey, repeatJobKey, deduplicationId].some((field) => field !== undefined);
  if (!sound || foreign) return { problem: 'fields that no job of this queue has' };
  return decodeJob(role, job.id ?? '', job.data);
}

function exhaustion({ attemptsStarted, stalledCounter, deferredFailure }: BullJob): ErrorRecord | null {
  if (!deferredFailure && attemptsStarted <= MOST_STARTS && stalledCounter <= MOST_STALLS) return null;
  const times = `started ${attemptsStarted} times, ${stalledCounter} times by a process that died or lost it`;
  return toErrorRecord(new NightshiftError('job-exhausted', times, { data: { attemptsStarted, stalledCounter } }));
}
