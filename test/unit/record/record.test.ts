import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type Blobs,
  datasetDigest,
  fileBlobs,
  mpp,
  NightshiftError,
  openRecord,
  type Plan,
  type Record,
  type RunFile,
  runId,
  type Shard,
  type TileRows,
  toErrorRecord,
} from '@nightshift/core';
import { beforeEach, describe, expect, it } from 'vitest';
import { shardsOf } from '../../../packages/core/src/plan/grid.ts';
import { recipeId } from '../../../packages/core/src/plan/recipe.ts';
import { aPlan, aRecipe, aSlide, rowsOf, temporaryDirectory } from '../../fixtures/record.ts';

const DIMS = 8;
const recipe = aRecipe(DIMS);
const id = recipeId(recipe);
const slide = aSlide('one');
const plan = aPlan(recipe, slide, 10);
const shards: Shard[] = [
  { index: 0, from: 0, to: 4 },
  { index: 1, from: 4, to: 7 },
  { index: 2, from: 7, to: 10 },
];

const truncated = toErrorRecord(new NightshiftError('tile-truncated', 'the file ends', { data: { offset: 12 } }));
const failureOf = (tile: number) => ({ x: plan.x[tile]!, y: plan.y[tile]!, error: truncated });

let dir: string;
let blobs: Blobs;
let record: Record;
beforeEach(async () => {
  dir = join(await temporaryDirectory(), 'out');
  blobs = fileBlobs(dir);
  record = await openRecord(blobs, { create: true });
});

const keysOf = async (prefix = ''): Promise<string[]> =>
  (await Array.fromAsync(blobs.list(prefix))).map(({ key }) => key);

async function putShards(of: Plan = plan, fail: readonly number[] = []): Promise<void> {
  for (const shard of shards) {
    const failed = fail.filter((tile) => tile >= shard.from && tile < shard.to);
    await record.putShard(recipe, of, shard, rowsOf(of, DIMS, shard.from, shard.to, fail), failed.map(failureOf));
  }
}

async function allRows(key = slide.key): Promise<TileRows[]> {
  const file = (await record.readSlide(id, key))!;
  try {
    return await Array.fromAsync(file.batches());
  } finally {
    await file.close();
  }
}

const placesOf = (batches: readonly TileRows[]): string[] =>
  batches.flatMap(({ x, y }) => Array.from(x, (at, i) => `${at},${y[i]}`));
const placesIn = (of: Plan, skip: readonly number[] = []): string[] =>
  of.x.map((x, i) => `${x},${of.y[i]}`).filter((_, i) => !skip.includes(i));

describe('opening a record', () => {
  it('finds what was started before', async () => {
    await record.putPlan(plan);
    const again = await openRecord(fileBlobs(dir));
    expect(await again.getPlan(id, slide.key)).toEqual(plan);
  });

  it('is record-not-found where there is none, and makes nothing', async () => {
    const empty = join(dir, 'empty');
    await expect(openRecord(fileBlobs(empty))).rejects.toMatchObject({ code: 'record-not-found' });
    expect(await keysOf('empty')).toEqual([]);
  });

  it('is record-layout for another version', async () => {
    await blobs.put('nightshift.json', new TextEncoder().encode('{"layout":2}'));
    await expect(openRecord(blobs)).rejects.toMatchObject({ code: 'record-layout', message: /layout 2/ });
  });

  it('is record-corrupt when the layout file is damaged', async () => {
    await blobs.put('nightshift.json', new TextEncoder().encode('{"layo'));
    await expect(openRecord(blobs)).rejects.toMatchObject({ code: 'record-corrupt' });
  });
});

