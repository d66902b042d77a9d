import { randomUUID } from 'node:crypto';
import { openBullQueue } from '@nightshift/core';
import { afterAll, beforeAll } from 'vitest';
import { testRedis } from '../services/redis.ts';
import { MODEL, queueContract } from './queue.ts';

let redis: Awaited<ReturnType<typeof testRedis>>;
beforeAll(async () => {
  redis = await testRedis();
});
afterAll(() => redis.stop());

queueContract('bullmq', () =>
  openBullQueue({
    url: redis.url,
    prefix: `{test-${randomUUID()}}`,
    model: MODEL,
    attempts: 3,
    backoffMs: 5,
    closeSeconds: 0.2,
  }),
);
