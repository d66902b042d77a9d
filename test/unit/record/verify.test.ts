import { truncate } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type Blobs,
  datasetDigest,
  type FindingCode,
  fileBlobs,
  indexSlides,
  NightshiftError,
  openRecord,
  type Plan,
  type Record,
  type RunFile,
  runId,
  type SlideRef,
  type StoreRows,
  toErrorRecord,
  type VectorStore,
  verifyRecord,
} from '@nightshift/core';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { recipeId } from '../../../packages/core/src/plan/recipe.ts';
import { encodeTiles, type TileRows } from '../../../packages/core/src/record/arrow.ts';
import { keys } from '../../../packages/core/src/record/layout.ts';
import { infoOf, type TileFailure, toMetadata } from '../../../packages/core/src/record/tile-file.ts';
import { openLance } from '../../../packages/core/src/store/lancedb.ts';
import { aPlan, aRecipe, aSlide, rowsOf, temporaryDirectory } from '../../fixtures/record.ts';

const DIMS = 8;
const TILES = 10;
const recipe = aRecipe(DIMS);
const id = recipeId(recipe);
const [one, two] = ['one', 'two'].map(aSlide) as [SlideRef, SlideRef];
const error = toErrorRecord(new NightshiftError('tile-truncated', 'the file ends'));

let dir: string;
let blobs: Blobs;
let record: Record;
let run: RunFile;
let plan: Plan;

/** A sound record of two finished slides; tile 3 of the first is in the ledger. */
beforeEach(async () => {
  dir = join(await temporaryDirectory(), 'out');
  blobs = fileBlobs(dir);
  record = await openRecord(blobs, { create: true });
  const slides = [one, two];
  const digest = datasetDigest(slides);
  run = {
    version: 1,
    id: runId(digest, id),
    recipeId: id,
    recipe,
    dataset: { digest, slides: 2 },
    sealed: true,
    options: { shardTiles: 4, store: null },
    versions: {},
  };
  await record.putRun(run, slides);
  plan = { ...aPlan(recipe, one, TILES), reads: { bytes: 100, requests: 1, objectBytes: 4000 } };
  await record.putPlan(plan);
  const reads = { bytes: 500, requests: 3 };
  await record.publishSlide(recipe, plan, { rows: rowsOf(plan, DIMS, 0, TILES, [3]), failures: [failure(3)], reads });
  const other = aPlan(recipe, two, TILES);
  await record.putPlan(other);
  await record.publishSlide(recipe, other, { rows: rowsOf(other, DIMS, 0, TILES), failures: [] });
});

const failure = (tile: number): TileFailure => ({ x: plan.x[tile]!, y: plan.y[tile]!, error });
const slideFile = () => `${id}/slides/${one.key}.arrow`;

/** Puts another slide file in the place of the first slide's, without any of the checks. */
async function plant(
  rows: TileRows,
  change: { recipe?: typeof recipe; dims?: number; patch?: number } = {},
): Promise<void> {
  const made = change.recipe ?? recipe;
  const info = infoOf(made, { ...plan, recipe: recipeId(made) }, null, [failure(3)]);
  await blobs.put(slideFile(), encodeTiles(change.dims ?? DIMS, toMetadata(info), [rows], change.patch));
}

function without(rows: TileRows, row: number): TileRows {
  const kept = Array.from(rows.x, (_, i) => i).filter((i) => i !== row);
  return pick(rows, kept);
}

function pick(rows: TileRows, which: readonly number[], dims = DIMS): TileRows {
  return {
    x: Int32Array.from(which, (i) => rows.x[i]!),
    y: Int32Array.from(which, (i) => rows.y[i]!),
    vectors: Float32Array.from(which.flatMap((i) => [...rows.vectors.subarray(i * dims, (i + 1) * dims)])),
  };
}

const sound = () => rowsOf(plan, DIMS, 0, TILES, [3]);

async function found(store: VectorStore | null = null): Promise<FindingCode[]> {
  const report = await verifyRecord(record, run, { store });
  expect(report.ok).toBe(report.findings.every((finding) => finding.severity === 'warning'));
  for (const finding of report.findings) expect(finding.next).not.toBe('');
  return report.findings.map((finding) => finding.code);
}

