import { NightshiftError } from '../errors.ts';
import type { Plan } from '../plan/plan.ts';
import { qcCounter } from '../plan/qc.ts';
import { canonicalJson } from '../plan/recipe.ts';
import type { TileRows } from './arrow.ts';
import { AGAIN, type Find } from './findings.ts';
import type { SlideFailures } from './record.ts';
import type { TileFile } from './tile-file.ts';

const place = (x: number, y: number): string => `${x},${y}`;

/** How many faults of one kind there are, and the place of the first. */
interface Tally {
  readonly count: number;
  add(x: number, y: number): void;
  text(what: string): string;
}

function tally(): Tally {
  let count = 0;
  let first = '';
  return {
    get count() {
      return count;
    },
    add(x, y) {
      if (count++ === 0) first = place(x, y);
    },
    text: (what) => `${count} ${what}, the first at ${first}`,
  };
}

/**
 * Places and vectors of one slide file, against the plan (where there is one) and the ledger. @returns its rows
 */
export async function verifyRows(input: {
  readonly file: TileFile;
  readonly plan: Plan | null;
  readonly ledger: SlideFailures | null;
  readonly dims: number;
  /** Values of a patch grid; 0 where the recipe asks for none. */
  readonly patch: number;
  /** What to do about a bad slide file. */
  readonly next: string;
  readonly find: Find;
}): Promise<number> {
  const { file, plan, ledger, dims, patch, next, find } = input;
  const [notFinite, zero, twice, unplanned] = [tally(), tally(), tally(), tally()];
  const [lost, unlisted, both] = [tally(), tally(), tally()];
  /** How often each planned tile was seen as a row. */
  const seen = new Map<string, number>();
  const planned = plan?.x.length ?? 0;
  for (let i = 0; i < planned; i++) seen.set(place(plan!.x[i]!, plan!.y[i]!), 0);
  if (seen.size < planned) find('plan-duplicate-tiles', `the plan holds ${planned - seen.size} tiles twice`, next);
  if (file.dims !== dims) find('vectors-wrong-dims', `vectors of ${file.dims} dims; the model gives ${dims}`, next);
  if (file.patch !== patch) {
    find('vectors-wrong-dims', `patch grids of ${file.patch} values; the recipe asks for ${patch}`, next);
  }

  if (plan?.qc && planned > 0 && !file.qc) {
    const message =
      'the plan asks for QC columns, and the slide file has none: a worker of an earlier version had a part';
    find('qc-missing', message, `Nothing, or: ${next}`, 'warning');
  }

  const measured = qcCounter();
  const fingerprints = new Set<number>();
  let rows = 0;
  try {
    for await (const batch of file.batches()) {
      rows += batch.x.length;
      countPlaces(batch);
      countVectors(batch);
      const { qc } = batch;
      if (qc) for (const i of batch.x.keys()) measured.add((measure) => qc[measure][i]!);
    }
  } catch (error) {
    if (!(error instanceof NightshiftError)) throw error;
    find('slide-corrupt', error.message, next);
    return rows;
  }

  function countPlaces({ x, y }: TileRows): void {
    for (let i = 0; i < x.length; i++) {
      const at = place(x[i]!, y[i]!);
      const before = seen.get(at);
      if (before === undefined) {
        if (plan) unplanned.add(x[i]!, y[i]!);
      } else {
        if (before > 0) twice.add(x[i]!, y[i]!);
        seen.set(at, before + 1);
      }
    }
  }

  function countVectors({ x, y, vectors, patch }: TileRows): void {
    const words = new Uint32Array(vectors.buffer, vectors.byteOffset, vectors.length);
    for (let i = 0; i < x.length; i++) {
      const kinds = [kindOf(vectors, i * file.dims, (i + 1) * file.dims)];
      if (patch) kinds.push(kindOf(patch, i * file.patch, (i + 1) * file.patch));
      if (kinds.includes('not-finite')) notFinite.add(x[i]!, y[i]!);
      if (kinds.includes('zero')) zero.add(x[i]!, y[i]!);
      fingerprints.add(fingerprint(words, i * file.dims, (i + 1) * file.dims));
    }
  }

  const failed = new Set(ledger?.tiles.map(({ x, y }) => place(x, y)));
  const known = new Set(file.info.failures.map(({ x, y }) => place(x, y)));
  for (let i = 0; i < planned; i++) {
    const [x, y] = [plan!.x[i]!, plan!.y[i]!];
    const at = place(x, y);
    const isRow = seen.get(at)! > 0;
    if (isRow && failed.has(at)) both.add(x, y);
    if (!isRow && !failed.has(at)) (known.has(at) ? unlisted : lost).add(x, y);
  }
  for (const { x, y } of ledger?.tiles ?? []) if (plan && !seen.has(place(x, y))) unplanned.add(x, y);

  if (lost.count > 0) find('tiles-lost', lost.text('planned tiles are neither rows nor failures'), next);
  if (unlisted.count > 0) find('failures-missing', unlisted.text('failed tiles are not in the ledger'), AGAIN);
  if (twice.count > 0) find('tiles-twice', twice.text('rows are of a tile that has one already'), next);
  if (both.count > 0) find('tiles-in-rows-and-failures', both.text('tiles are rows and failures'), AGAIN);
  if (unplanned.count > 0) find('tiles-unplanned', unplanned.text('rows or failures are of no planned tile'), next);
  if (notFinite.count > 0) find('vectors-not-finite', notFinite.text('vectors hold NaN or infinity'), next);
  if (zero.count > 0) find('vectors-zero', zero.text('vectors are all zeros'), next);
  if (file.qc && canonicalJson(measured.histograms) !== canonicalJson(file.info.qc)) {
    find('qc-wrong', 'the QC columns are not what the histograms in the metadata count', next);
  }
  if (fingerprints.size < rows) {
    const message = `${rows - fingerprints.size} vectors equal another of the slide bit by bit: tiles of equal pixels`;
    find('vectors-equal', message, 'Nothing, where the slide has blank areas.', 'warning');
  }
  return rows;
}

function kindOf(vectors: Float32Array | Float16Array, from: number, to: number): 'good' | 'zero' | 'not-finite' {
  let rest = 0;
  let any = false;
  for (let i = from; i < to; i++) {
    const value = vectors[i]!;
    rest += value - value;
    if (value !== 0) any = true;
  }
  if (rest !== 0) return 'not-finite';
  return any ? 'good' : 'zero';
}

/** 53 bits over the bits of a vector (two FNV-1a sums over its words): equal for equal vectors, else different but by chance. */
function fingerprint(words: Uint32Array, from: number, to: number): number {
  let a = 0x811c9dc5;
  let b = 0x01000193;
  for (let i = from; i < to; i++) {
    a = Math.imul(a ^ words[i]!, 0x01000193);
    b = Math.imul(b ^ words[i]! ^ (a >>> 15), 0x85ebca6b);
  }
  return (a >>> 0) * 0x200000 + (b >>> 11);
}