describe('runs', () => {
  const slides = ['a', 'b', 'c'].map(aSlide);
  const run = (of = slides, made = recipe): RunFile => ({
    version: 1,
    id: runId(datasetDigest(of), recipeId(made)),
    recipeId: recipeId(made),
    recipe: made,
    dataset: { digest: datasetDigest(of), slides: of.length },
    sealed: true,
    options: { shardTiles: 4, store: null },
    versions: { nightshift: '0.1.0' },
  });

  it('have an id that follows from dataset and recipe alone', () => {
    expect(run().id).toMatch(/^[0-9a-f]{12}$/);
    expect(run([...slides].reverse()).id).toBe(run().id);
    expect(run(slides.slice(1)).id).not.toBe(run().id);
    expect(run(slides, aRecipe(9)).id).not.toBe(run().id);
    expect(run([...slides.slice(1), { ...slides[0]!, contentId: 'changed' }]).id).not.toBe(run().id);
  });

  it('are read back with their dataset', async () => {
    const own = slides.map((one, i) => ({ ...one, uri: `/größe ${i}.svs`, mpp: i === 1 ? mpp(0.25) : null }));
    await record.putRun(run(own), own);
    expect(await record.getRun(run(own).id)).toEqual(run(own));
    expect(await Array.fromAsync(record.runSlides(run(own).id))).toEqual(own);
    expect(await record.getRun('nothing')).toBeNull();
  });

  it('stream a dataset of more than one read', async () => {
    const many = Array.from({ length: 9000 }, (_, i) => aSlide(`slide-${'x'.repeat(60)}-${i}`));
    await record.putRun(run(many), many);
    let count = 0;
    for await (const one of record.runSlides(run(many).id)) expect(one).toEqual(many[count++]);
    expect(count).toBe(9000);
  });

  it('name the line of a dataset that is damaged', async () => {
    await record.putRun(run(), slides);
    await writeFile(join(dir, `runs/${run().id}.slides.jsonl`), `${JSON.stringify(slides[0])}\n{"key":1}\n`);
    await expect(Array.fromAsync(record.runSlides(run().id))).rejects.toMatchObject({
      code: 'record-corrupt',
      message: /line 2/,
    });
  });

  it('are picked by id, or by being the only one', async () => {
    await expect(record.pickRun()).rejects.toMatchObject({ code: 'run-not-found' });
    await record.putRun(run(), slides);
    expect((await record.pickRun()).id).toBe(run().id);
    await record.putRun(run(slides.slice(1)), slides.slice(1));
    const [first, second] = [run().id, run(slides.slice(1)).id];
    await expect(record.pickRun()).rejects.toMatchObject({ code: 'run-ambiguous' });
    await expect(record.pickRun()).rejects.toThrow(first);
    await expect(record.pickRun()).rejects.toThrow(second);
    expect((await record.pickRun(second)).id).toBe(second);
    await expect(record.pickRun('other')).rejects.toMatchObject({ code: 'run-not-found' });
  });
});

describe('plans', () => {
  it('keep the first, and give it to whoever comes second', async () => {
    const other = aPlan(recipe, slide, 5);
    expect(await record.putPlan(plan)).toEqual(plan);
    expect(await record.putPlan(other)).toEqual(plan);
    expect(await record.getPlan(id, slide.key)).toEqual(plan);
    expect(await record.getPlan(id, 'nothing')).toBeNull();
  });

  it('keep every field, so that a later command cuts the same shards', async () => {
    await record.putPlan(plan);
    expect((await record.getPlan(id, slide.key))!.shardTiles).toBe(plan.shardTiles);
    expect((await record.getPlan(id, slide.key))!.slide).toEqual(plan.slide);
  });

  it('lay the outline beside the plan, as GeoJSON of its own', async () => {
    await record.putPlan(plan);
    expect(JSON.parse(await readFile(join(dir, id, 'plans', `${slide.key}.geojson`), 'utf8'))).toEqual(plan.outline);
  });
});

