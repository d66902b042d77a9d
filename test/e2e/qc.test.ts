import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { dryRun, fileBlobs, inspect, openRecord, type RunReport, verify } from '@nightshift/core';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MEASURES, measureTile } from '../../packages/core/src/slide/measure/measure.ts';
import { nightshift } from '../fixtures/cli.ts';
import { embedOptions } from '../fixtures/embed-options.ts';
import { findPyarrow } from '../fixtures/pyarrow.ts';
import { type Bench, bench, run } from '../fixtures/run.ts';
import { describeShared, shared } from '../fixtures/shared.ts';

let b: Bench;
beforeAll(async () => {
  b = await bench();
});
afterAll(() => b.dispose());

const slideFiles = (out: string, { recipe }: RunReport): string[] =>
  readdirSync(join(out, recipe, 'slides')).map((name) => join(out, recipe, 'slides', name));

/** Every row of every slide, without its measures. */
async function vectorsOf(out: string, { recipe }: RunReport) {
  const record = await openRecord(fileBlobs(out));
  const rows: unknown[] = [];
  for await (const key of record.listSlides(recipe)) {
    const file = (await record.readSlide(recipe, key))!;
    for await (const { x, y, vectors } of file.batches()) rows.push({ x, y, vectors });
    await file.close();
  }
  return rows;
}

const READ = `
import sys, json
import pyarrow as pa
table = pa.ipc.open_file(sys.argv[1]).read_all()
table.validate(full=True)
print(json.dumps({
    'types': [[f.name, str(f.type), f.nullable] for f in table.schema][3:],
    'x': table['x'].to_pylist(), 'y': table['y'].to_pylist(),
    'qc': {m: table['qc_' + m].to_pylist() for m in ['hsv', 'blur', 'pen']},
    'histograms': json.loads(table.schema.metadata[b'nightshift.qc']),
}))`;

interface Read {
  readonly types: unknown;
  readonly x: readonly number[];
  readonly y: readonly number[];
  readonly qc: { readonly [measure: string]: readonly number[] };
  readonly histograms: { readonly [measure: string]: readonly number[] };
}

describeShared('a dry run with a filter', () => {
  it('reads 8,192 tiles at most, and they speak for the others', async () => {
    const slide = shared('slides/derived/cmu-mosaic-16x12.svs');
    const what = { tissue: { method: 'none', min: 0 }, filter: 'hsv', model: b.model } as const;
    const options = embedOptions({ sources: [slide], out: b.path('estimated'), ...what });
    const { signal } = new AbortController();
    const dry = await dryRun(options, { signal, onNotice: () => {} });
    expect(dry).toMatchObject({ sampled: 1, judged: 8_192 });

    const { mpp: _, tilePx: __, ...rest } = options;
    const { plan } = await inspect({ ...rest, slide, tilePx: 224, mpp: 0.5 }, { signal });
    if (plan === null || !('tiles' in plan)) throw new Error('no plan');
    const { tiles, leftOut, grid } = plan;
    expect(leftOut.rejectedByFilter).toBeGreaterThan(10_000);
    // Of 0.25 of the tiles, 0.47 % is the standard error of a share of 8,192.
    expect(Math.abs(dry.tiles - tiles) / grid).toBeLessThan(0.01);
    expect(Math.abs(dry.leftOut.rejectedByFilter - leftOut.rejectedByFilter) / grid).toBeLessThan(0.01);
    expect(Math.abs(dry.tiles + dry.leftOut.rejectedByFilter - grid)).toBeLessThanOrEqual(1);
  });
});

describeShared('embed --qc on a real slide', () => {
  it('keeps for every tile what measuring its pixels gives, for pyarrow to read', async (context) => {
    const python = await findPyarrow();
    if (typeof python === 'string') {
      if (process.env.CI) throw new Error(python);
      return context.skip(python);
    }
    const slide = shared('slides/CMU-1-Small-Region.svs');
    const out = b.path('real');
    const { report } = await run({ sources: [slide], model: b.model, out, limit: 40, qc: true });
    const { types, x, y, qc, histograms } = (await python(READ, slideFiles(out, report)[0]!)) as Read;
    expect(types).toEqual(MEASURES.map((measure) => [`qc_${measure}`, 'float', false]));
    expect(x).toHaveLength(40);
    const { data, info } = await sharp(slide, { page: 0 }).removeAlpha().raw().toBuffer({ resolveWithObject: true });
    const page = sharp(data, { raw: { width: info.width, height: info.height, channels: 3 } });
    for (const [i, left] of x.entries()) {
      const pixels = await page.clone().extract({ left, top: y[i]!, width: 224, height: 224 }).raw().toBuffer();
      for (const measure of MEASURES) {
        expect(qc[measure]![i], `${measure} of ${left},${y[i]}`).toBe(Math.fround(measureTile(measure, pixels, 224)));
      }
    }
    for (const measure of MEASURES) expect(histograms[measure]!.reduce((sum, count) => sum + count)).toBe(40);
    expect(await verify({ out, run: null, store: null })).toMatchObject({ ok: true, findings: [] });
  }, 300_000);
});

