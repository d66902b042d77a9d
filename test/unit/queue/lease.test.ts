import { NightshiftError, toErrorRecord } from '@nightshift/core';
import { describe, expect, it } from 'vitest';
import { leaseOf, pauseMs } from '../../../packages/core/src/queue/lease.ts';
import { goodJob } from '../../fixtures/hostile-jobs.ts';

const helps = toErrorRecord(new NightshiftError('slide-unreadable', 'a hiccup'));

function held(more: { failures?: number; reject?: Error; exhausted?: typeof helps } = {}) {
  const loss = new AbortController();
  const log: string[] = [];
  const errors: unknown[] = [];
  const command = (name: string) => async () => {
    log.push(name);
    if (more.reject) throw more.reject;
  };
  const lease = leaseOf(
    {
      role: 'embed',
      job: goodJob('a'),
      failures: more.failures ?? 0,
      stalls: 2,
      exhausted: more.exhausted ?? null,
      kept: { signal: loss.signal, drop: () => log.push('drop'), surrender: () => {} },
      commands: { done: command('done'), release: command('release'), retry: command('retry'), bury: command('bury') },
    },
    { attempts: 3, backoffMs: 5, onError: (error) => errors.push(error), onEnd: () => log.push('end') },
  );
  return { lease, loss, log, errors };
}

describe('a lease', () => {
  it('counts failures and stalls as attempts', () => {
    expect(held({ failures: 1 }).lease.attempt).toBe(3);
  });

  it('retries while attempts are left; stalls do not spend them', async () => {
    const young = held({ failures: 1 });
    expect(await young.lease.fail(helps)).toBe('retried');
    expect(young.log).toEqual(['retry', 'drop', 'end']);
    const old = held({ failures: 2 });
    expect(await old.lease.fail(helps)).toBe('dead');
    expect(old.log).toEqual(['bury', 'drop', 'end']);
  });

  it('is dead at once when it is exhausted', async () => {
    expect(await held({ exhausted: helps }).lease.fail(helps)).toBe('dead');
  });

  it('once lost does nothing when it ends, and never calls the job dead', async () => {
    for (const end of ['done', 'release'] as const) {
      const { lease, loss, log } = held();
      loss.abort();
      await lease[end]();
      expect(log).toEqual(['end']);
    }
    const { lease, loss, log } = held({ failures: 2 });
    loss.abort();
    expect(await lease.fail(helps)).toBe('retried');
    expect(log).toEqual(['end']);
  });

  it('tells of an error when it ends, and does not throw it', async () => {
    const { lease, errors } = held({ reject: new Error('Lock mismatch') });
    await lease.done();
    expect(errors).toEqual([new Error('Lock mismatch')]);
  });

  it('draws the pause before a retry from an interval that doubles up to a minute', () => {
    for (const [failures, most] of [
      [0, 1000],
      [3, 8000],
      [20, 60_000],
    ] as const) {
      const pauses = Array.from({ length: 500 }, () => pauseMs(1000, failures));
      expect(Math.max(...pauses)).toBeLessThanOrEqual(most);
      expect(Math.max(...pauses)).toBeGreaterThan(most * 0.9);
      expect(Math.min(...pauses)).toBeLessThan(most * 0.1);
    }
  });
});
