import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { Meter } from './pipeline/meter.ts';
import type { Queue, Role } from './queue/queue.ts';
import type { S3Observer } from './source/s3-requests.ts';

/** What is asked of a queue. */
export type CountedQueue = Pick<Queue, 'counts' | 'oldestWaitingSeconds'>;

/** Tiles of one run: planned so far, and held by the record (failures in the ledger included). */
export interface RunTiles {
  readonly expected: number;
  readonly committed: number;
}

/**
 * What this process counts, for Prometheus: one registry, prefix `nightshift_`, base units. No label names a slide, a job or a
 * tile; naming follows https://prometheus.io/docs/practices/naming/.
 */
export interface Metrics {
  /** Counts what the pipeline does. */
  readonly meter: Meter;
  /** Counts what S3 requests do. */
  readonly s3: S3Observer;
  /** One process of a cluster exports the queue: the sum over several would count every job as often. Asked at each scrape. */
  attachQueue(asked: CountedQueue): void;
  /** The encoder that this process runs; a later one takes its place. */
  attachEncoder(encoder: { readonly busySeconds: number; readonly device: string; readonly model: string }): void;
  /** Shows how far a run is until the answered function is called. Asked at each scrape. */
  attachRun(run: string, read: () => RunTiles | Promise<RunTiles>): () => void;
  /** The exposition, text format 0.0.4. A source that fails or is slow leaves its series out; the rest is always answered. */
  text(): Promise<string>;
  readonly contentType: string;
  close(): void;
}

export interface MetricsOptions {
  readonly version: string;
  /** What this process does: roles of a worker, or `producer`. */
  readonly roles: readonly string[];
  /** How long a scrape waits for the queue and for runs, ms; well under Prometheus' scrape timeout of 10 s. */
  readonly patience?: number;
  /** Milliseconds, for tests. */
  readonly now?: () => number;
}

/** From a cached read to a large slide's plan, s. */
const STAGE_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
const BATCH_BUCKETS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512];
const ROLES: readonly Role[] = ['plan', 'embed', 'index'];
const LAG_TICK = 500;
/** Names that break Prometheus' rules (`_total` on a gauge), and the event loop's, which is measured here as a histogram. */
const UNWANTED = /^nodejs_(active_(handles|requests|resources)|eventloop_lag)/;

