import { readFileSync } from 'node:fs';
import { availableParallelism, loadavg } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Yard, yard } from '../fixtures/faults/cluster.ts';
import type { Program } from '../fixtures/faults/program.ts';

/**
 * What a batch of 8 tiles takes the device, ms. A worker spends about 3 ms of CPU time on a tile, so that at this latency eight of them
 * leave room on two cores: what is measured is what workers cost each other by Redis and the record, not by the machine.
 */
const LATENCY_MS = 400;
const BATCH = 8;
const WARM_MS = 4_000;
const WINDOW_MS = 20_000;
/** Longer than a measurement: the workers stand still until all are there. */
const LEASE = { leaseSeconds: 300, checkSeconds: 100 };
/** Clock ticks a second, as proc(5) counts CPU time. */
const TICKS = 100;

export interface Scaling {
  readonly workers: number;
  readonly tilesPerSecond: number;
  /** Tiles/s of a worker over those of a worker alone. */
  readonly ratio: number;
  /** CPU seconds a second of one worker. */
  readonly cpuShare: number;
}

export interface ScalingResult {
  readonly steps: readonly Scaling[];
  readonly cores: number;
  readonly latencyMs: number;
  /** Load of the machine before anything was started, 1 minute. */
  readonly load: number;
  /** Workers at which the machine's cores are used up, by the CPU share of one. */
  readonly coresCarry: number;
}

/**
 * Tiles/s of 1, 2, 4 and 8 worker processes on one slide, Redis and a record on disk, with an encoder that takes a fixed time and
 * none of the CPU; each worker's own rate, from its first batch in the window to its last.
 */
export async function benchScaling(slide: string): Promise<ScalingResult> {
  const load = loadavg()[0];
  const y = await yard();
  try {
    const steps: Scaling[] = [];
    for (const workers of [1, 2, 4, 8]) {
      const { perWorker, cpuShare } = await measure(y, slide, workers);
      const alone = steps[0] ? steps[0].tilesPerSecond : perWorker;
      steps.push({ workers, tilesPerSecond: perWorker * workers, ratio: perWorker / alone, cpuShare });
    }
    const cores = availableParallelism();
    return { steps, cores, latencyMs: LATENCY_MS, load, coresCarry: Math.floor(cores / steps[0].cpuShare) };
  } finally {
    await y.close();
  }
}

async function measure(y: Yard, slide: string, count: number): Promise<{ perWorker: number; cpuShare: number }> {
  const encoder = { latencyMs: LATENCY_MS };
  const cluster = y.cluster({ sources: [slide], shardTiles: 64, lease: LEASE, encoder });
  await cluster.submit();
  const planner = cluster.worker([], ['--roles', 'plan']);
  await cluster.crossed(({ at }) => at === 'after ack plan');
  await ended(planner);
  const workers = Array.from({ length: count }, () =>
    cluster.worker([{ at: 'after take embed', signal: 'SIGSTOP' }], ['--roles', 'embed', '--batch', `${BATCH}`]),
  );
  try {
    await Promise.all(workers.map((worker) => worker.frozen()));
    for (const worker of workers) worker.kill('SIGCONT');
    await Promise.all(
      workers.map((worker) => cluster.crossed(({ at, pid }) => at === 'after infer' && pid === worker.pid)),
    );
    await sleep(WARM_MS);
    const from = Date.now();
    const before = workers.map(({ pid }) => cpuSeconds(pid));
    await sleep(WINDOW_MS);
    const to = Date.now();
    const used = workers.map(({ pid }, i) => (cpuSeconds(pid) - before[i]) / (WINDOW_MS / 1000));
    const inWindow = cluster.crossings().filter(({ at, time }) => at === 'after infer' && time >= from && time <= to);
    const rates = workers.map(({ pid }) => {
      const mine = inWindow.filter((crossing) => crossing.pid === pid);
      const tiles = mine.slice(1).reduce((sum, { about }) => sum + Number(about), 0);
      return tiles / ((mine.at(-1)!.time - mine[0].time) / 1000);
    });
    return { perWorker: mean(rates), cpuShare: mean(used) };
  } finally {
    await Promise.all(workers.map(ended));
  }
}

async function ended(worker: Program): Promise<void> {
  worker.kill('SIGKILL');
  await worker.ended;
}

/** User and system time of a process and its threads, proc(5). */
function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS;
}

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
