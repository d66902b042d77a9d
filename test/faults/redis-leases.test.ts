import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { type BullQueue, type BullQueueOptions, openBullQueue } from '@nightshift/core';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { goodJob } from '../fixtures/hostile-jobs.ts';
import { type RedisService, startRedis } from '../services/redis.ts';

const HOLDER = join(import.meta.dirname, '../fixtures/queue-holder.ts');
const MODEL = goodJob('a').model;
const forever = new AbortController().signal;

describe('a lease whose holder', () => {
  let redis: RedisService;
  const queues: BullQueue[] = [];
  const holders: ChildProcess[] = [];
  beforeEach(async () => {
    redis = await startRedis();
  });
  afterEach(async () => {
    for (const holder of holders.splice(0)) holder.kill('SIGKILL');
    await Promise.all(queues.splice(0).map((queue) => queue.close()));
    await redis.stop();
  });

  /** What a test waits for the end of is short; what must not be lost is long, however long this machine stands still. */
  const [SHORT, LONG] = [{ leaseSeconds: 2 }, { leaseSeconds: 60 }] as const;

  const options = (more: Partial<BullQueueOptions> = {}): BullQueueOptions => ({
    url: redis.url,
    model: MODEL,
    ...LONG,
    checkSeconds: 0.5,
    closeSeconds: 0.2,
    ...more,
  });

  const open = (more: Partial<BullQueueOptions> = {}): Promise<BullQueue> => openAsGiven(options(more));

  async function openAsGiven(given: BullQueueOptions): Promise<BullQueue> {
    const queue = await openBullQueue(given);
    queues.push(queue);
    return queue;
  }

  /** A process that holds the next job. */
  async function hold(given = options(SHORT)) {
    const child = fork(HOLDER, [JSON.stringify(given)]);
    holders.push(child);
    const said: Record<string, unknown>[] = [];
    child.on('message', (message) => said.push(message as Record<string, unknown>));
    await Promise.race([
      once(child, 'message'),
      once(child, 'exit').then(([code]) =>
        Promise.reject(new Error(`the holder ended with ${code} before it took a job`)),
      ),
    ]);
    return { child, said };
  }

  /** Takes the job that another holds, once that has lost it; somebody waits for it already. */
  async function killed(child: ChildProcess, queue: BullQueue) {
    const taken = queue.take('embed', forever);
    child.kill('SIGKILL');
    const started = performance.now();
    const lease = (await taken)!;
    return { lease, seconds: (performance.now() - started) / 1000 };
  }

  it('is killed starts elsewhere within lease and two checks, and spends no attempt', async () => {
    const queue = await open();
    await queue.add('embed', [goodJob('a')]);
    const { child } = await hold();
    const { lease, seconds } = await killed(child, queue);
    expect(lease.job.id).toBe('a');
    expect(lease.attempt).toBe(1);
    expect(lease.exhausted).toBeNull();
    // Of which 10 are for a slow machine: BullMQ's own interval is 30 s.
    expect(seconds).toBeLessThan(2 + 2 * 0.5 + 10);
    await lease.done();
    expect(await queue.counts('embed')).toEqual({ waiting: 0, active: 0, dead: 0 });
  });

  it('is killed five times in a row completes all the same', async () => {
    const queue = await open();
    await queue.add('embed', [goodJob('a')]);
    for (let kill = 0; kill < 5; kill++) {
      const { child, said } = await hold();
      expect(said[0]).toEqual({ taken: 'a', attempt: kill });
      child.kill('SIGKILL');
    }
    const lease = (await queue.take('embed', forever))!;
    expect(lease.attempt).toBe(5);
    await lease.done();
    expect(await queue.counts('embed')).toEqual({ waiting: 0, active: 0, dead: 0 });
  });

  it('is frozen past the lease is told so when it thaws, and its ending changes nothing', async () => {
    const queue = await open();
    await queue.add('embed', [goodJob('a')]);
    const { child, said } = await hold();
    child.kill('SIGSTOP');
    const lease = (await queue.take('embed', forever))!;
    child.kill('SIGCONT');
    while (!said.some(({ lost }) => lost === 'a')) await once(child, 'message');
    child.send('done');
    while (!said.some(({ ended }) => ended === 'a')) await once(child, 'message');
    expect(said.at(-1)).toMatchObject({ stats: { leasesLost: 1 } });
    expect(lease.signal.aborted).toBe(false);
    expect(await queue.counts('embed')).toMatchObject({ active: 1 });
    await lease.done();
    expect(await queue.counts('embed')).toEqual({ waiting: 0, active: 0, dead: 0 });
  });

  it('works longer than the lease keeps it: nobody else gets the job', async () => {
    const [queue, other] = [await open({ leaseSeconds: 6 }), await open()];
    await queue.add('embed', [goodJob('a')]);
    const lease = (await queue.take('embed', forever))!;
    const gone = new AbortController();
    const rival = other.take('embed', gone.signal);
    await Promise.race([rival, new Promise((resolve) => setTimeout(resolve, 9_000))]);
    gone.abort();
    expect(await rival).toBeNull();
    expect(lease.signal.aborted).toBe(false);
    await lease.done();
    expect(queue.stats.leasesLost).toBe(0);
  });

  it('gives it back is followed at once, and neither a stall nor an attempt is counted', async () => {
    const long = { leaseSeconds: 60, checkSeconds: 30 };
    const [queue, other] = [await open(long), await open(long)];
    await queue.add('embed', [goodJob('a')]);
    let held = (await queue.take('embed', forever))!;
    const seconds: number[] = [];
    for (const taker of [other, queue, other]) {
      const next = taker.take('embed', forever);
      const started = performance.now();
      await held.release();
      held = (await next)!;
      seconds.push((performance.now() - started) / 1_000);
      expect(held.attempt).toBe(0);
    }
    // Not at the next check, and not when waiting for a job is given up and begun again, after 5 s; a machine may stand still once.
    expect(Math.min(...seconds)).toBeLessThan(4);
    await held.done();
  });

  it('closes with jobs in work hands them back, and what it does with them later changes nothing', async () => {
    const [queue, other] = [await open(), await open()];
    await queue.add('embed', [goodJob('a')]);
    const first = (await queue.take('embed', forever))!;
    await queue.close();
    expect(first.signal.aborted).toBe(true);
    const second = (await other.take('embed', forever))!;
    expect(second.attempt).toBe(0);
    await first.done();
    await second.done();
    expect([queue.stats.leasesLost, other.stats.leasesLost]).toEqual([0, 0]);
  });

  it('is the hundred and first is told not to work on it, and the job can be buried', async () => {
    const queue = await open();
    await queue.add('embed', [goodJob('a')]);
    // Handing back counts as a start: a hundred are enough whatever became of them.
    for (let start = 0; start < 100; start++) {
      const lease = (await queue.take('embed', forever))!;
      expect(lease.exhausted).toBeNull();
      await lease.release();
    }
    const lease = (await queue.take('embed', forever))!;
    expect(lease.exhausted).toMatchObject({ code: 'job-exhausted', data: { attemptsStarted: 101 } });
    expect(await lease.fail(lease.exhausted!)).toBe('dead');
    expect(await queue.counts('embed')).toEqual({ waiting: 0, active: 0, dead: 1 });
  });

  it('is killed at the defaults starts elsewhere within 35 s', async () => {
    const { leaseSeconds, checkSeconds, ...standard } = options();
    const queue = await openAsGiven(standard);
    await queue.add('embed', [goodJob('a')]);
    const { child } = await hold(standard);
    const { lease, seconds } = await killed(child, queue);
    expect(lease.job.id).toBe('a');
    expect(seconds).toBeLessThan(35);
    process.stdout.write(`kill -9 to next start, lease 20 s and check 2 s: ${seconds.toFixed(1)} s\n`);
    await lease.done();
  });
});
