/** How a stored position embedding is brought to another grid. `model.json` says which was used. */
export type PosInterpolation = 'bicubic' | 'bicubic-offset' | 'bicubic-antialias';

/** Source cells and their weights, for every target cell of one axis. */
type Taps = readonly (readonly { readonly index: number; readonly weight: number }[])[];

interface Method {
  readonly what: string;
  readonly taps: (from: number, to: number) => Taps;
}

const f = Math.fround;

/**
 * Each library has its own. A scale like 37/28 is not exact in float32 and moves the result by 3e-5, so sampling points and
 * coefficients are rounded to float32 at every step as ATen does (UpSample.h: `area_pixel_compute_source_index`,
 * `get_cubic_upsample_coefficients`; UpSampleKernel.cpp: `_compute_indices_min_size_weights_aa`).
 */
export const POS_INTERPOLATIONS: Readonly<Record<PosInterpolation, Method>> = {
  bicubic: {
    what: 'bicubic a=-0.75 to the size, no antialias (transformers Dinov2 and ViT)',
    taps: (from, to) => cubicTaps(from, to, f(from / to)),
  },
  'bicubic-offset': {
    what: 'bicubic a=-0.75 by the factor (size + 0.1) / stored, no antialias (original DINOv2 code)',
    taps: (from, to) => cubicTaps(from, to, f(1 / ((to + 0.1) / from))),
  },
  'bicubic-antialias': {
    what: 'bicubic a=-0.5 to the size, antialias (timm; models with registers of transformers and original DINOv2)',
    taps: antialiasTaps,
  },
};

/**
 * Resamples a square grid of vectors, float32 [from * from, width] -> [to * to, width], row-major, as torch's
 * `interpolate(align_corners=False)`. Sums are kept in double.
 */
export function resampleGrid(
  grid: Float32Array,
  from: number,
  to: number,
  width: number,
  interpolation: PosInterpolation,
): Float32Array {
  if (from === to) return grid;
  const taps = POS_INTERPOLATIONS[interpolation].taps(from, to);
  const rows = new Float64Array(to * from * width);
  for (let i = 0; i < to; i++) {
    for (const { index, weight } of taps[i]!) {
      const source = index * from * width;
      const target = i * from * width;
      for (let k = 0; k < from * width; k++) rows[target + k]! += weight * grid[source + k]!;
    }
  }
  const out = new Float32Array(to * to * width);
  const sum = new Float64Array(width);
  for (let i = 0; i < to; i++) {
    for (let j = 0; j < to; j++) {
      sum.fill(0);
      for (const { index, weight } of taps[j]!) {
        const source = (i * from + index) * width;
        for (let k = 0; k < width; k++) sum[k]! += weight * rows[source + k]!;
      }
      out.set(sum, (i * to + j) * width);
    }
  }
  return out;
}

/** Four taps a cell; taps outside the grid repeat its edge. */
function cubicTaps(from: number, to: number, scale: number): Taps {
  return Array.from({ length: to }, (_, i) => {
    const point = f(f(scale * (i + 0.5)) - 0.5);
    const base = Math.floor(point);
    const t = f(point - base);
    const weights = [outer(f(t + 1)), inner(t), inner(f(1 - t)), outer(f(f(1 - t) + 1))];
    return weights.map((weight, n) => ({ index: Math.min(Math.max(base - 1 + n, 0), from - 1), weight }));
  });
}

const A = -0.75;
const inner = (x: number): number => f(f(f(f(f((A + 2) * x) - (A + 3)) * x) * x) + 1);
const outer = (x: number): number => f(f(f(f(f(f(f(A * x) - 5 * A) * x) + 8 * A) * x)) - 4 * A);

/** The kernel is as wide as the shrinking asks for; taps outside the grid are left out and the rest made to sum to 1. */
function antialiasTaps(from: number, to: number): Taps {
  const scale = f(from / to);
  const stretch = Math.max(scale, 1);
  const support = 2 * stretch;
  return Array.from({ length: to }, (_, i) => {
    const center = f(scale * (i + 0.5));
    const first = Math.max(Math.trunc(center - support + 0.5), 0);
    const end = Math.min(Math.trunc(center + support + 0.5), from);
    const taps = Array.from({ length: end - first }, (_, n) => ({
      index: first + n,
      weight: keys((first + n - center + 0.5) / stretch),
    }));
    const total = taps.reduce((sum, { weight }) => sum + weight, 0);
    return taps.map(({ index, weight }) => ({ index, weight: f(weight / total) }));
  });
}

/** Keys' cubic with a = -0.5, which torch uses where it antialiases (and PIL always). */
function keys(distance: number): number {
  const x = Math.abs(distance);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
}
