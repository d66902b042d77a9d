import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { PEAK_INPUT_PX, peakGflop, peakGraph } from './convert/peak-graph.ts';
import { GRAPH_FILE, writeGraph } from './convert/write.ts';
import type { Precision } from './encoder.ts';
import { gpuOf } from './gpu.ts';
import { readModel } from './info.ts';
import { openEncoder } from './onnx.ts';
import { loadGraph } from './onnx-engine.ts';
import { writeTuned } from './tuned.ts';

export interface BenchOptions {
  /** Model directory. */
  readonly dir: string;
  readonly device: string;
  /** Default: what suits the device. */
  readonly batches?: readonly number[];
  /** Default: half of the cores and all of them on a CPU, else all. */
  readonly threads?: readonly number[];
  /** Least time of each measurement. */
  readonly seconds: number;
  readonly signal: AbortSignal;
  readonly onStep?: (step: string) => void;
}

export interface BenchPoint {
  readonly threads: number;
  readonly batch: number;
  readonly tilesPerSecond: number;
  /** 10^9 operations of the model's matrix products a second. */
  readonly gflops: number;
  /** Of what large matrix products reach in the same runtime, precision and number of threads. */
  readonly shareOfPeak: number;
}

export interface BenchReport {
  readonly version: 1;
  readonly model: string;
  readonly digest: string;
  readonly precision: Precision;
  readonly gflopPerTile: number;
  readonly device: string;
  readonly processor: string;
  readonly cores: number;
  /** Measured, one for each number of threads. */
  readonly peaks: readonly { readonly threads: number; readonly gflops: number }[];
  readonly points: readonly BenchPoint[];
  readonly best: BenchPoint;
  /** Tiles a second if the GPU did nothing but this model's products at the peak that its vendor states. */
  readonly gpu: { readonly name: string; readonly peakTflops: number; readonly ceilingTilesPerSecond: number } | null;
  /** Where the best batch was kept for this machine's workers. */
  readonly keptIn: string;
}

/** A smaller batch that is this close to the fastest is better: less memory, less waiting at a slide's end. */
const AS_GOOD_AS = 0.98;

/**
 * Measures a model on this machine over batch sizes and threads, and keeps the best batch where `openEncoder` finds it. Each figure is of
 * the fastest of several runs: what else the machine does makes others slower, never faster.
 *
 * @throws NightshiftError as `openEncoder` does; the signal's reason
 */
export async function benchModel(options: BenchOptions): Promise<BenchReport> {
  const { dir, seconds, signal, onStep = () => {} } = options;
  const { name, digest, precision, architecture } = await readModel(dir);
  const { gflopPerTile } = architecture;
  const cores = availableParallelism();
  const threadCounts =
    options.threads ?? (isGpu(options.device) ? [cores] : [...new Set([Math.ceil(cores / 2), cores])]);
  const peaks: { threads: number; gflops: number }[] = [];
  const points: BenchPoint[] = [];
  let device = options.device;
  for (const threads of threadCounts) {
    onStep(`loading on ${threads} threads`);
    const encoder = await openEncoder({ dir, device, threads, maxBatch: LARGEST_BATCH });
    device = encoder.device;
    try {
      const peakOnce = () => {
        signal.throwIfAborted();
        onStep(`peak of ${threads} threads`);
        return measurePeak(precision, device, threads, seconds);
      };
      const before = await peakOnce();
      const fastest = new Map<number, number>();
      for (const batch of options.batches ?? BATCHES[device === 'cpu' ? 'cpu' : 'other']) {
        signal.throwIfAborted();
        onStep(`batches of ${batch} on ${threads} threads`);
        const tiles = noise(batch * encoder.model.inputPx ** 2 * 3);
        fastest.set(batch, await fastestRun(encoder, () => encoder.embed(tiles, batch), seconds));
      }
      // Once more: a machine that does other work is not as fast at one moment as at another.
      const peak = Math.max(before, await peakOnce());
      peaks.push({ threads, gflops: peak });
      for (const [batch, runSeconds] of fastest) {
        const gflops = (gflopPerTile * batch) / runSeconds;
        points.push({ threads, batch, tilesPerSecond: batch / runSeconds, gflops, shareOfPeak: gflops / peak });
      }
    } finally {
      await encoder.close();
    }
  }
  const best = bestOf(points);
  const gpu = await gpuOf(device);
  return {
    version: 1,
    model: name,
    digest,
    precision,
    gflopPerTile,
    device,
    processor: cpus()[0]?.model.trim() || 'unknown',
    cores,
    peaks,
    points,
    best,
    gpu: gpu?.peakTflops
      ? { name: gpu.name, peakTflops: gpu.peakTflops, ceilingTilesPerSecond: (1000 * gpu.peakTflops) / gflopPerTile }
      : null,
    keptIn: await writeTuned(digest, device, best),
  };
}

const BATCHES = { cpu: [1, 2, 4, 8, 16], other: [16, 32, 64, 128, 256] } as const;
const LARGEST_BATCH = 1024;

const isGpu = (device: string): boolean => device !== 'cpu' && device !== 'auto';

/** The smallest batch that is as good as the fastest one. */
export function bestOf(points: readonly BenchPoint[]): BenchPoint {
  const fastest = Math.max(...points.map(({ tilesPerSecond }) => tilesPerSecond));
  const good = points.filter(({ tilesPerSecond }) => tilesPerSecond >= AS_GOOD_AS * fastest);
  return good.reduce((best, point) => (point.batch < best.batch ? point : best));
}

/** A GPU gets enough to do that bringing the rows to it does not count. */
const PEAK = { cpu: { rows: 512, layers: 1 }, other: { rows: 8192, layers: 32 } };

/** 10^9 operations a second. */
async function measurePeak(precision: Precision, device: string, threads: number, seconds: number): Promise<number> {
  const { rows, layers } = PEAK[device === 'cpu' ? 'cpu' : 'other'];
  const dir = await mkdtemp(join(tmpdir(), 'nightshift-peak-'));
  try {
    await writeGraph(dir, peakGraph(precision, layers), () => {});
    const graph = await loadGraph({ graph: join(dir, GRAPH_FILE), device, threads, inputPx: PEAK_INPUT_PX }, 1);
    try {
      const tiles = noise(rows * PEAK_INPUT_PX ** 2 * 3);
      const run = () => graph.run({ tiles, count: rows, outputs: ['embedding'] });
      return peakGflop(rows, layers) / (await fastestRun(graph, run, seconds));
    } finally {
      await graph.close();
    }
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

/** Runs that count, at least. */
const RUNS = 3;

/** Seconds inside the engine of the fastest run, the first (which warms up) left out. */
async function fastestRun(
  engine: { readonly busySeconds: number },
  run: () => Promise<unknown>,
  seconds: number,
): Promise<number> {
  await run();
  const started = engine.busySeconds;
  let fastest = Number.POSITIVE_INFINITY;
  for (let n = 0; n < RUNS || engine.busySeconds - started < seconds; n++) {
    const before = engine.busySeconds;
    await run();
    fastest = Math.min(fastest, engine.busySeconds - before);
  }
  return fastest;
}

function noise(length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = Math.imul(i, 2654435761) >>> 24;
  return bytes;
}
