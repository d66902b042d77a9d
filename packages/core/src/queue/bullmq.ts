import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Queue as BullMq, Worker } from 'bullmq';
import { Cluster, Redis } from 'ioredis';
import { isNightshiftError, NightshiftError } from '../errors.ts';
import { encodeJob, modelTag, payloadBytes, priorityOf } from './job-payload.ts';
import { jobSource, MOST_STALLS } from './job-source.ts';
import { lockKeeper } from './lock-keeper.ts';
import { type Pump, pump } from './pump.ts';
import type { Job, Lease, Queue, Role } from './queue.ts';
import { isConnectionError, queueError } from './redis-errors.ts';
import { clientOptions, parseRedisUrl, type RedisTarget } from './redis-options.ts';
import { deadKey, redisScripts } from './redis-scripts.ts';
import { judgeRedis, parseInfo, type RedisInfo, roomForJobs } from './redis-server.ts';
import { within } from './within.ts';

export interface BullQueueOptions {
  /** See `parseRedisUrl`: one server, TLS, an ACL user, Sentinel or Cluster. */
  readonly url: string;
  /** Start of all keys, in braces so that a cluster keeps them in one slot. Several queues share a Redis by it. */
  readonly prefix?: string;
  /** Digest of the model that this process embeds with: `embed` jobs wait in one queue per model. Without it none can be taken. */
  readonly model?: string;
  /** How long a process that fell silent keeps its jobs: see `STANDARD_LEASE`. */
  readonly leaseSeconds?: number;
  /** How often a process that takes jobs looks for those whose lease has run out. At most half the lease. */
  readonly checkSeconds?: number;
  /** Failures of one job before it is dead. Kills, lost leases and hand-backs are not failures. */
  readonly attempts?: number;
  /** Longest pause before the first retry, ms; doubles with every further one, up to a minute. The pause is drawn from 0 to that. */
  readonly backoffMs?: number;
  /** How long opening waits for Redis. */
  readonly connectSeconds?: number;
  /** How long after Redis went away `add`, `counts` and `jobsLost` wait for it; `take` and `idle` wait for ever. */
  readonly patienceSeconds?: number;
  /** How long `add` waits for room in a full Redis before it refuses. */
  readonly fullSeconds?: number;
  /** How long `close` waits for the jobs in work before it hands them back. */
  readonly closeSeconds?: number;
  /** Told what the queue overcomes or waits for by itself: a lost connection, a full Redis, a lost lease, a broken job. */
  readonly onTrouble?: (trouble: NightshiftError) => void;
}

export interface BullQueue extends Queue {
  /** What speaks against the server's version and settings, a sentence each. */
  readonly warnings: readonly string[];
  readonly stats: Readonly<QueueStats>;
  readonly connected: boolean;
}

/** Counted since the queue was opened. */
export interface QueueStats {
  /** Leases that another process took over, or may have. */
  leasesLost: number;
  /** Things in Redis that were no jobs. */
  jobsRefused: number;
  /** Failed connections and commands. */
  errors: number;
}

/**
 * A job of a killed process starts elsewhere within the lease and two checks: 24 s, where 35 s are promised. BullMQ lets one process of a
 * cluster look in every `checkSeconds`; one that comes a moment early is refused and asks again a check later, so that two checks may lie
 * between looks. A look moves jobs without a lock that were active at the look before: that one must come within the lease, too.
 */
const STANDARD_LEASE = { leaseSeconds: 20, checkSeconds: 2 };
/** Jobs a pipeline: 1,000 keep Redis busy for 83 ms, 5,000 for 254 ms. */
const CHUNK = 500;
/** How long closing waits for a Redis that does not answer. */
const SETTLE_MS = 5_000;
/** What Redis and BullMQ need for a waiting job beside its payload, rounded up: see test/bench/redis-memory.ts. */
const OVERHEAD_BYTES = 1100;
/** In the order in which jobs make jobs. */
const ROLES: readonly Role[] = ['plan', 'embed', 'index'];

interface Lane {
  readonly worker: Worker;
  readonly pump: Pump<Lease>;
}

/**
 * The queue of a cluster: BullMQ on Redis 6.2 or newer, or Valkey. A job whose holder dies, freezes or loses Redis is taken by another
 * process, so it may run twice: its effects must be repeatable. Redis only schedules; finished and dead jobs leave it.
 *
 * @throws NightshiftError `queue-unreachable` when Redis does not answer within `connectSeconds`; `queue-config` when the login or a
 * setting must be changed first (an eviction policy would drop jobs); `usage` for the URL. Once open, it reconnects for ever.
 */
