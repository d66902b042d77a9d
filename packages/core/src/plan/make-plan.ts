import { z } from 'zod';
import { NightshiftError } from '../errors.ts';
import type { MppReading, Slide } from '../slide/slide.ts';
import { basePx, mpp as umPerPx } from '../units.ts';
import { tissueArea } from './area.ts';
import { tileGeometry } from './geometry.ts';
import { planTiles } from './grid.ts';
import { outlineOf } from './outline.ts';
import { outlineArea } from './outline-file.ts';
import type { Plan, Recipe, SlideRef, TileGeometry, TissueOutline } from './plan.ts';
import { qcSchema } from './qc.ts';
import { firstIssue, patchValues } from './recipe.ts';
import { findTissue, type Overview } from './tissue.ts';

/** An overview with its scale: level-0 pixels per overview pixel. */
export interface ScaledOverview extends Overview {
  readonly downsampleX: number;
  readonly downsampleY: number;
}

/** Of a shard with patch grids: Midnight's are 786 kB a tile, and a shard is held, written and joined as one. */
const SHARD_PATCH_BYTES = 32 * 1024 * 1024;

const mostShardTiles = (recipe: Recipe): number =>
  Math.max(1, Math.floor(SHARD_PATCH_BYTES / (2 * patchValues(recipe))));

const NO_OUTLINE: TissueOutline = { type: 'FeatureCollection', features: [] };

/**
 * The plan of one slide: JSON-safe and the same for the same input. `overview` may be null where the recipe looks for no tissue.
 * A slide with no tissue, or smaller than a tile, gives a plan of 0 tiles with a warning. Throws what `tileGeometry` throws.
 */
export function makePlan(input: {
  /** Metadata only; nothing is read. */
  readonly slide: Pick<Slide, 'levels' | 'vendor' | 'objectivePower'>;
  readonly ref: SlideRef;
  readonly mpp: MppReading;
  readonly overview: ScaledOverview | null;
  /** For the tissue method `outline`. */
  readonly drawn?: TissueOutline | null;
  readonly recipe: Recipe;
  readonly recipeId: string;
  /** At most; fewer where a tile has a patch grid. */
  readonly shardTiles: number;
  /** Whether tiles are to be measured for QC. */
  readonly qc?: boolean;
}): Plan {
  const { slide, ref, mpp, overview, recipe } = input;
  const base = slide.levels[0];
  const { geometry, warnings } = tileGeometry(slide.levels, mpp, recipe.tile);

  if (mpp.source === 'estimate') {
    warnings.push(
      `The file states no plausible mpp: ${mpp.x} um/px is an estimate from its objective power, ${slide.objectivePower}.`,
    );
  }
  let outline = NO_OUTLINE;
  let tissue: ReturnType<typeof tissueArea> | null = null;
  if (recipe.tissue.method === 'auto') {
    if (!overview) throw new NightshiftError('internal', `${ref.key}: tissue is to be found, but there is no overview`);
    const { downsampleX, downsampleY } = overview;
    const mask = findTissue(overview, umPerPx(((mpp.x + mpp.y) / 2) * downsampleX));
    tissue = tissueArea(mask, downsampleX, downsampleY);
    outline = outlineOf(mask, { downsampleX, downsampleY, width: base.width, height: base.height });
    if (mask.share === 0) warnings.push('No tissue was found: the slide looks empty. --tissue none takes every tile.');
  }

  if (recipe.tissue.method === 'outline') {
    if (!input.drawn) throw new NightshiftError('outline-missing', `${ref.uri} had no outline when the run was made`);
    outline = input.drawn;
    const { area, share, leaves } = outlineArea(outline, base);
    tissue = area;
    if (share === 0) warnings.push('The outline holds nothing of the slide.');
    if (leaves) warnings.push('The outline reaches far beyond the slide: are its coordinates level-0 pixels?');
  }

  const level = slide.levels[geometry.level];
  const { x, y, counts } = planTiles({
    level,
    geometry,
    tissue,
    minTissue: recipe.tissue.min,
    // A limit counts tiles that pass the filter, which is to come.
    limit: recipe.filter === 'none' ? recipe.limit : null,
  });
  if (counts.grid === 0) {
    warnings.push(
      `The slide is smaller than one tile: ${base.width} x ${base.height} px, a tile covers ${covered(geometry)} px.`,
    );
  }
  return {
    version: 1,
    recipe: input.recipeId,
    slide: {
      ...{ key: ref.key, uri: ref.uri, contentId: ref.contentId, mpp: ref.mpp },
      ...(ref.outline === undefined ? {} : { outline: ref.outline }),
    },
    size: { width: basePx(base.width), height: basePx(base.height) },
    vendor: slide.vendor,
    mpp: { x: mpp.x, y: mpp.y, source: mpp.source },
    objectivePower: slide.objectivePower,
    geometry,
    shardTiles: Math.min(input.shardTiles, mostShardTiles(recipe)),
    ...(input.qc ? { qc: {} } : {}),
    x,
    y,
    counts,
    outline,
    warnings,
  };
}

