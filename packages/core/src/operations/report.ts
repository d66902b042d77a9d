import { ahead } from '../ahead.ts';
import type { ProgressMeter } from '../pipeline/meter.ts';
import type { RunReport, SlideFailure } from '../pipeline/progress.ts';
import { shardsOf } from '../plan/grid.ts';
import type { Plan, SlideRef } from '../plan/plan.ts';
import type { Record } from '../record/record.ts';
import type { TileFailure } from '../record/tile-file.ts';
import { leftOutTally, qcTally, slideQc } from './qc-report.ts';

/** Slides looked at at once: of a bucket each answer takes some hundredths of a second, and a plan has megabytes. */
const WIDTH = 8;

/** What a run came to, counted from the record: the report of a resumed run tells of the whole, not of its last part. */
export async function reportOf(run: {
  readonly record: Record;
  readonly run: string;
  readonly recipeId: string;
  readonly model: string;
  readonly out: string;
  readonly dataset: number;
  /** What it is called while slides are unfinished. */
  readonly unfinished: 'interrupted' | 'submitted' | null;
  readonly totals: ProgressMeter['totals'];
  readonly seconds: number;
  readonly deviceBusy: number | null;
}): Promise<RunReport> {
  const { record, recipeId } = run;
  const failures: SlideFailure[] = [];
  const warnings: { slide: string; message: string }[] = [];
  const slides = { total: run.dataset, done: 0, failed: 0, empty: 0, skipped: run.totals.found };
  const tiles = { planned: 0, embedded: 0, failed: 0 };
  const leftOut = leftOutTally();
  const qc = qcTally();
  const reads = { bytes: 0, requests: 0, objectBytes: 0 };

  async function look(slide: SlideRef) {
    const { key } = slide;
    const [plan, done, ledger] = await Promise.all([
      record.getPlan(recipeId, key),
      record.hasSlide(recipeId, key),
      record.getFailures(recipeId, key),
    ]);
    const cost = done ? await record.getReads(recipeId, key).catch(() => null) : null;
    const measured = plan && (await slideQc(record, plan));
    const inShards = plan && !done ? await tilesInShards(record, plan) : 0;
    return { slide, plan, done, ledger, cost, measured, inShards };
  }

  for await (const looked of ahead(record.runSlides(run.run), WIDTH, look)) {
    const { slide, plan, done, ledger, cost, inShards } = looked;
    qc.add(looked.measured);
    if (plan) {
      tiles.planned += plan.counts.planned;
      leftOut.add(plan.counts);
      for (const message of plan.warnings) warnings.push({ slide: slide.key, message });
    }
    if (done && plan) {
      const failed = ledger?.tiles ?? [];
      slides.done += 1;
      if (plan.counts.planned === 0) slides.empty += 1;
      tiles.failed += failed.length;
      tiles.embedded += plan.counts.planned - failed.length;
      failures.push(...byCode(slide, failed));
      reads.bytes += cost?.bytes ?? 0;
      reads.requests += cost?.requests ?? 0;
      reads.objectBytes += cost?.objectBytes ?? 0;
      continue;
    }
    tiles.embedded += inShards;
    if (ledger?.slide) {
      slides.failed += 1;
      failures.push({
        slide: slide.key,
        uri: slide.uri,
        scope: 'slide',
        tiles: plan?.counts.planned ?? 0,
        error: ledger.slide,
      });
    }
  }

  return {
    version: 1,
    run: run.run,
    recipe: recipeId,
    model: run.model,
    out: run.out,
    overlays: `${run.out}/${recipeId}/qc`,
    state: run.unfinished && slides.done + slides.failed < slides.total ? run.unfinished : 'done',
    slides,
    tiles: { ...tiles, ...leftOut.sum },
    qc: qc.report(),
    failures,
    warnings,
    seconds: run.seconds,
    tilesPerSecond: run.totals.embedded / run.seconds,
    deviceBusy: run.deviceBusy,
    bytesRead: run.totals.bytesRead,
    reads,
  };
}

/** Tiles of the shards that are in, of a slide that is not done. */
async function tilesInShards(record: Record, plan: Plan): Promise<number> {
  const present = new Set((await record.listShards(plan.recipe, plan.slide.key)).map(({ index }) => index));
  return shardsOf(plan).reduce((sum, { index, from, to }) => sum + (present.has(index) ? to - from : 0), 0);
}

/** One line for each reason: thousands of tiles of one torn file are one failure to a person. */
function byCode(slide: SlideRef, tiles: readonly TileFailure[]): SlideFailure[] {
  const groups = Map.groupBy(tiles, ({ error }) => error.code);
  return [...groups.values()].map((group) => ({
    slide: slide.key,
    uri: slide.uri,
    scope: 'tile' as const,
    tiles: group.length,
    error: group[0].error,
  }));
}
