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
import { withoutExhausted } from '../../../packages/core/src/pipeline/end-lease.ts';
import { goodJob } from '../../fixtures/hostile-jobs.ts';

const exhausted = toErrorRecord(new NightshiftError('job-exhausted', 'started 101 times'));

describe('a job that was started too often', () => {
  it('is not worked on: its slide goes to the ledger, and the next job is handed out', async () => {
    const inner = memoryQueue();
    await inner.add('embed', [goodJob('killer'), goodJob('good')]);
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
    const work = withoutExhausted({ queue, meter, runOf } as unknown as Workplace);

    const lease = await work.queue.take('embed', new AbortController().signal);
    expect(lease?.job.id).toBe('good');
    expect(ledger).toEqual([['slide-1', exhausted]]);
    expect(told).toEqual(['job-exhausted', 'slide-1']);
    expect(await queue.counts('embed')).toEqual({ waiting: 0, active: 1, dead: 1 });
  });
});