const covered = ({ sizeBase, down }: TileGeometry): string => (down ? `${sizeBase} x ${down.sizeBase}` : `${sizeBase}`);

const count = z.int().nonnegative();
const positive = z.number().positive();

const side = { readPx: z.int().positive(), strideLevelPx: z.int().positive(), sizeBase: z.int().positive() };

const planSchema = z
  .object({
    version: z.literal(1),
    recipe: z.string().min(1),
    slide: z.object({
      key: z.string().min(1),
      uri: z.string(),
      contentId: z.string(),
      mpp: positive.nullable(),
      outline: z.string().optional(),
    }),
    size: z.object({ width: z.int().positive(), height: z.int().positive() }),
    vendor: z.string(),
    mpp: z.object({
      x: positive,
      y: positive,
      source: z.enum(['aperio', 'tiff-resolution', 'ome', 'dicom', 'vendor', 'override', 'estimate']),
    }),
    objectivePower: z.number().nullable(),
    geometry: z.object({
      level: count,
      downsample: z.number().min(1),
      ...side,
      dct: z.literal([2, 4, 8]).optional(),
      tilePx: z.int().positive(),
      down: z.object(side).optional(),
    }),
    shardTiles: z.int().positive(),
    qc: z.object({ dropped: qcSchema.optional() }).optional(),
    x: z.array(count),
    y: z.array(count),
    counts: z.object({
      grid: count,
      rejectedByTissue: count,
      rejectedByFilter: count,
      rejectedByLimit: count,
      planned: count,
      filters: z.object({ hsv: count.optional(), blur: count.optional(), pen: count.optional() }).optional(),
    }),
    outline: z.object({
      type: z.literal('FeatureCollection'),
      features: z.array(
        z.object({
          type: z.literal('Feature'),
          properties: z.record(z.string(), z.unknown()),
          geometry: z.object({
            type: z.literal('Polygon'),
            coordinates: z.array(z.array(z.tuple([z.number(), z.number()]))),
          }),
        }),
      ),
    }),
    warnings: z.array(z.string()),
    reads: z.object({ bytes: count, requests: count, objectBytes: count }).optional(),
  })
  .refine((p) => p.x.length === p.counts.planned && p.y.length === p.counts.planned, {
    path: ['counts', 'planned'],
    error: 'does not equal the number of coordinates',
  })
  .refine(({ counts: c }) => c.grid === c.planned + c.rejectedByTissue + c.rejectedByFilter + c.rejectedByLimit, {
    path: ['counts', 'grid'],
    error: 'is not the sum of planned and rejected tiles',
  });

/** A plan read back from the record. Throws `record-corrupt` that names the file, `name`, and the first thing wrong. */
export function parsePlan(json: string | Uint8Array, name = 'plan'): Plan {
  let value: unknown;
  try {
    value = JSON.parse(typeof json === 'string' ? json : new TextDecoder('utf-8', { fatal: true }).decode(json));
  } catch (cause) {
    throw new NightshiftError('record-corrupt', `${name} is not JSON`, { cause });
  }
  const parsed = planSchema.safeParse(value);
  if (parsed.success) return parsed.data as unknown as Plan;
  throw new NightshiftError('record-corrupt', `${name} is not a plan: ${firstIssue(parsed.error)}`);
}
