import { isBlack, isInk } from '../slide/measure/ink.ts';
import type { Mpp } from '../units.ts';
import { blur, close, components, fillHoles, smooth } from './morphology.ts';

/** A small picture of a whole slide, at most about a megapixel. */
export interface Overview {
  readonly width: number;
  readonly height: number;
  /** uint8 RGB, row-major, [height, width, 3]. */
  readonly rgb: Uint8Array;
  /** One value a pixel, not 0 where the slide could not be read; null or absent: all of it was. */
  readonly unreadable?: Uint8Array | null;
}

export interface TissueMask {
  readonly width: number;
  readonly height: number;
  /** One value a pixel: 1 tissue, 0 not. */
  readonly data: Uint8Array;
  /** Saturation, 0 to 255 after white balance, from which a pixel counted as tissue; null where all is glass. */
  readonly threshold: number | null;
  /** Part of the picture that is tissue, 0 to 1. */
  readonly share: number;
}

/** Chosen by eye on H&E, frozen section, lymph node and DAB pictures; saturations are of 255, after white balance. */
const LIMITS = {
  /** JPEG noise on glass stays below. */
  minThreshold: 8,
  /** Otsu alone drops pale keratin and loose stroma once dense epithelium is on the slide. */
  maxThreshold: 15,
  /** Two coloured classes closer than this are one: tinted glass, or a slide full of tissue. */
  minContrast: 6,
  /** Glass: at least this bright in each channel. */
  glass: 195,
  /** Smallest piece of tissue and smallest hole, as part of the picture and in pixels. */
  minPiece: 4e-5,
  minHole: 2e-4,
  minPixels: 24,
  /** Half of the widest gap that is closed, px; and in um, for overviews so fine that cells lie apart. */
  closeRadius: 3.5,
  closeRadiusUm: 8,
  mostCloseRadius: 24,
  smoothRadius: 2,
  /** A piece with more than this part in ink colours was drawn. */
  penShare: 0.6,
} as const;

/**
 * Tissue of a bright-field overview: white balance on the glass, saturation of the slightly blurred picture, Otsu's threshold
 * within limits, tests for ink and black, closing, removal of small pieces and small holes. Pixels that could not be read count
 * as tissue, so that their tiles are planned and reported instead of lost. `umPerPx` is the scale of the overview, where known.
 */
export function findTissue(overview: Overview, umPerPx: Mpp | null = null): TissueMask {
  const { width, height, unreadable } = overview;
  const rgb = blur(overview.rgb, width, height);
  const { saturation, kind } = readColours(rgb, glassOf(rgb));
  const threshold = chooseThreshold(saturation, kind);

  let data = new Uint8Array(width * height);
  if (threshold !== null) {
    for (let i = 0; i < data.length; i++) data[i] = kind[i] !== BLACK && saturation[i] >= threshold ? 1 : 0;
    data = close(data, width, height, closeRadius(umPerPx));
    data = smooth(data, width, height, LIMITS.smoothRadius);
    data = dropPieces(data, width, height, kind);
    data = fillHoles(data, width, height, Math.max(LIMITS.minPixels, LIMITS.minHole * data.length));
  }
  let tissue = 0;
  for (let i = 0; i < data.length; i++) {
    if (unreadable?.[i]) data[i] = 1;
    tissue += data[i];
  }
  return { width, height, data, threshold, share: data.length ? tissue / data.length : 0 };
}

function closeRadius(umPerPx: Mpp | null): number {
  const cells = umPerPx === null ? 0 : LIMITS.closeRadiusUm / umPerPx;
  return Math.min(LIMITS.mostCloseRadius, Math.max(LIMITS.closeRadius, cells));
}

/** The mask without small pieces, and without those drawn by a pen, unless all of them are: then that is the stain's colour. */
function dropPieces(data: Uint8Array<ArrayBuffer>, width: number, height: number, kind: Uint8Array) {
  const { labels, areas } = components(data, width, height, 1);
  const ink = new Uint32Array(areas.length);
  for (let i = 0; i < data.length; i++) if (kind[i] === INK) ink[labels[i]]++;
  const least = Math.max(LIMITS.minPixels, LIMITS.minPiece * data.length);
  const large = areas.map((area, label) => label > 0 && area >= least);
  const drawn = areas.map((area, label) => ink[label] > LIMITS.penShare * area);
  const allDrawn = large.every((is, label) => !is || drawn[label]);
  return data.map((_, i) => (large[labels[i]] && (allDrawn || !drawn[labels[i]]) ? 1 : 0));
}