describe('verify, on a sound record', () => {
  it('counts slides and tiles and finds nothing', async () => {
    expect(await verifyRecord(record, run)).toEqual({
      version: 1,
      run: run.id,
      recipe: id,
      model: 'demo',
      ok: true,
      slides: { total: 2, done: 2, failed: 0, unfinished: 0, missing: 0 },
      tiles: { planned: 20, rows: 19, failed: 1 },
      reads: { bytes: 600, requests: 4, objectBytes: 4000 },
      storeRows: null,
      findings: [],
    });
  });

  it('looks at slides together, and tells of each in the order of the run', async () => {
    const asked = new Set<string>();
    const both = Promise.withResolvers<void>();
    const slow: Blobs = {
      ...blobs,
      async get(key) {
        if (key.startsWith(`${id}/plans/`) && asked.add(key).size === 2) both.resolve();
        if (key.startsWith(`${id}/plans/`)) await both.promise;
        return await blobs.get(key);
      },
    };
    const told: [number, number][] = [];
    const onSlide = (done: number, total: number) => void told.push([done, total]);
    const together = await verifyRecord(await openRecord(slow), run, { onSlide });
    expect(together).toEqual(await verifyRecord(record, run));
    expect(told).toEqual([
      [1, 2],
      [2, 2],
    ]);
  });

  it('warns of counters that are damaged, and counts the rest', async () => {
    await blobs.put(`${id}/reads/${one.key}.json`, Buffer.from('{"bytes":'));
    const report = await verifyRecord(record, run);
    expect(report).toMatchObject({ ok: true, reads: { bytes: 0, requests: 0, objectBytes: 0 } });
    expect(report.findings).toMatchObject([{ severity: 'warning', code: 'reads-corrupt', slide: one.key }]);
  });

  it('counts a slide that failed as a whole, which is no fault of the record', async () => {
    await blobs.delete(`${id}/slides/${two.key}.arrow`);
    await blobs.delete(`${id}/plans/${two.key}.json`);
    await record.putFailures(id, two, { slide: error, tiles: [] });
    const report = await verifyRecord(record, run);
    expect(report.findings).toEqual([]);
    expect(report.slides).toEqual({ total: 2, done: 1, failed: 1, unfinished: 0, missing: 0 });
  });
});

