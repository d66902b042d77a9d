import type { Measure } from '../slide/measure/measure.ts';
import type { Filter } from '../slide/resample.ts';
import type { MppReading } from '../slide/slide.ts';
import type { SlideReads } from '../source/counted.ts';
import type { BasePx, LevelPx, Mpp, TilePx } from '../units.ts';

import type { QcHistograms } from './qc.ts';

export type { Filter };

/** Everything that decides a vector. Hashed in canonical JSON: the recipe id. Two equal recipes give equal vectors. */
export interface Recipe {
  readonly version: 1;
  readonly model: {
    readonly name: string;
    /** sha256 over graph and weights, from model.json. */
    readonly digest: string;
    readonly precision: string;
    readonly embedding: EmbeddingKind;
    readonly dims: number;
    /** Of the embedding `patch`: the grid of patch vectors, [grid, grid, width], that a tile has beside its vector. */
    readonly patch?: { readonly grid: number; readonly width: number };
  };
  readonly tile: {
    readonly px: TilePx;
    readonly mpp: Mpp;
    readonly overlap: TilePx;
    readonly resampling: Filter;
    /** Levels finer than the tiles are decoded smaller, which is faster and changes pixels a little. */
    readonly dct?: true;
  };
  readonly tissue: TissueOptions;
  /** What tiles must pass, judged when the slide is planned. */
  readonly filter: 'none' | (typeof FILTERS)[number];
  /** The person's own mpp for every slide of the run; null: as the slide states. */
  readonly slideMpp: Mpp | null;
  /** Where the mpp of a slide that states none plausible comes from; absent: from nowhere, the slide is refused. */
  readonly mppEstimate?: 'objective';
  /** At most this many tiles a slide, of those that pass the filter, spread evenly; null: all. */
  readonly limit: number | null;
}

/** By the measure that decides. `hsv`: H&E colours, Midnight's filter; `blur`: in focus; `pen`: not drawn over. */
export type FilterName = Measure;

/** Filters, and those that a tile must pass together. */
export const FILTERS = ['hsv', 'blur', 'pen', 'hsv+blur', 'hsv+pen', 'blur+pen', 'hsv+blur+pen'] as const;

/** `patch`: the vector that the model gives, and its patch grid in a column beside it. */
export type EmbeddingKind = 'cls' | 'mean' | 'cls+mean' | 'patch';

export interface TissueOptions {
  /** `outline`: as the person drew it, see `SlideRef.outline`. */
  readonly method: 'auto' | 'none' | 'outline';
  /** Least share of a tile that must be tissue, 0 to 1. */
  readonly min: number;
}

/** A slide of a dataset, by what identifies it. */
export interface SlideRef {
  /** Readable stem plus a short hash of uri and content id: names files of the record. */
  readonly key: string;
  readonly uri: string;
  readonly contentId: string;
  /** This slide's own mpp, from a manifest column; it goes before `Recipe.slideMpp` and is part of the key. */
  readonly mpp: Mpp | null;
  /**
   * Where the recipe takes tissue from outlines: the digest of this slide's, which the record holds; empty where there was none. Part of
   * the key.
   */
  readonly outline?: string;
}

/** A side of a tile. */
export interface TileSide {
  /** Of what is read, in pixels of the level. */
  readonly readPx: LevelPx;
  /** Distance of neighbouring tiles, in pixels of the level. */
  readonly strideLevelPx: LevelPx;
  /** In level-0 pixels, rounded. */
  readonly sizeBase: BasePx;
}

/** How tiles are read: from `level`, a square of side `readPx`, resampled to `tilePx`. All tiles of a plan are read alike. */
export interface TileGeometry extends TileSide {
  readonly level: number;
  readonly downsample: number;
  /** Blocks are decoded so many times smaller, see `TileRequest.dct`; `readPx`, stride and corners are multiples of it. Absent: whole. */
  readonly dct?: 2 | 4 | 8;
  readonly tilePx: TilePx;
  /** The vertical side where the slide's pixels are not square; the other one is the horizontal then. Absent: as the horizontal. */
  readonly down?: TileSide;
}

/** The tiles of one slide: data, made once, immutable in the record. Tile i is (x[i], y[i]), level-0 px of its top-left corner. */
export interface Plan {
  readonly version: 1;
  readonly recipe: string;
  readonly slide: SlideRef;
  readonly size: { readonly width: BasePx; readonly height: BasePx };
  readonly vendor: string;
  readonly mpp: MppReading;
  readonly objectivePower: number | null;
  readonly geometry: TileGeometry;
  /** Tiles a shard, at most. Fixed with the plan, so that shards of an interrupted run fit whatever a later command says. */
  readonly shardTiles: number;
  /** Present where tiles are measured for QC, fixed like `shardTiles`; `dropped`: those that the filters dropped. */
  readonly qc?: { readonly dropped?: QcHistograms };
  /** In reading order: see `grid.ts`. */
  readonly x: readonly BasePx[];
  readonly y: readonly BasePx[];
  readonly counts: PlanCounts;
  /** Tissue outline in level-0 px, as a GeoJSON FeatureCollection of Polygons that QuPath opens. */
  readonly outline: TissueOutline;
  readonly warnings: readonly string[];
  /** What planning has read of the slide, where somebody counted: it differs from one planning to the next, and decides nothing. */
  readonly reads?: SlideReads;
}

export interface PlanCounts {
  /** Tiles that lie wholly on the slide. */
  readonly grid: number;
  readonly rejectedByTissue: number;
  readonly rejectedByFilter: number;
  readonly rejectedByLimit: number;
  /** Of the tiles looked at those that fail each filter of the recipe; one may fail several. Absent without a filter. */
  readonly filters?: Readonly<Partial<{ [name in FilterName]: number }>>;
  /** Tiles of the plan: grid minus the rejected. */
  readonly planned: number;
}

export interface TissueOutline {
  readonly type: 'FeatureCollection';
  readonly features: readonly {
    readonly type: 'Feature';
    readonly properties: Readonly<Record<string, unknown>>;
    readonly geometry: {
      readonly type: 'Polygon';
      readonly coordinates: readonly (readonly (readonly [number, number])[])[];
    };
  }[];
}

/** A range of a plan's tiles: [from, to). The unit of work, lease and commit. */
export interface Shard {
  readonly index: number;
  readonly from: number;
  readonly to: number;
}
