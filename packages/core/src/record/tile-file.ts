import { z } from 'zod';
import { ERROR_CODES, type ErrorCode, type ErrorRecord, NightshiftError } from '../errors.ts';
import type { Plan, Recipe, Shard, SlideRef } from '../plan/plan.ts';
import { type QcHistograms, qcSchema } from '../plan/qc.ts';
import { canonicalJson, recipeSchema } from '../plan/recipe.ts';
import type { MppReading } from '../slide/slide.ts';
import type { ReadCost } from '../source/counted.ts';
import { type BasePx, basePx } from '../units.ts';
import { openTiles, type TileRows } from './arrow.ts';
import type { Blobs } from './blobs.ts';
import { parse } from './run.ts';

/** A tile without a vector: its level-0 position and why. */
export interface TileFailure {
  readonly x: BasePx;
  readonly y: BasePx;
  readonly error: ErrorRecord;
}

/** What a shard or slide file says of itself, in its Arrow schema metadata under `nightshift.*`. */
export interface TileFileInfo {
  readonly recipeId: string;
  readonly recipe: Recipe;
  readonly slide: SlideRef;
  readonly size: { readonly width: BasePx; readonly height: BasePx };
  readonly mpp: MppReading;
  /** Pyramid level that the tiles were read from. */
  readonly level: number;
  /** Side of a tile in level-0 px; its width where pixels are not square. */
  readonly tileSize: BasePx;
  /** Where pixels are not square. */
  readonly tileHeight?: BasePx;
  /** Tiles of the slide's plan. */
  readonly planned: number;
  /** The part of the plan that a shard file covers; null for a slide file, which covers all. */
  readonly shard: Shard | null;
  /** In plan order. Rows and failures together are the planned tiles. */
  readonly failures: readonly TileFailure[];
  /** Of a shard file only: a slide file is the same bytes however often its slide was read. */
  readonly reads: ReadCost | null;
  /** Of the rows, in a file that has the QC columns. */
  readonly qc?: QcHistograms;
}

/** Rows that a file of this info holds. */
function rowsOf({ planned, shard, failures }: TileFileInfo): number {
  return (shard ? shard.to - shard.from : planned) - failures.length;
}

export function infoOf(
  recipe: Recipe,
  plan: Plan,
  shard: Shard | null,
  failures: readonly TileFailure[],
  { reads = null, qc }: { readonly reads?: ReadCost | null; readonly qc?: QcHistograms | undefined } = {},
): TileFileInfo {
  const { slide, size, mpp, geometry } = plan;
  const { level, sizeBase, down } = geometry;
  return {
    recipeId: plan.recipe,
    recipe,
    slide,
    size,
    mpp,
    level,
    tileSize: sizeBase,
    ...(down && { tileHeight: down.sizeBase }),
    planned: plan.x.length,
    shard,
    failures,
    reads,
    ...(qc && { qc }),
  };
}

/** The metadata that readers of other languages see: flat strings, JSON where a value has parts. */
export function toMetadata(info: TileFileInfo): Map<string, string> {
  const { recipe, slide, mpp, shard } = info;
  const failures = info.failures.map(({ x, y, error: { code, message, data } }) =>
    Object.keys(data).length > 0 ? { x, y, code, message, data } : { x, y, code, message },
  );
  const entries: [string, unknown][] = [
    ['version', 1],
    ['recipe_id', info.recipeId],
    ['recipe', canonicalJson(recipe)],
    ['model', recipe.model.name],
    ['model_digest', recipe.model.digest],
    ['embedding', recipe.model.embedding],
    ['dims', recipe.model.dims],
    ...patchShape(recipe),
    ['slide_key', slide.key],
    ['slide_uri', slide.uri],
    ['slide_content_id', slide.contentId],
    ['slide_mpp', slide.mpp ?? ''],
    ...(slide.outline === undefined ? [] : [['slide_outline', slide.outline] as [string, string]]),
    ['slide_width', info.size.width],
    ['slide_height', info.size.height],
    ['mpp_x', mpp.x],
    ['mpp_y', mpp.y],
    ['mpp_source', mpp.source],
    ['level', info.level],
    ['tile_size', info.tileSize],
    ...(info.tileHeight === undefined ? [] : [['tile_height', info.tileHeight] as [string, unknown]]),
    ['planned', info.planned],
    ['shard', shard ? JSON.stringify({ index: shard.index, from: shard.from, to: shard.to }) : ''],
    ['failures', JSON.stringify(failures)],
    ...(info.reads ? [['reads', JSON.stringify(info.reads)] as [string, string]] : []),
    ...(info.qc ? [['qc', JSON.stringify(info.qc)] as [string, string]] : []),
  ];
  return new Map(entries.map(([key, value]) => [`nightshift.${key}`, String(value)]));
}

