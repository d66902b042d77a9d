import { components } from './morphology.ts';
import type { TissueOutline } from './plan.ts';
import type { TissueMask } from './tissue.ts';

/**
 * Farthest that a simplified outline may lie from the traced one, in mask pixels. Traced borders keep sqrt(1/2) pixel from each
 * other, so below half of that two of them cannot cross.
 */
const TOLERANCE = 0.35;

type Point = readonly [number, number];

/**
 * Outlines of the tissue as GeoJSON (RFC 7946) in level-0 px: one Polygon a piece, rings closed, outer rings counter-clockwise and
 * holes clockwise in the (x, y) plane of the numbers. QuPath imports it as annotations of class Tissue.
 */
export function outlineOf(
  mask: TissueMask,
  scale: {
    readonly downsampleX: number;
    readonly downsampleY: number;
    readonly width: number;
    readonly height: number;
  },
): TissueOutline {
  const { labels } = components(mask.data, mask.width, mask.height, 1);
  const polygons = new Map<number, { outer: Point[]; holes: Point[][] }>();
  for (const { ring, pixel } of borders(mask)) {
    const label = labels[pixel];
    const polygon = polygons.get(label) ?? { outer: [], holes: [] };
    if (signedArea(ring) > 0) polygon.outer = ring;
    else polygon.holes.push(ring);
    polygons.set(label, polygon);
  }
  const toBase = (ring: Point[]): Point[] => {
    const scaled = simplify(ring).map(
      ([x, y]): Point => [
        tenth(Math.min((x / 2) * scale.downsampleX, scale.width)),
        tenth(Math.min((y / 2) * scale.downsampleY, scale.height)),
      ],
    );
    return [...scaled, scaled[0]];
  };
  return {
    type: 'FeatureCollection',
    features: [...polygons.values()].map(({ outer, holes }) => ({
      type: 'Feature',
      properties: { objectType: 'annotation', classification: { name: 'Tissue' } },
      geometry: { type: 'Polygon', coordinates: [outer, ...holes].map(toBase) },
    })),
  };
}

const tenth = (value: number): number => Math.round(value * 10) / 10;

/**
 * Borders between 1 and 0 by marching squares, the 1 on the left in the (x, y) plane; diagonal neighbours are joined, as in
 * `components`. Points are midpoints between pixel centres, in half pixels from the picture's corner. `pixel` is one of the inside.
 */
function* borders({ data, width, height }: TissueMask): Generator<{ ring: Point[]; pixel: number }> {
  /** The pixel whose centre is (x, y) in half pixels: odd numbers. */
  const inside = (x: number, y: number) =>
    x > 0 && y > 0 && x < 2 * width && y < 2 * height && data[(y >> 1) * width + (x >> 1)] === 1;
  const topTraced = new Uint8Array(data.length);
  for (let pixel = 0; pixel < data.length; pixel++) {
    if (data[pixel] !== 1 || topTraced[pixel] || (pixel >= width && data[pixel - width] === 1)) continue;
    const ring: Point[] = [];
    const startX = 2 * (pixel % width) + 1;
    const startY = 2 * Math.floor(pixel / width);
    let [x, y, dx, dy] = [startX, startY, 1, 0];
    do {
      ring.push([x, y]);
      if (dx === 1) topTraced[(y >> 1) * width + (x >> 1)] = 1;
      const cornerX = x + dx;
      const cornerY = y + dy;
      // (-dy, dx) points inside: the pixel ahead on the outside decides first, which joins diagonals.
      if (inside(cornerX + dx + dy, cornerY + dy - dx)) [dx, dy] = [dy, -dx];
      else if (!inside(cornerX + dx - dy, cornerY + dy + dx)) [dx, dy] = [-dy, dx];
      x = cornerX + dx;
      y = cornerY + dy;
    } while (x !== startX || y !== startY || dx !== 1);
    yield { ring, pixel };
  }
}

function signedArea(ring: readonly Point[]): number {
  let twice = 0;
  for (let i = 0; i < ring.length; i++) {
    const [x1, y1] = ring[i];
    const [x2, y2] = ring[(i + 1) % ring.length];
    twice += x1 * y2 - x2 * y1;
  }
  return twice / 2;
}

/** Douglas-Peucker (1973) on a closed ring in half pixels, cut at its first point and the one farthest from it. */
function simplify(ring: Point[]): Point[] {
  const limit = (2 * TOLERANCE) ** 2;
  const far = farthest(ring, 0, ring.length, (p) => distance2(p, ring[0])).index;
  const closed = [...ring, ring[0]];
  const keep = new Uint8Array(closed.length);
  keep[0] = keep[far] = 1;
  const ranges: [number, number][] = [
    [0, far],
    [far, ring.length],
  ];
  while (ranges.length > 0) {
    const [from, to] = ranges.pop()!;
    const worst = farthest(closed, from + 1, to, (p) => segmentDistance2(p, closed[from], closed[to]));
    if (worst.value <= limit) continue;
    keep[worst.index] = 1;
    ranges.push([from, worst.index], [worst.index, to]);
  }
  const kept = ring.filter((_, i) => keep[i]);
  return kept.length >= 3 ? kept : ring;
}

function farthest(points: readonly Point[], from: number, to: number, measure: (p: Point) => number) {
  let index = from;
  let value = -1;
  for (let i = from; i < to; i++) {
    const d = measure(points[i]);
    if (d > value) [index, value] = [i, d];
  }
  return { index, value };
}

const distance2 = (a: Point, b: Point): number => (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2;

function segmentDistance2(p: Point, a: Point, b: Point): number {
  const length2 = distance2(a, b);
  const along = length2 === 0 ? 0 : ((p[0] - a[0]) * (b[0] - a[0]) + (p[1] - a[1]) * (b[1] - a[1])) / length2;
  const t = Math.min(1, Math.max(0, along));
  return distance2(p, [a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1])]);
}
