import { availableParallelism } from 'node:os';
import { composeEncoder, composeQueue, composeSource } from '../compose.ts';
import { NightshiftError } from '../errors.ts';
import type { Encoder } from '../model/encoder.ts';
import { type FoundModel, findModel, listModels } from '../model/find.ts';
import type { Meter } from '../pipeline/meter.ts';
import { runRoles } from '../pipeline/run-roles.ts';
import { slideCache } from '../pipeline/slide-cache.ts';
import type { Lease, Queue, Role } from '../queue/queue.ts';
import { createDecodePool } from '../slide/decode-pool.ts';
import { runRegistry } from './open-run.ts';

export interface WorkOptions {
  readonly redis: string;
  readonly roles: readonly Role[];
  /** A model directory, or a name to look for in `modelDirs`; null: the only one in `modelDirs`. Needed by `embed` only. */
  readonly model: string | null;
  readonly modelDirs: readonly string[];
  readonly device: string;
  /** Inference threads; null: all cores. */
  readonly threads: number | null;
  /** Tiles a batch; null: what the encoder chooses for its device. */
  readonly batch: number | null;
  /** Threads that decode tiles; null: one less than the cores, at least one. */
  readonly decodeThreads: number | null;
  /** Stop once no job of any role waits or is active, anywhere. */
  readonly exitWhenEmpty: boolean;
  /** Stop after this process has held no job for so long; null: never. */
  readonly idleExitSeconds: number | null;
}

export interface WorkHooks {
  /** Aborting drains: shards in flight are handed back, what is committed stays. */
  readonly signal: AbortSignal;
  readonly meter: Meter;
  /** Told what does not stop the worker: an old Redis, ... */
  readonly onWarning?: (message: string) => void;
}

export interface Worker {
  /** Resolves when the worker was drained or ran out of work; rejects with the error that stopped it. */
  readonly finished: Promise<void>;
  /** Null where this worker does not embed. */
  readonly encoder: Encoder | null;
  readonly queue: Queue;
}

/** A worker with its model loaded, its queue reached and its roles running. */
export async function startWorker(options: WorkOptions, hooks: WorkHooks): Promise<Worker> {
  const embeds = options.roles.includes('embed');
  const model = embeds ? await modelOf(options) : null;
  const queue = watched(
    await composeQueue(options.redis, {
      ...(model && { model: model.info.digest }),
      ...(hooks.onWarning && { onWarning: hooks.onWarning }),
      onTrouble: ({ message }) => hooks.onWarning?.(message),
      // Longer than a lease: a job whose queue went away is lost, not failed. A full queue is waited for.
      patienceSeconds: 25,
      fullSeconds: Number.POSITIVE_INFINITY,
    }),
  );
  const stop = new AbortController();
  const signal = AbortSignal.any([hooks.signal, stop.signal]);
  let encoder: Encoder | null = null;
  try {
    if (model) {
      const { device, threads, batch } = options;
      encoder = await composeEncoder({ dir: model.dir, device, threads, batch });
    }
  } catch (error) {
    await queue.close();
    throw error;
  }
  const loaded = encoder;
  const decodeThreads = options.decodeThreads ?? Math.max(1, availableParallelism() - 1);
  const pool = createDecodePool({ threads: decodeThreads });
  const cache = slideCache(composeSource);
  const runs = runRegistry(model?.info ?? null);
  const idle = idleExit(queue, options.idleExitSeconds, () => stop.abort());

  const roles = runRoles(
    { queue, pool, slides: cache, meter: hooks.meter, runOf: runs.runOf },
    {
      roles: new Set(options.roles),
      openEncoder: async () => {
        if (!loaded) throw new NightshiftError('internal', 'an embed role without a model');
        return loaded;
      },
      readers: decodeThreads + 1,
      untilIdle: options.exitWhenEmpty,
    },
    signal,
  );
  const finished = roles.finished
    .then(() => {})
    .finally(async () => {
      clearInterval(idle);
      await Promise.all([pool.close(), cache.close(), loaded?.close()]);
    });
  return { finished, encoder, queue };
}

async function modelOf({ model, modelDirs }: WorkOptions): Promise<FoundModel> {
  if (model !== null) return findModel(model, modelDirs);
  const found = await listModels(modelDirs);
  if (found.length === 1) return found[0];
  const names = found.map(({ info }) => info.name).join(', ');
  throw new NightshiftError(
    'model-not-found',
    found.length === 0
      ? `no model in ${modelDirs.join(', ') || 'NIGHTSHIFT_MODELS (it is not set)'}`
      : `${found.length} models to choose from: ${names}`,
    { next: found.length === 0 ? 'Give --model <dir>.' : 'Name one with --model.' },
  );
}

/** A queue that knows how many of its jobs this process holds, and since when it has held none. */
interface WatchedQueue extends Queue {
  readonly held: number;
  readonly idleSince: number;
}

function watched(queue: Queue): WatchedQueue {
  let held = 0;
  let idleSince = performance.now();
  const ended = () => {
    held -= 1;
    if (held === 0) idleSince = performance.now();
  };
  const watch = (lease: Lease): Lease => {
    held += 1;
    return {
      ...lease,
      done: () => lease.done().finally(ended),
      release: () => lease.release().finally(ended),
      fail: (error) => lease.fail(error).finally(ended),
    };
  };
  return {
    ...queue,
    get held() {
      return held;
    },
    get idleSince() {
      return idleSince;
    },
    async take(role, signal) {
      const lease = await queue.take(role, signal);
      return lease && watch(lease);
    },
  };
}

function idleExit(queue: WatchedQueue, seconds: number | null, stop: () => void): NodeJS.Timeout | undefined {
  if (seconds === null) return undefined;
  return setInterval(
    () => {
      if (queue.held === 0 && performance.now() - queue.idleSince > seconds * 1000) stop();
    },
    Math.min(1000, seconds * 250),
  );
}
