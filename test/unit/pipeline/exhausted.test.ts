import {
  type ErrorRecord,
  type Lease,
  memoryQueue,
  NightshiftError,
  type SlideRef,
  toErrorRecord,
} from '@nightshift/core';
import { describe, expect, it } from 'vitest';
import type { Workplace } from '../../../packages/core/src/pipeline/context.ts';
import { runIndexRole } from '../../../packages/core/src/pipeline/index-role.ts';
import { wholeJob } from '../../fixtures/hostile-jobs.ts';

const exhausted = toErrorRecord(new NightshiftError('job-exhausted', 'started 101 times'));

describe('a job that was started too often', () => {
  it('is not worked on: its slide goes to the ledger', async () => {
    const inner = memoryQueue();
    await inner.add('index', [wholeJob('killer')]);
    const mark = (lease: Lease | null) => (lease?.job.id === 'killer' ? { ...lease, exhausted } : lease);
    const queue = { ...inner, take: async (...args: Parameters<typeof inner.take>) => mark(await inner.take(...args)) };
    const ledger: [string, ErrorRecord | null][] = [];
    const record = {
      putFailures: async (_: string, slide: SlideRef, { slide: error }: { slide: ErrorRecord | null }) =>
        ledger.push([slide.key, error]),
    };
    const told: string[] = [];
    const meter = { error: (code: string) => told.push(code), slideFailed: (slide: SlideRef) => told.push(slide.key) };
    const runOf = async () => ({ record, recipeId: 'recipe' });
    const running = runIndexRole({ queue, meter, runOf } as unknown as Workplace, new AbortController().signal);
    await queue.idle();
    await queue.close();
    await running;
    expect(ledger).toEqual([['slide-1', exhausted]]);
    expect(told).toEqual(['job-exhausted', 'slide-1']);
    expect(await queue.counts('index')).toEqual({ waiting: 0, active: 0, dead: 1 });
  });
});
