import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import { composeStore } from '../../packages/core/src/compose.ts';
import { type S3Service, startS3 } from '../services/s3.ts';
import { batches, randomRows, storeContract } from './store.ts';

let service: S3Service;
let bucket: string;

beforeAll(async () => {
  service = await startS3();
  for (const [name, value] of Object.entries(service.env)) vi.stubEnv(name, value);
  bucket = await service.bucket();
});
afterAll(async () => {
  vi.unstubAllEnvs();
  await service.stop();
});

const openAt = async (out: string, dims: number) => (await composeStore(null, { out, recipeId: 'abc', dims }))!;

storeContract('LanceDB on S3', async () => {
  const out = `s3://${bucket}/${randomUUID()}`;
  return { open: (dims) => openAt(out, dims) };
});

describe('LanceDB on S3', () => {
  it('lies in the record, and is whole after two writers wrote at once', async () => {
    const out = `s3://${bucket}/${randomUUID()}`;
    const writers = await Promise.all([openAt(out, 16), openAt(out, 16)]);
    onTestFinished(() => Promise.all(writers.map((store) => store.close())).then(() => {}));
    expect(writers[0]!.uri).toBe(`lancedb:${out}/store`);
    const slides = ['a', 'b', 'c', 'd'];
    for (const slide of slides) {
      await Promise.all(writers.map((store) => store.upsertSlide(slide, batches(randomRows(slide, 50, 16, 1), 20))));
    }
    expect(await writers[1]!.slides()).toEqual(new Map(slides.map((slide) => [slide, 50])));
  });
});