describe('what filters dropped and --qc measured', () => {
  let report: RunReport;
  /** Of one of the two slides, which are copies of one picture. */
  let planned: number;
  const tissue = { method: 'none', min: 0 } as const;
  const filter = 'hsv+blur+pen';
  let options: ReturnType<typeof embedOptions>;
  beforeAll(async () => {
    options = embedOptions({
      ...{ sources: [b.path('slides')], model: b.model, out: b.path('counted') },
      ...{ tissue, filter, qc: true },
    });
    b.slide('a.svs');
    b.slide('b.svs');
    ({ report } = await run(options));
    planned = report.tiles.planned / 2;
  });

  it('is in the report of the run: how many by each filter, and percentiles of both kinds of tiles', () => {
    const { tiles, qc } = report;
    expect(tiles.embedded).toBe(2 * planned);
    expect(planned).toBeGreaterThan(20);
    expect(tiles.rejectedByFilter).toBeGreaterThan(10);
    const { hsv, blur, pen } = tiles.filters as { hsv: number; blur: number; pen: number };
    expect(Math.max(hsv, blur, pen)).toBeLessThanOrEqual(tiles.rejectedByFilter);
    expect(hsv + blur + pen).toBeGreaterThanOrEqual(tiles.rejectedByFilter);
    expect([qc!.embedded!.tiles, qc!.dropped!.tiles]).toEqual([2 * planned, tiles.rejectedByFilter]);
    // Every tile with a vector passes, so the percentiles do; glass fails by its colour.
    expect(qc!.embedded!.hsv.p5).toBeGreaterThanOrEqual(0.6);
    expect(qc!.embedded!.blur.p5).toBeGreaterThanOrEqual(15);
    expect(qc!.embedded!.pen.p95).toBeLessThan(0.3);
    expect(qc!.dropped!.hsv.p50).toBeLessThan(0.6);
  });

  it('is told by status, slide by slide and for all together', async () => {
    const out = b.path('counted');
    const { code, stdout } = await nightshift(['status', out, '--slides', '--json'], { cwd: b.dir });
    expect(code).toBe(0);
    const status = JSON.parse(stdout);
    expect(status.tiles).toMatchObject({ planned: 2 * planned, rejectedByFilter: report.tiles.rejectedByFilter });
    expect(status.tiles.filters).toEqual(report.tiles.filters);
    expect(status.qc).toEqual(report.qc);
    expect(status.bySlide).toHaveLength(2);
    for (const slide of status.bySlide) {
      expect(slide).toMatchObject({ state: 'done', tiles: { planned, embedded: planned, failed: 0 } });
      expect(2 * slide.tiles.rejectedByFilter).toBe(report.tiles.rejectedByFilter);
      expect(slide.qc).toEqual({
        embedded: { ...report.qc!.embedded, tiles: planned },
        dropped: { ...report.qc!.dropped, tiles: slide.tiles.rejectedByFilter },
      });
    }
    const shown = await nightshift(['status', out, '--slides'], { cwd: b.dir });
    expect(shown.stdout).toMatch(/^a\.svs +done +(\d+) +\1 +0 +0 +\d+ +hsv \d+, blur \d+, pen \d+ +0\.\d\d \/ /m);
    expect(shown.stderr).toMatch(/left out as background, \d+ by the filter \(hsv \d+, blur \d+, pen \d+\)/);
  });

  it('is what inspect told of a slide before, without a record', async () => {
    const { mpp: _, tilePx: __, ...rest } = options;
    const told: number[] = [];
    const { plan } = await inspect(
      { ...rest, slide: b.path('slides/a.svs'), tilePx: 224, mpp: 0.5 },
      { signal: new AbortController().signal, onTiles: (done) => told.push(done) },
    );
    const { rejectedByTissue, rejectedByFilter, filters } = report.tiles;
    const half = (count: number) => count / 2;
    expect(plan).toMatchObject({
      ...{ tiles: planned, unreadable: 0 },
      leftOut: {
        ...{ rejectedByTissue: half(rejectedByTissue), rejectedByFilter: half(rejectedByFilter) },
        filters: Object.fromEntries(Object.entries(filters).map(([name, count]) => [name, half(count)])),
      },
      qc: {
        embedded: { ...report.qc!.embedded, tiles: planned },
        dropped: { ...report.qc!.dropped, tiles: half(rejectedByFilter) },
      },
    });
    expect(told.at(-1)).toBe(planned + half(rejectedByFilter));
  });

  it('is what a dry run told of all, where these are few enough to be read whole', async () => {
    const hooks = { signal: new AbortController().signal, onNotice: () => {} };
    const { planned: _, embedded: __, failed: ___, ...leftOut } = report.tiles;
    const dry = await dryRun(options, hooks);
    expect(dry).toMatchObject({
      tiles: 2 * planned,
      leftOut,
      qc: report.qc,
      judged: 2 * planned + leftOut.rejectedByFilter,
    });
    expect(await dryRun({ ...options, limit: 10 }, hooks)).toMatchObject({ tiles: 20 });
    const unfiltered = await dryRun({ ...options, filter: 'none', qc: false }, hooks);
    expect(unfiltered).toMatchObject({ judged: 0, qc: null, tiles: 2 * planned + leftOut.rejectedByFilter });
    // The filter reads every tile, and embedding those that pass once more.
    expect(dry.bytesToRead).toBeGreaterThan(1.2 * unfiltered.bytesToRead);
    expect(dry.bytesToRead).toBeLessThan(2 * unfiltered.bytesToRead);
  });

  it('is told at embed --dry-run, which makes nothing', async () => {
    const args = ['embed', b.path('slides/a.svs'), '--model', b.model, '--out', b.path('dry'), '--dry-run'];
    const { code, stdout, stderr } = await nightshift([...args, '--tissue', 'none', '--filter', 'hsv'], { cwd: b.dir });
    expect(code, stderr).toBe(0);
    expect(stdout).toMatch(
      /^1 slide of 1; \d+ tiles in \d shards?\n\d+ left out as background, \d+ by the filter \(hsv \d+\)/,
    );
    expect(existsSync(b.path('dry'))).toBe(false);
  });
});

