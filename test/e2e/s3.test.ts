import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { openRecord, type RunReport, type SlideRef, search, verify } from '@nightshift/core';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { composeBlobs } from '../../packages/core/src/compose.ts';
import { type Bench, bench, run } from '../fixtures/run.ts';
import { writeDicom } from '../fixtures/slides/write-dicom.ts';
import { drawPicture, jpegTiles } from '../fixtures/slides/write-tiff.ts';
import { type FaultS3, startFaultS3 } from '../services/fault-s3.ts';
import { type S3Service, startS3 } from '../services/s3.ts';

let b: Bench;
let slide: Buffer;
beforeAll(async () => {
  b = await bench();
  slide = readFileSync(b.slide('a.svs'));
});
afterAll(() => b.dispose());

const check = (out: string) => verify({ out, run: null, store: null });

/** Every row of every slide of a run, by slide name and position. */
async function rowsOf(out: string, report: RunReport): Promise<Map<string, string>> {
  const record = await openRecord(await composeBlobs(out));
  const found = new Map<string, string>();
  for await (const { key } of record.runSlides(report.run)) {
    const file = await record.readSlide(report.recipe, key);
    for await (const { x, y, vectors } of file?.batches() ?? []) {
      for (let i = 0; i < x.length; i++) {
        const vector = vectors.slice(i * file!.dims, (i + 1) * file!.dims);
        found.set(`${key.replace(/-[0-9a-f]{8}$/, '')} ${x[i]},${y[i]}`, Buffer.from(vector.buffer).toString('hex'));
      }
    }
    await file?.close();
  }
  return found;
}

describe('a run from S3 to S3', () => {
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

  it('gives the vectors that a run on disk gives, indexed and verified, and nothing the second time', async () => {
    for (const name of ['a', 'b']) await service.put(bucket, `slides/${name}.svs`, slide);
    b.slide('b.svs');
    const local = await run({ sources: [b.path('slides')], model: b.model, out: b.path('local'), store: 'none' });
    const options = { sources: [`s3://${bucket}/slides/`], model: b.model, out: `s3://${bucket}/out` };
    const { report } = await run(options);
    expect(report).toMatchObject({ state: 'done', failures: [], slides: { total: 2, done: 2, failed: 0 } });
    expect(await rowsOf(options.out, report)).toEqual(await rowsOf(b.path('local'), local.report));
    expect(await check(options.out)).toMatchObject({ ok: true, findings: [], storeRows: report.tiles.planned });

    const again = await run(options);
    expect(again.report).toMatchObject({ run: report.run, slides: { done: 2, skipped: 2 } });
    const key = (await Array.fromAsync((await composeBlobs(options.out)).list(''))).map(({ key }) => key);
    expect(key.filter((name) => /shards|probe|claims/.test(name))).toEqual([]);
  });

  it('takes a prefix of DICOM files for one slide, as a folder on disk', async () => {
    const frames = await jpegTiles(drawPicture(512, 512), 256);
    const volume = { width: 512, height: 512, tile: 256, frames, spacing: ['0.0005', '0.0005'] } as const;
    const files = { 'a.dcm': volume, 'b.dcm': { ...volume, flavor: 'LABEL', frames: frames.slice(0, 1) } };
    mkdirSync(b.path('series'));
    for (const [name, instance] of Object.entries(files)) {
      writeFileSync(b.path('series', name), writeDicom(instance));
      await service.put(bucket, `dicom/series/${name}`, writeDicom(instance));
    }
    const options = { model: b.model, store: 'none', tissue: { method: 'none', min: 0 } as const };
    const local = await run({ ...options, sources: [b.path('series')], out: b.path('series out') });
    const out = `s3://${bucket}/dicom-out`;
    const { report } = await run({ ...options, sources: [`s3://${bucket}/dicom/`], out });
    expect(report).toMatchObject({ failures: [], slides: { total: 1, done: 1 }, tiles: { embedded: 4 } });
    expect(await rowsOf(out, report)).toEqual(await rowsOf(b.path('series out'), local.report));
  });

  it('is searched where it lies', async () => {
    const out = `s3://${bucket}/searched`;
    await service.put(bucket, 'one/a.svs', slide);
    const { report } = await run({ sources: [`s3://${bucket}/one/a.svs`], model: b.model, out });
    const record = await openRecord(await composeBlobs(out));
    const [{ key, uri }] = (await Array.fromAsync(record.runSlides(report.run))) as [SlideRef];
    const plan = (await record.getPlan(report.recipe, key))!;
    const tile = { slide: uri, x: plan.x[0]!, y: plan.y[0]! };
    const found = await search({
      ...{ out, run: null, query: tile, k: 3, slides: [], model: null, modelDirs: [], store: null },
      contactSheet: b.path('sheet.jpg'),
    });
    expect(existsSync(b.path('sheet.jpg'))).toBe(true);
    expect(found.hits).toHaveLength(3);
  });
});

