import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join, relative } from 'node:path';
import { convertModel, fileBlobs, openRecord, type RunReport, type SlideRef, search, verify } from '@nightshift/core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Bench, bench, run } from '../fixtures/run.ts';

let b: Bench;
beforeAll(async () => {
  b = await bench();
});
afterAll(() => b.dispose());

const check = (out: string) => verify({ out, run: null, store: null });

/** Rows of a slide: tile position to vector. */
async function rows(out: string, report: RunReport, slide: string): Promise<Map<string, Float32Array>> {
  const record = await openRecord(fileBlobs(out));
  const key = readdirSync(join(out, report.recipe, 'slides')).find((name) => name.startsWith(`${slide}-`))!;
  const file = await record.readSlide(report.recipe, key.replace(/\.arrow$/, ''));
  const found = new Map<string, Float32Array>();
  for await (const { x, y, vectors } of file!.batches()) {
    for (let i = 0; i < x.length; i++) {
      found.set(`${x[i]},${y[i]}`, vectors.slice(i * file!.dims, (i + 1) * file!.dims));
    }
  }
  await file!.close();
  return found;
}

/** Every file below a folder of a record, by name and sha256. */
function contents(out: string, sub: string): Record<string, string> {
  const names = readdirSync(join(out, sub), { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return Object.fromEntries(
    names.map((entry) => {
      const path = join(entry.parentPath, entry.name);
      return [path.slice(out.length), createHash('sha256').update(readFileSync(path)).digest('hex')];
    }),
  );
}

describe('embed', () => {
  it('embeds every planned tile of every slide once, indexes them, and leaves nothing over', async () => {
    b.slide('a.svs');
    b.slide('b.svs');
    const { report } = await run({ sources: [b.path('slides')], model: b.model, out: b.path('whole') });
    expect(report).toMatchObject({ state: 'done', failures: [], slides: { total: 2, done: 2, failed: 0 } });
    expect(report.tiles.planned).toBeGreaterThan(40);
    expect(report.tiles.embedded).toBe(report.tiles.planned);
    const verified = await check(b.path('whole'));
    expect(verified).toMatchObject({ ok: true, findings: [], storeRows: report.tiles.planned });
    expect(leftovers(b.path('whole'), report)).toBe(0);
  });

  it('gives a tile the vector that the encoder gives its pixels, whatever batch and shard it rode in', async () => {
    const source = b.slide('a.svs');
    const alone = await run({ sources: [source], model: b.model, out: b.path('alone'), batch: 1, shardTiles: 5000 });
    const mixed = await run({
      sources: [b.path('slides')],
      model: b.model,
      out: b.path('mixed'),
      batch: 7,
      shardTiles: 16,
    });
    const expected = await rows(b.path('alone'), alone.report, 'a');
    const found = await rows(b.path('mixed'), mixed.report, 'a');
    expect(found).toEqual(expected);
  });

  it('does nothing the second time, and loads no model for it', async () => {
    const options = { sources: [b.slide('a.svs')], model: b.model, out: b.path('twice') };
    await run(options);
    const before = contents(b.path('twice'), '.');
    const { report, events } = await run(options);
    expect(report).toMatchObject({
      state: 'done',
      slides: { done: 1, skipped: 1 },
      deviceBusy: null,
      tilesPerSecond: 0,
    });
    expect(events.map(({ type }) => type)).toContain('slide-skipped');
    const after = contents(b.path('twice'), '.');
    const results = (all: Record<string, string>) => Object.entries(all).filter(([name]) => !name.startsWith('/store'));
    expect(results(after)).toEqual(results(before));
  });

  it('completes an interrupted run to the very bytes of an undisturbed one', async () => {
    const source = b.slide('a.svs');
    const undisturbed = await run({ sources: [source], model: b.model, out: b.path('undisturbed') });
    const options = { sources: [source], model: b.model, out: b.path('interrupted') };
    const stop = new AbortController();
    const { report } = await run(options, {
      signal: stop.signal,
      onEvent: ({ type }) => {
        if (type === 'shard-done') stop.abort();
      },
    });
    expect(report).toMatchObject({ state: 'interrupted', slides: { done: 0 } });
    expect(leftovers(b.path('interrupted'), report)).toBeGreaterThan(0);
    const { report: resumed } = await run(options);
    expect(resumed).toMatchObject({ state: 'done', failures: [] });
    expect(contents(b.path('interrupted'), `${resumed.recipe}/slides`)).toEqual(
      contents(b.path('undisturbed'), `${undisturbed.report.recipe}/slides`),
    );
    expect(await check(b.path('interrupted'))).toMatchObject({ ok: true, findings: [] });
  });

  it('goes on past slides that are broken in every way, and says of each what to do', async () => {
    const dir = b.path('broken');
    b.slide('../broken/good.svs');
    b.slide('../broken/truncated.svs');
    truncateSync(join(dir, 'truncated.svs'), Math.floor(statSync(join(dir, 'truncated.svs')).size / 2));
    writeFileSync(join(dir, 'text.svs'), 'this is not a slide, whatever its name says');
    writeFileSync(join(dir, 'empty.svs'), '');
    const manifest = join(dir, 'cohort.csv');
    writeFileSync(manifest, 'uri\ngood.svs\ntruncated.svs\ntext.svs\nempty.svs\ngone.svs\n');
    const { report } = await run({ sources: [manifest], model: b.model, out: b.path('broken-out') });
    expect(report).toMatchObject({ state: 'done', slides: { total: 5, done: 1, failed: 4 } });
    const codes = Object.fromEntries(report.failures.map(({ uri, error }) => [uri.split('/').at(-1), error.code]));
    expect(codes).toEqual({
      'truncated.svs': expect.stringMatching(/^slide-(truncated|corrupt|not-a-slide)$/),
      'text.svs': 'slide-not-a-slide',
      'empty.svs': 'slide-not-a-slide',
      'gone.svs': 'slide-not-found',
    });
    for (const { error } of report.failures) expect(error.next).toMatch(/\.$/);
    expect((await check(b.path('broken-out'))).findings.filter(({ severity }) => severity === 'error')).toEqual([]);
  });

  it('comes to an end of more slides than wait to be planned at once', async () => {
    const names = Array.from({ length: 1_050 }, (_, i) => `no-slide-${i}.svs`);
    mkdirSync(b.path('many'));
    for (const name of names) writeFileSync(b.path('many', name), name);
    const { report } = await run({ sources: [b.path('many')], model: b.model, out: b.path('many-out'), store: 'none' });
    expect(report).toMatchObject({ state: 'done', slides: { total: 1_050, done: 0, failed: 1_050 } });
  });

  it('keeps what a manifest says of a slide in one file of the record, replaced by what it says later', async () => {
    const [slide, out] = [b.slide('a.svs'), b.path('described')];
    const secret = ['Doe^Jane', 'CASE-4711', 'ward-9'];
    const manifest = b.path('described.csv');
    const options = { sources: [manifest], model: b.model, out, store: 'none' };
    writeFileSync(manifest, `uri,id,patient,site\n${slide},${secret[1]},${secret[0]},${secret[2]}\n`);
    const first = await run(options);
    const file = `runs/${first.report.run}.metadata.jsonl`;
    const holding = () =>
      readdirSync(out, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => join(entry.parentPath, entry.name))
        .filter((path) => secret.some((word) => readFileSync(path, 'latin1').includes(word)))
        .map((path) => relative(out, path));
    expect(holding()).toEqual([file]);
    for (const word of secret) expect(JSON.stringify([first.report, first.events])).not.toContain(word);

    writeFileSync(manifest, `uri,site\n${slide},lung\n`);
    const second = await run(options);
    expect(second.report).toMatchObject({ run: first.report.run, slides: { done: 1, skipped: 1 } });
    expect(holding()).toEqual([]);
    const record = await openRecord(fileBlobs(out));
    const [{ key }] = (await Array.fromAsync(record.runSlides(second.report.run))) as [SlideRef];
    expect(await Array.fromAsync(record.runMetadata(second.report.run))).toEqual([
      { key, id: null, columns: { site: 'lung' } },
    ]);
  });

  it('loses only the tiles that a torn file lost, and lists each in the ledger', async () => {
    const torn = b.slide('../torn/torn.svs');
    const bytes = readFileSync(torn);
    // Pixels lie before the directories in this file: a hole in the middle hits blocks of level 0 only.
    bytes.fill(0, Math.floor(bytes.length * 0.4), Math.floor(bytes.length * 0.42));
    writeFileSync(torn, bytes);
    const { report } = await run({ sources: [torn], model: b.model, out: b.path('torn-out') });
    expect(report.slides).toMatchObject({ done: 1, failed: 0 });
    expect(report.tiles.failed).toBeGreaterThan(0);
    expect(report.tiles.embedded).toBeGreaterThan(report.tiles.failed);
    expect(report.tiles.embedded + report.tiles.failed).toBe(report.tiles.planned);
    expect(report.failures.every(({ scope, error }) => scope === 'tile' && /^tile-/.test(error.code))).toBe(true);
    expect(await check(b.path('torn-out'))).toMatchObject({ ok: true, tiles: { failed: report.tiles.failed } });
  });

  it('takes a slide that was replaced for another slide, and keeps both', async () => {
    const path = b.slide('../replaced/s.svs');
    const options = { sources: [path], model: b.model, out: b.path('replaced-out') };
    const first = await run(options);
    utimesSync(path, new Date(), new Date(Date.now() + 5000));
    const second = await run(options);
    expect(second.report.run).not.toBe(first.report.run);
    expect(readdirSync(join(b.path('replaced-out'), first.report.recipe, 'slides'))).toHaveLength(2);
  });

  it('keeps the vectors of two recipes apart in one record, and asks which is meant', async () => {
    const source = b.slide('a.svs');
    const out = b.path('two');
    const coarse = await run({ sources: [source], model: b.model, out, mpp: 1 });
    const fine = await run({ sources: [source], model: b.model, out, mpp: 0.5 });
    expect(fine.report.recipe).not.toBe(coarse.report.recipe);
    expect(fine.events).toContainEqual({ type: 'notice', message: expect.stringContaining(coarse.report.run) });
    await expect(check(out)).rejects.toMatchObject({ code: 'run-ambiguous' });
    for (const { report } of [coarse, fine]) {
      expect(await verify({ out, run: report.run, store: null })).toMatchObject({
        ok: true,
        storeRows: report.tiles.planned,
      });
    }
  });

  it.each([
    { mpp: 0.25, warns: true },
    { mpp: 0.5, warns: false },
    { mpp: 1, warns: false },
    { mpp: 2, warns: false },
  ])('cuts tiles at $mpp um/px', async ({ mpp, warns }) => {
    const out = b.path(`mpp-${mpp}`);
    const { report } = await run({ sources: [b.slide('a.svs')], model: b.model, out, mpp, limit: 12 });
    expect(report).toMatchObject({ state: 'done', failures: [] });
    expect(report.warnings.length > 0).toBe(warns);
    const record = await openRecord(fileBlobs(out));
    const [key] = (await Array.fromAsync(record.listSlides(report.recipe)))!;
    const plan = (await record.getPlan(report.recipe, key!))!;
    expect(plan.geometry.sizeBase).toBe(Math.round(224 * (mpp / 0.5)));
    expect(plan.counts.planned).toBeLessThanOrEqual(12);
  });

  it('overlaps tiles by what was asked, and filters them by colour', async () => {
    const source = b.slide('a.svs');
    const plain = await run({ sources: [source], model: b.model, out: b.path('plain') });
    const overlapped = await run({ sources: [source], model: b.model, out: b.path('overlap'), overlapPx: 112 });
    expect(overlapped.report.tiles.planned).toBeGreaterThan(3 * plain.report.tiles.planned);
    const filtered = await run({ sources: [source], model: b.model, out: b.path('filtered'), filter: 'hsv' });
    const { planned, embedded, rejectedByFilter } = filtered.report.tiles;
    expect(planned + rejectedByFilter).toBe(plain.report.tiles.planned);
    expect(embedded).toBe(planned);

    const options = { sources: [source], model: b.model, filter: 'hsv+blur+pen', limit: 10 } as const;
    const { report } = await run({ ...options, out: b.path('filtered-some') });
    expect(report.tiles).toMatchObject({ planned: 10, embedded: 10 });
    expect(Object.keys(report.tiles.filters)).toEqual(['hsv', 'blur', 'pen']);
    expect(await check(b.path('filtered-some'))).toMatchObject({ ok: true });
  });

  it('takes tissue from outlines, its own among them, and makes another run when one is drawn anew', async () => {
    const sources = [b.slide('a.svs'), b.slide('b.svs')];
    const found = await run({ sources, model: b.model, out: b.path('found'), store: 'none' });
    const own = join(b.path('found'), found.report.recipe, 'plans');
    const tissue = { method: 'outline', min: 0.4 } as const;
    const drawn = { sources, model: b.model, out: b.path('drawn'), store: 'none', tissue, tissueOutlines: own };
    const { report } = await run(drawn);
    expect(report.slides).toMatchObject({ done: 2, failed: 0 });
    // The same shapes, drawn on a finer picture: at most some border tiles differ.
    expect(Math.abs(report.tiles.planned - found.report.tiles.planned)).toBeLessThanOrEqual(4);
    expect((await run(drawn)).report).toMatchObject({ run: report.run, slides: { skipped: 2 } });

    const folder = b.path('outlines');
    mkdirSync(folder);
    const square = [
      [0, 0],
      [672, 0],
      [672, 672],
      [0, 672],
      [0, 0],
    ];
    const patient = { name: 'Doe^Jane' };
    const feature = { type: 'Feature', properties: patient, geometry: { type: 'Polygon', coordinates: [square] } };
    writeFileSync(join(folder, 'a.geojson'), JSON.stringify({ type: 'FeatureCollection', features: [feature] }));
    writeFileSync(join(folder, 'b.geojson'), '{"type": "Fea');
    const anew = await run({ ...drawn, tissueOutlines: folder });
    expect(anew.report.run).not.toBe(report.run);
    expect(anew.report).toMatchObject({ slides: { done: 1, failed: 1 }, tiles: { planned: 9, embedded: 9 } });
    expect(anew.report.failures).toMatchObject([{ error: { code: 'outline-missing' }, uri: sources[1] }]);
    expect(anew.events).toContainEqual({ type: 'notice', message: expect.stringContaining('b.geojson: not JSON') });
    expect(await verify({ out: b.path('drawn'), run: anew.report.run, store: 'none' })).toMatchObject({ ok: true });
    const kept = readdirSync(b.path('drawn'), { recursive: true, withFileTypes: true }).filter((e) => e.isFile());
    for (const { parentPath, name } of kept) {
      expect(readFileSync(join(parentPath, name), 'latin1')).not.toContain(patient.name);
    }
  });

  it('decodes finer levels at a part of their size on request, as another recipe', async () => {
    const options = { sources: [b.slide('a.svs')], model: b.model, out: b.path('dct'), store: 'none', mpp: 1 };
    const exact = await run(options);
    const fast = await run({ ...options, dctScaling: true });
    expect(fast.report.recipe).not.toBe(exact.report.recipe);
    expect(fast.report.tiles).toMatchObject({ planned: exact.report.tiles.planned, failed: 0 });
    expect(await verify({ out: options.out, run: fast.report.run, store: 'none' })).toMatchObject({ ok: true });
    const [plan] = readdirSync(join(options.out, fast.report.recipe, 'plans')).filter((name) => name.endsWith('.json'));
    const { geometry } = JSON.parse(readFileSync(join(options.out, fast.report.recipe, 'plans', plan!), 'utf8'));
    expect(geometry).toMatchObject({ dct: 2, readPx: 448 });
  });

  it('serves CLS and mean from the one graph that gives both', async () => {
    const source = b.slide('a.svs');
    const of = async (embedding: 'cls+mean' | 'cls' | 'mean') => {
      const out = b.path(`kind-${embedding}`);
      const { report } = await run({ sources: [source], model: b.model, out, embedding, limit: 4 });
      return rows(out, report, 'a');
    };
    const [both, cls, mean] = [await of('cls+mean'), await of('cls'), await of('mean')];
    for (const [tile, vector] of both) {
      expect(cls.get(tile)).toEqual(vector.slice(0, 64));
      expect(mean.get(tile)).toEqual(vector.slice(64));
    }
  });

  it('keeps the patch grid of every tile beside its vector, over several shards', async () => {
    const model = b.path('patch-model');
    await convertModel({ from: b.path('weights'), to: model, name: 'test-random', patchGrid: true });
    const options = { sources: [b.slide('a.svs')], model, shardTiles: 16 };
    const { report } = await run({ ...options, out: b.path('patch'), embedding: 'patch' });
    expect(report).toMatchObject({ state: 'done', failures: [] });
    expect(await check(b.path('patch'))).toMatchObject({ ok: true, findings: [], storeRows: report.tiles.planned });
    const plain = await run({ ...options, out: b.path('no-patch') });
    expect(await rows(b.path('patch'), report, 'a')).toEqual(await rows(b.path('no-patch'), plain.report, 'a'));

    const record = await openRecord(fileBlobs(b.path('patch')));
    const [key] = await Array.fromAsync(record.listSlides(report.recipe));
    const file = (await record.readSlide(report.recipe, key!))!;
    expect(file.patch).toBe(16 * 16 * 64);
    let batches = 0;
    for await (const { x, vectors, patch } of file.batches()) {
      batches += 1;
      // The second half of the vector is the mean of the grid: each grid lies beside its own tile's vector.
      for (let tile = 0; tile < x.length; tile++) {
        const grid = patch!.subarray(tile * file.patch, (tile + 1) * file.patch);
        for (let d = 0; d < 64; d++) {
          let mean = 0;
          for (let cell = 0; cell < 256; cell++) mean += grid[cell * 64 + d]! / 256;
          expect(Math.abs(mean - vectors[tile * 128 + 64 + d]!)).toBeLessThan(1e-3);
        }
      }
    }
    await file.close();
    expect(batches).toBeGreaterThan(2);
  });

  it('refuses to look for patch grids in a model that was converted without', async () => {
    const options = {
      sources: [b.slide('a.svs')],
      model: b.model,
      out: b.path('refused'),
      embedding: 'patch' as const,
    };
    await expect(run(options)).rejects.toMatchObject({ code: 'usage', next: expect.stringContaining('--patch-grid') });
    expect(existsSync(b.path('refused'))).toBe(false);
  });

  it('keeps what the model says of itself with the results', async () => {
    const { report } = await run({ sources: [b.slide('a.svs')], model: b.model, out: b.path('with-model'), limit: 2 });
    const kept = JSON.parse(readFileSync(b.path('with-model', report.recipe, 'model.json'), 'utf8'));
    expect(kept).toEqual(JSON.parse(readFileSync(join(b.model, 'model.json'), 'utf8')));
  });

  it('refuses a model whose vectors are others on this machine', async () => {
    const drifted = b.path('drifted');
    cpSync(b.model, drifted, { recursive: true });
    const info = JSON.parse(readFileSync(join(drifted, 'model.json'), 'utf8'));
    const probe = readFileSync(join(drifted, info.probe.file.name));
    for (let i = probe.length - 4 * 4 * info.dims; i < probe.length; i += 4) probe.writeFloatLE(1, i);
    writeFileSync(join(drifted, info.probe.file.name), probe);
    info.probe.file.sha256 = createHash('sha256').update(probe).digest('hex');
    writeFileSync(join(drifted, 'model.json'), JSON.stringify(info));
    const out = b.path('drifted-out');
    await expect(run({ sources: [b.slide('a.svs')], model: drifted, out })).rejects.toMatchObject({
      code: 'model-drift',
      message: expect.stringContaining('cosine'),
    });
  });

  it('finds a tile’s own twin first, and a picture of it too', async () => {
    const out = b.path('search-out');
    const manifest = b.path('twins.csv');
    writeFileSync(manifest, `uri,id,site\n${b.slide('a.svs')},,\n${b.slide('b.svs')},case-7,lung\n`);
    const { report } = await run({ sources: [manifest], model: b.model, out });
    const [at] = (await rows(out, report, 'a')).keys();
    const [x, y] = at!.split(',').map(Number) as [number, number];
    const sheet = b.path('sheet.jpg');
    const found = await search({
      out,
      run: null,
      query: { slide: 'a.svs', x: x + 100, y: y + 100 },
      k: 5,
      slides: [],
      model: null,
      modelDirs: [],
      store: null,
      contactSheet: sheet,
      metadata: true,
    });
    expect(found.hits).toHaveLength(5);
    expect(found.metadata).toEqual([{ key: found.hits[0]!.slide, id: 'case-7', columns: { site: 'lung' } }]);
    expect(found.hits[0]).toMatchObject({ slide: expect.stringMatching(/^b-/), x, y });
    expect(found.hits[0]!.score).toBeGreaterThan(0.999);
    expect(readFileSync(sheet).subarray(0, 2)).toEqual(Buffer.from([0xff, 0xd8]));
    const only = await search({
      out,
      run: null,
      query: { slide: 'a.svs', x, y },
      k: 3,
      slides: ['a'],
      model: null,
      modelDirs: [],
      store: null,
      contactSheet: null,
    });
    expect(only).not.toHaveProperty('metadata');
    expect(only.hits.every(({ slide }) => slide.startsWith('a-'))).toBe(true);
    await expect(
      search({
        contactSheet: null,
        run: null,
        out,
        query: { slide: 'nobody', x, y },
        k: 1,
        slides: [],
        model: null,
        modelDirs: [],
        store: null,
      }),
    ).rejects.toMatchObject({ code: 'tile-not-in-record', next: expect.stringContaining('a-') });
  });

  it('stops with one clear error on a full disk, leaves nothing half-written, and goes on when there is room', async ({
    skip,
    onTestFinished,
  }) => {
    const out = b.path('small-disk');
    mkdirSync(out);
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=96k', 'tmpfs', out]);
    if (mounted.status !== 0) skip('needs the right to mount a small disk');
    onTestFinished(() => void spawnSync('umount', ['-l', out]));
    const options = { sources: [b.slide('a.svs')], model: b.model, out, store: 'none' };
    await expect(run(options)).rejects.toMatchObject({
      code: 'disk-full',
      exit: 5,
      next: expect.stringContaining('space'),
    });
    expect(readdirSync(join(out, '.tmp'))).toEqual([]);
    spawnSync('mount', ['-o', 'remount,size=64m', out]);
    const { report } = await run(options);
    expect(report).toMatchObject({ state: 'done', failures: [] });
    expect(await verify({ out, run: null, store: 'none' })).toMatchObject({ ok: true, findings: [] });
  });

  it('refuses a model whose files were changed after conversion', async () => {
    const data = join(b.dir, 'tampered');
    cpSync(b.model, data, { recursive: true });
    const file = readdirSync(data).find((name) => name.endsWith('.data'))!;
    const bytes = readFileSync(join(data, file));
    bytes[bytes.length >> 1] ^= 1;
    writeFileSync(join(data, file), bytes);
    await expect(run({ sources: [b.slide('a.svs')], model: data, out: b.path('tampered-out') })).rejects.toMatchObject({
      code: 'model-digest',
    });
  });
});

/** Shard files left in a record. */
function leftovers(out: string, report: RunReport): number {
  if (!existsSync(join(out, report.recipe, 'shards'))) return 0;
  return readdirSync(join(out, report.recipe, 'shards'), { recursive: true }).filter((name) =>
    `${name}`.endsWith('.arrow'),
  ).length;
}
