import { cpSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { convertModel, fileBlobs, openEncoder, openRecord, verify } from '@nightshift/core';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { run } from '../fixtures/run.ts';
import { describeShared, shared } from '../fixtures/shared.ts';

describeShared('real slides, golden models', () => {
  let dir: string;
  const path = (name: string) => join(dir, name);
  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), 'nightshift-real-'));
    for (const [name, inputPx] of [
      ['midnight', 224],
      ['midnight-392', 392],
    ] as const) {
      await convertModel({ from: shared(`golden/${name}`), to: path(name), name, inputPx, mpp: 0.5 });
    }
  });
  afterAll(() => rmSync(dir, { recursive: true, force: true }));

  it.each([
    ['midnight', 'slides/CMU-1-Small-Region.svs', null],
    ['midnight-392', 'slides/CMU-1-Small-Region.svs', null],
    ['midnight', 'slides/derived/cmu-mosaic-16x12.svs', 60],
    ['midnight-392', 'slides/derived/cmu-mosaic-16x12.svs', 20],
    ['midnight', 'slides/OS-1-detail.ome.tif', null],
    ['midnight', 'slides/dicom-cmu', null],
  ] as const)('%s embeds %s, every planned tile', async (model, slide, limit) => {
    const out = path(`${model} ${slide.replaceAll('/', ' ')}`);
    const { report } = await run({ sources: [shared(slide)], model: path(model), out, limit, shardTiles: 32 });
    expect(report).toMatchObject({ state: 'done', failures: [], slides: { done: 1, failed: 0 } });
    expect(report.tiles.planned).toBeGreaterThan(3);
    expect(await verify({ out, run: null, store: null })).toMatchObject({ ok: true, storeRows: report.tiles.planned });
  });

  it('takes a flat folder of two DICOM series for two slides', async () => {
    const flat = path('flat');
    for (const part of ['dicom-cmu', 'camelyon-jpeg.dcm'])
      cpSync(shared(`slides/${part}`), join(flat, part), { recursive: true });
    for (const name of readdirSync(join(flat, 'dicom-cmu')))
      renameSync(join(flat, 'dicom-cmu', name), join(flat, name));
    const { report } = await run({ sources: [flat], model: path('midnight'), out: path('flat out'), limit: 3 });
    expect(report).toMatchObject({ slides: { total: 2, done: 1, failed: 1 }, tiles: { embedded: 3 } });
    // An overview of lymph nodes at 29 um/px.
    expect(report.failures).toMatchObject([{ uri: join(flat, 'camelyon-jpeg.dcm'), error: { code: 'mpp-absurd' } }]);
  });

  it('takes a PNG for a slide once its mpp is stated', async () => {
    const options = { sources: [shared('slides/ihc.png')], model: path('midnight'), out: path('png') };
    expect((await run(options)).report.failures).toMatchObject([{ error: { code: 'mpp-missing' } }]);
    const { report } = await run({ ...options, slideMpp: 0.5 });
    expect(report).toMatchObject({ state: 'done', failures: [], tiles: { planned: 4, embedded: 4 } });
  });

  it('gives a tile of the record the vector that the encoder gives to the pixels that libvips reads there', async () => {
    const slide = shared('slides/CMU-1-Small-Region.svs');
    const out = path('against libvips');
    const { report } = await run({ sources: [slide], model: path('midnight'), out, limit: 3 });
    const record = await openRecord(fileBlobs(out));
    const [key] = await Array.fromAsync(record.listSlides(report.recipe));
    const file = (await record.readSlide(report.recipe, key!))!;
    const encoder = await openEncoder({ dir: path('midnight'), device: 'cpu', threads: 1 });
    try {
      for await (const { x, y, vectors } of file.batches()) {
        for (let i = 0; i < x.length; i++) {
          const area = { left: x[i]!, top: y[i]!, width: 224, height: 224 };
          const pixels = await sharp(slide, { page: 0 }).extract(area).removeAlpha().raw().toBuffer();
          const { embedding } = await encoder.embed(pixels, 1);
          expect(vectors.slice(i * file.dims, (i + 1) * file.dims)).toEqual(embedding);
        }
      }
    } finally {
      await Promise.all([encoder.close(), file.close()]);
    }
  });
});