/** Colour of the empty glass: per channel the mode of the bright, nearly grey pixels; white where there are hardly any. */
function glassOf(rgb: Uint8Array): readonly [number, number, number] {
  const histograms = [new Uint32Array(256), new Uint32Array(256), new Uint32Array(256)] as const;
  let count = 0;
  for (let i = 0; i < rgb.length; i += 3) {
    const r = rgb[i];
    const g = rgb[i + 1];
    const b = rgb[i + 2];
    const min = Math.min(r, g, b);
    if (min < LIMITS.glass || Math.max(r, g, b) - min > 30) continue;
    histograms[0][r]++;
    histograms[1][g]++;
    histograms[2][b]++;
    count++;
  }
  if (count * 3 < rgb.length * 0.01) return [255, 255, 255];
  const [r, g, b] = histograms.map((h) => h.indexOf(Math.max(...h)));
  return [r, g, b];
}

/** What a colour can be. A stain may have the colour of ink, but no stain is black. */
const STAIN = 0;
const INK = 1;
const BLACK = 2;

/** Saturation after white balance, and the kind of each colour. */
function readColours(rgb: Uint8Array, glass: readonly [number, number, number]) {
  const pixels = rgb.length / 3;
  const saturation = new Uint8Array(pixels);
  const kind = new Uint8Array(pixels);
  const [red, green, blue] = glass.map((channel) =>
    Uint8Array.from({ length: 256 }, (_, v) => Math.min(255, Math.round((v * 255) / channel))),
  ) as [Uint8Array, Uint8Array, Uint8Array];
  for (let i = 0, p = 0; p < pixels; i += 3, p++) {
    const r = red[rgb[i]];
    const g = green[rgb[i + 1]];
    const b = blue[rgb[i + 2]];
    const max = Math.max(r, g, b);
    const min = Math.min(r, g, b);
    saturation[p] = max === 0 ? 0 : (255 * (max - min)) / max;
    kind[p] = isBlack(r, g, b) ? BLACK : isInk(r, g, b) ? INK : STAIN;
  }
  return { saturation, kind };
}

/**
 * The saturation from which a pixel is tissue. One colour all over is tissue where it is vivid, else tinted glass: null. White
 * glass with hardly any tissue needs no guard: Otsu then splits the noise, far below the least threshold.
 */
function chooseThreshold(saturation: Uint8Array, kind: Uint8Array): number | null {
  const histogram = new Float64Array(256);
  for (let i = 0; i < saturation.length; i++) if (kind[i] !== BLACK) histogram[saturation[i]]++;
  const { threshold, low, high } = otsu(histogram);
  const oneColour = low >= LIMITS.minThreshold && high - low < LIMITS.minContrast;
  if (oneColour) return low >= LIMITS.maxThreshold ? LIMITS.minThreshold : null;
  return Math.min(Math.max(threshold, LIMITS.minThreshold), LIMITS.maxThreshold);
}

/** Otsu's threshold (1979) of a histogram: the first value of the upper class, and the means of both. */
function otsu(histogram: Float64Array): { threshold: number; low: number; high: number } {
  let total = 0;
  let sum = 0;
  for (let v = 0; v < histogram.length; v++) {
    total += histogram[v];
    sum += v * histogram[v];
  }
  const mean = total === 0 ? 0 : sum / total;
  let best = { threshold: 0, low: mean, high: mean };
  let bestVariance = 0;
  let below = 0;
  let sumBelow = 0;
  for (let v = 0; v < histogram.length - 1; v++) {
    below += histogram[v];
    sumBelow += v * histogram[v];
    if (below === 0 || below === total) continue;
    const low = sumBelow / below;
    const high = (sum - sumBelow) / (total - below);
    const variance = below * (total - below) * (high - low) ** 2;
    if (variance > bestVariance) {
      bestVariance = variance;
      best = { threshold: v + 1, low, high };
    }
  }
  return best;
}
