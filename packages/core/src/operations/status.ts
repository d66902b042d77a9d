import { ahead } from '../ahead.ts';
import { composeBlobs } from '../compose.ts';
import type { LeftOut, QcReport } from '../pipeline/progress.ts';
import { shardCount, tilesOfShard } from '../plan/grid.ts';
import type { PlanCounts, SlideRef } from '../plan/plan.ts';
import { openRecord, type Record } from '../record/record.ts';
import type { RunFile } from '../record/run.ts';
import { leftOutTally, qcTally, slideQc } from './qc-report.ts';

export interface StatusReport {
  readonly version: 1;
  readonly run: string;
  readonly recipe: string;
  readonly model: string;
  /** `done`: every slide is in; `failed`: nothing is left to do, and some slides failed. */
  readonly state: 'submitting' | 'running' | 'done' | 'failed';
  readonly slides: {
    readonly total: number;
    /** Have a plan. */
    readonly planned: number;
    readonly done: number;
    readonly failed: number;
  };
  /** Of the planned slides. */
  readonly shards: { readonly total: number; readonly done: number };
  /** `planned` and what was left out of the planned slides; `embedded` and `failed` of shards and slides that are in. */
  readonly tiles: StatusTiles;
}

type StatusTiles = LeftOut & { readonly planned: number; readonly embedded: number; readonly failed: number };

export interface SlideStatus {
  /** Key of the slide. */
  readonly slide: string;
  readonly uri: string;
  /** `planned`: in work, or waiting for it; `waiting`: not planned yet. */
  readonly state: 'waiting' | 'planned' | 'done' | 'failed';
  readonly tiles: StatusTiles;
  /** Null where the slide was planned without `--qc`. */
  readonly qc: QcReport | null;
}

/** A run slide by slide. */
export interface SlidesReport {
  readonly bySlide: readonly SlideStatus[];
  /** Of all slides together. */
  readonly qc: QcReport | null;
}

/** Reads how far a run is from its record, again and again; what cannot change any more is read once. */
export interface StatusReader {
  read(): Promise<StatusReport>;
  /** After a `read`: every slide by itself. Opens the footer of each slide file with QC columns. */
  slides(): Promise<SlidesReport>;
  /** After a `read`: slides that have neither a slide file nor a ledger entry. */
  unfinished(): readonly SlideRef[];
  /** After a `read`: slides that have no slide file, and a ledger entry of their own. */
  failed(): readonly SlideRef[];
  /** After a `read`: slides that have a slide file, and how many rows it holds. */
  published(): ReadonlyMap<SlideRef, number>;
}

interface PlanFacts extends Pick<PlanCounts, keyof LeftOut> {
  readonly tiles: number;
  readonly shards: number;
  readonly qc: boolean;
}

/** A slide as the last `read` found it. */
interface Looked {
  readonly slide: SlideRef;
  readonly plan: PlanFacts | null;
  readonly state: SlideStatus['state'];
  readonly embedded: number;
  readonly failed: number;
}

interface Found {
  readonly looked: readonly Looked[];
  readonly unfinished: readonly SlideRef[];
  readonly failed: readonly SlideRef[];
  readonly published: ReadonlyMap<SlideRef, number>;
}

/** Slides asked about at once: of a bucket each answer takes some hundredths of a second, and a plan has megabytes. */
const WIDTH = 8;

