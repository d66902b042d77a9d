import { describe, expect, it } from 'vitest';
import { tissueArea } from '../../../packages/core/src/plan/area.ts';
import { outlineOf } from '../../../packages/core/src/plan/outline.ts';
import type { TissueOutline } from '../../../packages/core/src/plan/plan.ts';
import type { TissueMask } from '../../../packages/core/src/plan/tissue.ts';

/** A mask from a drawing: `#` is tissue. */
function mask(...rows: string[]): TissueMask {
  const data = Uint8Array.from(rows.join(''), (c) => (c === '#' ? 1 : 0));
  return { width: rows[0]!.length, height: rows.length, data, threshold: null, share: 0 };
}

/** Random blobs with holes, ragged at their borders. */
function ragged(size: number, seed: number): TissueMask {
  let state = seed;
  const random = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
  const waves = Array.from({ length: 6 }, () => [random() * 0.5, random() * 0.5, random() * 7]);
  const data = Uint8Array.from({ length: size * size }, (_, i) => {
    const height = waves.reduce(
      (sum, [a, b, c]) => sum + Math.sin(a! * (i % size) + b! * Math.floor(i / size) + c!),
      0,
    );
    return height + random() * 1.5 > 1 ? 1 : 0;
  });
  return { width: size, height: size, data, threshold: null, share: 0 };
}

type Ring = TissueOutline['features'][number]['geometry']['coordinates'][number];
const rings = (outline: TissueOutline): Ring[] => outline.features.flatMap((f) => f.geometry.coordinates);
const unit = (m: TissueMask) => ({ downsampleX: 1, downsampleY: 1, width: m.width, height: m.height });

function signedArea(ring: Ring): number {
  let twice = 0;
  for (let i = 1; i < ring.length; i++) twice += ring[i - 1]![0] * ring[i]![1] - ring[i]![0] * ring[i - 1]![1];
  return twice / 2;
}

function inside(outline: TissueOutline, x: number, y: number): boolean {
  let odd = false;
  for (const ring of rings(outline)) {
    for (let i = 1; i < ring.length; i++) {
      const [[x1, y1], [x2, y2]] = [ring[i - 1]!, ring[i]!];
      if (y1 > y !== y2 > y && x < ((x2 - x1) * (y - y1)) / (y2 - y1) + x1) odd = !odd;
    }
  }
  return odd;
}

/** Pairs of segments of all rings that cross, brute force. */
function crossings(outline: TissueOutline): number {
  const segments = rings(outline).flatMap((ring) => ring.slice(1).map((p, i) => [ring[i]!, p] as const));
  const side = (a: readonly [number, number], b: readonly [number, number], p: readonly [number, number]) =>
    Math.sign((b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0]));
  let count = 0;
  for (let i = 0; i < segments.length; i++) {
    const [a, b] = segments[i]!;
    for (let j = i + 1; j < segments.length; j++) {
      const [c, d] = segments[j]!;
      if (side(a, b, c) * side(a, b, d) < 0 && side(c, d, a) * side(c, d, b) < 0) count++;
    }
  }
  return count;
}

describe('the outline', () => {
  it('is a closed polygon a piece, with its holes, in level-0 px', () => {
    const m = mask(
      '..........',
      '.#######..',
      '.#######..',
      '.##...##..',
      '.##...##..',
      '.##...##..',
      '.#######..',
      '.......##.',
    );
    const { type, features } = outlineOf(m, { downsampleX: 10, downsampleY: 20, width: 100, height: 160 });
    expect(type).toBe('FeatureCollection');
    expect(features).toHaveLength(1);
    const [outer, hole, ...more] = features[0]!.geometry.coordinates;
    expect(more).toEqual([]);
    for (const ring of [outer!, hole!]) expect(ring.at(-1)).toEqual(ring[0]);
    expect(outer!.map(([x]) => x).reduce((a, b) => Math.min(a, b))).toBe(10);
    expect(hole!.map(([, y]) => y).reduce((a, b) => Math.max(a, b))).toBe(120);
    expect(signedArea(outer!)).toBeGreaterThan(0);
    expect(signedArea(hole!)).toBeLessThan(0);
    expect(features[0]!.properties).toEqual({ objectType: 'annotation', classification: { name: 'Tissue' } });
  });

  it('tells an island in a hole from its surroundings', () => {
    const m = mask('#######', '#.....#', '#.....#', '#..#..#', '#.....#', '#.....#', '#######');
    expect(outlineOf(m, unit(m)).features.map((f) => f.geometry.coordinates.length)).toEqual([2, 1]);
  });

  it('of tissue from edge to edge stays on the slide', () => {
    const m = mask('####', '####', '####');
    const [ring] = rings(outlineOf(m, { downsampleX: 25.01, downsampleY: 25.01, width: 100, height: 75 }));
    for (const [x, y] of ring!) expect(x >= 0 && x <= 100 && y >= 0 && y <= 75).toBe(true);
    expect(signedArea(ring!)).toBeGreaterThan(0.9 * 100 * 75);
  });

  it('of nothing is empty', () => {
    const m = mask('...', '...');
    expect(outlineOf(m, unit(m))).toEqual({ type: 'FeatureCollection', features: [] });
  });

  it.each([[1], [2], [3], [4], [5], [6]])(
    'of ragged blobs (%i) holds each pixel of tissue and no other, and never crosses itself',
    (seed) => {
      const m = ragged(48, seed);
      const outline = outlineOf(m, unit(m));
      expect(rings(outline).length).toBeGreaterThan(5);
      for (let i = 0; i < m.data.length; i++) {
        expect(inside(outline, (i % 48) + 0.5, Math.floor(i / 48) + 0.5)).toBe(m.data[i] === 1);
      }
      expect(crossings(outline)).toBe(0);
      for (const { geometry } of outline.features) {
        const [outer, ...holes] = geometry.coordinates.map(signedArea);
        expect(outer).toBeGreaterThan(0);
        for (const hole of holes) expect(hole).toBeLessThan(0);
      }
    },
  );
});

describe('tissue share', () => {
  const m = ragged(40, 9);
  const area = tissueArea(m, 16.25, 15.5);

  it('of a rectangle is the exact area, at fractional positions and scales', () => {
    for (const [x, y, w, h] of [
      [0, 0, 650, 620],
      [16.25, 15.5, 16.25, 15.5],
      [100.3, 200.7, 224, 224],
      [333, 1, 5, 9],
    ] as const) {
      let expected = 0;
      for (let i = 0; i < m.data.length; i++) {
        const [left, top] = [(i % 40) * 16.25, Math.floor(i / 40) * 15.5];
        const across = Math.min(x + w, left + 16.25) - Math.max(x, left);
        const down = Math.min(y + h, top + 15.5) - Math.max(y, top);
        if (m.data[i] && across > 0 && down > 0) expected += across * down;
      }
      expect(area.share(x, y, w, h)).toBeCloseTo(expected / (w * h), 9);
    }
  });

  it('of a rectangle that leaves the picture is that of the part inside', () => {
    const full = tissueArea(mask('##', '##'), 10, 10);
    expect(full.share(15, 15, 10, 10)).toBe(1);
    expect(full.share(30, 30, 10, 10)).toBe(0);
  });
});
