import { availableParallelism } from 'node:os';
import { composeSource } from '../compose.ts';
import { type ErrorRecord, isNightshiftError, toErrorRecord } from '../errors.ts';
import { findModel } from '../model/find.ts';
import { slideCache } from '../pipeline/slide-cache.ts';
import { levelPositions, shardsOf } from '../plan/grid.ts';
import { makePlan } from '../plan/make-plan.ts';
import { outlineDigest, parseOutline } from '../plan/outline-file.ts';
import type { Plan, Recipe, SlideRef, TissueOutline } from '../plan/plan.ts';
import { recipeId, slideKey } from '../plan/recipe.ts';
import { createDecodePool } from '../slide/decode-pool.ts';
import { layoutOf } from '../slide/layout.ts';
import { resolveMpp } from '../slide/mpp.ts';
import { readOverview } from '../slide/overview.ts';
import type { Slide } from '../slide/slide.ts';
import { outlineNames } from '../source/outlines.ts';
import { listDataset, type OutlineSource } from './dataset.ts';
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
  readonly shards: number;
  /** Compressed bytes that embedding reads, and all that the accepted slides hold. */
  readonly bytesToRead: number;
  readonly bytesTotal: number;
  readonly refused: readonly { readonly uri: string; readonly error: ErrorRecord }[];
}

/** Slides whose tissue is looked for at most, spread evenly: reading thousands of overviews would take longer than a person waits. */
const MOST_SAMPLED = 64;

/**
 * What a run would do: which slides it would refuse and why, how many tiles it would cut, what it would read. Opens the header of
 * every slide; writes nothing.
 */
export async function dryRun(
  options: SealOptions,
  hooks: {
    readonly signal: AbortSignal;
    readonly onNotice: (message: string) => void;
    readonly onSlide?: (done: number, total: number) => void;
  },
): Promise<DryRunReport> {
  const { signal } = hooks;
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
  const sample = { slides: 0, tiles: 0, shards: 0, bytes: 0 };
  let bytesTotal = 0;

  async function look(ref: SlideRef, sampled: boolean): Promise<void> {
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
        // A limit counts tiles after the filter, which is not looked at here: taken as if all pass.
        recipe: { ...recipe, tissue, filter: 'none' },
        recipeId: recipeId(recipe),
        shardTiles: options.shardTiles,
      });
      bytesTotal += slide.source.size;
      if (!overview) return;
      sample.slides += 1;
      sample.tiles += plan.x.length;
      sample.shards += shardsOf(plan).length;
      sample.bytes += await bytesUnder(slide, plan);
    } finally {
      giveBack();
    }
  }

  try {
    let i = 0;
    for await (const ref of dataset.refs()) {
      signal.throwIfAborted();
      const sampled = Math.floor(i / every) !== Math.floor((i - 1) / every);
      try {
        await look(ref, sampled);
      } catch (error) {
        if (!isNightshiftError(error) || error.scope !== 'slide') throw error;
        refused.push({ uri: ref.uri, error: toErrorRecord(error) });
      }
      i += 1;
      hooks.onSlide?.(i, total);
    }
  } finally {
    await Promise.all([pool.close(), cache.close(), dataset.close()]);
  }
  const accepted = total - refused.length;
  const scale = sample.slides > 0 ? accepted / sample.slides : 0;
  return {
    version: 1,
    recipe: recipeId(recipe),
    model: recipe.model.name,
    slides: { total, accepted, refused: refused.length },
    sampled: sample.slides,
    tiles: Math.round(sample.tiles * scale),
    shards: Math.round(sample.shards * scale),
    bytesToRead: Math.round(sample.bytes * scale),
    bytesTotal,
    refused,
  };
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
