import {
  type BullQueue,
  type BullQueueOptions,
  type Job,
  NightshiftError,
  openBullQueue,
  toErrorRecord,
} from '@nightshift/core';
import { Redis } from 'ioredis';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { goodJob, mutatedPayloads } from '../fixtures/hostile-jobs.ts';
import { freePort } from '../services/process.ts';
import { type RedisService, startRedis } from '../services/redis.ts';

const MODEL = goodJob('a').model;
const QUEUE = `embed-${MODEL.slice(0, 12)}`;
const forever = new AbortController().signal;
const jobs = (count: number, from = 0): Job[] => Array.from({ length: count }, (_, i) => goodJob(`job-${from + i}`));
const until = async (fact: () => boolean | Promise<boolean>) => {
  while (!(await fact())) await new Promise((resolve) => setTimeout(resolve, 20));
};

describe('a queue on Redis', () => {
  let redis: RedisService;
  let direct: Redis;
  const queues: BullQueue[] = [];
  beforeEach(async () => {
    redis = await startRedis();
    direct = new Redis(redis.url, { maxRetriesPerRequest: null });
    direct.on('error', () => {});
  });
  afterEach(async () => {
    await Promise.all(queues.splice(0).map((queue) => queue.close()));
    direct.disconnect();
    await redis.stop();
  });

  async function open(more: Partial<BullQueueOptions> = {}): Promise<BullQueue> {
    const queue = await openBullQueue({
      url: redis.url,
      model: MODEL,
      closeSeconds: 0.2,
      leaseSeconds: 5,
      checkSeconds: 1,
      ...more,
    });
    queues.push(queue);
    return queue;
  }

  /** Takes and ends jobs until none is left; says which, in order. */
  async function drain(queue: BullQueue, onTaken: (id: string) => void = () => {}): Promise<string[]> {
    const empty = new AbortController();
    const ids: string[] = [];
    const taker = async () => {
      for (
        let lease = await queue.take('embed', empty.signal);
        lease;
        lease = await queue.take('embed', empty.signal)
      ) {
        ids.push(lease.job.id);
        onTaken(lease.job.id);
        await lease.done();
      }
    };
    const takers = Array.from({ length: 4 }, taker);
    await queue.idle();
    empty.abort();
    await Promise.all(takers);
    return ids;
  }

  describe('that is restarted with its append-only file', () => {
    it.each(['SIGTERM', 'SIGKILL'] as const)('goes on by itself, and no job is lost (%s)', async (signal) => {
      const queue = await open();
      await queue.add('embed', jobs(2_000));
      // What a killed Redis had not yet written to disk does not count here: that is the next test's matter.
      await until(async () => /aof_pending_bio_fsync:0/.test(await direct.info('persistence')));
      let restarted: Promise<void> | null = null;
      const ids = await drain(queue, () => {
        restarted ??= redis.restart(signal);
      });
      await restarted;
      expect(new Set(ids)).toEqual(new Set(jobs(2_000).map(({ id }) => id)));
      expect(await queue.jobsLost()).toBe(true);
      expect(await queue.jobsLost()).toBe(false);
    });

    it('keeps the leases that are shorter gone than they hold', async () => {
      const queue = await open({ leaseSeconds: 60 });
      await queue.add('embed', jobs(1));
      const lease = (await queue.take('embed', forever))!;
      await redis.restart();
      await until(() => queue.connected);
      await lease.done();
      expect(queue.stats.leasesLost).toBe(0);
      expect(await queue.counts('embed')).toEqual({ waiting: 0, active: 0, dead: 0 });
    });

    it('is away for longer than a lease: the lease is lost, ending it does not wait, and the job is done again', async () => {
      const queue = await open({ leaseSeconds: 1.5, checkSeconds: 0.5, patienceSeconds: 600 });
      await queue.add('embed', jobs(1));
      const lease = (await queue.take('embed', forever))!;
      await redis.kill();
      const killed = performance.now();
      await until(() => lease.signal.aborted);
      // Redis is not started before this ends.
      await lease.done();
      expect(queue.stats.leasesLost).toBe(1);
      // Meanwhile it asks again and again, but not without end.
      expect(queue.stats.errors / (performance.now() - killed)).toBeLessThan(30 / 1_000);
      await redis.start();
      expect(await drain(queue)).toEqual(['job-0']);
    });
  });

  describe('that loses its data', () => {
    it('says so once, to producers and workers, and takes the same jobs again', async () => {
      const [producer, worker] = [await open(), await open()];
      await producer.add('embed', jobs(10));
      const lease = (await worker.take('embed', forever))!;
      expect([await producer.jobsLost(), await worker.jobsLost()]).toEqual([false, false]);
      await direct.flushall();
      expect([await producer.jobsLost(), await worker.jobsLost()]).toEqual([true, true]);
      expect([await producer.jobsLost(), await worker.jobsLost()]).toEqual([false, false]);
      await until(() => lease.signal.aborted);
      await lease.done();
      await producer.add('embed', jobs(10));
      expect((await drain(worker)).length).toBe(10);
    });

    it('wakes a taker that waited before, for jobs that are added after', async () => {
      const queue = await open();
      const taken = queue.take('embed', forever);
      await direct.flushall();
      await queue.add('embed', jobs(1));
      expect((await taken)?.job.id).toBe('job-0');
    });
  });

  describe('that is full', () => {
    /** Leaves `free` bytes below the limit. */
    async function fill(free: number): Promise<void> {
      const used = Number(/used_memory:(\d+)/.exec(await direct.info('memory'))![1]);
      await direct.config('SET', 'maxmemory', used + free);
    }

    /** How long the lock of a job still holds. */
    const leftMs = (id: string): Promise<number> => direct.pttl(`{nightshift}:${QUEUE}:${id}:lock`);

    it('refuses jobs before it adds any, with the bytes that they need', async () => {
      const queue = await open();
      await fill(2 ** 20);
      await expect(queue.add('embed', jobs(5_000))).rejects.toMatchObject({
        code: 'queue-full',
        exit: 5,
        data: { bytesNeeded: expect.any(Number), bytesFree: expect.any(Number) },
      });
      expect(await queue.counts('embed')).toMatchObject({ waiting: 0 });
    });

    it('is waited for by a worker that may', async () => {
      const queue = await open({ fullSeconds: 60 });
      await fill(0);
      const adding = queue.add('embed', jobs(3));
      await until(() => queue.stats.errors >= 2);
      await direct.config('SET', 'maxmemory', 0);
      await adding;
      expect(await queue.counts('embed')).toMatchObject({ waiting: 3 });
    });

    it('is asked a few times a second by takers, keeps what is in work, and goes on when there is room', async () => {
      const queue = await open({ leaseSeconds: 6 });
      await queue.add('embed', jobs(100));
      const held = (await queue.take('embed', forever))!;
      await fill(-500_000);
      const others = Array.from({ length: 8 }, () => queue.take('embed', forever));
      const before = queue.stats.errors;
      const started = performance.now();
      // The lock of what is held is renewed, each time at a third of the lease, although nothing can be written.
      for (let left = await leftMs('job-0'), renewed = 0; renewed < 3; ) {
        await new Promise((resolve) => setTimeout(resolve, 20));
        const now = await leftMs('job-0');
        if (now > left) renewed += 1;
        left = now;
      }
      const errors = queue.stats.errors - before;
      expect(errors).toBeGreaterThan(0);
      expect(errors / (performance.now() - started)).toBeLessThan(5 / 1_000);
      expect(held.signal.aborted).toBe(false);
      await held.done();
      expect(queue.stats.leasesLost).toBe(0);
      expect(await queue.counts('embed')).toMatchObject({ active: 0, waiting: 99 });
      await direct.config('SET', 'maxmemory', 0);
      for (const lease of await Promise.all(others)) await lease!.done();
      expect((await drain(queue)).length).toBe(91);
    });

    it('opens all the same: a worker waits, it does not end', async () => {
      await fill(-500_000);
      const queue = await open();
      await direct.config('SET', 'maxmemory', 0);
      await queue.add('embed', jobs(1));
      expect((await queue.take('embed', forever))?.job.id).toBe('job-0');
    });
  });

  describe('that holds what is no job', () => {
    const waits = `{nightshift}:${QUEUE}`;
    /** As somebody who can write to Redis would. */
    async function inject(id: string, fields: Record<string, string>): Promise<void> {
      if (Object.keys(fields).length > 0) await direct.hset(`${waits}:${id}`, fields);
      await direct.lpush(`${waits}:wait`, id);
    }

    it('removes 200 hostile payloads one after the other, counts them, and goes on with the good one', async () => {
      const queue = await open();
      const payloads = mutatedPayloads(200).map((payload) => JSON.stringify(payload));
      for (const [i, data] of payloads.entries())
        await inject(`bad-${i}`, { name: 'embed', data, opts: '{}', timestamp: '1' });
      await queue.add('embed', [goodJob('good')]);
      const ids = await drain(queue);
      expect(ids).toEqual(['good']);
      expect(queue.stats.jobsRefused).toBe(200);
      expect(await queue.counts('embed')).toEqual({ waiting: 0, active: 0, dead: 200 });
      expect(await direct.keys(`${waits}:bad-*`)).toEqual([]);
    });

    it('removes what even BullMQ cannot read: broken JSON, foreign types, numbers that are none', async () => {
      const queue = await open();
      const { id: _, ...good } = goodJob('x');
      const sound = { name: 'embed', data: JSON.stringify({ v: 1, ...good }), opts: '{}', timestamp: '1' };
      const hostile: Record<string, Record<string, string>> = {
        'no-hash': {},
        'no-data': { name: 'embed', opts: '{}' },
        'broken-data': { ...sound, data: '{"v":1,' },
        'broken-options': { ...sound, opts: '{"attempts"' },
        'broken-progress': { ...sound, progress: '{' },
        'broken-parent': { ...sound, parent: 'nope' },
        'has-parent': { ...sound, parentKey: 'other:queue:1', parent: '{"id":"1","queueKey":"other:queue"}' },
        'is-repeated': { ...sound, rjk: 'every-second' },
        'is-legacy-repeat': { ...sound, rjk: 'name:id::UTC:* * * * * *' },
        'is-deduplicated': { ...sound, deid: 'once' },
        'bad-starts': { ...sound, ats: 'many' },
        'bad-failures': { ...sound, atm: 'NaN' },
        'bad-stalls': { ...sound, stc: '-' },
        'bad id': sound,
        '': sound,
        '12345': sound,
        '../../x': sound,
        huge: { ...sound, data: JSON.stringify({ v: 1, ...good, padding: 'x'.repeat(1_000_000) }) },
      };
      for (const [id, fields] of Object.entries(hostile)) await inject(id, fields);
      await direct.set(`${waits}:a-string`, 'not a hash');
      await direct.lpush(`${waits}:wait`, 'a-string');
      await queue.add('embed', [goodJob('good')]);
      expect(await drain(queue)).toEqual(['good']);
      expect(queue.stats.jobsRefused).toBe(Object.keys(hostile).length + 1);
      expect(await queue.counts('embed')).toMatchObject({ waiting: 0, active: 0 });
      // Their ids are free: a job of that name can be added.
      await queue.add('embed', [goodJob('a-string'), goodJob('broken-options')]);
      expect((await drain(queue)).sort()).toEqual(['a-string', 'broken-options']);
    });

    it('removes a job that cannot be ended: it would be done again and again', async () => {
      const queue = await open();
      const { id: _, ...good } = goodJob('x');
      // Read as 1, but Redis adds nothing to it.
      await inject('bad-count', {
        name: 'embed',
        data: JSON.stringify({ v: 1, ...good }),
        timestamp: '1',
        atm: '1e999',
      });
      expect(await drain(queue)).toEqual(['bad-count']);
      expect(queue.stats.jobsRefused).toBe(1);
      expect(await direct.keys('*bad-count*')).toEqual([]);
    });

    it('keeps no job that asks to be kept', async () => {
      const queue = await open();
      const { id: _, ...good } = goodJob('x');
      const opts =
        '{"removeOnComplete":false,"removeOnFail":false,"attempts":1000,"backoff":{"type":"fixed","delay":0}}';
      const sticky = { name: 'embed', data: JSON.stringify({ v: 1, ...good }), timestamp: '1', opts };
      for (const id of ['sticky-1', 'sticky-2']) await inject(id, sticky);
      await (await queue.take('embed', forever))!.done();
      await (await queue.take('embed', forever))!.fail(toErrorRecord(new NightshiftError('slide-corrupt', 'broken')));
      expect(await direct.keys('*sticky*')).toEqual([]);
      expect(await queue.counts('embed')).toEqual({ waiting: 0, active: 0, dead: 1 });
    });

    it('does not remove its own keys when a job is named like one', async () => {
      const queue = await open();
      await queue.add('embed', jobs(5));
      for (const id of ['prioritized', 'meta', 'wait']) await inject(id, {});
      expect((await drain(queue)).length).toBe(5);
    });
  });

  describe('that must not be used as it is', () => {
    it('is refused when it evicts, before anything is written', async () => {
      await direct.config('SET', 'maxmemory-policy', 'allkeys-lru');
      await expect(open()).rejects.toMatchObject({
        code: 'queue-config',
        exit: 4,
        next: expect.stringContaining('noeviction'),
      });
      expect((await direct.keys('*')).filter((key) => key !== '{nightshift}:epoch')).toEqual([]);
    });

    it('is refused with another login, and the password is in no message', async () => {
      await direct.acl('SETUSER', 'worker', 'on', '>canary', '~{nightshift}:*', '+@all');
      const good = redis.url.replace('://', '://worker:canary@');
      await (await open({ url: good })).add('embed', jobs(1));
      const error = await open({ url: redis.url.replace('://', '://worker:wrong-canary@') }).catch((error) => error);
      expect(error).toMatchObject({ code: 'queue-config', exit: 4 });
      expect(`${error.message} ${error.next} ${JSON.stringify(toErrorRecord(error))}`).not.toContain('canary');
      // Another prefix is another team's: the user has no right to it.
      await expect(open({ url: good, prefix: '{other}' })).rejects.toMatchObject({ code: 'queue-config' });
    });

    it('is refused at once when nobody answers', async () => {
      const started = performance.now();
      const url = `redis://user:canary@127.0.0.1:${await freePort()}`;
      const error = await open({ url, connectSeconds: 50 }).catch((error) => error);
      expect(error).toBeInstanceOf(NightshiftError);
      expect(error).toMatchObject({ code: 'queue-unreachable', retry: true, exit: 5 });
      expect(error.message).toContain('127.0.0.1');
      expect(error.message).not.toContain('canary');
      expect(performance.now() - started).toBeLessThan(25_000);
    });

    it('is refused after a while when it takes the connection and says nothing', async () => {
      process.kill(redis.pid, 'SIGSTOP');
      try {
        await expect(open({ connectSeconds: 1 })).rejects.toMatchObject({ code: 'queue-unreachable' });
      } finally {
        process.kill(redis.pid, 'SIGCONT');
      }
    });

    it('is given up by add and counts after their patience, and not by take', async () => {
      const queue = await open({ patienceSeconds: 0.5 });
      const taken = queue.take('embed', forever);
      await redis.kill();
      await expect(queue.add('embed', jobs(1))).rejects.toMatchObject({ code: 'queue-unreachable', exit: 5 });
      // From then on at once: a probe or a scrape does not hang for as long as the outage lasts.
      const started = performance.now();
      for (let i = 0; i < 100; i++) {
        await expect(queue.counts('embed')).rejects.toMatchObject({ code: 'queue-unreachable' });
      }
      // Half of what a hundred patiences take.
      expect(performance.now() - started).toBeLessThan(25_000);
      await redis.start();
      await until(() => queue.connected);
      await queue.add('embed', jobs(1));
      expect((await taken)?.job.id).toBe('job-0');
    });
  });

  it('gives the jobs of a model to its own workers only', async () => {
    const [ours, theirs] = [await open(), await open({ model: 'b'.repeat(64) })];
    await ours.add('embed', [goodJob('a')]);
    const gone = new AbortController();
    const none = theirs.take('embed', gone.signal);
    expect((await ours.take('embed', forever))?.job.id).toBe('a');
    gone.abort();
    expect(await none).toBeNull();
    // Everybody sees what waits for all of them.
    await theirs.add('embed', [{ ...goodJob('b'), model: 'b'.repeat(64) }]);
    expect(await ours.counts('embed')).toEqual({ waiting: 1, active: 1, dead: 0 });
  });

  it('leaves nothing behind of jobs that are done', async () => {
    const queue = await open();
    await queue.add('embed', jobs(200));
    expect((await drain(queue)).length).toBe(200);
    const left = (await direct.keys('*')).map((key) => key.replace(/^\{nightshift\}:/, ''));
    expect(left.filter((key) => key.includes('job-'))).toEqual([]);
    expect(await direct.xlen(`{nightshift}:${QUEUE}:events`)).toBeLessThan(1_000);
  });
});
