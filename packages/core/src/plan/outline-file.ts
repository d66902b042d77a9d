import { createHash } from 'node:crypto';
import { NightshiftError } from '../errors.ts';
import { tissueArea } from './area.ts';
import type { TissueArea } from './grid.ts';
import type { TissueOutline } from './plan.ts';
import { canonicalJson } from './recipe.ts';
import type { TissueMask } from './tissue.ts';

type Point = readonly [number, number];
type Ring = readonly Point[];

const MOST_POINTS = 200_000;
const MOST_POLYGONS = 20_000;
const MOST_DEPTH = 8;
/** Far outside of any slide: what lies there was never a pixel. */
const MOST_COORDINATE = 1e7;

/**
 * The polygons of a GeoJSON file as QuPath and TRIDENT write them: a FeatureCollection, a list of Features, a Feature or a geometry; Polygons
 * and MultiPolygons with their holes, in level-0 px. Of the file only the shapes are kept: names and measurements stay behind. Points and lines
 * are passed over.
 * @throws `outline-invalid`, naming the file
 */
export function parseOutline(text: string, name: string): TissueOutline {
  const invalid = (what: string, cause?: unknown) =>
    new NightshiftError('outline-invalid', `${name}: ${what}`, { cause });
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw invalid('not JSON', cause);
  }
  const polygons: Ring[][] = [];
  let points = 0;

  function ring(given: unknown): Ring {
    if (!Array.isArray(given) || given.length < 3)
      throw invalid('a ring of a polygon is no list of three points or more');
    points += given.length;
    if (points > MOST_POINTS) throw invalid(`more than ${MOST_POINTS} points: simplify it, or export the tissue alone`);
    const path = given.map((point): Point => {
      const [x, y] = Array.isArray(point) ? point : [];
      const bad = (n: unknown) => typeof n !== 'number' || !(Math.abs(n) <= MOST_COORDINATE);
      if (bad(x) || bad(y)) throw invalid(`${JSON.stringify(point)?.slice(0, 60)} is no point in level-0 px`);
      return [tenth(x), tenth(y)];
    });
    const [first, last] = [path[0]!, path.at(-1)!];
    return first[0] === last[0] && first[1] === last[1] ? path : [...path, first];
  }

  function polygon(given: unknown): void {
    if (!Array.isArray(given) || given.length === 0) throw invalid('a polygon has no ring');
    if (polygons.length === MOST_POLYGONS)
      throw invalid(`more than ${MOST_POLYGONS} polygons: export the tissue alone`);
    polygons.push(given.map(ring));
  }

  function visit(node: unknown, depth: number): void {
    if (depth > MOST_DEPTH) throw invalid('nested too deep');
    if (Array.isArray(node)) {
      for (const one of node) visit(one, depth + 1);
      return;
    }
    const { type, features, geometry, geometries, coordinates } = (node ?? {}) as Record<string, unknown>;
    switch (type) {
      case 'FeatureCollection':
        if (!Array.isArray(features)) throw invalid('a FeatureCollection without features');
        visit(features, depth + 1);
        break;
      case 'Feature':
        if (geometry !== null) visit(geometry, depth + 1);
        break;
      case 'GeometryCollection':
        if (!Array.isArray(geometries)) throw invalid('a GeometryCollection without geometries');
        visit(geometries, depth + 1);
        break;
      case 'Polygon':
        polygon(coordinates);
        break;
      case 'MultiPolygon':
        if (!Array.isArray(coordinates)) throw invalid('a MultiPolygon without coordinates');
        for (const one of coordinates) polygon(one);
        break;
      case 'Point':
      case 'MultiPoint':
      case 'LineString':
      case 'MultiLineString':
        break;
      default:
        throw invalid(`not GeoJSON: ${JSON.stringify(type) ?? 'no type'}`);
    }
  }

  visit(value, 0);
  return {
    type: 'FeatureCollection',
    features: polygons.map((coordinates) => ({
      type: 'Feature',
      properties: { objectType: 'annotation', classification: { name: 'Tissue' } },
      geometry: { type: 'Polygon', coordinates },
    })),
  };
}

const tenth = (value: number): number => Math.round(value * 10) / 10;

/** sha256 (hex) of the shapes. */
export const outlineDigest = (outline: TissueOutline): string =>
  createHash('sha256').update(canonicalJson(outline)).digest('hex');

/** Of the picture that an outline is drawn on: a tile of 448 px of a slide of 100,000 px is ten pixels wide. */
const MOST_PIXELS = 4_000_000;
/** Borders that cross rows of the picture, in all: more than any outline of tissue needs. */
const MOST_CROSSINGS = 8_000_000;

/**
 * The inside of an outline as area, drawn on a picture of the slide of at most 4 megapixels, pixel centres deciding: inside an odd number of
 * rings of a polygon, of any polygon. `share` is that of the slide. @throws `outline-invalid`
 */
export function outlineArea(
  { features }: TissueOutline,
  size: { readonly width: number; readonly height: number },
): { readonly area: TissueArea; readonly share: number; readonly leaves: boolean } {
  const downsample = Math.max(1, Math.ceil(Math.sqrt((size.width * size.height) / MOST_PIXELS)));
  const width = Math.ceil(size.width / downsample);
  const height = Math.ceil(size.height / downsample);
  const data = new Uint8Array(width * height);
  let crossings = 0;
  let leaves = false;
  for (const { geometry } of features) {
    /** Where borders cross the centre line of a row, in pixels of the picture. */
    const rows = new Map<number, number[]>();
    for (const ring of geometry.coordinates) {
      for (let i = 1; i < ring.length; i++) {
        const [[x1, y1], [x2, y2]] = [ring[i - 1]!, ring[i]!];
        // A person's outline may lie a little beyond; another scale lies far beyond.
        leaves ||= Math.max(x1 - size.width, y1 - size.height) > 0.02 * Math.max(size.width, size.height);
        const [top, bottom] = y1 < y2 ? [y1, y2] : [y2, y1];
        const from = Math.max(0, Math.ceil(top / downsample - 0.5));
        const to = Math.min(height, Math.ceil(bottom / downsample - 0.5));
        crossings += Math.max(0, to - from);
        if (crossings > MOST_CROSSINGS)
          throw new NightshiftError('outline-invalid', 'the outline is too ragged to be drawn');
        for (let row = from; row < to; row++) {
          const y = (row + 0.5) * downsample;
          const x = (x1 + ((y - y1) / (y2 - y1)) * (x2 - x1)) / downsample;
          const others = rows.get(row);
          if (others) others.push(x);
          else rows.set(row, [x]);
        }
      }
    }
    for (const [row, xs] of rows) {
      xs.sort((a, b) => a - b);
      for (let i = 0; i + 1 < xs.length; i += 2) {
        const from = Math.max(0, Math.ceil(xs[i]! - 0.5));
        const to = Math.min(width, Math.ceil(xs[i + 1]! - 0.5));
        if (from < to) data.fill(1, row * width + from, row * width + to);
      }
    }
  }
  let inside = 0;
  for (const value of data) inside += value;
  const mask: TissueMask = { width, height, data, threshold: null, share: inside / data.length };
  return { area: tissueArea(mask, downsample, downsample), share: mask.share, leaves };
}
