import { ahead } from '../ahead.ts';
import { toErrorRecord } from '../errors.ts';
import type { SlideRef } from '../plan/plan.ts';
import { patchValues } from '../plan/recipe.ts';
import type { SlideReads } from '../source/counted.ts';
import type { VectorStore } from '../store/store.ts';
import { AGAIN, type Find, type Finding, REBUILD_STORE, remakeSlide } from './findings.ts';
import { keys } from './layout.ts';
import type { Record } from './record.ts';
import type { RunFile } from './run.ts';
import { verifyRows } from './verify-rows.ts';

export type { Finding, FindingCode } from './findings.ts';

export interface VerifyReport {
  readonly version: 1;
  readonly run: string;
  readonly recipe: string;
  readonly model: string;
  /** No finding of severity `error`. */
  readonly ok: boolean;
  readonly slides: {
    readonly total: number;
    readonly done: number;
    /** In the ledger as a whole. */
    readonly failed: number;
    readonly unfinished: number;
    readonly missing: number;
  };
  readonly tiles: { readonly planned: number; readonly rows: number; readonly failed: number };
  /** What reading the slides that are done has cost, and the bytes that they hold. */
  readonly reads: SlideReads;
  /** Rows of the run's slides in the vector store; null where none was looked at. */
  readonly storeRows: number | null;
  readonly findings: readonly Finding[];
}

/** Slides looked at together: a slide is some requests that wait for each other, and in a store each takes tens of milliseconds. */
const WIDTH = 4;

/**
 * Recounts a run: every planned tile is a row or a failure, once; vectors are of the right length, finite and not zero; files are
 * of this recipe and model; nothing is left over; the vector store holds as many rows. Of `WIDTH` slides at a time the plan and
 * one record batch are in memory. `onSlide` is called after each slide, in the run's order.
 */
export async function verifyRecord(
  record: Record,
  run: RunFile,
  options: { readonly store?: VectorStore | null; readonly onSlide?: (done: number, total: number) => void } = {},
): Promise<VerifyReport> {
  const { recipeId: recipe } = run;
  const findings: Finding[] = [];
  const slides = { total: 0, done: 0, failed: 0, unfinished: 0, missing: 0 };
  const tiles = { planned: 0, rows: 0, failed: 0 };
  const reads = { bytes: 0, requests: 0, objectBytes: 0 };
  const stored = (await options.store?.slides()) ?? null;
  const held = stored && stored.size > 0 ? stored : null;
  const expected = new Set<string>();
  let storeRows = 0;

  const look = async ({ key: slide }: SlideRef) => ({ slide, result: await verifySlide(record, run, slide) });
  for await (const { slide, result } of ahead(record.runSlides(run.id), WIDTH, look)) {
    expected.add(slide);
    findings.push(...result.findings);
    slides.total += 1;
    slides[result.state] += 1;
    tiles.planned += result.planned;
    tiles.rows += result.rows;
    tiles.failed += result.failed;
    reads.bytes += result.reads?.bytes ?? 0;
    reads.requests += result.reads?.requests ?? 0;
    reads.objectBytes += result.reads?.objectBytes ?? 0;
    const count = held?.get(slide) ?? 0;
    storeRows += count;
    if (held && result.whole && count !== result.rows) {
      const code = count < result.rows ? 'store-rows-missing' : 'store-rows-extra';
      const message = `the vector store holds ${count} rows, the slide file ${result.rows}`;
      findings.push({ severity: 'error', code, slide, message, next: REBUILD_STORE });
    }
    options.onSlide?.(slides.total, run.dataset.slides);
  }
  if (stored && !held && tiles.rows > 0) {
    const message = `the vector store ${options.store!.uri} holds nothing: it was not asked for, or it is gone`;
    findings.push({ severity: 'warning', code: 'store-empty', slide: null, message, next: REBUILD_STORE });
  }
  findings.push(...(await unexpectedSlides(record, run, expected, held)));
  findings.push(...(await leftovers(record)));
  return {
    version: 1,
    run: run.id,
    recipe,
    model: run.recipe.model.name,
    ok: findings.every((finding) => finding.severity !== 'error'),
    slides,
    tiles,
    reads,
    storeRows: stored ? storeRows : null,
    findings,
  };
}

interface SlideResult {
  readonly state: 'done' | 'failed' | 'unfinished' | 'missing';
  readonly planned: number;
  readonly rows: number;
  readonly failed: number;
  readonly reads: SlideReads | null;
  /** There is a slide file, and it could be read to its end. */
  readonly whole: boolean;
  readonly findings: Finding[];
}