describe('embed --qc', () => {
  it('is the same run with the same vectors as without; what the first plan says stays', async () => {
    const options = { sources: [b.slide('a.svs')], model: b.model };
    const plain = await run({ ...options, out: b.path('plain') });
    const measured = await run({ ...options, out: b.path('measured'), qc: true });
    expect([measured.report.run, measured.report.recipe]).toEqual([plain.report.run, plain.report.recipe]);
    expect(await vectorsOf(b.path('measured'), measured.report)).toEqual(
      await vectorsOf(b.path('plain'), plain.report),
    );
    const [file] = slideFiles(b.path('plain'), plain.report);
    const before = readFileSync(file!);
    const { events } = await run({ ...options, out: b.path('plain'), qc: true });
    expect(events.find(({ type }) => type === 'slide-planned')).toMatchObject({
      warnings: [expect.stringContaining('planned without --qc')],
    });
    expect(readFileSync(file!)).toEqual(before);
  });

  it('that is interrupted and goes on without the flag measures the slides that were planned with it', async () => {
    const options = { sources: [b.slide('a.svs')], model: b.model, out: b.path('resumed') };
    const stop = new AbortController();
    const first = await run(
      { ...options, qc: true },
      { signal: stop.signal, onEvent: ({ type }) => type === 'shard-done' && stop.abort() },
    );
    expect(first.report.state).toBe('interrupted');
    const { report } = await run(options);
    expect(report).toMatchObject({ state: 'done', failures: [] });
    const record = await openRecord(fileBlobs(options.out));
    const file = (await record.readSlide(
      report.recipe,
      (
        await Array.fromAsync(record.listSlides(report.recipe))
      )[0]!,
    ))!;
    await file.close();
    expect(file.qc).toBe(true);
    expect(await verify({ out: options.out, run: null, store: null })).toMatchObject({ ok: true, findings: [] });
  });
});
