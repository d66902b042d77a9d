import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileBlobs, openRecord, type RunReport, verify } from '@nightshift/core';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MEASURES, measureTile } from '../../packages/core/src/slide/measure/measure.ts';
import { nightshift } from '../fixtures/cli.ts';
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
    const page = sharp(slide, { page: 0 }).removeAlpha();
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
  beforeAll(async () => {
    const sources = [b.slide('a.svs'), b.slide('b.svs')];
    const tissue = { method: 'none', min: 0 } as const;
    const filter = 'hsv+blur+pen';
    ({ report } = await run({ sources, model: b.model, out: b.path('counted'), tissue, filter, limit: 20, qc: true }));
  });

  it('is in the report of the run: how many by each filter, and percentiles of both kinds of tiles', () => {
    const { tiles, qc } = report;
    expect(tiles.embedded).toBe(40);
    expect(tiles.rejectedByFilter).toBeGreaterThan(10);
    const { hsv, blur, pen } = tiles.filters as { hsv: number; blur: number; pen: number };
    expect(Math.max(hsv, blur, pen)).toBeLessThanOrEqual(tiles.rejectedByFilter);
    expect(hsv + blur + pen).toBeGreaterThanOrEqual(tiles.rejectedByFilter);
    expect([qc!.embedded!.tiles, qc!.dropped!.tiles]).toEqual([40, tiles.rejectedByFilter]);
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
    expect(status.tiles).toMatchObject({ planned: 40, rejectedByFilter: report.tiles.rejectedByFilter });
    expect(status.tiles.filters).toEqual(report.tiles.filters);
    expect(status.qc).toEqual(report.qc);
    expect(status.bySlide).toHaveLength(2);
    for (const slide of status.bySlide) {
      expect(slide).toMatchObject({ state: 'done', tiles: { planned: 20, embedded: 20, failed: 0 } });
      // Two copies of one picture.
      expect(2 * slide.tiles.rejectedByFilter).toBe(report.tiles.rejectedByFilter);
      expect(slide.qc).toEqual({
        embedded: { ...report.qc!.embedded, tiles: 20 },
        dropped: { ...report.qc!.dropped, tiles: slide.tiles.rejectedByFilter },
      });
    }
    const shown = await nightshift(['status', out, '--slides'], { cwd: b.dir });
    expect(shown.stdout).toMatch(/^a\.svs +done +20 +20 +0 +0 +\d+ +hsv \d+, blur \d+, pen \d+ +0\.\d\d \/ /m);
    expect(shown.stderr).toMatch(/left out as background, \d+ by the filter \(hsv \d+, blur \d+, pen \d+\)/);
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
    await run({ ...options, out: b.path('plain'), qc: true });
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