describe('verify finds, and finds nothing else', () => {
  it('a row that is gone', async () => {
    await plant(without(sound(), 5));
    expect(await found()).toEqual(['tiles-lost']);
    const [finding] = (await verifyRecord(record, run)).findings;
    expect(finding).toMatchObject({ severity: 'error', slide: one.key });
    expect(finding!.message).toContain(`${plan.x[6]},${plan.y[6]}`);
    expect(finding!.next).toContain(slideFile());
  });

  it('a row that is there twice', async () => {
    await plant(pick(sound(), [0, 1, 2, 3, 4, 5, 5, 6, 7, 8]));
    expect(await found()).toEqual(['tiles-twice', 'vectors-equal']);
  });

  it('a row in the place of another', async () => {
    await plant(pick(sound(), [0, 1, 2, 3, 4, 5, 5, 7, 8]));
    expect((await found()).sort()).toEqual(['tiles-lost', 'tiles-twice', 'vectors-equal']);
  });

  it('a row of no planned tile', async () => {
    const rows = sound();
    const extra = { x: new Int32Array(10), y: new Int32Array(10), vectors: new Float32Array(10 * DIMS).fill(0.5) };
    extra.x.set(rows.x);
    extra.y.set(rows.y);
    extra.vectors.set(rows.vectors);
    extra.x[9] = 17;
    await plant(extra);
    expect(await found()).toEqual(['tiles-unplanned']);
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY])('a vector with %s', async (bad) => {
    const rows = sound();
    rows.vectors[DIMS * 4 + 1] = bad;
    await plant(rows);
    expect(await found()).toEqual(['vectors-not-finite']);
  });

  it('a vector of zeros', async () => {
    const rows = sound();
    rows.vectors.fill(0, DIMS, 2 * DIMS);
    await plant(rows);
    expect(await found()).toEqual(['vectors-zero']);
  });

  it('vectors that are equal, as a warning only', async () => {
    const rows = sound();
    rows.vectors.copyWithin(0, DIMS, 2 * DIMS);
    await plant(rows);
    const report = await verifyRecord(record, run);
    expect(report.findings).toMatchObject([{ code: 'vectors-equal', severity: 'warning', message: /^1 vectors/ }]);
    expect(report.ok).toBe(true);
  });

  it('vectors of other dims', async () => {
    await plant(rowsOf(plan, 4, 0, TILES, [3]), { dims: 4 });
    expect(await found()).toEqual(['vectors-wrong-dims']);
  });

  it('patch grids that the recipe does not ask for', async () => {
    const rows = sound();
    const patch = new Float16Array(rows.x.length * 2).fill(1);
    await plant({ ...rows, patch }, { patch: 2 });
    expect(await found()).toEqual(['vectors-wrong-dims']);
  });

  it('vectors of another model', async () => {
    await plant(sound(), { recipe: aRecipe(DIMS, 'b'.repeat(64)) });
    expect(await found()).toEqual(['model-mismatch']);
  });

  it('vectors of another recipe', async () => {
    await plant(sound(), { recipe: { ...recipe, filter: 'hsv' } });
    expect(await found()).toEqual(['recipe-mismatch']);
  });

  it('a slide file that is cut', async () => {
    await truncate(join(dir, slideFile()), 1000);
    expect(await found()).toEqual(['slide-corrupt']);
  });

  it('a slide file with a flipped bit in a vector', async () => {
    const bytes = Uint8Array.from((await blobs.get(slideFile()))!);
    const values = new Uint8Array(sound().vectors.buffer, 0, DIMS * 4);
    const at = Buffer.from(bytes).indexOf(values);
    bytes[at + 2]! ^= 1;
    await blobs.put(slideFile(), bytes);
    expect(await found()).toEqual(['slide-corrupt']);
  });

  it('a plan that is gone', async () => {
    await blobs.delete(`${id}/plans/${one.key}.json`);
    expect(await found()).toEqual(['plan-missing']);
  });

  it('a plan that is damaged', async () => {
    await truncate(join(dir, `${id}/plans/${one.key}.json`), 50);
    expect(await found()).toEqual(['plan-corrupt']);
  });

  it('a plan with a tile twice', async () => {
    const twice = { ...plan, x: plan.x.with(5, plan.x[4]!), y: plan.y.with(5, plan.y[4]!) };
    await blobs.put(`${id}/plans/${one.key}.json`, new TextEncoder().encode(JSON.stringify(twice)));
    expect((await found()).sort()).toEqual(['plan-duplicate-tiles', 'tiles-unplanned']);
  });

  it('a slide that has a plan and no slide file', async () => {
    await blobs.delete(slideFile());
    await blobs.delete(`${id}/failures/${one.key}.json`);
    const report = await verifyRecord(record, run);
    expect(report.findings).toMatchObject([{ code: 'slide-unfinished', severity: 'error', slide: one.key }]);
    expect(report.slides).toMatchObject({ done: 1, unfinished: 1 });
  });

  it('a slide of which there is nothing', async () => {
    await blobs.delete(slideFile());
    await blobs.delete(`${id}/plans/${one.key}.json`);
    await blobs.delete(`${id}/failures/${one.key}.json`);
    const report = await verifyRecord(record, run);
    expect(report.findings).toMatchObject([{ code: 'slide-missing', severity: 'error', slide: one.key }]);
    expect(report.slides).toMatchObject({ done: 1, missing: 1 });
  });

  it('a slide file of a slide that no run has', async () => {
    await blobs.put(`${id}/slides/stranger.arrow`, (await blobs.get(slideFile()))!);
    expect(await found()).toEqual(['slide-unexpected']);
  });

  it('no stranger in a slide of another run of the same recipe', async () => {
    const three = aSlide('three');
    const digest = datasetDigest([three]);
    await record.putRun({ ...run, id: runId(digest, id), dataset: { digest, slides: 1 } }, [three]);
    const others = aPlan(recipe, three, TILES);
    await record.publishSlide(recipe, others, { rows: rowsOf(others, DIMS, 0, TILES), failures: [] });
    expect(await found()).toEqual([]);
  });

  it('a tile that is a row and in the ledger', async () => {
    await record.putFailures(id, one, { slide: null, tiles: [failure(3), failure(6)] });
    expect(await found()).toEqual(['tiles-in-rows-and-failures']);
  });

  it('a failed tile that the ledger lacks, and the next publishing mends it', async () => {
    await blobs.delete(`${id}/failures/${one.key}.json`);
    expect(await found()).toEqual(['failures-missing']);
    await record.publishSlide(recipe, plan);
    expect(await found()).toEqual([]);
  });

  it('a ledger that is damaged, and the next publishing mends it', async () => {
    await truncate(join(dir, `${id}/failures/${one.key}.json`), 20);
    expect(await found()).toEqual(['failures-corrupt', 'failures-missing']);
    await record.publishSlide(recipe, plan);
    expect(await found()).toEqual([]);
  });

  it('shards of a finished slide', async () => {
    // As by a process that died between publishing the slide and dropping its shards.
    await blobs.put(keys.shard(id, one.key, 0), new Uint8Array(8));
    expect(await found()).toEqual(['shards-left']);
  });

  it('temporary files', async () => {
    const left = blobs.putIfAbsent('never', never());
    left.catch(() => {});
    await started;
    expect(await found()).toEqual(['temporary-files-left']);
    stop();
    await expect(left).rejects.toThrow('stopped');
  });

  it('two faults in two slides, each by its own', async () => {
    await plant(without(sound(), 5));
    await truncate(join(dir, `${id}/slides/${two.key}.arrow`), 100);
    const report = await verifyRecord(record, run);
    expect(report.findings.map(({ slide, code }) => [slide, code])).toEqual([
      [one.key, 'tiles-lost'],
      [two.key, 'slide-corrupt'],
    ]);
  });
});

