import { availableParallelism } from 'node:os';
import { composeSource } from '../compose.ts';
import { type ErrorRecord, isNightshiftError, toErrorRecord } from '../errors.ts';
import { findModel } from '../model/find.ts';
import type { LeftOut, QcReport } from '../pipeline/progress.ts';
import { slideCache } from '../pipeline/slide-cache.ts';
import { evenly, levelPositions, shardCount } from '../plan/grid.ts';
import { makePlan } from '../plan/make-plan.ts';
import { outlineDigest, parseOutline } from '../plan/outline-file.ts';
import type { Plan, PlanCounts, Recipe, SlideRef, TissueOutline } from '../plan/plan.ts';
import { recipeId, slideKey } from '../plan/recipe.ts';
import { createDecodePool } from '../slide/decode-pool.ts';
import { layoutOf } from '../slide/layout.ts';
import { resolveMpp } from '../slide/mpp.ts';
import { readOverview } from '../slide/overview.ts';
import type { Slide } from '../slide/slide.ts';
import { outlineNames } from '../source/outlines.ts';
import { listDataset, type OutlineSource } from './dataset.ts';
import { judgeTiles } from './judge-tiles.ts';
import { leftOutTally, qcTally } from './qc-report.ts';
import { recipeOf } from './recipe-options.ts';
import { outlinesOf, type SealOptions } from './seal-run.ts';

export interface DryRunReport {
  readonly version: 1;
  readonly recipe: string;
  readonly model: string;
  readonly slides: { readonly total: number; readonly accepted: number; readonly refused: number };
  /** Slides whose tissue was looked for; the figures below are theirs, scaled to all that are accepted. */
  readonly sampled: number;
  readonly tiles: number;
  readonly leftOut: LeftOut;
  readonly shards: number;
  /** Tiles that were read to see what the filter and `qc` would find; 0 without either. */
  readonly judged: number;
  /** Of the tiles that were read; `embedded` are those that a run would embed. Null without `qc`. */
  readonly qc: QcReport | null;
  /** Compressed bytes that embedding reads, and the filter before it, and all that the accepted slides hold. */
  readonly bytesToRead: number;
  readonly bytesTotal: number;
  readonly refused: readonly { readonly uri: string; readonly error: ErrorRecord }[];
}

/** Slides whose tissue is looked for at most, spread evenly: reading thousands of overviews would take longer than a person waits. */
const MOST_SAMPLED = 64;
/** Tiles that are read for the filter and for QC at most, of all slides together: some seconds of decoding. */
const MOST_JUDGED = 8192;

/**
 * What a run would do: which slides it would refuse and why, how many tiles it would cut, what it would read. Opens the header of
 * every slide; writes nothing. With a filter or `qc` some tiles are read, spread evenly, and speak for the others.
 */