/** `slides` is the run's dataset. */
export function statusReader(record: Record, run: RunFile, slides: readonly SlideRef[]): StatusReader {
  const { recipeId } = run;
  const plans = new Map<string, PlanFacts>();
  const failedTiles = new Map<string, number>();
  let found: Found = { looked: [], unfinished: slides, failed: [], published: new Map() };

  async function planOf(slide: string): Promise<PlanFacts | null> {
    const known = plans.get(slide);
    if (known) return known;
    const plan = await record.getPlan(recipeId, slide);
    if (!plan) return null;
    const { planned, rejectedByTissue, rejectedByFilter, filters } = plan.counts;
    const facts = {
      ...{ tiles: planned, shards: shardCount(planned, plan.shardTiles), qc: plan.qc !== undefined },
      ...{ rejectedByTissue, rejectedByFilter, ...(filters && { filters }) },
    };
    plans.set(slide, facts);
    return facts;
  }

  async function read(): Promise<StatusReport> {
    const [planned, done, ledgers, shards] = await Promise.all([
      names(record.listPlans(recipeId)),
      names(record.listSlides(recipeId)),
      names(record.listFailures(recipeId)),
      shardsIn(record, recipeId),
    ]);
    const counts = { planned: 0, done: 0, failed: 0 };
    const shardCounts = { total: 0, done: 0 };
    const tiles = { planned: 0, embedded: 0, failed: 0 };
    const leftOut = leftOutTally();
    const all: Looked[] = [];
    const unfinished: SlideRef[] = [];
    const failed: SlideRef[] = [];
    const published = new Map<SlideRef, number>();

    async function look(slide: SlideRef) {
      const { key } = slide;
      const plan = planned.has(key) ? await planOf(key) : null;
      if (done.has(key) && plan)
        return { slide, plan, gaps: ledgers.has(key) ? await tilesFailed(key) : 0, bad: false };
      const bad = ledgers.has(key) && ((await record.getFailures(recipeId, key))?.slide ?? null) !== null;
      return { slide, plan, gaps: null, bad };
    }

    for await (const { slide, plan, gaps, bad } of ahead(slides, WIDTH, look)) {
      const { key } = slide;
      if (plan) {
        counts.planned += 1;
        tiles.planned += plan.tiles;
        shardCounts.total += plan.shards;
        leftOut.add(plan);
      }
      if (plan && gaps !== null) {
        counts.done += 1;
        shardCounts.done += plan.shards;
        tiles.failed += gaps;
        tiles.embedded += plan.tiles - gaps;
        published.set(slide, plan.tiles - gaps);
        all.push({ slide, plan, state: 'done', embedded: plan.tiles - gaps, failed: gaps });
        continue;
      }
      const present = shards.get(key) ?? [];
      const embedded = plan ? present.reduce((sum, index) => sum + tilesOfShard(plan, index), 0) : 0;
      shardCounts.done += present.length;
      tiles.embedded += embedded;
      (bad ? failed : unfinished).push(slide);
      all.push({ slide, plan, state: bad ? 'failed' : plan ? 'planned' : 'waiting', embedded, failed: 0 });
    }
    found = { looked: all, unfinished, failed, published };
    counts.failed = failed.length;
    const finished = unfinished.length === 0 && run.sealed;
    const state = !run.sealed ? 'submitting' : !finished ? 'running' : counts.failed > 0 ? 'failed' : 'done';
    return {
      version: 1,
      run: run.id,
      recipe: recipeId,
      model: run.recipe.model.name,
      state,
      slides: { total: slides.length, ...counts },
      shards: shardCounts,
      tiles: { ...tiles, ...leftOut.sum },
    };
  }

  async function bySlide(): Promise<SlidesReport> {
    const sum = qcTally();
    const each: SlideStatus[] = [];
    const look = async (of: Looked) => {
      const plan = of.plan?.qc ? await record.getPlan(recipeId, of.slide.key) : null;
      return { ...of, measured: plan && (await slideQc(record, plan)) };
    };
    for await (const { slide, state, plan, embedded, failed, measured } of ahead(found.looked, WIDTH, look)) {
      const [leftOut, own] = [leftOutTally(), qcTally()];
      if (plan) leftOut.add(plan);
      for (const tally of [sum, own]) tally.add(measured);
      const tiles = { planned: plan?.tiles ?? 0, embedded, failed, ...leftOut.sum };
      each.push({ slide: slide.key, uri: slide.uri, state, tiles, qc: own.report() });
    }
    return { bySlide: each, qc: sum.report() };
  }

  /** Tiles that failed of a slide that is done: its ledger does not change any more. */
  async function tilesFailed(slide: string): Promise<number> {
    const known = failedTiles.get(slide);
    if (known !== undefined) return known;
    const count = (await record.getFailures(recipeId, slide))?.tiles.length ?? 0;
    failedTiles.set(slide, count);
    return count;
  }

  return {
    read,
    slides: bySlide,
    unfinished: () => found.unfinished,
    failed: () => found.failed,
    published: () => found.published,
  };
}

async function names(list: AsyncIterable<string>): Promise<Set<string>> {
  const found = new Set<string>();
  for await (const name of list) found.add(name);
  return found;
}

async function shardsIn(record: Record, recipeId: string): Promise<Map<string, number[]>> {
  const found = new Map<string, number[]>();
  for await (const { slide, index } of record.listAllShards(recipeId)) {
    const list = found.get(slide);
    if (list) list.push(index);
    else found.set(slide, [index]);
  }
  return found;
}

export interface StatusOptions {
  readonly out: string;
  /** Null: the only one. */
  readonly run: string | null;
}

/** How far a run is, by its record alone: no queue is asked. */
export async function openStatus(options: StatusOptions): Promise<StatusReader> {
  const record = await openRecord(await composeBlobs(options.out));
  const run = await record.pickRun(options.run);
  return statusReader(record, run, await Array.fromAsync(record.runSlides(run.id)));
}
