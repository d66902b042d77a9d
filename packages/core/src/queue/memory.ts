import { ERROR_CODES, type ErrorRecord } from '../errors.ts';
import { priorityOf } from './job-payload.ts';
import type { Job, Lease, Queue, QueueCounts, Role } from './queue.ts';

export interface MemoryQueueOptions {
  /** Starts of one job before it is dead. */
  readonly attempts?: number;
  /** Pause before the first retry, ms; doubles with every further one, up to 30 s, with full jitter. */
  readonly backoffMs?: number;
}

interface Entry {
  readonly job: Job;
  /** When it was added, `performance.now()`. */
  readonly since: number;
  attempt: number;
}

interface Lane {
  readonly waiting: Entry[];
  readonly active: Set<Entry>;
  /** Failed and waiting out its pause. Counted as waiting. */
  readonly paused: Map<Entry, NodeJS.Timeout>;
  readonly takers: ((entry: Entry | null) => void)[];
  readonly ids: Set<string>;
  dead: number;
}

/** The queue of one process. A lease is never lost: its holder lives as long as the queue. */
export function memoryQueue(options: MemoryQueueOptions = {}): Queue {
  const { attempts = 3, backoffMs = 500 } = options;
  const lanes: Record<Role, Lane> = { plan: newLane(), embed: newLane(), index: newLane() };
  let idleWaiters: (() => void)[] = [];
  let closed = false;

  const busy = () => Object.values(lanes).some((lane) => lane.waiting.length + lane.active.size + lane.paused.size > 0);

  function settle(): void {
    if (busy()) return;
    for (const resolve of idleWaiters) resolve();
    idleWaiters = [];
  }

  /** Hands an entry to the taker that waits longest, else lets it wait: behind those of its priority, or before them. */
  function offer(lane: Lane, entry: Entry, front = false): void {
    const taker = lane.takers.shift();
    if (taker) {
      taker(entry);
      return;
    }
    const mine = priorityOf(entry.job);
    const before = front
      ? lane.waiting.findIndex(({ job }) => priorityOf(job) >= mine)
      : lane.waiting.findLastIndex(({ job }) => priorityOf(job) <= mine) + 1;
    lane.waiting.splice(before < 0 ? lane.waiting.length : before, 0, entry);
  }

  function lease(role: Role, entry: Entry): Lease {
    const lane = lanes[role];
    lane.active.add(entry);
    let ended = false;
    const end = () => {
      if (ended) throw new Error(`job ${entry.job.id} was ended twice`);
      ended = true;
      lane.active.delete(entry);
    };
    const forget = () => {
      lane.ids.delete(entry.job.id);
      settle();
    };
    return {
      role,
      job: entry.job,
      attempt: entry.attempt,
      exhausted: null,
      signal: neverLost.signal,
      async done() {
        end();
        forget();
      },
      async release() {
        end();
        if (closed) forget();
        else offer(lane, entry, true);
      },
      async fail(error: ErrorRecord) {
        end();
        entry.attempt += 1;
        if (closed || !ERROR_CODES[error.code].retry || entry.attempt >= attempts) {
          lane.dead += 1;
          forget();
          return 'dead';
        }
        const pause = Math.random() * Math.min(30_000, backoffMs * 2 ** (entry.attempt - 1));
        const timer = setTimeout(() => {
          lane.paused.delete(entry);
          offer(lane, entry);
        }, pause);
        lane.paused.set(entry, timer);
        return 'retried';
      },
    };
  }

  return {
    async add(role, jobs) {
      const lane = lanes[role];
      for (const job of jobs) {
        if (closed || lane.ids.has(job.id)) continue;
        lane.ids.add(job.id);
        offer(lane, { job, since: performance.now(), attempt: 0 });
      }
    },
    take(role, signal) {
      const lane = lanes[role];
      if (closed || signal.aborted) return Promise.resolve(null);
      const entry = lane.waiting.shift();
      if (entry) return Promise.resolve(lease(role, entry));
      return new Promise((resolve) => {
        const abort = () => {
          lane.takers.splice(lane.takers.indexOf(taker), 1);
          resolve(null);
        };
        const taker = (taken: Entry | null) => {
          signal.removeEventListener('abort', abort);
          resolve(taken && lease(role, taken));
        };
        lane.takers.push(taker);
        signal.addEventListener('abort', abort, { once: true });
      });
    },
    async counts(role): Promise<QueueCounts> {
      const lane = lanes[role];
      return { waiting: lane.waiting.length + lane.paused.size, active: lane.active.size, dead: lane.dead };
    },
    async oldestWaitingSeconds(role) {
      const { waiting } = lanes[role];
      const oldest = waiting.reduce((least, { since }) => Math.min(least, since), Number.POSITIVE_INFINITY);
      return waiting.length > 0 ? (performance.now() - oldest) / 1000 : null;
    },
    idle() {
      return busy() ? new Promise((resolve) => idleWaiters.push(resolve)) : Promise.resolve();
    },
    jobsLost: async () => false,
    async close() {
      closed = true;
      for (const lane of Object.values(lanes)) {
        for (const timer of lane.paused.values()) clearTimeout(timer);
        for (const taker of lane.takers.splice(0)) taker(null);
        lane.paused.clear();
        lane.waiting.length = 0;
        lane.ids.clear();
      }
      settle();
    },
  };
}

const neverLost = new AbortController();

function newLane(): Lane {
  return { waiting: [], active: new Set(), paused: new Map(), takers: [], ids: new Set(), dead: 0 };
}
