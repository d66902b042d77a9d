import { describe, expect, it } from 'vitest';
import { makePlan, parsePlan, type ScaledOverview } from '../../../packages/core/src/plan/make-plan.ts';
import type { Plan } from '../../../packages/core/src/plan/plan.ts';
import { levels, recipe, ref, square } from './samples.ts';

/** Glass with a stained rectangle over the left half, at 1/32 of a slide of 6400 x 3200. */
function overview(change: Partial<ScaledOverview> = {}): ScaledOverview {
  const rgb = new Uint8Array(200 * 100 * 3).fill(243);
  for (let i = 0; i < 200 * 100; i++) if (i % 200 < 100) rgb.set([200, 120, 170], i * 3);
  return { width: 200, height: 100, downsampleX: 32, downsampleY: 32, rgb, unreadable: null, ...change };
}

interface Change {
  readonly overview?: ScaledOverview | null;
  readonly method?: 'auto' | 'none';
  readonly min?: number;
  readonly patch?: { readonly grid: number; readonly width: number };
}

function make(change: Change = {}): Plan {
  const { model } = recipe();
  return makePlan({
    slide: { levels: levels(6400, 3200, 4), vendor: 'aperio', objectivePower: 20 },
    ref,
    mpp: square(0.5),
    overview: change.overview === undefined ? overview() : change.overview,
    recipe: recipe({
      tissue: { method: change.method ?? 'auto', min: change.min ?? 0.5 },
      model: change.patch ? { ...model, embedding: 'patch', patch: change.patch } : model,
    }),
    recipeId: 'abc',
    shardTiles: 100,
  });
}

describe('a plan', () => {
  it('holds the tiles on tissue, what was rejected, and where the numbers come from', () => {
    const plan = make();
    expect(plan.counts).toEqual({
      grid: 392,
      rejectedByTissue: 196,
      rejectedByFilter: 0,
      rejectedByLimit: 0,
      planned: 196,
    });
    expect(Math.max(...plan.x)).toBe(13 * 224);
    expect(plan).toMatchObject({
      version: 1,
      recipe: 'abc',
      slide: ref,
      size: { width: 6400, height: 3200 },
      mpp: { x: 0.5, y: 0.5, source: 'aperio' },
      geometry: { level: 0, readPx: 224 },
      shardTiles: 100,
      warnings: [],
    });
    expect(plan.outline.features).toHaveLength(1);
  });

  it('is the same for the same input, and survives JSON', () => {
    expect(make()).toEqual(make());
    expect(parsePlan(JSON.stringify(make()))).toEqual(make());
    expect(parsePlan(new TextEncoder().encode(JSON.stringify(make())))).toEqual(make());
  });

  it('takes a tile from the stated share of tissue on', () => {
    // The mask ends at 101 of 200 px, one more than the stain: blurring spreads it. Column 14 lies 96 of 224 px on it: 0.4286.
    expect(make({ min: 0.42 }).counts.planned).toBe(15 * 14);
    expect(make({ min: 0.43 }).counts.planned).toBe(14 * 14);
    expect(make({ min: 1 }).counts.planned).toBe(14 * 14);
  });

  it('takes every tile, and needs no overview, where no tissue is looked for', () => {
    const plan = make({ method: 'none', overview: null });
    expect(plan.counts).toMatchObject({ grid: 392, planned: 392 });
    expect(plan.outline.features).toEqual([]);
  });

  it('of an empty slide holds no tile and says so', () => {
    const plan = make({ overview: overview({ rgb: new Uint8Array(200 * 100 * 3).fill(243) }) });
    expect(plan.counts).toMatchObject({ planned: 0, rejectedByTissue: 392 });
    expect(plan.warnings).toEqual([expect.stringMatching(/No tissue was found.*--tissue none/)]);
  });

  it('holds the tiles of a part that could not be read, so that they are reported', () => {
    const unreadable = new Uint8Array(200 * 100);
    for (let i = 0; i < unreadable.length; i++) if (i % 200 >= 180) unreadable[i] = 1;
    expect(Math.max(...make({ overview: overview({ unreadable }) }).x)).toBe(27 * 224);
  });
});

describe('shards of a plan', () => {
  const shardTilesFor = (patch: { grid: number; width: number }) => make({ patch }).shardTiles;

  it('hold as many tiles as was asked, and fewer where a tile has a patch grid of 786 kB', () => {
    expect(make().shardTiles).toBe(100);
    expect(shardTilesFor({ grid: 16, width: 1536 })).toBe(42);
    expect(shardTilesFor({ grid: 500, width: 5000 })).toBe(1);
  });
});

describe('a stored plan', () => {
  const plan = JSON.parse(JSON.stringify(make()));

  it.each([
    ['another version', { ...plan, version: 2 }, /version/],
    ['a coordinate lost', { ...plan, x: plan.x.slice(1) }, /counts\.planned/],
    ['wrong sums', { ...plan, counts: { ...plan.counts, grid: 1 } }, /counts\.grid/],
    ['a fraction for a coordinate', { ...plan, y: [0.5, ...plan.y.slice(1)] }, /y\.0/],
    ['no geometry', { ...plan, geometry: undefined }, /geometry/],
  ])('with %s is corrupt, and the message says where', (_, value, message) => {
    const parse = () => parsePlan(JSON.stringify(value), 'plans/x.json');
    expect(parse).toThrow(message);
    expect(parse).toThrow(
      expect.objectContaining({ code: 'record-corrupt', message: expect.stringContaining('plans/x.json') }),
    );
  });

  it.each([['{"version":1'], [''], ['null'], ['[]']])('that reads %j is corrupt', (json) => {
    expect(() => parsePlan(json)).toThrow(expect.objectContaining({ code: 'record-corrupt' }));
  });
});
