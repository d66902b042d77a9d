import { NightshiftError } from '../errors.ts';
import type { ModelInfo } from '../model/encoder.ts';
import type { EmbeddingKind, Filter, Recipe, TissueOptions } from '../plan/plan.ts';
import { mpp, tilePx } from '../units.ts';

/** What a person says about the vectors; null stands for what the model's authors do. */
export interface RecipeOptions {
  /** Tile side in px. */
  readonly tilePx: number | null;
  /** um/px. */
  readonly mpp: number | null;
  readonly overlapPx: number;
  readonly embedding: EmbeddingKind | null;
  readonly tissue: TissueOptions;
  /** Whether levels finer than the tiles are decoded smaller. */
  readonly dctScaling?: boolean;
  readonly filter: Recipe['filter'];
  readonly slideMpp: number | null;
  /** Whether the objective power may stand in where a slide states no plausible mpp. */
  readonly mppFromObjective?: boolean;
  readonly limit: number | null;
}

/** The recipe of a model and options. Throws `usage` when the model cannot serve them. */
export function recipeOf(options: RecipeOptions, model: ModelInfo): Recipe {
  const vectors = embeddingOf(options.embedding, model);
  const side = options.tilePx ?? model.resize.shortEdge;
  if (options.overlapPx >= side) {
    throw new NightshiftError('usage', `--overlap ${options.overlapPx} is not less than the tile of ${side} px`);
  }
  return {
    version: 1,
    model: { name: model.name, digest: model.digest, precision: model.precision, ...vectors },
    tile: {
      px: tilePx(side),
      mpp: mpp(options.mpp ?? model.mpp),
      overlap: tilePx(options.overlapPx),
      resampling: model.resize.filter,
      ...(options.dctScaling ? { dct: true } : {}),
    },
    tissue: options.tissue,
    filter: options.filter,
    slideMpp: options.slideMpp === null ? null : mpp(options.slideMpp),
    ...(options.mppFromObjective ? { mppEstimate: 'objective' } : {}),
    limit: options.limit,
  };
}

/**
 * A graph that gives CLS+mean serves CLS (first half) and mean (second half) too; any other serves its own kind only, and the patch
 * grid beside it where it has one.
 */
function embeddingOf(
  wanted: EmbeddingKind | null,
  model: ModelInfo,
): Pick<Recipe['model'], 'embedding' | 'dims' | 'patch'> {
  const embedding = wanted ?? model.embedding;
  if (embedding === 'patch') {
    if (model.patchGrid === null) {
      throw new NightshiftError('usage', `--embedding patch: ${model.name} was converted without its patch grid`, {
        next: 'Convert the model again with `nightshift model convert --patch-grid`.',
      });
    }
    return { embedding, dims: model.dims, patch: { grid: model.patchGrid, width: model.architecture.width } };
  }
  if (embedding === model.embedding) return { embedding, dims: model.dims };
  if (model.embedding === 'cls+mean' && (embedding === 'cls' || embedding === 'mean')) {
    return { embedding, dims: model.dims / 2 };
  }
  throw new NightshiftError('usage', `--embedding ${embedding}: ${model.name} gives ${model.embedding}`, {
    next: `Convert the model again with \`nightshift model convert --embedding ${embedding}\`.`,
  });
}

/** What the model's authors do to a tile that is not of the input's size; null where nothing is left to do. */
export function fitOf(
  recipe: Recipe,
  model: ModelInfo,
): { readonly shortEdge: number; readonly filter: Filter; readonly crop: number } | null {
  const { shortEdge, filter } = model.resize;
  if (recipe.tile.px === shortEdge && shortEdge === model.inputPx) return null;
  return { shortEdge, filter, crop: model.inputPx };
}
