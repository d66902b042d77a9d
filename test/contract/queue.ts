import { setTimeout as sleep } from 'node:timers/promises';
import type { Job, Queue } from '@nightshift/core';
import { mpp, NightshiftError, toErrorRecord } from '@nightshift/core';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

/** The one model of the jobs, and of the queue that `open` gives. */
export const MODEL = 'a'.repeat(64);

const job = (id: string, more: Partial<Job> = {}): Job => ({
  id,
  out: 's3://bucket/record',
  run: 'run-1',
  model: MODEL,
  slide: { key: `slide-${id}`, uri: `/slides/${id}.svs`, contentId: '1-2', mpp: mpp(0.5) },
  ...more,
});
const shardJob = (id: string, more: Partial<Job> = {}): Job =>
  job(id, { shard: { index: 0, from: 0, to: 1024, of: 2 }, ...more });
const helps = toErrorRecord(new NightshiftError('slide-unreadable', 'the disk hiccuped'));
const useless = toErrorRecord(new NightshiftError('slide-corrupt', 'an IFD loop'));

/** What every queue promises. `open` gives an empty queue with 3 attempts and pauses of a few milliseconds. */
export function queueContract(name: string, open: () => Promise<Queue>): void {
  describe(`queue: ${name}`, () => {
    const forever = new AbortController().signal;
    let queue: Queue;
    beforeEach(async () => {
      queue = await open();
    });
    afterEach(async () => {
      await queue.close();
    });

    it('hands out jobs oldest first, each to one taker', async () => {
      await queue.add('embed', [shardJob('a'), shardJob('b')]);
      const first = await queue.take('embed', forever);
      const second = await queue.take('embed', forever);
      expect([first?.job.id, second?.job.id]).toEqual(['a', 'b']);
      expect(first?.job).toEqual(shardJob('a'));
      expect(first?.exhausted).toBeNull();
      expect(await queue.counts('embed')).toEqual({ waiting: 0, active: 2, dead: 0 });
      await first?.done();
      await second?.done();
      expect(await queue.counts('embed')).toEqual({ waiting: 0, active: 0, dead: 0 });
    });

    it('tells how long ago the oldest job that waits was added, whatever its priority', async () => {
      expect(await queue.oldestWaitingSeconds('embed')).toBeNull();
      await queue.add('embed', [shardJob('a', { priority: 500 })]);
      await sleep(300);
      await queue.add('embed', [shardJob('b', { priority: 5 }), shardJob('c', { priority: 5 })]);
      const seconds = await queue.oldestWaitingSeconds('embed');
      expect(seconds).toBeGreaterThan(0.25);
      expect(seconds).toBeLessThan(60);
      expect(await queue.oldestWaitingSeconds('plan')).toBeNull();
      for (const id of ['b', 'c', 'a']) expect((await queue.take('embed', forever))?.job.id).toBe(id);
      expect(await queue.oldestWaitingSeconds('embed')).toBeNull();
    });

    it('keeps the roles apart', async () => {
      await queue.add('plan', [job('a')]);
      const gone = new AbortController();
      const embed = queue.take('embed', gone.signal);
      expect((await queue.take('plan', forever))?.job.id).toBe('a');
      gone.abort();
      expect(await embed).toBeNull();
    });

    it('ignores a job that waits or is active, and takes it again once it is done', async () => {
      await queue.add('plan', [job('a'), job('a')]);
      const lease = await queue.take('plan', forever);
      await queue.add('plan', [job('a')]);
      expect(await queue.counts('plan')).toMatchObject({ waiting: 0, active: 1 });
      await lease?.done();
      await queue.add('plan', [job('a')]);
      expect(await queue.counts('plan')).toMatchObject({ waiting: 1, active: 0 });
    });

    it('wakes a taker that waited before the job came', async () => {
      const taken = queue.take('index', forever);
      await queue.add('index', [job('late')]);
      expect((await taken)?.job.id).toBe('late');
    });

    it('hands a released job to the next taker without spending an attempt', async () => {
      await queue.add('embed', [shardJob('a'), shardJob('b')]);
      const first = await queue.take('embed', forever);
      await first?.release();
      const again = await queue.take('embed', forever);
      expect(again?.job.id).toBe('a');
      expect(again?.attempt).toBe(0);
    });

    it('hands out what has the lower priority number first, and among equals the oldest', async () => {
      const priorities = { a: 200, b: undefined, c: 1, d: 100, e: 1, f: 1000 };
      await queue.add(
        'plan',
        Object.entries(priorities).map(([id, priority]) => job(id, priority === undefined ? {} : { priority })),
      );
      const order: string[] = [];
      for (const _ of Object.keys(priorities)) {
        const lease = await queue.take('plan', forever);
        order.push(lease!.job.id);
        await lease!.done();
      }
      expect(order).toEqual(['c', 'e', 'b', 'd', 'a', 'f']);
    });

    it('puts a released job before its equals and behind what is more urgent', async () => {
      await queue.add('plan', [job('a'), job('b')]);
      const lease = await queue.take('plan', forever);
      await queue.add('plan', [job('urgent', { priority: 1 })]);
      await lease!.release();
      const order = [];
      for (let i = 0; i < 3; i++) order.push((await queue.take('plan', forever))!.job.id);
      expect(order).toEqual(['urgent', 'a', 'b']);
    });

    it('gives concurrent takers distinct jobs, ten thousand of them, each once', async () => {
      const ids = Array.from({ length: 10_000 }, (_, i) => `job-${i}`);
      await queue.add(
        'embed',
        ids.map((id) => shardJob(id)),
      );
      const empty = new AbortController();
      const taken: string[] = [];
      const taker = async () => {
        for (
          let lease = await queue.take('embed', empty.signal);
          lease;
          lease = await queue.take('embed', empty.signal)
        ) {
          taken.push(lease.job.id);
          await lease.done();
        }
      };
      const takers = Array.from({ length: 32 }, taker);
      await queue.idle();
      empty.abort();
      await Promise.all(takers);
      expect(taken.length).toBe(ids.length);
      expect(new Set(taken)).toEqual(new Set(ids));
    });

    it('lets what is held be ended while it closes', async () => {
      await queue.add('plan', [job('a'), job('b')]);
      const [a, b] = [await queue.take('plan', forever), await queue.take('plan', forever)];
      const closing = queue.close();
      await a!.done();
      await b!.release();
      await closing;
    });

    it('refuses to end a lease twice: one of the two would be wrong', async () => {
      await queue.add('plan', [job('a')]);
      const lease = await queue.take('plan', forever);
      await lease!.done();
      await expect(lease!.release()).rejects.toThrow('ended twice');
    });

    it('knows of no lost jobs where nothing happened', async () => {
      await queue.add('plan', [job('a')]);
      expect(await queue.jobsLost()).toBe(false);
    });

    it('retries while that helps and attempts are left, then lets the job die', async () => {
      await queue.add('embed', [shardJob('a')]);
      const fates: string[] = [];
      for (let start = 0; start < 3; start++) {
        const lease = await queue.take('embed', forever);
        expect(lease?.attempt).toBe(start);
        fates.push((await lease?.fail(helps)) as string);
      }
      expect(fates).toEqual(['retried', 'retried', 'dead']);
      expect(await queue.counts('embed')).toEqual({ waiting: 0, active: 0, dead: 1 });
    });

    it('does not retry what cannot help, and lets the id be added again', async () => {
      await queue.add('plan', [job('a')]);
      expect(await (await queue.take('plan', forever))?.fail(useless)).toBe('dead');
      await queue.add('plan', [job('a')]);
      expect((await queue.take('plan', forever))?.job.id).toBe('a');
    });

    it('is idle when nothing waits, is active or pauses', async () => {
      await queue.idle();
      await queue.add('plan', [job('a')]);
      let idle = false;
      const becomesIdle = queue.idle().then(() => {
        idle = true;
      });
      const first = await queue.take('plan', forever);
      await first?.fail(helps);
      const second = await queue.take('plan', forever);
      await queue.add('embed', [shardJob('b')]);
      await second?.done();
      const third = await queue.take('embed', forever);
      expect(idle).toBe(false);
      await third?.done();
      await becomesIdle;
    });

    it('answers null to whoever waits when it closes', async () => {
      const taken = queue.take('plan', forever);
      await queue.close();
      expect(await taken).toBeNull();
      expect(await queue.take('plan', forever)).toBeNull();
    });
  });
}
