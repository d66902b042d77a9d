import { describe, expect, it } from 'vitest';
import { tileGeometry } from '../../../packages/core/src/plan/geometry.ts';
import { levelPositions, planTiles, shardsOf } from '../../../packages/core/src/plan/grid.ts';
import { makePlan } from '../../../packages/core/src/plan/make-plan.ts';
import type { Plan } from '../../../packages/core/src/plan/plan.ts';
import { mpp, tilePx } from '../../../packages/core/src/units.ts';
import { levels, recipe, ref, square } from './samples.ts';

function plan(change: {
  size?: [number, number];
  downsamples?: number[];
  mpp?: number;
  target?: number;
  overlap?: number;
  limit?: number | null;
  shardTiles?: number;
}): Plan {
  const [width, height] = change.size ?? [10_000, 8_000];
  const tile = {
    ...recipe().tile,
    mpp: mpp(change.target ?? 0.5),
    overlap: tilePx(change.overlap ?? 0),
  };
  return makePlan({
    slide: { levels: levels(width, height, ...(change.downsamples ?? [])), vendor: 'aperio', objectivePower: 20 },
    ref,
    mpp: square(change.mpp ?? 0.499),
    overview: null,
    recipe: recipe({ tile, limit: change.limit ?? null }),
    recipeId: 'r',
    shardTiles: change.shardTiles ?? 1024,
  });
}

