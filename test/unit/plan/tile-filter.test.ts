import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { makePlan, parsePlan } from '../../../packages/core/src/plan/make-plan.ts';
import type { FilterName, Plan } from '../../../packages/core/src/plan/plan.ts';
import { faultsOf, filterPlan, filtersOf } from '../../../packages/core/src/plan/tile-filter.ts';
import { type Measure, measureTile } from '../../../packages/core/src/slide/measure/measure.ts';
import { describeShared, shared } from '../../fixtures/shared.ts';
import { levels, recipe, ref, square } from './samples.ts';

/** A plan of `tiles` tiles in a row; each knows its number by its x. */
function row(tiles: number): Plan {
  return makePlan({
    slide: { levels: levels(tiles * 224, 224), vendor: 'aperio', objectivePower: 20 },
    ...{ ref, mpp: square(0.5), overview: null, recipe: recipe(), recipeId: 'r', shardTiles: 1024 },
  });
}

/** Judges by a rule, and remembers how many it was asked. */
function judge(faults: (tile: number) => number) {
  const asked: number[] = [];
  return {
    asked,
    ask: async (tiles: readonly number[]) => {
      expect([...tiles].sort((a, b) => a - b)).toEqual(tiles);
      asked.push(...tiles);
      return tiles.map(faults);
    },
  };
}

/** Faults of a square tile of pixels. */
const faults = (rgb: Uint8Array, filters: readonly FilterName[]) =>
  faultsOf((measure: Measure) => measureTile(measure, rgb, Math.sqrt(rgb.length / 3)), filters);

const BOTH: FilterName[] = ['hsv', 'blur'];
const places = (plan: Plan) => plan.x.map((x) => x / 224);

describe('a filtered plan', () => {
  it('holds the tiles that pass every filter, in order, and counts the others by filter', async () => {
    const verdicts = [0, 1, 2, 0, 3, 0];
    const { ask } = judge((tile) => verdicts[tile]!);
    // The stripe order of a row of six is that of x.
    const kept = await filterPlan(row(6), BOTH, null, ask);
    expect(places(kept)).toEqual([0, 3, 5]);
    expect(kept.counts).toEqual({
      ...{ grid: 6, rejectedByTissue: 0, rejectedByFilter: 3, rejectedByLimit: 0, planned: 3 },
      filters: { hsv: 2, blur: 2 },
    });
    expect(parsePlan(JSON.stringify(kept))).toEqual(kept);
  });

  it.each([
    [1, 10],
    [10, 2],
    [300, 3],
    [500, 7],
  ])(
    'has the %i tiles of a limit after the filter, though one in %i passes, and looks at few',
    async (limit, every) => {
      const { ask, asked } = judge((tile) => (tile % every === 0 ? 0 : 1));
      const whole = row(6_000);
      const kept = await filterPlan(whole, ['hsv'], limit, ask);
      expect(places(kept)).toHaveLength(limit);
      expect(places(kept).every((tile) => tile % every === 0)).toBe(true);
      expect(places(kept)).toEqual(places(kept).toSorted((a, b) => a - b));
      expect(new Set(asked).size).toBe(asked.length);
      expect(asked.length).toBeLessThan(1.5 * limit * every + 300);
      const { counts } = kept;
      expect(counts.planned + counts.rejectedByFilter + counts.rejectedByLimit).toBe(6_000);
      // Spread over the slide: each quarter has its part.
      if (limit >= 300)
        for (const q of [0, 1, 2, 3]) {
          expect(places(kept).filter((tile) => Math.floor(tile / 1500) === q).length).toBeGreaterThan(limit / 5);
        }
    },
  );

  it('holds what there is where fewer pass than the limit allows', async () => {
    const { ask, asked } = judge((tile) => (tile < 5 ? 0 : 1));
    const kept = await filterPlan(row(1_000), ['pen'], 100, ask);
    expect(places(kept)).toEqual([0, 1, 2, 3, 4]);
    expect(asked).toHaveLength(1_000);
    expect(kept.counts).toMatchObject({ planned: 5, rejectedByFilter: 995, rejectedByLimit: 0, filters: { pen: 995 } });
  });

  it('of no tiles asks nobody', async () => {
    const { ask, asked } = judge(() => 1);
    const kept = await filterPlan(
      { ...row(1), x: [], y: [], counts: { ...row(1).counts, planned: 0 } },
      BOTH,
      null,
      ask,
    );
    expect([kept.x.length, asked.length]).toEqual([0, 0]);
  });

  it('refuses verdicts that are not one a tile', async () => {
    await expect(filterPlan(row(4), BOTH, null, async () => [0, 0, 0])).rejects.toThrow(
      '3 filter verdicts for 4 tiles',
    );
  });
});

describe('the filters of a tile', () => {
  const SIDE = 224;
  const of = (colour: (x: number, y: number) => readonly [number, number, number]) =>
    Uint8Array.from({ length: 3 * SIDE * SIDE }, (_, i) => {
      const pixel = Math.floor(i / 3);
      return colour(pixel % SIDE, Math.floor(pixel / SIDE))[i % 3]!;
    });
  const tissue = (x: number, y: number) => (((x >> 2) + (y >> 2)) % 2 === 0 ? [190, 110, 160] : [150, 90, 170]);

  it.each([
    ['hsv', 0.6, 0.5999],
    ['blur', 15, 14.99],
    ['pen', 0.2999, 0.3],
  ] as const)('decide by one measure each: %s lets %f pass and %f not', (name, good, bad) => {
    expect([good, bad].map((value) => faultsOf(() => value, [name]))).toEqual([0, 1]);
  });

  it('are named one by one or together', () => {
    expect([filtersOf('none'), filtersOf('pen'), filtersOf('hsv+blur+pen')]).toEqual([
      ...[[], ['pen'], ['hsv', 'blur', 'pen']],
    ]);
  });

  it('tell a pen stroke, and what is out of focus, from tissue', () => {
    const all = filtersOf('hsv+blur+pen');
    const verdict = (at: (x: number, y: number) => readonly number[]) => faults(of(at as never), all);
    expect(verdict(tissue)).toBe(0);
    expect(verdict((x) => [190 + (x >> 6), 110, 160])).toBe(0b010);
    expect(verdict((x, y) => (x < 90 ? [30, 80, 190] : tissue(x, y))) & 0b100).toBe(0b100);
    expect(
      faults(
        of(() => [30, 80, 190]),
        ['pen'],
      ),
    ).toBe(1);
  });
});

describeShared('the blur and pen filters on a real scan at 0.5 um/px', () => {
  it('keep every tile that shows tissue, and none of it blurred by 4 px', async () => {
    const page = () => sharp(shared('slides/CMU-1-Small-Region.svs'), { page: 0 }).removeAlpha();
    const tiles = [
      [1223, 1591],
      [1300, 1049],
      [1707, 1204],
      [1049, 2700],
    ];
    for (const [left, top] of tiles as [number, number][]) {
      const cut = page().extract({ left, top, width: 224, height: 224 });
      const sharpTile = new Uint8Array(await cut.clone().raw().toBuffer());
      expect(faults(sharpTile, ['blur', 'pen']), `${left},${top}`).toBe(0);
      const raw = { width: 224, height: 224, channels: 3 } as const;
      const blurred = new Uint8Array(await sharp(sharpTile, { raw }).blur(4).raw().toBuffer());
      expect(faults(blurred, ['blur', 'pen']), `${left},${top}`).toBe(1);
    }
  });
});
