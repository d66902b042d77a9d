import type { Level } from '../slide/slide.ts';
import { type BasePx, basePx } from '../units.ts';
import type { Plan, PlanCounts, Shard, TileGeometry, TileSide } from './plan.ts';

/**
 * Tiles are ordered in stripes of this many tile columns, row by row inside a stripe. A shard, a run of consecutive tiles, is then
 * a compact block (1,024 tiles: 32 x 32): few compressed blocks straddle two shards, so nearly each is decoded once, and a reader
 * needs the blocks of one stripe's width alive, not those of a row across a slide of 100,000 px or more.
 */
const STRIPE_COLUMNS = 32;

/** Where tissue is, seen as area: `share` is the part, 0 to 1, of a rectangle in level-0 px that is tissue. */
export interface TissueArea {
  share(x: number, y: number, width: number, height: number): number;
}

export interface GridTiles {
  readonly x: readonly BasePx[];
  readonly y: readonly BasePx[];
  readonly counts: PlanCounts;
}

/**
 * Tiles that lie wholly on the level and hold at least `minTissue` tissue (all of them where `tissue` is null), in reading order; of
 * these at most `limit`, spread evenly over that order.
 */
export function planTiles(options: {
  readonly level: Pick<Level, 'width' | 'height'>;
  readonly geometry: TileGeometry;
  readonly tissue: TissueArea | null;
  readonly minTissue: number;
  readonly limit: number | null;
}): GridTiles {
  const { level, geometry, tissue, minTissue, limit } = options;
  const { downsample, down = geometry } = geometry;
  const along = (size: number, { readPx, strideLevelPx }: TileSide) =>
    size < readPx ? 0 : Math.floor((size - readPx) / strideLevelPx) + 1;
  const columns = along(level.width, geometry);
  const rows = along(level.height, down);
  const [width, height] = [geometry.readPx * downsample, down.readPx * downsample];
  // A tile on tissue only must pass at min 1 whatever the rounding of the area sums.
  const least = minTissue - 1e-9;

  const x: BasePx[] = [];
  const y: BasePx[] = [];
  for (let first = 0; first < columns; first += STRIPE_COLUMNS) {
    const end = Math.min(first + STRIPE_COLUMNS, columns);
    for (let row = 0; row < rows; row++) {
      const top = row * down.strideLevelPx * downsample;
      for (let column = first; column < end; column++) {
        const left = column * geometry.strideLevelPx * downsample;
        if (tissue && tissue.share(left, top, width, height) < least) continue;
        x.push(basePx(Math.round(left)));
        y.push(basePx(Math.round(top)));
      }
    }
  }

  const grid = columns * rows;
  const onTissue = x.length;
  const planned = limit === null ? onTissue : Math.min(limit, onTissue);
  const counts: PlanCounts = {
    grid,
    rejectedByTissue: grid - onTissue,
    rejectedByFilter: 0,
    rejectedByLimit: onTissue - planned,
    planned,
  };
  if (planned === onTissue) return { x, y, counts };
  const chosen = evenly(planned, onTissue);
  return { x: chosen.map((i) => x[i]), y: chosen.map((i) => y[i]), counts };
}

/** `count` of the places 0 to `of`, ascending, spread evenly. */
export const evenly = (count: number, of: number): number[] =>
  Array.from({ length: count }, (_, i) => Math.floor(((i + 0.5) * of) / count));

/**
 * Top-left corners of the tiles in pixels of the plan's level. Exact: a corner is stored as round(level px * downsample) with
 * downsample >= 1, so dividing is off by less than half a pixel of the level.
 */
export function levelPositions(plan: Pick<Plan, 'x' | 'y' | 'geometry'>): { x: Int32Array; y: Int32Array } {
  const { downsample } = plan.geometry;
  return {
    x: Int32Array.from(plan.x, (v) => Math.round(v / downsample)),
    y: Int32Array.from(plan.y, (v) => Math.round(v / downsample)),
  };
}

/** The plan's tiles cut into the fewest shards of at most `plan.shardTiles`, of even size; none for no tiles. */
export function shardsOf({ x, shardTiles }: Pick<Plan, 'x' | 'shardTiles'>): Shard[] {
  const shards = shardCount(x.length, shardTiles);
  const cut = (i: number) => cutAt(x.length, shards, i);
  return Array.from({ length: shards }, (_, index) => ({ index, from: cut(index), to: cut(index + 1) }));
}

const cutAt = (tiles: number, shards: number, i: number): number => Math.floor((i * tiles) / shards);

export const shardCount = (tiles: number, shardTiles: number): number => Math.ceil(tiles / shardTiles);

/** As `shardsOf` cuts; 0 of a shard that the plan does not have. */
export const tilesOfShard = (plan: { readonly tiles: number; readonly shards: number }, index: number): number =>
  index < plan.shards ? cutAt(plan.tiles, plan.shards, index + 1) - cutAt(plan.tiles, plan.shards, index) : 0;