describe('a run on an S3 that fails', () => {
  let server: FaultS3;
  beforeAll(async () => {
    server = await startFaultS3();
    vi.stubEnv('AWS_ENDPOINT_URL_S3', server.endpoint);
    vi.stubEnv('NIGHTSHIFT_S3_NO_SIGN_REQUEST', '1');
  });
  beforeEach(() => {
    server.calm();
    server.objects.clear();
    for (const name of ['a', 'b', 'c']) server.put(`slides/${name}.svs`, slide);
  });
  afterAll(async () => {
    vi.unstubAllEnvs();
    await server.close();
  });
  const options = (out: string) => ({
    ...{ sources: ['s3://bucket/slides/'], model: b.model, out: `s3://bucket/${out}`, store: 'none' },
  });

  it('loses and doubles nothing in a storm of 503, resets, short bodies and lost answers', async () => {
    const calm = await run(options('calm'));
    const expected = await rowsOf('s3://bucket/calm', calm.report);
    for (const fault of [{ status: 503, code: 'SlowDown' }, { truncate: 3000, lie: true }, 'reset'] as const) {
      server.fault({ rate: 0.06, fault });
    }
    server.fault({ operation: 'put', rate: 0.2, fault: 'execute-then-drop' });
    const { report } = await run(options('storm'));
    server.calm();
    expect(report).toMatchObject({ state: 'done', failures: [], slides: { total: 3, done: 3 } });
    expect(await rowsOf('s3://bucket/storm', report)).toEqual(expected);
    expect(await verify({ out: 's3://bucket/storm', run: null, store: 'none' })).toMatchObject({
      ok: true,
      findings: [],
    });
  });

  it('fails the slide that is forbidden and the one that is gone, by name, and does the third', async () => {
    server.fault({ operation: 'get', key: /a\.svs/, fault: { status: 403, code: 'AccessDenied' } });
    server.fault({ operation: 'get', key: /b\.svs/, fault: { status: 404, code: 'NoSuchKey' } });
    const { report } = await run(options('forbidden'));
    expect(report.slides).toMatchObject({ done: 1, failed: 2 });
    const codes = Object.fromEntries(report.failures.map(({ uri, error }) => [uri, error.code]));
    expect(codes).toEqual({
      's3://bucket/slides/a.svs': 'slide-forbidden',
      's3://bucket/slides/b.svs': 'slide-changed',
    });
  });

  it('never mixes two versions of a slide that is replaced while it is read', async () => {
    const other = Buffer.concat([slide, Buffer.alloc(1)]);
    server.fault({ operation: 'get', key: /a\.svs/, skip: 3, times: 1, fault: { replace: other } });
    const { report } = await run(options('replaced'));
    expect(report.slides).toMatchObject({ done: 2, failed: 1 });
    expect(report.failures[0]).toMatchObject({ uri: 's3://bucket/slides/a.svs', error: { code: 'slide-changed' } });
    // The new version is another slide, of another run.
    const again = await run(options('replaced'));
    expect(again.report.slides).toMatchObject({ done: 3, failed: 0, skipped: 2 });
  });

  it('ends at once, with what to do, where credentials expire', async () => {
    server.fault({ operation: 'get', skip: 8, fault: { status: 400, code: 'ExpiredToken' } });
    await expect(run(options('expired'))).rejects.toMatchObject({ code: 's3-credentials', exit: 4 });
    server.calm();
    const { report } = await run(options('expired'));
    expect(report).toMatchObject({ state: 'done', failures: [], slides: { done: 3 } });
  });

  it('does not begin where the store lets a second writer overwrite', async () => {
    server.conditional = false;
    try {
      await expect(run(options('unfit'))).rejects.toMatchObject({ code: 'out-no-put-if-absent', exit: 4 });
    } finally {
      server.conditional = true;
    }
    expect([...server.objects.keys()].filter((key) => key.startsWith('unfit/'))).toEqual([]);
  });
});
