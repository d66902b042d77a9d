import { installComposeGo } from './compose.ts';
import { onPath } from './process.ts';
import { installPrometheus } from './prometheus.ts';
import { installRedis } from './redis.ts';
import { installMoto } from './s3.ts';

/** Before the tests that need services: installs what is missing, once, so that no two test files do it at the same time. */
export default function setup(): void {
  if (!process.env.S3_ENDPOINT && onPath('moto_server') === null) installMoto();
  if (!process.env.REDIS_URL && onPath('redis-server') === null && onPath('valkey-server') === null) installRedis();
  if (onPath('prometheus') === null || onPath('promtool') === null) installPrometheus();
  installComposeGo();
}