export async function dryRun(
  options: SealOptions,
  hooks: {
    readonly signal: AbortSignal;
    readonly onNotice: (message: string) => void;
    /** `done` has parts of a slide whose tiles are read. */
    readonly onSlide?: (done: number, total: number) => void;
  },
): Promise<DryRunReport> {
  const { signal, onSlide } = hooks;
  const model = await findModel(options.model, options.modelDirs);
  const recipe = recipeOf(options, model.info);
  const outlines = await outlinesOf(options, async (outline) => outlineDigest(outline));
  const dataset = await listDataset(options.sources, {
    signal,
    onWarning: hooks.onNotice,
    outlines,
    slideMpps: options.slideMpps ?? [],
  });
  const pool = createDecodePool({ threads: Math.max(1, availableParallelism() - 1) });
  const cache = slideCache(composeSource);
  const total = dataset.slides;
  const every = Math.max(1, total / MOST_SAMPLED);
  const refused: { uri: string; error: ErrorRecord }[] = [];
  const reads = recipe.filter !== 'none' || options.qc === true;
  const mostJudged = Math.ceil(MOST_JUDGED / Math.max(1, Math.min(total, MOST_SAMPLED)));
  const sample = { slides: 0, tiles: 0, shards: 0, bytes: 0, judged: 0 };
  const leftOut = leftOutTally();
  const qc = qcTally();
  let bytesTotal = 0;

  async function look(ref: SlideRef, i: number, sampled: boolean): Promise<void> {
    const { slide, giveBack } = await cache.borrow(ref);
    try {
      const mpp = resolveMpp(slide, ref.mpp ?? recipe.slideMpp, recipe.mppEstimate !== undefined);
      const overview = sampled ? await readOverview(slide, { maxPixels: 1_000_000 }, pool, signal) : null;
      const tissue: Recipe['tissue'] = overview || ref.outline === '' ? recipe.tissue : { method: 'none', min: 0 };
      const plan = makePlan({
        slide,
        ref,
        mpp,
        overview,
        drawn: sampled && ref.outline ? await drawnFor(outlines, ref) : null,
        recipe: { ...recipe, tissue },
        recipeId: recipeId(recipe),
        shardTiles: options.shardTiles,
        ...(options.qc && { qc: true }),
      });
      bytesTotal += slide.source.size;
      if (!overview) return;
      const onTiles = (done: number, of: number) => onSlide?.(i + done / of, total);
      const looked = reads ? await judgeTiles(slide, some(plan, mostJudged), recipe, pool, { signal, onTiles }) : null;
      const { tiles, read, counts } = expected(plan, looked?.plan.counts ?? null, recipe);
      sample.slides += 1;
      sample.tiles += tiles;
      sample.shards += shardCount(tiles, plan.shardTiles);
      sample.bytes += (await under(slide, plan, tiles)) + (read > 0 ? await under(slide, plan, read) : 0);
      sample.judged += looked ? Math.min(mostJudged, plan.x.length) : 0;
      leftOut.add(counts);
      qc.add(looked?.qc ?? null);
    } finally {
      giveBack();
    }
  }

  /** Compressed bytes under so many of a plan's tiles: a limit spreads them, a filter leaves them side by side. */
  const under = async (slide: Slide, plan: Plan, tiles: number): Promise<number> =>
    recipe.limit === null
      ? ((await bytesUnder(slide, plan)) * tiles) / Math.max(1, plan.x.length)
      : bytesUnder(slide, some(plan, tiles));

  try {
    let i = 0;
    for await (const ref of dataset.refs()) {
      signal.throwIfAborted();
      const sampled = Math.floor(i / every) !== Math.floor((i - 1) / every);
      try {
        await look(ref, i, sampled);
      } catch (error) {
        if (!isNightshiftError(error) || error.scope !== 'slide') throw error;
        refused.push({ uri: ref.uri, error: toErrorRecord(error) });
      }
      i += 1;
      onSlide?.(i, total);
    }
  } finally {
    await Promise.all([pool.close(), cache.close(), dataset.close()]);
  }
  const accepted = total - refused.length;
  const scale = sample.slides > 0 ? accepted / sample.slides : 0;
  const { rejectedByTissue, rejectedByFilter, filters } = leftOut.sum;
  const scaled = (count: number) => Math.round(count * scale);
  return {
    version: 1,
    recipe: recipeId(recipe),
    model: recipe.model.name,
    slides: { total, accepted, refused: refused.length },
    sampled: sample.slides,
    tiles: scaled(sample.tiles),
    leftOut: {
      rejectedByTissue: scaled(rejectedByTissue),
      rejectedByFilter: scaled(rejectedByFilter),
      filters: Object.fromEntries(Object.entries(filters).map(([name, count]) => [name, scaled(count)])),
    },
    shards: scaled(sample.shards),
    judged: sample.judged,
    qc: qc.report(),
    bytesToRead: scaled(sample.bytes),
    bytesTotal,
    refused,
  };
}

/** The plan with at most so many of its tiles, spread evenly. */
function some(plan: Plan, most: number): Plan {
  const tiles = evenly(Math.min(most, plan.x.length), plan.x.length);
  const counts = { ...plan.counts, planned: tiles.length, rejectedByLimit: plan.x.length - tiles.length };
  return { ...plan, x: tiles.map((i) => plan.x[i]), y: tiles.map((i) => plan.y[i]), counts };
}

/** What a plan comes to if its tiles fare as those that were judged: tiles to embed, and tiles that the filter reads before. */
function expected({ x, counts }: Plan, judged: PlanCounts | null, { filter, limit }: Recipe) {
  if (judged === null || filter === 'none') return { tiles: x.length, read: 0, counts };
  const seen = judged.planned + judged.rejectedByFilter;
  const share = seen === 0 ? 0 : judged.planned / seen;
  const tiles = Math.min(limit ?? x.length, Math.round(share * x.length));
  const read = share === 0 ? x.length : Math.min(x.length, Math.ceil(tiles / share));
  const of = (count: number) => (seen === 0 ? 0 : (count / seen) * read);
  const filters = Object.fromEntries(Object.entries(judged.filters ?? {}).map(([name, count]) => [name, of(count)]));
  return { tiles, read, counts: { ...counts, rejectedByFilter: of(judged.rejectedByFilter), filters } };
}

async function drawnFor(
  outlines: OutlineSource | null,
  { uri, contentId, mpp }: SlideRef,
): Promise<TissueOutline | null> {
  const found = await outlines?.folder.read(outlineNames(uri, slideKey(uri, contentId, mpp)));
  return found ? parseOutline(found.text, found.uri) : null;
}

/** Compressed bytes of the blocks under a plan's tiles, each once. */
async function bytesUnder(slide: Slide, plan: Plan): Promise<number> {
  const { level, readPx, down } = plan.geometry;
  const { columns } = slide.levels[level]!;
  const { x, y } = levelPositions(plan);
  const index = await slide.blocks(level);
  const layout = layoutOf(slide.levels[level]!, index);
  const blocks = new Set<number>();
  for (let i = 0; i < x.length; i++) {
    for (const { block } of layout.under(x[i], y[i], readPx, down?.readPx ?? readPx)) blocks.add(block);
  }
  let bytes = 0;
  for (const block of blocks) bytes += index.range(block % columns, Math.floor(block / columns))?.length ?? 0;
  return bytes;
}
