import { describe, expect, it } from 'vitest';
import { makePlan, parsePlan } from '../../../packages/core/src/plan/make-plan.ts';
import { outlineArea, outlineDigest, parseOutline } from '../../../packages/core/src/plan/outline-file.ts';
import { levels, recipe, ref, square } from './samples.ts';

const box = (x: number, y: number, width: number, height = width) => [
  [x, y],
  [x + width, y],
  [x + width, y + height],
  [x, y + height],
  [x, y],
];
const polygon = (...coordinates: number[][][]) => ({ type: 'Polygon', coordinates });
const feature = (geometry: unknown, properties: object = {}) => ({ type: 'Feature', geometry, properties });
const collection = (...features: unknown[]) => ({ type: 'FeatureCollection', features });
const read = (value: unknown) => parseOutline(JSON.stringify(value), 'one.geojson');
const rings = (value: unknown) => read(value).features.map(({ geometry }) => geometry.coordinates);

describe('an outline file', () => {
  it.each<[string, unknown]>([
    [
      'as QuPath writes it',
      collection(feature(polygon(box(0, 0, 100)), { objectType: 'annotation', name: 'Doe^Jane' })),
    ],
    ['as QuPath wrote it before 0.3, a list', [feature(polygon(box(0, 0, 100)), { isLocked: true })]],
    ['of one feature', feature(polygon(box(0, 0, 100)))],
    ['of a bare geometry', polygon(box(0, 0, 100))],
    ['of a collection of geometries', { type: 'GeometryCollection', geometries: [polygon(box(0, 0, 100))] }],
    ['with a ring that is not closed', polygon(box(0, 0, 100).slice(0, 4))],
    [
      'with points and lines beside',
      collection(feature({ type: 'Point', coordinates: [3, 4] }), feature(polygon(box(0, 0, 100))), feature(null)),
    ],
  ])('%s gives its polygons and nothing else', (_, file) => {
    expect(read(file)).toEqual({
      type: 'FeatureCollection',
      features: [
        {
          type: 'Feature',
          properties: { objectType: 'annotation', classification: { name: 'Tissue' } },
          geometry: { type: 'Polygon', coordinates: [box(0, 0, 100)] },
        },
      ],
    });
    expect(outlineDigest(read(file))).toBe(outlineDigest(read(polygon(box(0, 0, 100)))));
  });

  it('keeps holes, takes a MultiPolygon apart, and may be empty', () => {
    const many = { type: 'MultiPolygon', coordinates: [[box(0, 0, 90), box(30, 30, 30)], [box(200, 0, 10)]] };
    expect(rings(collection(feature(many)))).toEqual([[box(0, 0, 90), box(30, 30, 30)], [box(200, 0, 10)]]);
    expect(rings(collection())).toEqual([]);
  });

  it('has another digest for another shape', () => {
    expect(outlineDigest(read(polygon(box(0, 0, 101))))).not.toBe(outlineDigest(read(polygon(box(0, 0, 100)))));
  });

  it.each<[string, string]>([
    ['not JSON', 'hello'],
    ['another kind', '{"type":"Topology"}'],
    ['a number', '7'],
    ['null', 'null'],
    ['features that are none', '{"type":"FeatureCollection","features":7}'],
    ['a ring of two points', JSON.stringify(polygon(box(0, 0, 1).slice(0, 2)))],
    ['points without y', '{"type":"Polygon","coordinates":[[[1],[2],[3]]]}'],
    ['text for a number', '{"type":"Polygon","coordinates":[[["1",2],[3,4],[5,6]]]}'],
    ['coordinates beyond every slide', JSON.stringify(polygon(box(0, 0, 1e9)))],
    ['a polygon without rings', '{"type":"Polygon","coordinates":[]}'],
    ['lists in lists', `${'['.repeat(50)}${']'.repeat(50)}`],
    ['too many points', JSON.stringify(polygon(Array(200_001).fill([1, 2])))],
    ['too many polygons', JSON.stringify({ type: 'MultiPolygon', coordinates: Array(20_001).fill([box(0, 0, 1)]) })],
  ])('with %s is outline-invalid, by its name', (_, text) => {
    expect(() => parseOutline(text, 'one.geojson')).toThrow(
      expect.objectContaining({ code: 'outline-invalid', message: expect.stringContaining('one.geojson') }),
    );
  });
});

