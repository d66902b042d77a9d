import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, it, type TestContext } from 'vitest';
import { type Cluster, type Yard, yard } from '../fixtures/faults/cluster.ts';
import type { Stop } from '../fixtures/faults/points.ts';
import { succeeded, within10s } from '../fixtures/faults/program.ts';
import { type RedisService, startRedis } from '../services/redis.ts';

let y: Yard;
beforeAll(async () => {
  y = await yard();
});
afterAll(() => y?.close());

/** An attempt that was spent. */
const FAILED = /^after fail (plan|embed|index)$/;

interface Scene {
  readonly cluster: Cluster;
  readonly redis: RedisService;
  command(...words: (string | number)[]): Promise<unknown>;
}

/** A cluster on a Redis of its own, with an encoder slow enough to be caught in the middle. */
async function scene({ onTestFinished }: TestContext): Promise<Scene> {
  const redis = await startRedis();
  const client = new Redis(redis.url);
  client.on('error', () => {});
  onTestFinished(async () => {
    client.disconnect();
    await redis.stop();
  });
  const cluster = y.cluster({ redis: redis.url, planned: true, encoder: { latencyMs: 500 } });
  return { cluster, redis, command: (name, ...words) => client.call(`${name}`, words) };
}

/** Where a worker waits in the middle of a run for what befalls its Redis. */
const MIDDLE: Stop = { at: 'after put shards', signal: 'SIGSTOP' };

/** The whole run with a producer that waits: what happens to Redis once the first shard is in, and what then. */
async function disturbed(
  { cluster }: Scene,
  happens: () => Promise<unknown>,
  then: () => Promise<unknown> = async () => {},
): Promise<void> {
  await cluster.submit();
  const producer = cluster.producer();
  const worker = cluster.worker([MIDDLE], ['--roles', 'embed,index']);
  await worker.frozen();
  await happens();
  worker.kill('SIGCONT');
  await then();
  await succeeded(producer);
  worker.kill('SIGTERM');
  await succeeded(worker);
  // A job whose lease ran out at the very end waits for whoever comes next.
  await cluster.finish();
  expect(await cluster.problems()).toEqual([]);
}

describe.concurrent('a run whose Redis', () => {
  it.for(['SIGTERM', 'SIGKILL'] as const)(
    'is restarted with %s, append-only file on, goes on',
    async (signal, test) => {
      const run = await scene(test);
      await disturbed(
        run,
        () => run.redis.kill(signal),
        () => run.redis.start(),
      );
    },
  );

  it('is away for longer than a lease goes on when it is back', async (test) => {
    const run = await scene(test);
    await disturbed(
      run,
      () => run.redis.kill(),
      async () => {
        await sleep(6000);
        await run.redis.start();
      },
    );
  });

  it('is emptied is added again by the producer that waits', async (test) => {
    const run = await scene(test);
    await disturbed(run, () => run.command('flushall'));
  });

  it('is emptied while nobody waits is added again by the same submit', async (test) => {
    const { cluster, command } = await scene(test);
    await cluster.submit();
    const worker = cluster.worker([MIDDLE]);
    await worker.frozen();
    await command('flushall');
    worker.kill('SIGCONT');
    await cluster.submit();
    await cluster.finish();
    worker.kill('SIGTERM');
    await succeeded(worker);
    expect(await cluster.problems()).toEqual([]);
  });

  it('is full waits, asks a few times a second, and goes on when there is room', async (test) => {
    const run = await scene(test);
    let full = Number.POSITIVE_INFINITY;
    await disturbed(
      run,
      async () => {
        await run.command('config', 'set', 'maxmemory', 1);
        full = Date.now();
      },
      async () => {
        const { time } = await run.cluster.crossed(({ at, time }) => time >= full && at === 'before add index');
        await sleep(3000);
        const asked = run.cluster.crossings().filter((crossing) => crossing.time > time && crossing.time < time + 3000);
        expect(asked.length).toBeLessThan(100);
        await run.command('config', 'set', 'maxmemory', 0);
      },
    );
    expect(run.cluster.crossings().filter(({ at }) => FAILED.test(at))).toEqual([]);
  });

  it('is full while slides are planned loses no slide to it', async (test) => {
    const { cluster, command } = await scene(test);
    const producer = cluster.producer([{ at: 'before add embed', signal: 'SIGSTOP' }]);
    await producer.frozen();
    await command('config', 'set', 'maxmemory', 1);
    producer.kill('SIGCONT');
    await sleep(10_000);
    await command('config', 'set', 'maxmemory', 0);
    const worker = cluster.worker([], ['--roles', 'embed,index']);
    await succeeded(producer);
    worker.kill('SIGTERM');
    await succeeded(worker);
    expect(await cluster.problems()).toEqual([]);
    expect(cluster.crossings().filter(({ at }) => FAILED.test(at))).toEqual([]);
  });

  it.for(['full', 'away'] as const)('is %s lets a worker go that is told to stop', async (how, test) => {
    const { cluster, redis, command } = await scene(test);
    await cluster.submit();
    const worker = cluster.worker([MIDDLE]);
    await worker.frozen();
    await (how === 'full' ? command('config', 'set', 'maxmemory', 1) : redis.kill());
    const since = Date.now();
    worker.kill('SIGCONT');
    const waits = how === 'full' ? /^before add index$/ : /^before (add index|ack embed)$/;
    await cluster.crossed(({ at, time }) => time >= since && waits.test(at));
    worker.kill('SIGTERM');
    expect(await within10s(worker)).toMatchObject({ code: 0 });
    await (how === 'full' ? command('config', 'set', 'maxmemory', 0) : redis.start());
    await cluster.finish();
    expect(await cluster.problems()).toEqual([]);
  });
});