describe('a shard', () => {
  const [shard] = shards as [Shard];

  it('is kept once', async () => {
    const rows = rowsOf(plan, DIMS, 0, 4);
    expect(await record.putShard(recipe, plan, shard, rows, [])).toBe('written');
    expect(await record.putShard(recipe, plan, shard, rows, [])).toBe('exists');
    expect(await record.listShards(id, slide.key)).toMatchObject([{ index: 0 }]);
  });

  it('is refused, and nothing is written, when a vector is not finite', async () => {
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
      const rows = rowsOf(plan, DIMS, 0, 4);
      rows.vectors[DIMS * 2 + 3] = bad;
      const put = record.putShard(recipe, plan, shard, rows, []);
      await expect(put).rejects.toMatchObject({ code: 'vector-not-finite', message: /896,0/ });
    }
    expect(await keysOf(id)).toEqual([]);
  });

  it('is refused when rows and failures are not exactly its tiles', async () => {
    const put = (rows: TileRows, failed: readonly number[] = []) =>
      record.putShard(recipe, plan, shard, rows, failed.map(failureOf));
    const internal = { code: 'internal' };
    await expect(put(rowsOf(plan, DIMS, 0, 3))).rejects.toMatchObject(internal);
    await expect(put(rowsOf(plan, DIMS, 0, 5))).rejects.toMatchObject(internal);
    await expect(put(rowsOf(plan, DIMS, 1, 5))).rejects.toMatchObject(internal);
    await expect(put(rowsOf(plan, DIMS, 0, 4), [2])).rejects.toMatchObject(internal);
    await expect(put(rowsOf(plan, DIMS, 0, 4, [2]), [2, 2])).rejects.toMatchObject(internal);
    await expect(put(rowsOf(plan, DIMS, 0, 4, [2]), [2, 8])).rejects.toMatchObject(internal);
    const swapped = rowsOf(plan, DIMS, 0, 4);
    swapped.x.reverse();
    await expect(put(swapped)).rejects.toMatchObject(internal);
    expect(await keysOf(id)).toEqual([]);
  });

  it('takes failures in any order', async () => {
    await record.putShard(recipe, plan, shard, rowsOf(plan, DIMS, 0, 4, [1, 3]), [3, 1].map(failureOf));
    expect(await record.listShards(id, slide.key)).toHaveLength(1);
  });
});