async function verifySlide(record: Record, run: RunFile, slide: string): Promise<SlideResult> {
  const recipe = run.recipeId;
  const findings: Finding[] = [];
  const find: Find = (code, message, next, severity = 'error') =>
    findings.push({ severity, code, slide, message, next });

  const remake = remakeSlide(recipe, slide);
  const plan = await record.getPlan(recipe, slide).catch((error) => {
    const next = `Remove ${keys.plan(recipe, slide)} and run the same command again.`;
    find('plan-corrupt', toErrorRecord(error).message, next);
    return null;
  });
  const file = await record.readSlide(recipe, slide).catch((error) => {
    find('slide-corrupt', toErrorRecord(error).message, remake);
    return null;
  });
  const ledger = await record.getFailures(recipe, slide).catch((error) => {
    find('failures-corrupt', toErrorRecord(error).message, AGAIN);
    return null;
  });
  const shards = await record.listShards(recipe, slide);
  const counts = { planned: plan?.x.length ?? 0, failed: ledger?.tiles.length ?? 0, findings };
  const damaged = findings.length > 0;

  if (!file) {
    const none = { ...counts, rows: 0, reads: null, whole: false };
    if (!damaged && ledger?.slide) return { state: 'failed', ...none };
    if (!damaged && !plan) {
      find('slide-missing', 'the run has the slide, the record has nothing of it', AGAIN);
      return { state: 'missing', ...none };
    }
    if (!damaged) {
      const what = `${counts.planned} tiles are planned, ${shards.length} shards are in, there is no slide file`;
      find('slide-unfinished', what, AGAIN);
    }
    return { state: 'unfinished', ...none };
  }

  try {
    if (!damaged && !plan) find('plan-missing', 'there is a slide file, and no plan to check it against', AGAIN);
    if (shards.length > 0) {
      find('shards-left', `${shards.length} shards of a finished slide are left`, AGAIN, 'warning');
    }
    const { recipeId, recipe: made } = file.info;
    const [digest, wanted] = [made.model.digest, run.recipe.model.digest];
    if (digest !== wanted) find('model-mismatch', `made by model ${digest}, the run's is ${wanted}`, remake);
    else if (recipeId !== recipe) find('recipe-mismatch', `made by recipe ${recipeId}, not ${recipe}`, remake);

    const rows = await verifyRows({
      file,
      plan,
      ledger,
      dims: run.recipe.model.dims,
      patch: patchValues(run.recipe),
      next: remake,
      find,
    });
    const whole = findings.every((finding) => finding.code !== 'slide-corrupt');
    const reads = await record.getReads(recipe, slide).catch((error) => {
      find(
        'reads-corrupt',
        toErrorRecord(error).message,
        `Remove ${keys.reads(recipe, slide)}: it only counts.`,
        'warning',
      );
      return null;
    });
    return { state: 'done', ...counts, rows, reads, whole };
  } finally {
    await file.close();
  }
}

/** Slide files and store rows that no run of this recipe asks for. */
async function unexpectedSlides(
  record: Record,
  run: RunFile,
  expected: Set<string>,
  held: ReadonlyMap<string, number> | null,
): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const other of await record.listRuns()) {
    if (other.recipeId !== run.recipeId || other.id === run.id) continue;
    for await (const { key } of record.runSlides(other.id)) expected.add(key);
  }
  for await (const slide of record.listSlides(run.recipeId)) {
    if (expected.has(slide)) continue;
    const message = 'there is a slide file, and no run of this recipe has the slide';
    const next = `Remove ${keys.slide(run.recipeId, slide)} if nothing needs it.`;
    findings.push({ severity: 'warning', code: 'slide-unexpected', slide, message, next });
  }
  for (const [slide, count] of held ?? []) {
    if (expected.has(slide)) continue;
    const message = `the vector store holds ${count} rows of a slide that no run of this recipe has`;
    findings.push({ severity: 'error', code: 'store-slide-unexpected', slide, message, next: REBUILD_STORE });
  }
  return findings;
}

/** Temporary files of writers that died; those of a run that goes on now look the same. */
async function leftovers(record: Record): Promise<Finding[]> {
  let count = 0;
  for await (const _ of record.blobs.list('.tmp/')) count += 1;
  if (count === 0) return [];
  const message = `${count} temporary files: of a writer that died, or that works now`;
  const next = 'Nothing: the next run on this machine removes them, one on another machine once they are a day old.';
  return [{ severity: 'warning', code: 'temporary-files-left', slide: null, message, next }];
}
