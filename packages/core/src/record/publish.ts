import { NightshiftError } from '../errors.ts';
import type { Plan, Recipe, Shard } from '../plan/plan.ts';
import { type QcHistograms, type QcValues, qcCounter } from '../plan/qc.ts';
import { patchValues } from '../plan/recipe.ts';
import { NO_READS, type ReadCost, sumOfReads } from '../source/counted.ts';
import { encodeTiles, type TileRows } from './arrow.ts';
import type { Blobs } from './blobs.ts';
import { inPlanOrder, planCheck } from './plan-check.ts';
import { infoOf, openTileFile, type TileFailure, type TileFileInfo, toMetadata } from './tile-file.ts';

/** What a range of a plan came to: vectors of the tiles that have one, in plan order, and why the others have none. */
export interface EmbeddedTiles {
  readonly rows: TileRows;
  readonly failures: readonly TileFailure[];
  /** What reading them has cost, where somebody counted. */
  readonly reads?: ReadCost;
}

/**
 * The bytes of a shard file, or with `shard` null of a whole slide file.
 * @throws before any byte: `internal` when these are not exactly the tiles of the range, `vector-not-finite`
 */
export function tileFile(
  recipe: Recipe,
  plan: Plan,
  shard: Shard | null,
  { rows, failures, reads = NO_READS }: EmbeddedTiles,
): AsyncGenerator<Uint8Array> {
  const range = shard ?? { from: 0, to: plan.x.length };
  const ordered = inPlanOrder(plan, range, failures);
  const wrong = (what: string) => new NightshiftError('internal', `rows of ${plan.slide.key}: ${what}`);
  const check = planCheck(plan, range, ordered, wrong);
  check.rows(rows, recipe.model.dims);
  check.end();
  return encodeTiles(
    recipe.model.dims,
    toMetadata(infoOf(recipe, plan, shard, ordered, { reads: shard && reads, qc: rows.qc && histogramsOf(rows.qc) })),
    [rows],
    patchValues(recipe),
    rows.qc !== undefined,
  );
}

function histogramsOf(values: QcValues): QcHistograms {
  const counter = qcCounter();
  for (const i of values.hsv.keys()) counter.add((measure) => values[measure][i]);
  return counter.histograms;
}

/**
 * The bytes of a slide file from its shards, and what reading them has cost; `keys` in plan order: one record batch a shard, one in memory at a time.
 * QC columns are there when every shard has them.
 * @throws `record-corrupt` when the shards do not cover the plan or, while streaming, when one does not hold its tiles
 */
export async function joinedFile(
  blobs: Blobs,
  recipe: Recipe,
  plan: Plan,
  keys: readonly string[],
): Promise<{ readonly body: AsyncGenerator<Uint8Array>; readonly reads: ReadCost }> {
  const shards = await readInfos(blobs, plan, keys);
  const failures = shards.flatMap(({ info }) => info.failures);
  const qc = joinedHistograms(shards);
  const batches = joinedRows(blobs, plan, shards, qc !== undefined);
  const metadata = toMetadata(infoOf(recipe, plan, null, failures, { qc }));
  const reads = sumOfReads(shards.map(({ info }) => info.reads ?? NO_READS));
  return { body: encodeTiles(recipe.model.dims, metadata, batches, patchValues(recipe), qc !== undefined), reads };
}

/** Undefined where a shard has none, or there is no shard. */
function joinedHistograms(shards: readonly ShardFile[]): QcHistograms | undefined {
  const sum = qcCounter();
  for (const { info } of shards) {
    if (!info.qc) return undefined;
    sum.addAll(info.qc);
  }
  return shards.length > 0 ? sum.histograms : undefined;
}

interface ShardFile {
  readonly key: string;
  readonly info: TileFileInfo;
}

/** What the shards say of themselves. Only footers are read. */
async function readInfos(blobs: Blobs, plan: Plan, keys: readonly string[]): Promise<ShardFile[]> {
  const shards: ShardFile[] = [];
  let end = 0;
  for (const key of keys) {
    const file = await openShard(blobs, key);
    await file.close();
    const { shard, slide, recipeId } = file.info;
    if (recipeId !== plan.recipe || slide.key !== plan.slide.key || shard?.from !== end) {
      const what = `tiles ${shard?.from} to ${shard?.to} of ${slide.key}, recipe ${recipeId}`;
      throw new NightshiftError('record-corrupt', `${key} holds ${what}; expected tiles from ${end} of the plan`);
    }
    end = shard.to;
    shards.push({ key, info: file.info });
  }
  if (end !== plan.x.length) {
    const what = `the shards of ${plan.slide.key} cover ${end} of ${plan.x.length} tiles`;
    throw new NightshiftError('record-corrupt', what, { next: 'Run the same command: it makes the missing ones.' });
  }
  return shards;
}

async function* joinedRows(
  blobs: Blobs,
  plan: Plan,
  shards: readonly ShardFile[],
  withQc: boolean,
): AsyncGenerator<TileRows> {
  for (const { key, info } of shards) {
    const wrong = (what: string) => new NightshiftError('record-corrupt', `${key}: ${what}`);
    const check = planCheck(plan, info.shard!, info.failures, wrong);
    const file = await openShard(blobs, key);
    try {
      for await (const { qc, ...rows } of file.batches()) {
        check.rows(rows, file.dims);
        yield withQc && qc ? { ...rows, qc } : rows;
      }
      check.end();
    } finally {
      await file.close();
    }
  }
}

async function openShard(blobs: Blobs, key: string) {
  const file = await openTileFile(blobs, key);
  if (!file) throw new NightshiftError('record-corrupt', `${key} vanished while its slide was joined`);
  return file;
}