describe('a slide file', () => {
  it('is its shards in plan order, and the shards are gone', async () => {
    await putShards();
    expect(await record.publishSlide(recipe, plan)).toBe('written');
    const batches = await allRows();
    expect(batches.map(({ x }) => x.length)).toEqual([4, 3, 3]);
    expect(placesOf(batches)).toEqual(placesIn(plan));
    expect(batches.flatMap(({ vectors }) => [...vectors])).toEqual([...rowsOf(plan, DIMS, 0, 10).vectors]);
    expect(await keysOf(id)).toEqual([`${id}/slides/${slide.key}.arrow`]);
    expect(await record.hasSlide(id, slide.key)).toBe(true);
    expect(await Array.fromAsync(record.listSlides(id))).toEqual([slide.key]);
  });

  it('is the same bytes whoever joins it', async () => {
    await putShards(plan, [5]);
    await record.publishSlide(recipe, plan);
    const path = join(dir, id, 'slides', `${slide.key}.arrow`);
    const first = await readFile(path);
    await rm(path);
    await putShards(plan, [5]);
    await record.publishSlide(recipe, plan);
    expect(await readFile(path)).toEqual(first);
  });

  it('comes from all rows at once where one process has them', async () => {
    const whole = { rows: rowsOf(plan, DIMS, 0, 10, [3]), failures: [failureOf(3)] };
    expect(await record.publishSlide(recipe, plan, whole)).toBe('written');
    expect(placesOf(await allRows())).toEqual(placesIn(plan, [3]));
    expect((await record.getFailures(id, slide.key))!.tiles).toMatchObject([failureOf(3)]);
  });

  it('states its failures in its metadata and in the ledger', async () => {
    await putShards(plan, [0, 5, 9]);
    await record.publishSlide(recipe, plan);
    const file = (await record.readSlide(id, slide.key))!;
    await file.close();
    expect(file.rows).toBe(7);
    expect(file.info).toMatchObject({ recipeId: id, recipe, slide, planned: 10, shard: null });
    expect(file.info.failures).toEqual([0, 5, 9].map(failureOf));
    expect(await record.getFailures(id, slide.key)).toMatchObject({ slide: null, tiles: [0, 5, 9].map(failureOf) });
  });

  it('is published with no rows where the plan has no tiles, or all failed', async () => {
    const none = aPlan(recipe, aSlide('none'), 0);
    expect(await record.publishSlide(recipe, none)).toBe('written');
    expect(await allRows(none.slide.key)).toEqual([]);
    const all = plan.x.map((_, i) => i);
    await putShards(plan, all);
    await record.publishSlide(recipe, plan);
    expect(await allRows()).toEqual([]);
  });

  it('is not published while a shard is missing, and the shards stay', async () => {
    await putShards();
    for (const gone of [0, 1, 2]) {
      const key = `${id}/shards/${slide.key}/0000${gone}.arrow`;
      const kept = (await blobs.get(key))!;
      await blobs.delete(key);
      await expect(record.publishSlide(recipe, plan)).rejects.toMatchObject({ code: 'record-corrupt' });
      await blobs.put(key, kept);
    }
    expect(await record.hasSlide(id, slide.key)).toBe(false);
    expect(await record.publishSlide(recipe, plan)).toBe('written');
  });

  it('is not published from a damaged shard, which the error names', async () => {
    await putShards();
    const key = `${id}/shards/${slide.key}/00001.arrow`;
    const bytes = Uint8Array.from((await blobs.get(key))!);
    bytes[bytes.length >> 1]! ^= 1;
    await blobs.put(key, bytes);
    await expect(record.publishSlide(recipe, plan)).rejects.toMatchObject({ code: 'record-corrupt' });
    await expect(record.publishSlide(recipe, plan)).rejects.toThrow('00001.arrow');
    expect(await record.hasSlide(id, slide.key)).toBe(false);
    expect(await keysOf('.tmp/')).toEqual([]);
  });

  it('is not published from shards of another plan', async () => {
    await putShards();
    const moved = { ...plan, x: plan.x.toReversed() };
    await expect(record.publishSlide(recipe, moved)).rejects.toMatchObject({ code: 'record-corrupt' });
    const longer = aPlan(recipe, slide, 12);
    await expect(record.publishSlide(recipe, longer)).rejects.toMatchObject({ code: 'record-corrupt' });
  });

  it('has one winner when eight publish at once, and all of them end well', async () => {
    await putShards(plan, [5]);
    const results = await Promise.all(Array.from({ length: 8 }, () => record.publishSlide(recipe, plan)));
    expect(results.filter((result) => result === 'written')).toHaveLength(1);
    expect(placesOf(await allRows())).toEqual(placesIn(plan, [5]));
    expect(await record.listShards(id, slide.key)).toEqual([]);
  });

  it('that an interrupted call left half done is finished by the next', async () => {
    await putShards(plan, [5]);
    const left = await Promise.all(
      shards.map(({ index }) => blobs.get(`${id}/shards/${slide.key}/0000${index}.arrow`)),
    );
    await record.publishSlide(recipe, plan);
    await blobs.delete(`${id}/failures/${slide.key}.json`);
    await blobs.put(`${id}/shards/${slide.key}/00002.arrow`, left[2]!);
    expect(await record.publishSlide(recipe, plan)).toBe('exists');
    expect((await record.getFailures(id, slide.key))!.tiles).toHaveLength(1);
    expect(await record.listShards(id, slide.key)).toEqual([]);
  });
});