describe('the area of an outline', () => {
  const size = { width: 1000, height: 800 };
  const area = (value: unknown) => outlineArea(read(value), size);

  it('is the inside of its polygons without their holes', () => {
    const { area: found, share } = area([feature(polygon(box(100, 100, 400), box(200, 200, 100)))]);
    expect(share).toBeCloseTo((160_000 - 10_000) / 800_000, 6);
    expect(found.share(100, 100, 400, 400)).toBeCloseTo(15 / 16, 6);
    expect(found.share(200, 200, 100, 100)).toBe(0);
    expect(found.share(50, 100, 100, 100)).toBeCloseTo(0.5, 6);
    expect(found.share(600, 600, 100, 100)).toBe(0);
  });

  it('counts what two polygons share once, and what lies outside of the slide not', () => {
    expect(area([polygon(box(0, 0, 200)), polygon(box(100, 0, 200))]).share).toBeCloseTo(60_000 / 800_000, 6);
    expect(area(polygon(box(-100, -100, 200)))).toMatchObject({ leaves: false });
    expect(area(polygon(box(-100, -100, 200))).share).toBeCloseTo(10_000 / 800_000, 6);
    expect(area(polygon(box(0, 0, 4000, 3200)))).toMatchObject({ share: 1, leaves: true });
  });

  it('of a circle on a slide of 100,000 px is its area to a thousandth', () => {
    const circle = Array.from({ length: 720 }, (_, i) => {
      const angle = (i / 360) * Math.PI;
      return [50_000 + 20_000 * Math.cos(angle), 40_000 + 20_000 * Math.sin(angle)];
    });
    const { share } = outlineArea(read(polygon(circle)), { width: 100_000, height: 80_000 });
    expect(Math.abs(share / ((Math.PI * 4e8) / 8e9) - 1)).toBeLessThan(1e-3);
  });

  it('refuses an outline that would take long to draw', () => {
    const zigzag = Array.from({ length: 20_000 }, (_, i) => [i % 1000, i % 2 ? 0 : 800]);
    expect(() => area(polygon(zigzag))).toThrow(expect.objectContaining({ code: 'outline-invalid' }));
  });
});

describe('a plan by an outline', () => {
  const drawn = read(polygon(box(0, 0, 448), box(224, 224, 224)));
  const plan = (change: { drawn?: typeof drawn | null; outline?: string }) =>
    makePlan({
      slide: { levels: levels(2240, 2240), vendor: 'aperio', objectivePower: 20 },
      ref: { ...ref, outline: change.outline ?? outlineDigest(drawn) },
      recipe: recipe({ tissue: { method: 'outline', min: 0.5 } }),
      ...{ mpp: square(0.5), overview: null, recipeId: 'r', shardTiles: 1024, drawn: change.drawn ?? null },
    });

  it('takes the tiles inside of it, and keeps it', () => {
    const made = plan({ drawn });
    expect(made.x.map((x, i) => [x, made.y[i]])).toEqual([
      [0, 0],
      [224, 0],
      [0, 224],
    ]);
    expect(made.outline).toEqual(drawn);
    expect(made.slide.outline).toBe(outlineDigest(drawn));
    expect(parsePlan(JSON.stringify(made))).toEqual(made);
  });

  it('is refused without it', () => {
    expect(() => plan({ outline: '' })).toThrow(expect.objectContaining({ code: 'outline-missing' }));
  });

  it('of nothing is empty, and says so', () => {
    const made = plan({ drawn: read(collection()) });
    expect([made.x.length, made.warnings]).toEqual([0, ['The outline holds nothing of the slide.']]);
  });
});
