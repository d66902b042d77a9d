import { join } from 'node:path';
import { afterAll, beforeAll, vi } from 'vitest';
import { s3Blobs } from '../../packages/core/src/record/s3.ts';
import { connectS3 } from '../../packages/core/src/source/s3-client.ts';
import { s3ConfigFromEnv } from '../../packages/core/src/source/s3-config.ts';
import { type S3Service, startS3 } from '../services/s3.ts';
import { blobsContract } from './blobs.ts';

const program = join(import.meta.dirname, '../fixtures/blob-writer.ts');
let service: S3Service;

beforeAll(async () => {
  service = await startS3();
  // The processes that a test starts, and the SDK's credential chain, read the environment.
  for (const [name, value] of Object.entries(service.env)) vi.stubEnv(name, value);
});
afterAll(async () => {
  vi.unstubAllEnvs();
  await service.stop();
});

blobsContract('s3', async () => {
  const uri = `s3://${await service.bucket()}/record`;
  const client = connectS3(s3ConfigFromEnv(process.env));
  return { blobs: await s3Blobs(uri, client), writer: (key) => [program, uri, key] };
});