let begin = (): void => {};
let stop = (): void => {};
const started = new Promise<void>((resolve) => {
  begin = resolve;
});
async function* never(): AsyncGenerator<Uint8Array> {
  yield new Uint8Array(10);
  begin();
  await new Promise((_, reject) => {
    stop = () => reject(new Error('stopped'));
  });
}

describe('verify, with the vector store', () => {
  let store: VectorStore;
  beforeEach(async () => {
    store = await openLance({ dir: join(dir, 'store'), recipe: id, dims: DIMS });
    onTestFinished(() => store.close());
    await indexSlides(record, id, record.listSlides(id), store);
  });

  async function* rows(slide: string, from: number, to: number): AsyncGenerator<StoreRows> {
    yield { slide, uri: one.uri, ...rowsOf(plan, DIMS, from, to) };
  }

  it('counts its rows and finds nothing when they are those of the slide files', async () => {
    const report = await verifyRecord(record, run, { store });
    expect(report).toMatchObject({ ok: true, storeRows: 19, findings: [] });
  });

  it('finds rows that it lacks', async () => {
    await store.upsertSlide(one.key, rows(one.key, 0, 5));
    expect(await found(store)).toEqual(['store-rows-missing']);
  });

  it('finds rows too many', async () => {
    await store.upsertSlide(one.key, rows(one.key, 0, 10));
    expect(await found(store)).toEqual(['store-rows-extra']);
  });

  it('says once that it is empty, as a warning: the record is whole without it', async () => {
    for (const { key } of [one, two]) await store.upsertSlide(key, (async function* () {})());
    const report = await verifyRecord(record, run, { store });
    expect(report).toMatchObject({ ok: true, storeRows: 0, findings: [{ code: 'store-empty', slide: null }] });
  });

  it('finds a slide that no run has', async () => {
    await store.upsertSlide('stranger', rows('stranger', 0, 5));
    expect(await found(store)).toEqual(['store-slide-unexpected']);
  });

  it('is content again once the slides are indexed anew', async () => {
    await store.upsertSlide(one.key, rows(one.key, 0, 5));
    await store.upsertSlide(two.key, rows(two.key, 0, 1));
    expect(await found(store)).toEqual(['store-rows-missing', 'store-rows-missing']);
    expect(await indexSlides(record, id, record.listSlides(id), store)).toBe(2);
    expect(await found(store)).toEqual([]);
    expect(await indexSlides(record, id, record.listSlides(id), store)).toBe(0);
  });
});

