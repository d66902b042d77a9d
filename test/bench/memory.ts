import { fork } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { convertModel, writeRandomDinov2 } from '@nightshift/core';

export interface MemoryResult {
  readonly smallMiB: number;
  readonly largeMiB: number;
  readonly ratio: number;
}

/**
 * Peak resident memory of a whole run (the process and its children, each at its own peak) on a large slide over that on a small
 * one, with a small random model and every tile of the plan. Linux only: read from /proc.
 */
export async function benchMemory(small: string, large: string): Promise<MemoryResult> {
  const dir = await mkdtemp(join(tmpdir(), 'nightshift-bench-'));
  try {
    await writeRandomDinov2(join(dir, 'weights'), { depth: 1, width: 64, seed: 1 });
    await convertModel({ from: join(dir, 'weights'), to: join(dir, 'model'), name: 'bench-random' });
    const smallMiB = await peak({ sources: [small], model: join(dir, 'model'), out: join(dir, 'small') });
    const largeMiB = await peak({ sources: [large], model: join(dir, 'model'), out: join(dir, 'large') });
    return { smallMiB, largeMiB, ratio: largeMiB / smallMiB };
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

async function peak(options: { sources: string[]; model: string; out: string }): Promise<number> {
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
