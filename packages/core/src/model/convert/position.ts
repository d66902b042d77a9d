/** How a stored position embedding is brought to another grid. `model.json` says which was used. */
export type PosInterpolation = 'hf-bicubic';

export const POS_INTERPOLATIONS: Readonly<Record<PosInterpolation, string>> = {
  'hf-bicubic': 'bicubic a=-0.75, size=, align_corners=False, no antialias (transformers Dinov2)',
};

const f = Math.fround;

/**
 * Resamples a square grid of vectors, float32 [from * from, width] -> [to * to, width], row-major.
 *
 * Equals torch's `interpolate(mode='bicubic', size=, align_corners=False)` in float32: the sampling points and the four
 * coefficients of each are rounded to float32 at every step as ATen does, because a scale like 37/28 is not exact there and
 * moves the result by 3e-5. Sums are kept in double. Source: ATen UpSample.h (`area_pixel_compute_source_index`,
 * `get_cubic_upsample_coefficients`, A = -0.75); taps outside the grid repeat its edge.
 */
export function resampleGrid(
  grid: Float32Array,
  from: number,
  to: number,
  width: number,
  interpolation: PosInterpolation,
): Float32Array {
  if (from === to) return grid;
  const taps = TAPS[interpolation](from, to);
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

/** Source cells and their weights, for every target cell of one axis. */
type Taps = { readonly index: number; readonly weight: number }[][];

function cubicTaps(from: number, to: number): Taps {
  const scale = f(from / to);
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

const TAPS: Readonly<Record<PosInterpolation, (from: number, to: number) => Taps>> = { 'hf-bicubic': cubicTaps };
