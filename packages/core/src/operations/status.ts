import { ahead } from '../ahead.ts';
import { composeBlobs } from '../compose.ts';
import { shardCount, tilesOfShard } from '../plan/grid.ts';
import type { SlideRef } from '../plan/plan.ts';
import { openRecord, type Record } from '../record/record.ts';
import type { RunFile } from '../record/run.ts';

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
  /** `planned` of the planned slides; `embedded` and `failed` of shards and slides that are in. */
  readonly tiles: { readonly planned: number; readonly embedded: number; readonly failed: number };
}

/** Reads how far a run is from its record, again and again; what cannot change any more is read once. */
export interface StatusReader {
  read(): Promise<StatusReport>;
  /** After a `read`: slides that have neither a slide file nor a ledger entry. */
  unfinished(): readonly SlideRef[];
  /** After a `read`: slides that have no slide file, and a ledger entry of their own. */
  failed(): readonly SlideRef[];
  /** After a `read`: slides that have a slide file, and how many rows it holds. */
  published(): ReadonlyMap<SlideRef, number>;
}

interface PlanFacts {
  readonly tiles: number;
  readonly shards: number;
}

interface Found {
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
  let found: Found = { unfinished: slides, failed: [], published: new Map() };

  async function planOf(slide: string): Promise<PlanFacts | null> {
    const known = plans.get(slide);
    if (known) return known;
    const plan = await record.getPlan(recipeId, slide);
    if (!plan) return null;
    const facts = { tiles: plan.counts.planned, shards: shardCount(plan.counts.planned, plan.shardTiles) };
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
      }
      if (plan && gaps !== null) {
        counts.done += 1;
        shardCounts.done += plan.shards;
        tiles.failed += gaps;
        tiles.embedded += plan.tiles - gaps;
        published.set(slide, plan.tiles - gaps);
        continue;
      }
      const present = shards.get(key) ?? [];
      shardCounts.done += present.length;
      if (plan) for (const index of present) tiles.embedded += tilesOfShard(plan, index);
      (bad ? failed : unfinished).push(slide);
    }
    found = { unfinished, failed, published };
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
      tiles,
    };
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
