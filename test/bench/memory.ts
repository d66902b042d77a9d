import { fork } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { convertModel, writeRandomDinov2 } from '@nightshift/core';

/** Tiles of the runs on the two large slides: the same, so that only the slide's size differs. */
const TILES = 6_000;

/** MiB. */
export interface MemoryResult {
  readonly small: number;
  readonly large: number;
  readonly huge: number;
}

/**
 * Peak resident memory of a whole run (the process and its children, each at its own peak), with a small random model, on a small
 * slide (all of its tiles) and on two large ones. Linux only: read from /proc.
 */
export async function benchMemory(small: string, large: string, huge: string): Promise<MemoryResult> {
  const dir = await mkdtemp(join(tmpdir(), 'nightshift-bench-'));
  try {
    await writeRandomDinov2(join(dir, 'weights'), { depth: 1, width: 64, seed: 1 });
    await convertModel({ from: join(dir, 'weights'), to: join(dir, 'model'), name: 'bench-random' });
    const run = (slide: string, limit: number | null) =>
      peak({ sources: [slide], model: join(dir, 'model'), out: join(dir, basename(slide)), limit });
    return { small: await run(small, null), large: await run(large, TILES), huge: await run(huge, TILES) };
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

async function peak(options: { sources: string[]; model: string; out: string; limit: number | null }): Promise<number> {
  const all = { ...options, shardTiles: 1024, batch: 16, threads: 2, decodeThreads: 1 };
  const child = fork(join(import.meta.dirname, '../fixtures/run-process.ts'), [JSON.stringify(all)], {
    execArgv: [],
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  // A process's peak stays readable as long as it lives, so looking now and then misses nothing but its last moment.
  const peaks = new Map<number, number>();
  const look = setInterval(() => {
    for (const pid of family(child.pid!)) peaks.set(pid, Math.max(peaks.get(pid) ?? 0, peakOf(pid)));
  }, 50);
  try {
    const code = await new Promise((resolve) => child.once('exit', resolve));
    if (code !== 0) throw new Error(`the run ended with ${code}`);
  } finally {
    clearInterval(look);
  }
  return [...peaks.values()].reduce((a, b) => a + b, 0);
}

/** A process and its direct children. */
function family(pid: number): number[] {
  try {
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8');
    return [pid, ...children.split(' ').filter(Boolean).map(Number)];
  } catch {
    return [];
  }
}

/** MiB. */
function peakOf(pid: number): number {
  try {
    return Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1024;
  } catch {
    return 0;
  }
}