describe('what reading a slide has cost', () => {
  const read: Plan = { ...plan, reads: { bytes: 100, requests: 2, objectBytes: 5000 } };
  const put = (shard: Shard, bytes: number, fail: readonly number[] = []) => {
    const rows = rowsOf(plan, DIMS, shard.from, shard.to, fail);
    return record.putShard(recipe, read, shard, rows, fail.map(failureOf), { bytes, requests: 1 });
  };

  it('is that of planning and of the shards that are in, and no part of the slide file', async () => {
    for (const shard of shards) await put(shard, 1000);
    expect(await put(shards[0]!, 9999)).toBe('exists');
    expect(await record.getReads(id, slide.key)).toBeNull();
    await record.publishSlide(recipe, read);
    expect(await record.getReads(id, slide.key)).toEqual({ bytes: 3100, requests: 5, objectBytes: 5000 });

    const file = await blobs.get(`${id}/slides/${slide.key}.arrow`);
    await blobs.delete(`${id}/slides/${slide.key}.arrow`);
    for (const shard of shards) await put(shard, 7);
    await record.publishSlide(recipe, read);
    expect(await blobs.get(`${id}/slides/${slide.key}.arrow`)).toEqual(file);
    expect(await record.getReads(id, slide.key)).toMatchObject({ bytes: 121 });
  });

  it('stays when the publisher dies before the shards are dropped, and adds up after a retry', async () => {
    for (const shard of shards) await put(shard, 1000, shard.index === 1 ? [5] : []);
    const left = await blobs.get(`${id}/shards/${slide.key}/00002.arrow`);
    await record.publishSlide(recipe, read);
    await blobs.put(`${id}/shards/${slide.key}/00002.arrow`, left!);
    await record.publishSlide(recipe, read);
    expect(await record.getReads(id, slide.key)).toMatchObject({ bytes: 3100, requests: 5 });

    await record.reopenSlide(recipe, read, () => true);
    await put({ index: 1, from: 3, to: 6 }, 500);
    await record.publishSlide(recipe, read);
    expect(await record.getReads(id, slide.key)).toEqual({ bytes: 3600, requests: 6, objectBytes: 5000 });
  });

  it('is unknown for a plan that nobody counted for', async () => {
    await putShards();
    await record.publishSlide(recipe, plan);
    expect(await record.getReads(id, slide.key)).toBeNull();
  });
});

it('a slide that is opened again keeps its patch grids', async () => {
  const patched = { ...recipe, model: { ...recipe.model, embedding: 'patch' as const, patch: { grid: 2, width: 3 } } };
  const own = aPlan(patched, slide, 10);
  const file = `${own.recipe}/slides/${slide.key}.arrow`;
  const put = (shard: Shard, fail: readonly number[] = []) => {
    const rows = rowsOf(own, DIMS, shard.from, shard.to, fail);
    const patch = Float16Array.from(
      { length: rows.x.length * 12 },
      (_, i) => rows.x[Math.floor(i / 12)]! + (i % 12) / 16,
    );
    return record.putShard(patched, own, shard, { ...rows, patch }, fail.map(failureOf));
  };
  for (const shard of shardsOf(own)) await put(shard);
  await record.publishSlide(patched, own);
  const undisturbed = await blobs.get(file);

  await blobs.delete(file);
  const broken = shardsOf(own).find(({ from, to }) => from <= 5 && 5 < to)!;
  for (const shard of shardsOf(own)) await put(shard, shard.index === broken.index ? [5] : []);
  await record.publishSlide(patched, own);
  expect(await record.reopenSlide(patched, own, () => true)).toBe(1);
  await put(broken);
  await record.publishSlide(patched, own);
  expect(await blobs.get(file)).toEqual(undisturbed);
});