describe('verify, on a slide with QC columns', () => {
  const measured = (rows: TileRows) => {
    const column = (value: number) => new Float32Array(rows.x.length).fill(value);
    return { ...rows, qc: { hsv: column(0.8), blur: column(200), pen: column(0) } };
  };
  const publish = async (rows: TileRows) => {
    await blobs.delete(slideFile());
    await record.publishSlide(recipe, plan, { rows, failures: [failure(3)] });
  };

  it('finds nothing where all is well', async () => {
    await publish(measured(sound()));
    expect(await found()).toEqual([]);
  });

  it('finds columns that are not what the histograms count', async () => {
    await publish(measured(sound()));
    const file = (await record.readSlide(id, one.key))!;
    await file.close();
    const other = measured(sound());
    other.qc.hsv[4] = 0.1;
    await blobs.put(slideFile(), encodeTiles(DIMS, toMetadata(file.info), [other], 0, true));
    expect(await found()).toEqual(['qc-wrong']);
  });

  it('tells that columns are missing which the plan asks for', async () => {
    await blobs.put(`${id}/plans/${one.key}.json`, new TextEncoder().encode(JSON.stringify({ ...plan, qc: {} })));
    expect(await found()).toEqual(['qc-missing']);
  });

  it('finds columns without histograms, and histograms without columns', async () => {
    await publish(measured(sound()));
    const file = (await record.readSlide(id, one.key))!;
    await file.close();
    await blobs.put(slideFile(), encodeTiles(DIMS, toMetadata(file.info), [sound()]));
    expect(await found()).toEqual(['slide-corrupt']);
    const { qc: _, ...info } = file.info;
    await blobs.put(slideFile(), encodeTiles(DIMS, toMetadata(info), [measured(sound())], 0, true));
    expect(await found()).toEqual(['slide-corrupt']);
  });
});

describe('verify, on a record with patch grids', () => {
  const patched = { ...recipe, model: { ...recipe.model, embedding: 'patch' as const, patch: { grid: 2, width: 3 } } };
  const withGrids = (own: Plan) => {
    const rows = rowsOf(own, DIMS, 0, TILES);
    return { ...rows, patch: Float16Array.from({ length: TILES * 12 }, (_, i) => i + 1) };
  };

  /** A finished slide, its file replaced by one with other grids. */
  async function findings(change: (patch: Float16Array) => void): Promise<FindingCode[]> {
    const own = aPlan(patched, one, TILES);
    const info = infoOf(patched, own, null, []);
    const rows = withGrids(own);
    change(rows.patch);
    const recipeOf = recipeId(patched);
    await record.putPlan(own);
    await blobs.put(`${recipeOf}/slides/${one.key}.arrow`, encodeTiles(DIMS, toMetadata(info), [rows], 12));
    const digest = datasetDigest([one]);
    const other = { ...run, id: runId(digest, recipeOf), recipeId: recipeOf, recipe: patched };
    await record.putRun(other, [one]);
    return (await verifyRecord(record, other)).findings.map(({ code }) => code);
  }

  it('finds nothing where all is well', async () => {
    expect(await findings(() => {})).toEqual([]);
  });

  it('finds values that are no numbers, and a grid of zeros', async () => {
    expect(await findings((patch) => (patch[20] = Number.NaN))).toEqual(['vectors-not-finite']);
    expect(await findings((patch) => patch.fill(0, 12, 24))).toEqual(['vectors-zero']);
  });

  it('is never written with a value that is no number, or without the grids', async () => {
    const own = aPlan(patched, two, TILES);
    const rows = withGrids(own);
    rows.patch[7] = Number.POSITIVE_INFINITY;
    await expect(record.publishSlide(patched, own, { rows, failures: [] })).rejects.toMatchObject({
      code: 'vector-not-finite',
    });
    const { patch: _, ...bare } = withGrids(own);
    await expect(record.publishSlide(patched, own, { rows: bare, failures: [] })).rejects.toMatchObject({
      code: 'internal',
    });
    expect(await record.hasSlide(recipeId(patched), two.key)).toBe(false);
  });
});