export function createMetrics(options: MetricsOptions): Metrics {
  const { now = () => performance.now(), patience = 3_000 } = options;
  const registry = new Registry();
  const registers = [registry];
  const named = (name: string, help: string) => ({ name: `nightshift_${name}`, help, registers });
  const counter = <L extends string = never>(name: string, help: string, labelNames: readonly L[] = []) =>
    new Counter({ ...named(name, help), labelNames });
  const gauge = <L extends string = never>(name: string, help: string, labelNames: readonly L[] = []) =>
    new Gauge({ ...named(name, help), labelNames });

  const tiles = counter('tiles_total', 'Tiles by outcome. ok: the record holds the vector.', ['outcome']);
  const tilesPlanned = counter('tiles_planned_total', 'Tiles of the plans that this process cut or found.');
  const tilesFound = counter('tiles_found_total', 'Tiles that the record held already when this process came.');
  const tilesInferred = counter(
    'tiles_inferred_total',
    'Tiles that the encoder answered. More than ok tiles: work done twice.',
  );
  const slides = counter('slides_total', 'Slides by outcome. ok: in the record and in the vector store.', ['outcome']);
  const slidesPlanned = counter('slides_planned_total', 'Slides whose plan this process cut or found.');
  const slidesFound = counter('slides_found_total', 'Slides that the record held whole when this process came.');
  const shards = counter('shards_total', 'Shards by outcome. ok: in the record; lost: the lease ran out.', ['outcome']);
  const errors = counter('errors_total', 'Work that failed, by error code, whatever became of it.', ['code']);
  const leasesLost = counter('leases_lost_total', 'Leases that ended before their work did, by role.', ['role']);
  const lastCommit = gauge('last_commit_timestamp_seconds', 'When this process last committed a shard, Unix time.');

  const stageSeconds = new Histogram({
    ...named('stage_seconds', 'What one plan, chunk decoded, batch inferred, shard written or slide indexed took.'),
    labelNames: ['stage'],
    buckets: STAGE_BUCKETS,
  });
  const batchTiles = new Histogram({ ...named('batch_tiles', 'Tiles of a batch.'), buckets: BATCH_BUCKETS });
  const batchCapacity = gauge('batch_capacity_tiles', 'Tiles that fit into a batch.');
  const readBytes = counter('slide_read_bytes_total', 'Bytes of slides read for tiles.');
  const reads = counter('slide_reads_total', 'Reads of slides for tiles, after joining ranges.');
  const blocks = counter('blocks_decoded_total', 'Compressed blocks of slides decoded.');

  const s3Requests = counter('s3_requests_total', 'S3 requests by operation and class of status.', [
    'op',
    'status_class',
  ]);
  const s3Bytes = counter('s3_read_bytes_total', 'Bytes of bodies that S3 sent.');
  const s3Retries = counter('s3_retries_total', 'S3 requests made again, by reason.', ['reason']);

  const buildInfo = gauge('build_info', 'Always 1: what runs here. model and device once a model is loaded.', [
    'version',
    'roles',
    'model',
    'device',
  ]);
  const lag = new Histogram({
    ...named('event_loop_lag_seconds', 'How late a timer fired.'),
    buckets: STAGE_BUCKETS,
  });
  collectDefaultMetrics({ register: registry });
  for (const { name } of registry.getMetricsAsArray()) if (UNWANTED.test(name)) registry.removeSingleMetric(name);

  const built = { version: options.version, roles: options.roles.join(',') };
  buildInfo.set(built, 1);
  // From the first scrape on, so that a rate sees the first one counted.
  for (const outcome of ['ok', 'failed']) {
    tiles.inc({ outcome }, 0);
    slides.inc({ outcome }, 0);
  }
  for (const outcome of ['ok', 'lost']) shards.inc({ outcome }, 0);
  for (const role of ROLES) leasesLost.inc({ role }, 0);

  let expectedTick = now() + LAG_TICK;
  const timer = setInterval(() => {
    const at = now();
    lag.observe(Math.max(0, at - expectedTick) / 1000);
    expectedTick = at + LAG_TICK;
  }, LAG_TICK);
  timer.unref();

  const meter: Meter = {
    slidePlanned(_slide, count) {
      slidesPlanned.inc();
      tilesPlanned.inc(count);
    },
    slideFound: () => slidesFound.inc(),
    slideDone: () => slides.inc({ outcome: 'ok' }),
    slideFailed: () => slides.inc({ outcome: 'failed' }),
    tilesFound: (count) => tilesFound.inc(count),
    tilesEmbedded: (count) => tilesInferred.inc(count),
    shardDone(_slide, _shard, { ok, failed }) {
      tiles.inc({ outcome: 'ok' }, ok);
      tiles.inc({ outcome: 'failed' }, failed);
      shards.inc({ outcome: 'ok' });
      lastCommit.setToCurrentTime();
    },
    batch(batch) {
      batchTiles.observe(batch.tiles);
      batchCapacity.set(batch.capacity);
      stageSeconds.observe({ stage: 'infer' }, batch.seconds);
    },
    read(stats) {
      readBytes.inc(stats.bytesRead);
      reads.inc(stats.requests);
      blocks.inc(stats.blocksDecoded);
      if (stats.blocksDecoded > 0) stageSeconds.observe({ stage: 'decode' }, stats.decodeSeconds);
    },
    stage: (stage, seconds) => stageSeconds.observe({ stage }, seconds),
    leaseLost(role) {
      leasesLost.inc({ role });
      if (role === 'embed') shards.inc({ outcome: 'lost' });
    },
    error: (code) => errors.inc({ code }),
  };

  /** What has to be asked before each scrape. */
  const refreshers = new Set<() => Promise<void> | void>();

  function attachQueue(asked: CountedQueue): void {
    const jobs = gauge('queue_jobs', 'Jobs by queue and state; waiting and active are work to do.', ['queue', 'state']);
    const oldest = gauge('oldest_waiting_seconds', 'Time since the oldest waiting job was added.', ['queue']);
    const up = gauge('queue_up', '1 when the queue answered this scrape.');
    refreshers.add(async () => {
      const read = ROLES.map(async (queue) => {
        const [counts, seconds] = await Promise.all([asked.counts(queue), asked.oldestWaitingSeconds(queue)]);
        return { queue, counts, seconds };
      });
      const answers = await within(patience, Promise.all(read));
      up.set(answers ? 1 : 0);
      // An unknown queue is no empty queue: an autoscaler must not see 0.
      jobs.reset();
      oldest.reset();
      for (const { queue, counts, seconds } of answers ?? []) {
        for (const [state, count] of Object.entries(counts)) jobs.set({ queue, state }, count);
        if (seconds !== null) oldest.set({ queue }, seconds);
      }
    });
  }

  let deviceCounters: { busy: Counter<'device'>; wait: Counter<'device'> } | null = null;
  let readDevice = () => {};

  function attachEncoder(encoder: { readonly busySeconds: number; readonly device: string; readonly model: string }) {
    deviceCounters ??= {
      busy: counter('device_busy_seconds_total', 'Seconds that the device spent inside runs.', ['device']),
      wait: counter('device_wait_seconds_total', 'Seconds that the loaded device did nothing.', ['device']),
    };
    const { busy, wait } = deviceCounters;
    const { device, model } = encoder;
    refreshers.delete(readDevice);
    readDevice();
    const from = { at: now(), busy: encoder.busySeconds };
    const told = { busy: 0, wait: 0 };
    readDevice = () => {
      const busySeconds = encoder.busySeconds - from.busy;
      busy.inc({ device }, Math.max(0, busySeconds - told.busy));
      told.busy = Math.max(told.busy, busySeconds);
      // A run counts as busy when it ends, so a scrape in the middle of one takes it for waiting: made up for by what follows.
      const waited = (now() - from.at) / 1000 - busySeconds;
      wait.inc({ device }, Math.max(0, waited - told.wait));
      told.wait = Math.max(told.wait, waited);
    };
    refreshers.add(readDevice);
    buildInfo.reset();
    buildInfo.set({ ...built, model, device }, 1);
  }

  let runGauges: { expected: Gauge<'run'>; committed: Gauge<'run'> } | null = null;

  function attachRun(run: string, read: () => RunTiles | Promise<RunTiles>): () => void {
    runGauges ??= {
      expected: gauge('run_tiles_expected', 'Tiles of the plans that a run has.', ['run']),
      committed: gauge('run_tiles_committed', 'Tiles of a run that the record holds, or its ledger.', ['run']),
    };
    const { expected, committed } = runGauges;
    const refresh = async () => {
      const counts = await within(patience, (async () => read())());
      // Detached while it was asked.
      if (!counts || !refreshers.has(refresh)) return;
      expected.set({ run }, counts.expected);
      committed.set({ run }, counts.committed);
    };
    refreshers.add(refresh);
    return () => {
      refreshers.delete(refresh);
      expected.remove({ run });
      committed.remove({ run });
    };
  }

  return {
    meter,
    s3: {
      request: (op, status_class) => s3Requests.inc({ op, status_class }),
      bytes: (count) => s3Bytes.inc(count),
      retry: (reason) => s3Retries.inc({ reason }),
    },
    attachQueue,
    attachEncoder,
    attachRun,
    contentType: registry.contentType,
    async text() {
      await Promise.all([...refreshers].map((refresh) => refresh()));
      return registry.metrics();
    },
    close() {
      clearInterval(timer);
      refreshers.clear();
    },
  };
}

/** What was asked for, or null when it fails or takes longer than `patience` ms. */
async function within<T>(patience: number, asked: Promise<T>): Promise<T | null> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<null>((resolve) => {
    timer = setTimeout(resolve, patience, null);
  });
  try {
    return await Promise.race([asked, late]);
  } catch {
    return null;
  } finally {
    clearTimeout(timer);
  }
}

/** Tells each of them, in this order. */
export function combineMeters(...meters: readonly Meter[]): Meter {
  const all =
    <K extends keyof Meter>(name: K) =>
    (...args: Parameters<Meter[K]>) => {
      for (const meter of meters) (meter[name] as (...args: Parameters<Meter[K]>) => void).apply(meter, args);
    };
  return {
    slidePlanned: all('slidePlanned'),
    slideFound: all('slideFound'),
    slideDone: all('slideDone'),
    slideFailed: all('slideFailed'),
    tilesFound: all('tilesFound'),
    tilesEmbedded: all('tilesEmbedded'),
    shardDone: all('shardDone'),
    batch: all('batch'),
    read: all('read'),
    stage: all('stage'),
    leaseLost: all('leaseLost'),
    error: all('error'),
  };
}