describe('QC columns', () => {
  /** Rows with measures that tell their tile. */
  const measured = (from: number, to: number, skip: readonly number[] = []) => {
    const rows = rowsOf(plan, DIMS, from, to, skip);
    const tiles = Array.from({ length: to - from }, (_, i) => from + i).filter((i) => !skip.includes(i));
    const column = (of: (tile: number) => number) => Float32Array.from(tiles, of);
    return { ...rows, qc: { hsv: column((i) => i / 16), blur: column((i) => 100 * i), pen: column(() => 0.25) } };
  };
  const put = ({ index, from, to }: Shard, rows: TileRows, fail: readonly number[] = []) =>
    record.putShard(recipe, plan, { index, from, to }, rows, fail.map(failureOf));
  const published = async () => {
    const file = (await record.readSlide(id, slide.key))!;
    await file.close();
    return file;
  };

  it('and their histograms are joined where every shard has them', async () => {
    for (const shard of shards) await put(shard, measured(shard.from, shard.to, [5]), shard.index === 1 ? [5] : []);
    await record.publishSlide(recipe, plan);
    const { qc, info } = await published();
    expect(qc).toBe(true);
    const batches = await allRows();
    const tiles = [0, 1, 2, 3, 4, 6, 7, 8, 9];
    expect(batches.flatMap((rows) => [...rows.qc!.blur])).toEqual(tiles.map((i) => 100 * i));
    expect(batches.flatMap((rows) => [...rows.qc!.hsv])).toEqual(tiles.map((i) => i / 16));
    expect(info.qc!.hsv.flatMap((count, bin) => (count > 0 ? [[bin, count]] : []))).toEqual(
      tiles.map((i) => [Math.floor((100 * i) / 16), 1]),
    );
    expect(info.qc!.pen.flatMap((count, bin) => (count > 0 ? [[bin, count]] : []))).toEqual([[25, 9]]);
  });

  it('are left out where a shard has none, and the file is the one without them', async () => {
    await putShards();
    await record.publishSlide(recipe, plan);
    const without = await blobs.get(`${id}/slides/${slide.key}.arrow`);
    await blobs.delete(`${id}/slides/${slide.key}.arrow`);
    for (const shard of shards) {
      await put(shard, shard.index === 1 ? rowsOf(plan, DIMS, 4, 7) : measured(shard.from, shard.to));
    }
    await record.publishSlide(recipe, plan);
    expect((await published()).info.qc).toBeUndefined();
    expect(await blobs.get(`${id}/slides/${slide.key}.arrow`)).toEqual(without);
  });

  it('stay when a slide is opened again', async () => {
    const own = shardsOf(plan);
    const broken = own.find(({ from, to }) => from <= 5 && 5 < to)!;
    for (const shard of own) await put(shard, measured(shard.from, shard.to));
    await record.publishSlide(recipe, plan);
    const undisturbed = await blobs.get(`${id}/slides/${slide.key}.arrow`);
    await blobs.delete(`${id}/slides/${slide.key}.arrow`);
    for (const shard of own) await put(shard, measured(shard.from, shard.to, [5]), shard === broken ? [5] : []);
    await record.publishSlide(recipe, plan);
    expect(await record.reopenSlide(recipe, plan, () => true)).toBe(1);
    await put(broken, measured(broken.from, broken.to));
    await record.publishSlide(recipe, plan);
    expect(await blobs.get(`${id}/slides/${slide.key}.arrow`)).toEqual(undisturbed);
  });

  it('are refused where a value is no number', async () => {
    const rows = measured(0, 4);
    rows.qc.blur[2] = Number.NaN;
    await expect(put(shards[0]!, rows)).rejects.toMatchObject({ code: 'internal', message: /qc_blur of 896,0/ });
  });
});

describe('failures', () => {
  it('of a slide are kept, and gone once the slide is published', async () => {
    const error = toErrorRecord(new NightshiftError('slide-truncated', 'the file ends early'));
    await record.putFailures(id, slide, { slide: error, tiles: [] });
    expect(await record.getFailures(id, slide.key)).toMatchObject({ slide: error, tiles: [] });
    await putShards();
    await record.publishSlide(recipe, plan);
    expect(await record.getFailures(id, slide.key)).toBeNull();
  });

  it('are null where nothing failed', async () => {
    expect(await record.getFailures(id, slide.key)).toBeNull();
  });
});

it('a quality picture lies under the slide’s name', async () => {
  await record.putQc(id, slide.key, new Uint8Array([0xff, 0xd8]));
  expect(await keysOf(`${id}/qc/`)).toEqual([`${id}/qc/${slide.key}.jpg`]);
});