export async function openBullQueue(options: BullQueueOptions): Promise<BullQueue> {
  const { model, attempts = 6, backoffMs = 1000, onTrouble } = options;
  const ms = (seconds: number | undefined, standard: number) => (seconds ?? standard) * 1000;
  const leaseMs = ms(options.leaseSeconds, STANDARD_LEASE.leaseSeconds);
  const patienceMs = ms(options.patienceSeconds, 60);
  const prefix = (options.prefix ?? '{nightshift}').replace(/^[^{}]+$/, '{$&}');
  const modelsKey = `${prefix}:models`;
  const stats: QueueStats = { leasesLost: 0, jobsRefused: 0, errors: 0 };
  const queues = new Map<string, BullMq>();
  const lanes = new Map<Role, Lane>();
  const held = new Set<() => Promise<void>>();
  const stop = new AbortController();
  const closed = new AbortController();
  let closing: Promise<void> | null = null;

  const target = parseRedisUrl(options.url);
  const client = await connect(target, ms(options.connectSeconds, 10));
  const scripts = redisScripts(client, prefix);
  const opened = await inspectAndJudge().catch((error) => {
    client.disconnect();
    throw queueError(error, target.label);
  });
  let { identity } = opened;
  let awaySince: number | null = null;
  client.on('error', trouble);
  client.on('close', () => {
    awaySince ??= performance.now();
  });
  client.on('ready', () => {
    awaySince = null;
  });

  const keeper = lockKeeper({
    leaseMs,
    renew: (holds) => scripts.renew(holds, leaseMs),
    onLost({ id }, why) {
      stats.leasesLost += 1;
      tell(new NightshiftError('lease-lost', `job ${id}: ${why}`));
    },
  });

  function tell(error: NightshiftError): void {
    if (!stop.signal.aborted) onTrouble?.(error);
  }

  function trouble(error: unknown): void {
    stats.errors += 1;
    tell(queueError(error, target.label));
  }

  /** Of BullMQ's own listeners, which hear of every lost connection too. */
  function otherTrouble(error: Error): void {
    if (!isConnectionError(error)) trouble(error);
  }

  /** What the server says of itself; identity changes when it was restarted, failed over or emptied. */
  async function inspect(): Promise<{ info: RedisInfo; identity: string }> {
    const { info: text, epoch } = await scripts.inspect(randomUUID());
    const info = parseInfo(text);
    return { info, identity: `${epoch} ${info.get('run_id')}` };
  }

  async function inspectAndJudge() {
    const { info, identity } = await inspect();
    return { identity, warnings: judgeRedis(info, target.label) };
  }

  /**
   * Rejects with `queue-unreachable` when no answer comes in time, counted from when Redis went away; commands that were sent stay, for
   * when it is back.
   */
  async function patiently<T>(work: () => Promise<T>): Promise<T> {
    const late = () => {
      const since = closed.signal.aborted ? 'until this process ended' : `for ${patienceMs / 1000} s`;
      throw new NightshiftError('queue-unreachable', `${target.label} has not answered ${since}`);
    };
    const left = awaySince === null ? patienceMs : awaySince + patienceMs - performance.now();
    try {
      return left > 0 ? await within(left, work(), late, closed.signal) : late();
    } catch (error) {
      throw queueError(error, target.label);
    }
  }

  const queueName = (role: Role, digest: string) => (role === 'embed' ? `embed-${modelTag(digest)}` : role);

  function queueOf(name: string): BullMq {
    let queue = queues.get(name);
    if (!queue) {
      // Nobody reads the events, and Redis keeps them in memory.
      queue = new BullMq(name, { connection: client, prefix, streams: { events: { maxLen: 100 } } });
      queue.on('error', otherTrouble);
      queues.set(name, queue);
    }
    return queue;
  }

  async function queuesOf(role: Role): Promise<BullMq[]> {
    if (role !== 'embed') return [queueOf(role)];
    const tags = new Set(await client.smembers(modelsKey));
    if (model !== undefined) tags.add(modelTag(model));
    return [...tags].map((tag) => queueOf(`embed-${tag}`));
  }

  async function add(role: Role, jobs: readonly Job[]): Promise<void> {
    const byModel = Map.groupBy(jobs, ({ model }) => queueName(role, model));
    const entries = [...byModel].map(([name, its]) => ({
      queue: queueOf(name),
      jobs: its.map((job) => ({
        name: role,
        data: encodeJob(role, job),
        opts: { jobId: job.id, priority: priorityOf(job) },
      })),
    }));
    const bytes =
      jobs.length * OVERHEAD_BYTES + sum(entries.flatMap(({ jobs }) => jobs.map(({ data }) => payloadBytes(data))));
    const send = async () => {
      const room = roomForJobs((await inspect()).info);
      if (bytes > room) {
        throw new NightshiftError(
          'queue-full',
          `${target.label} has room for ${mib(Math.max(0, room))} of jobs: ${jobs.length} more need ${mib(bytes)}`,
          {
            data: { bytesNeeded: bytes, bytesFree: Math.round(room) },
          },
        );
      }
      if (role === 'embed') await client.sadd(modelsKey, ...new Set(jobs.map(({ model }) => modelTag(model))));
      for (const { queue, jobs } of entries) {
        for (let i = 0; i < jobs.length; i += CHUNK) await queue.addBulk(jobs.slice(i, i + CHUNK));
      }
    };
    const deadline = performance.now() + ms(options.fullSeconds, 0);
    for (let pause = 200; ; pause = Math.min(5_000, pause * 2)) {
      try {
        return await patiently(send);
      } catch (error) {
        const waits = !stop.signal.aborted && performance.now() + pause <= deadline;
        if (!isNightshiftError(error, 'queue-full') || !waits) throw error;
        trouble(error);
        await sleep(pause, undefined, { signal: stop.signal }).catch(() => {});
      }
    }
  }

  function laneOf(role: Role): Lane {
    let lane = lanes.get(role);
    if (!lane) {
      if (role === 'embed' && model === undefined)
        throw new Error('this queue was opened without a model: it takes no embed jobs');
      const worker = new Worker(queueName(role, model ?? ''), null, {
        connection: client,
        prefix,
        lockDuration: leaseMs,
        stalledInterval: ms(options.checkSeconds, STANDARD_LEASE.checkSeconds),
        maxStalledCount: MOST_STALLS,
        drainDelay: 5,
        removeOnComplete: { count: 0 },
        removeOnFail: { count: 0 },
      });
      worker.on('error', otherTrouble);
      worker.startStalledCheckTimer().catch(otherTrouble);
      const fetch = jobSource({
        ...{ role, worker, scripts, keeper, leaseMs, attempts, backoffMs, held },
        countDead: () => client.hincrby(deadKey(prefix), worker.name, 1),
        onLost() {
          stats.leasesLost += 1;
        },
        onRefused(error) {
          stats.jobsRefused += 1;
          tell(error);
        },
        onError: trouble,
      });
      lane = { worker, pump: pump({ fetch, giveBack: (lease) => lease.release(), onError: trouble }) };
      lanes.set(role, lane);
    }
    return lane;
  }

  async function idle(): Promise<void> {
    while (!stop.signal.aborted) {
      if (!(await busy().catch(() => true))) return;
      await sleep(200, undefined, { signal: stop.signal }).catch(() => {});
    }
  }

  /** A job is counted until after the jobs that it made are added: going the way of the jobs, none is missed. */
  async function busy(): Promise<boolean> {
    for (const role of ROLES) {
      const { waiting, active } = await counts(role);
      if (waiting + active > 0) return true;
    }
    return false;
  }

  async function counts(role: Role) {
    const total = { waiting: 0, active: 0, dead: 0 };
    for (const queue of await queuesOf(role)) {
      const { active, ...waiting } = await queue.getJobCounts('active', 'waiting', 'prioritized', 'delayed');
      total.active += active;
      total.waiting += sum(Object.values(waiting));
      total.dead += Number((await client.hget(deadKey(prefix), queue.name)) ?? 0);
    }
    return total;
  }

  async function oldestWaitingSeconds(role: Role): Promise<number | null> {
    const added = await Promise.all((await queuesOf(role)).map((queue) => scripts.oldest(queue)));
    const oldest = Math.min(...added.map((at) => at ?? Number.POSITIVE_INFINITY));
    // By the clock of the machine that added it.
    return oldest < Number.POSITIVE_INFINITY ? Math.max(0, Date.now() - oldest) / 1000 : null;
  }

  async function close(): Promise<void> {
    stop.abort();
    const quit = [...lanes.values()].flatMap(({ worker, pump }) => [pump.close(), worker.close(true)]);
    await within(SETTLE_MS, Promise.allSettled(quit), () => {});
    // A Redis that is away cannot be told of a job's end: there the leases run out.
    const end = performance.now() + ms(options.closeSeconds, 10);
    while (held.size > 0 && awaySince === null && performance.now() < end) await sleep(20);
    const handedBack = Promise.allSettled([...held].map((handBack) => handBack())).then(() =>
      Promise.allSettled([...queues.values()].map((queue) => queue.close())),
    );
    await within(awaySince === null ? SETTLE_MS : 0, handedBack, () => {});
    keeper.close();
    client.disconnect();
    closed.abort();
  }

  return {
    warnings: opened.warnings,
    stats,
    get connected() {
      return client.status === 'ready';
    },
    add,
    take: async (role, signal) => (stop.signal.aborted || signal.aborted ? null : laneOf(role).pump.take(signal)),
    counts: (role) => patiently(() => counts(role)),
    oldestWaitingSeconds: (role) => patiently(() => oldestWaitingSeconds(role)),
    idle,
    async jobsLost() {
      const before = identity;
      ({ identity } = await patiently(inspect));
      return identity !== before;
    },
    close() {
      closing ??= close();
      return closing;
    },
  };
}

/** A client that is ready, within `ms`. It may not be lazy: BullMQ's copies of it would give up when their first connection fails. */
async function connect(target: RedisTarget, ms: number): Promise<Redis | Cluster> {
  const { single, cluster } = clientOptions(target);
  const client = target.kind === 'cluster' ? new Cluster([...target.hosts], cluster) : new Redis(single);
  const ready = new Promise<void>((resolve, reject) => {
    client.once('ready', resolve);
    client.once('error', (error) => reject((error as { lastNodeError?: unknown }).lastNodeError ?? error));
  });
  try {
    await within(ms, ready, () => {
      throw new NightshiftError('queue-unreachable', `${target.label} has not answered for ${ms / 1000} s`);
    });
  } catch (error) {
    client.on('error', () => {});
    client.disconnect();
    throw queueError(error, target.label);
  }
  return client;
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
const mib = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
