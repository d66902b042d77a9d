import { type Job, openBullQueue, slideKey } from '@nightshift/core';
import { Redis } from 'ioredis';
import { startRedis } from '../services/redis.ts';

const SLIDES = 1_000;
const SHARDS_A_SLIDE = 100;
/** What the plan role lets wait before it plans another slide. */
const WINDOW = 256;

export interface RedisMemoryResult {
  readonly payloadBytes: number;
  readonly bytesPerJob: number;
  readonly addsPerSecond: number;
  readonly takesPerSecond: number;
}

/** Redis memory of a waiting shard, with names as long as a real run's: TCGA slides in a bucket, sha256 digests. */
export async function benchRedisMemory(): Promise<RedisMemoryResult> {
  const redis = await startRedis({ args: ['--appendonly', 'no'] });
  const model = 'd4'.repeat(32);
  const queue = await openBullQueue({ url: redis.url, model });
  const client = new Redis(redis.url);
  const memory = async () => Number(/used_memory:(\d+)/.exec(await client.info('memory'))![1]);
  try {
    const before = await memory();
    const started = performance.now();
    let last: Job | null = null;
    for (let slide = 0; slide < SLIDES; slide++) {
      const jobs = shardsOf(slide, model);
      last = jobs.at(-1)!;
      await queue.add('embed', jobs);
    }
    const addSeconds = (performance.now() - started) / 1000;
    const jobs = SLIDES * SHARDS_A_SLIDE;
    const bytesPerJob = ((await memory()) - before) / jobs;
    const draining = performance.now();
    const takers = Array.from({ length: 16 }, async () => {
      for (let taken = 0; taken < jobs / 160; taken++) {
        await (await queue.take('embed', new AbortController().signal))!.done();
      }
    });
    await Promise.all(takers);
    const takesPerSecond = jobs / 10 / ((performance.now() - draining) / 1000);
    const { id: _, ...payload } = last!;
    return {
      payloadBytes: JSON.stringify(payload).length,
      bytesPerJob,
      addsPerSecond: jobs / addSeconds,
      takesPerSecond,
    };
  } finally {
    client.disconnect();
    await queue.close();
    await redis.stop();
  }
}

function shardsOf(slide: number, model: string): Job[] {
  const number = String(slide).padStart(4, '0');
  const name = `TCGA-3C-${number}-01Z-00-DX1.2a3ea7a9-7da5-4b1c-95a7-${number.padStart(12, '0')}`;
  const uri = `s3://tcga-open/slides/brca/diagnostic/${name}.svs`;
  const contentId = 'd41d8cd98f00b204e9800998ecf8427e-187-1567890123';
  const key = slideKey(uri, contentId);
  return Array.from({ length: SHARDS_A_SLIDE }, (_, index) => ({
    id: `8f14e45fceea167a-${key}-${index}`,
    out: 's3://pathology-embeddings/brca/midnight',
    run: '8f14e45fceea167a',
    model,
    slide: { key, uri, contentId, mpp: null },
    shard: { index, from: index * 1024, to: (index + 1) * 1024, of: SHARDS_A_SLIDE },
  }));
}

if (import.meta.main) {
  const { payloadBytes, bytesPerJob, addsPerSecond, takesPerSecond } = await benchRedisMemory();
  const mib = (jobs: number) => `${((jobs * bytesPerJob) / 2 ** 20).toFixed(1)} MiB`;
  console.log(`payload ${payloadBytes} bytes, in Redis ${bytesPerJob.toFixed(0)} bytes a waiting shard`);
  console.log(`1,000,000 waiting shards: ${mib(1e6)}; the plan role's window of ${WINDOW}: ${mib(WINDOW)}`);
  console.log(`added ${addsPerSecond.toFixed(0)}/s, taken and done ${takesPerSecond.toFixed(0)}/s by one process`);
}