describe('the grid', () => {
  it('has 154 x 154 tiles of 224 on a 34,560 px slide of 0.499 um/px', () => {
    const { counts, x, y } = plan({ size: [34_560, 34_560] });
    expect(counts).toEqual({
      grid: 23_716,
      rejectedByTissue: 0,
      rejectedByFilter: 0,
      rejectedByLimit: 0,
      planned: 23_716,
    });
    expect([Math.max(...x), Math.max(...y)]).toEqual([153 * 224, 153 * 224]);
  });

  it.each([
    [223, 500, 0],
    [224, 224, 1],
    [447, 448, 2],
  ])('on a %i x %i slide has %i tiles: only whole ones', (width, height, grid) => {
    expect(plan({ size: [width, height], mpp: 0.5 }).counts.grid).toBe(grid);
  });

  it('says so when the slide is smaller than a tile', () => {
    expect(plan({ size: [100, 90] }).warnings).toEqual([expect.stringMatching(/smaller than one tile: 100 x 90 px/)]);
  });

  it('goes in stripes of 32 columns, row by row inside a stripe', () => {
    const { x, y } = plan({ size: [40 * 224, 3 * 224], mpp: 0.5 });
    const tiles = x.map((v, i) => `${v / 224},${y[i]! / 224}`);
    expect(tiles.slice(0, 2)).toEqual(['0,0', '1,0']);
    expect(tiles[32]).toBe('0,1');
    expect(tiles.slice(95, 98)).toEqual(['31,2', '32,0', '33,0']);
    expect(tiles[104]).toBe('32,1');
  });

  it('keeps a shard of 1,024 tiles inside 33 x 33 tiles, so that its blocks are its own', () => {
    const whole = plan({ size: [34_560, 34_560] });
    const extent = (values: readonly number[]) => (Math.max(...values) - Math.min(...values)) / 224 + 1;
    const full = shardsOf(whole).filter(({ from }) => whole.x[from]! < 128 * 224);
    const wide = full.filter(({ from, to }) => extent(whole.x.slice(from, to)) > 32);
    expect(wide.length).toBeLessThanOrEqual(4);
    for (const { from, to } of full.filter((s) => !wide.includes(s)))
      expect(extent(whole.y.slice(from, to))).toBeLessThanOrEqual(34);
  });

  it.each([
    [1, 0.5],
    [2.0005, 1],
    [2.0005, 1.3],
    [4.0003, 2],
    [4.0003, 3.1],
    [16, 8],
    [16.062, 8.4],
  ])(
    'at downsample %f and %f um/px has unique tiles in bounds that go back to level pixels exactly',
    (downsample, target) => {
      const size: [number, number] = [23_457, 19_871];
      const made = plan({ size, downsamples: downsample === 1 ? [] : [downsample], mpp: 0.5, target, overlap: 37 });
      const { geometry, x, y } = made;
      expect(geometry.downsample).toBe(downsample);
      const level = levelPositions(made);
      const { strideLevelPx: stride, readPx } = geometry;
      const seen = new Set<number>();
      for (let i = 0; i < x.length; i++) {
        expect(Math.round(level.x[i]! * downsample)).toBe(x[i]);
        expect(Math.round(level.y[i]! * downsample)).toBe(y[i]);
        seen.add(y[i]! * size[0] + x[i]!);
      }
      expect(seen.size).toBe(made.counts.grid);
      expect(made.counts.grid).toBeGreaterThan(40);
      expect([...level.x, ...level.y].every((v) => v >= 0 && v % stride === 0)).toBe(true);
      expect(Math.max(...level.x) + readPx).toBeLessThanOrEqual(Math.floor(size[0] / downsample));
      expect(Math.max(...level.y) + readPx).toBeLessThanOrEqual(Math.floor(size[1] / downsample));
    },
  );

  it('keeps the tiles that hold enough tissue, and counts the others', () => {
    const level = levels(1000, 1000)[0]!;
    const { geometry } = tileGeometry([level], square(0.5), { ...recipe().tile, px: tilePx(100) });
    const tissue = { share: (x: number) => (x < 300 ? 1 : x < 400 ? 0.4 : 0.39) };
    const { x, counts } = planTiles({ level, geometry, tissue, minTissue: 0.4, limit: null });
    expect(new Set(x)).toEqual(new Set([0, 100, 200, 300]));
    expect(counts).toMatchObject({ grid: 100, rejectedByTissue: 60, planned: 40 });
  });

  it('follows both sides of tiles that are not square on the slide', () => {
    const level = levels(1000, 1000)[0]!;
    const oblong = { x: mpp(0.25), y: mpp(0.5), source: 'ome' } as const;
    const { geometry } = tileGeometry([level], oblong, { ...recipe().tile, px: tilePx(100), overlap: tilePx(40) });
    const looked: number[][] = [];
    const tissue = { share: (...at: number[]) => looked.push(at) };
    const { x, y, counts } = planTiles({ level, geometry, tissue, minTissue: 0.4, limit: null });
    expect([...new Set(x)]).toEqual([0, 120, 240, 360, 480, 600, 720]);
    expect([...new Set(y)]).toEqual(Array.from({ length: 16 }, (_, i) => 60 * i));
    expect(counts.grid).toBe(7 * 16);
    expect(looked).toContainEqual([720, 900, 200, 100]);
    expect(levelPositions({ x, y, geometry })).toEqual({ x: Int32Array.from(x), y: Int32Array.from(y) });
  });

  it.each([[1], [7], [100], [1584], [5000]])('spreads a limit of %i evenly over the plan', (limit) => {
    const whole = plan({});
    const some = plan({ limit });
    const planned = Math.min(limit, whole.counts.grid);
    expect(some.counts).toMatchObject({ planned, rejectedByLimit: whole.counts.grid - planned });
    const order = new Map(whole.x.map((x, i) => [`${x},${whole.y[i]}`, i]));
    const places = some.x.map((x, i) => order.get(`${x},${some.y[i]}`)!);
    const gaps = places.slice(1).map((place, i) => place - places[i]!);
    expect(places).toHaveLength(planned);
    const mean = whole.counts.grid / planned;
    for (const gap of gaps) expect(Math.abs(gap - mean)).toBeLessThanOrEqual(1);
  });
});

describe('shards', () => {
  it.each([
    [0, 512],
    [1, 512],
    [512, 512],
    [513, 512],
    [23_716, 1024],
    [5, 1],
  ])('cut %i tiles into even parts of at most %i', (tiles, shardTiles) => {
    const shards = shardsOf({ x: new Array(tiles).fill(0), shardTiles });
    expect(shards).toHaveLength(Math.ceil(tiles / shardTiles));
    let next = 0;
    for (const [index, shard] of shards.entries()) {
      expect(shard).toMatchObject({ index, from: next });
      next = shard.to;
    }
    expect(next).toBe(tiles);
    const sizes = shards.map(({ from, to }) => to - from);
    if (tiles > 0) expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1);
    for (const size of sizes) expect(size).toBeLessThanOrEqual(shardTiles);
  });
});
