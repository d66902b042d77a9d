import { readFileSync, writeFileSync } from 'node:fs';
import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type BenchPoint, type BenchReport, benchModel, bestOf } from '../../../packages/core/src/model/bench.ts';
import { writeRandomDinov2 } from '../../../packages/core/src/model/convert/random-weights.ts';
import { peakTflopsOf } from '../../../packages/core/src/model/gpu.ts';
import { readModel } from '../../../packages/core/src/model/info.ts';
import { openEncoder } from '../../../packages/core/src/model/onnx.ts';
import { writeTuned } from '../../../packages/core/src/model/tuned.ts';
import { tempDir } from '../../fixtures/model/temp.ts';
import { convertModel } from '../../fixtures/model/without-probe.ts';

const temp = tempDir();
const dir = temp('model');
let cache = 0;

beforeAll(async () => {
  await writeRandomDinov2(temp('weights'), { depth: 1, width: 64 });
  await convertModel({ from: temp('weights'), to: dir });
});

/** The cache of a machine where nothing was measured. */
beforeEach(() => {
  cache += 1;
  process.env.XDG_CACHE_HOME = temp(`cache-${cache}`);
});

const bench = (change: object = {}): Promise<BenchReport> =>
  benchModel({
    dir,
    device: 'cpu',
    batches: [1, 3],
    threads: [1, 2],
    seconds: 0.01,
    signal: new AbortController().signal,
    ...change,
  });

const maxBatchOf = async (options: { maxBatch?: number } = {}): Promise<number> => {
  const encoder = await openEncoder({ dir, device: 'cpu', threads: 1, ...options });
  await encoder.close();
  return encoder.maxBatch;
};

describe('a benchmark of a model', () => {
  it('measures every batch size and number of threads, against the peak of the same threads', async () => {
    const report = await bench();
    expect(report.points.map(({ threads, batch }) => [threads, batch])).toEqual([
      [1, 1],
      [1, 3],
      [2, 1],
      [2, 3],
    ]);
    expect(report.peaks.map(({ threads }) => threads)).toEqual([1, 2]);
    for (const { threads, tilesPerSecond, gflops, shareOfPeak } of report.points) {
      const peak = report.peaks.find((peak) => peak.threads === threads)!.gflops;
      expect(gflops).toBeCloseTo(tilesPerSecond * report.gflopPerTile, 6);
      expect(shareOfPeak).toBeCloseTo(gflops / peak, 6);
      expect(shareOfPeak).toBeGreaterThan(0);
    }
    expect(report.points).toContainEqual(report.best);
    expect(report).toMatchObject({ device: 'cpu', precision: 'fp32', gpu: null });
  });

  it('keeps the best batch for this machine: the encoder takes it where none is asked for', async () => {
    expect(await maxBatchOf()).toBe(4);
    const report = await bench({ batches: [3], threads: [1] });
    expect(report.keptIn.startsWith(temp(`cache-${cache}`))).toBe(true);
    expect(await maxBatchOf()).toBe(3);
    expect(await maxBatchOf({ maxBatch: 7 })).toBe(7);
  });

  it('is no condition: a file that cannot be used is as none', async () => {
    const { digest } = await readModel(dir);
    const keptIn = await writeTuned(digest, 'cpu', { batch: 3, threads: 1, tilesPerSecond: 1 });
    expect(await maxBatchOf()).toBe(3);
    for (const content of ['', '{"batch":3}', readFileSync(keptIn, 'utf8').replace('3', '-3')]) {
      writeFileSync(keptIn, content);
      expect(await maxBatchOf()).toBe(4);
    }
  });

  it('stops when it is told to, and keeps nothing', async () => {
    const stop = new AbortController();
    const steps: string[] = [];
    const onStep = (step: string) => {
      steps.push(step);
      if (step.startsWith('batches')) stop.abort();
    };
    await expect(bench({ signal: stop.signal, onStep })).rejects.toThrow(/aborted/);
    expect(steps).toEqual(['loading on 1 threads', 'peak of 1 threads', 'batches of 1 on 1 threads']);
    expect(await maxBatchOf()).toBe(4);
  });

  it.each(['fp16', 'int8'] as const)('knows the peak of %s', async (precision) => {
    await convertModel({ from: temp('weights'), to: temp(precision), precision });
    const report = await bench({ dir: temp(precision), batches: [1], threads: [1] });
    expect(report).toMatchObject({ precision });
    expect(report.peaks[0]!.gflops).toBeGreaterThan(0);
  });
});

describe('the best batch', () => {
  const point = (batch: number, tilesPerSecond: number) => ({ batch, tilesPerSecond, threads: 1 }) as BenchPoint;

  it('is the smallest of those that are as good as the fastest', () => {
    expect(bestOf([point(1, 90), point(2, 98.5), point(4, 100), point(8, 99)]).batch).toBe(2);
    expect(bestOf([point(8, 100), point(1, 100), point(4, 50)]).batch).toBe(1);
  });
});

describe('the peak of a GPU', () => {
  it.each([
    ['NVIDIA H100 80GB HBM3', 989],
    ['NVIDIA H200', 989],
    ['NVIDIA A100-SXM4-80GB', 312],
    ['NVIDIA L4', 121],
    ['NVIDIA L40S', 362],
    ['NVIDIA GeForce RTX 4090', 165],
    ['NVIDIA L40', null],
    ['Abacus 3000', null],
  ])('of %s is %s TFLOPS', (name, tflops) => {
    expect(peakTflopsOf(name)).toBe(tflops);
  });
});
