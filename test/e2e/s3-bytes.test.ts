import { fileBlobs, openRecord } from '@nightshift/core';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { type Bench, bench, run } from '../fixtures/run.ts';
import { sparseSlide } from '../fixtures/slides/sparse.ts';
import { type FaultS3, startFaultS3 } from '../services/fault-s3.ts';

let place: Bench;
let server: FaultS3;
beforeAll(async () => {
  [place, server] = await Promise.all([bench(), startFaultS3()]);
  vi.stubEnv('AWS_ENDPOINT_URL_S3', server.endpoint);
  vi.stubEnv('NIGHTSHIFT_S3_NO_SIGN_REQUEST', '1');
});
afterAll(async () => {
  vi.unstubAllEnvs();
  place.dispose();
  await server.close();
});

/** What the record says of its only slide. */
async function readsOf(out: string) {
  const record = await openRecord(fileBlobs(out));
  const { id, recipeId } = await record.pickRun();
  const [slide] = await Array.fromAsync(record.runSlides(id));
  return record.getReads(recipeId, slide!.key);
}

describe('a slide of 34,560 px on S3 with tissue on 5 % of it', () => {
  it('is planned and embedded from less than 8 % of its bytes', async () => {
    const content = await sparseSlide(0.05);
    server.put('slides/sparse.svs', content);
    const { report } = await run({
      ...{ sources: ['s3://bucket/slides/'], model: place.model, out: place.path('out') },
      ...{ batch: 64, shardTiles: 256, store: 'none' },
    });
    expect(report.slides).toMatchObject({ total: 1, done: 1 });
    // The share of the tiles that a plan of the whole slide would have.
    expect(report.tiles.embedded / (34_560 / 224) ** 2).toBeGreaterThan(0.045);

    const reads = server.requests.filter(({ operation }) => operation === 'get');
    const sent = reads.reduce((sum, { bytes }) => sum + bytes, 0);
    const share = sent / content.length;
    expect(share).toBeGreaterThan(0.045);
    expect(share).toBeLessThan(0.08);
    expect(server.requests.length).toBeLessThan(400);
    const kept = await readsOf(place.path('out'));
    expect(kept).toEqual({ bytes: sent, requests: reads.length, objectBytes: content.length });
    expect(report.reads).toEqual(kept);
    const etag = server.objects.get('slides/sparse.svs')!.etag;
    for (const { headers } of reads) expect(headers['if-match']).toBe(etag);
  });
});