/** How a row of the column `patch` is laid out, where there is one. */
function patchShape({ model: { patch } }: Recipe): [string, string][] {
  return patch ? [['patch_shape', JSON.stringify([patch.grid, patch.grid, patch.width])]] : [];
}

const count = z.int().nonnegative();
const positive = z.number().positive();
const schema = z.object({
  version: z.literal(1),
  recipe_id: z.string().min(1),
  recipe: recipeSchema,
  slide_key: z.string().min(1),
  slide_uri: z.string(),
  slide_content_id: z.string(),
  slide_mpp: positive.nullable(),
  slide_outline: z.string().nullable(),
  slide_width: count,
  slide_height: count,
  mpp_x: positive,
  mpp_y: positive,
  mpp_source: z.string(),
  level: count,
  tile_size: count,
  tile_height: count.nullable(),
  planned: count,
  shard: z.object({ index: count, from: count, to: count }).nullable(),
  failures: z.array(
    z.object({
      x: z.int(),
      y: z.int(),
      code: z.string(),
      message: z.string(),
      data: z.record(z.string(), z.unknown()).optional(),
    }),
  ),
  reads: z.object({ bytes: count, requests: count }).nullable(),
  qc: qcSchema.nullable(),
});

const TEXT = new Set(['recipe_id', 'slide_key', 'slide_uri', 'slide_content_id', 'slide_outline', 'mpp_source']);

/** @throws `record-corrupt` naming the file and the first thing wrong. */
export function fromMetadata(metadata: ReadonlyMap<string, string>, name: string): TileFileInfo {
  const json = Object.keys(schema.shape).map((key) => {
    const value = metadata.get(`nightshift.${key}`);
    return `${JSON.stringify(key)}:${TEXT.has(key) ? JSON.stringify(value ?? null) : value || 'null'}`;
  });
  const m = parse(schema, `{${json.join(',')}}`, `${name} (schema metadata)`);
  return {
    recipeId: m.recipe_id,
    recipe: m.recipe as Recipe,
    slide: {
      key: m.slide_key,
      uri: m.slide_uri,
      contentId: m.slide_content_id,
      mpp: m.slide_mpp as SlideRef['mpp'],
      ...(m.slide_outline === null ? {} : { outline: m.slide_outline }),
    },
    size: { width: basePx(m.slide_width), height: basePx(m.slide_height) },
    mpp: { x: m.mpp_x, y: m.mpp_y, source: m.mpp_source } as MppReading,
    level: m.level,
    tileSize: basePx(m.tile_size),
    ...(m.tile_height === null ? {} : { tileHeight: basePx(m.tile_height) }),
    planned: m.planned,
    shard: m.shard,
    failures: m.failures.map(({ x, y, code, message, data }) => ({
      x: basePx(x),
      y: basePx(y),
      error: { code: code as ErrorCode, message, next: ERROR_CODES[code as ErrorCode]?.next ?? '', data: data ?? {} },
    })),
    reads: m.reads,
    ...(m.qc && { qc: m.qc }),
  };
}

/** An open slide or shard file. */
export interface TileFile {
  readonly info: TileFileInfo;
  readonly dims: number;
  /** Values of a row in the column `patch`; 0 without one. */
  readonly patch: number;
  /** Whether rows have their QC measures. */
  readonly qc: boolean;
  /** Rows that the file says it holds. */
  readonly rows: number;
  /** In plan order, one record batch in memory at a time: as many rows as the shard it came from. */
  batches(): AsyncGenerator<TileRows>;
  close(): Promise<void>;
}

/** Opens a tile file of the record; null where there is none. @throws `record-corrupt` */
export async function openTileFile(blobs: Blobs, key: string): Promise<TileFile | null> {
  const source = await blobs.open(key);
  if (!source) return null;
  const { dims, patch, qc, metadata, batches, close } = await openTiles(source);
  try {
    const info = fromMetadata(metadata, key);
    if (qc !== (info.qc !== undefined)) {
      const [has, lacks] = qc ? ['columns', 'histograms'] : ['histograms', 'columns'];
      throw new NightshiftError('record-corrupt', `${key} has QC ${has} and no ${lacks}`);
    }
    return { info, dims, patch, qc, rows: rowsOf(info), batches, close };
  } catch (error) {
    await close();
    throw error;
  }
}
