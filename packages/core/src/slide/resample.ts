/** Resampling filters, by PIL's names and arithmetic. */
export type Filter = 'box' | 'bilinear' | 'bicubic';

/** A picture: uint8 RGB, row-major [height, width, 3]. */
export interface Rgb {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array;
}

/** Fixed-point bits of a coefficient: 32 - 8 - 2, as PRECISION_BITS in Pillow's Resample.c. */
const BITS = 22;
const HALF = 1 << (BITS - 1);

const KERNELS: Record<Filter, { support: number; at: (x: number) => number }> = {
  box: { support: 0.5, at: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) },
  bilinear: { support: 1, at: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: { support: 2, at: cubic },
};

/** Keys' cubic with a = -0.5. */
function cubic(x: number): number {
  const a = -0.5;
  x = Math.abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

/** What each output pixel of one axis takes: `taps` input pixels from `first`, times `weights` (fixed point). */
interface Axis {
  readonly outSize: number;
  readonly first: Int32Array;
  /** The same for all, a multiple of four: the loops below take four at a time. Weights beyond the filter are 0. */
  readonly taps: number;
  readonly weights: Int32Array;
}

const axes = new Map<string, Axis>();

function axis(inSize: number, outSize: number, filter: Filter): Axis {
  const key = `${inSize} ${outSize} ${filter}`;
  let found = axes.get(key);
  if (found === undefined) {
    if (axes.size >= 64) axes.clear();
    found = makeAxis(inSize, outSize, filter);
    axes.set(key, found);
  }
  return found;
}

/** precompute_coeffs and normalize_coeffs_8bpc of Pillow's Resample.c; the order of operations decides the last bit. */
function makeAxis(inSize: number, outSize: number, filter: Filter): Axis {
  const kernel = KERNELS[filter];
  const scale = inSize / outSize;
  const filterScale = Math.max(1, scale);
  const support = kernel.support * filterScale;
  const rows: { from: number; exact: number[] }[] = [];
  for (let i = 0; i < outSize; i++) {
    const centre = (i + 0.5) * scale;
    const from = Math.max(0, Math.trunc(centre - support + 0.5));
    const count = Math.min(inSize, Math.trunc(centre + support + 0.5)) - from;
    const exact = Array.from({ length: count }, (_, k) => kernel.at((k + from - centre + 0.5) * (1 / filterScale)));
    rows.push({ from, exact });
  }
  const taps = 4 * Math.ceil(Math.max(...rows.map(({ exact }) => exact.length)) / 4);
  const first = new Int32Array(outSize);
  const weights = new Int32Array(outSize * taps);
  for (const [i, { from, exact }] of rows.entries()) {
    const sum = exact.reduce((total, weight) => total + weight, 0);
    // Moved back where the taps would leave the picture; the weights in front are 0 then.
    first[i] = Math.max(0, Math.min(from, inSize - taps));
    for (const [k, value] of exact.entries()) {
      const weight = (sum === 0 ? value : value / sum) * (1 << BITS);
      weights[i * taps + from - first[i]! + k] = Math.trunc(weight < 0 ? weight - 0.5 : weight + 0.5);
    }
  }
  return { outSize, first, taps, weights };
}

/**
 * PIL's `Image.resize` of an RGB picture, equal in every value (Pillow 12, Resample.c): antialiased, fixed point, first
 * across, then down, rounded to uint8 in between. `data` is reused where the size stays.
 */
export function resize(image: Rgb, width: number, height: number, filter: Filter): Rgb {
  let out = image;
  if (width !== image.width) out = resizeAcross(out, axis(image.width, width, filter));
  if (height !== image.height) out = resizeDown(out, axis(image.height, height, filter));
  return out;
}

function resizeAcross({ width, height, data }: Rgb, axis: Axis): Rgb {
  const out = new Uint8ClampedArray(3 * axis.outSize * height);
  const lane = { count: height, step: 3 * width, tapStep: 3, outStep: 3 * axis.outSize };
  const sums = new Int32Array(height).fill(HALF);
  for (let x = 0; x < axis.outSize; x++) {
    for (let c = 0; c < 3; c++) resizeLane(data, 3 * axis.first[x]! + c, axis, x, lane, sums, out, 3 * x + c);
  }
  return { width: axis.outSize, height, data: new Uint8Array(out.buffer) };
}

function resizeDown({ width, data }: Rgb, axis: Axis): Rgb {
  const row = 3 * width;
  const out = new Uint8ClampedArray(row * axis.outSize);
  const lane = { count: row, step: 1, tapStep: row, outStep: 1 };
  const sums = new Int32Array(row).fill(HALF);
  for (let y = 0; y < axis.outSize; y++) resizeLane(data, row * axis.first[y]!, axis, y, lane, sums, out, row * y);
  return { width, height: axis.outSize, data: new Uint8Array(out.buffer) };
}

/** Values that one set of weights makes: `count` of them, `step` apart in the input, `outStep` in the output. */
interface Lane {
  readonly count: number;
  readonly step: number;
  /** Distance of the input values that are summed. */
  readonly tapStep: number;
  readonly outStep: number;
}

/** Output value `index` of an axis, for a whole lane. Four taps at a time take half the time of one after the other. */
function resizeLane(
  data: Uint8Array,
  from: number,
  { taps, weights }: Axis,
  index: number,
  { count, step, tapStep, outStep }: Lane,
  sums: Int32Array,
  out: Uint8ClampedArray,
  to: number,
): void {
  if (taps > 4) sums.fill(HALF);
  for (let k = 0; k < taps; k += 4) {
    const w0 = weights[index * taps + k]!;
    const w1 = weights[index * taps + k + 1]!;
    const w2 = weights[index * taps + k + 2]!;
    const w3 = weights[index * taps + k + 3]!;
    let p0 = from + k * tapStep;
    let p1 = p0 + tapStep;
    let p2 = p1 + tapStep;
    let p3 = p2 + tapStep;
    if (k + 4 < taps) {
      for (let i = 0; i < count; i++, p0 += step, p1 += step, p2 += step, p3 += step) {
        const a = Math.imul(data[p0]!, w0) + Math.imul(data[p1]!, w1);
        sums[i] = sums[i]! + a + Math.imul(data[p2]!, w2) + Math.imul(data[p3]!, w3);
      }
    } else {
      for (let i = 0, o = to; i < count; i++, o += outStep, p0 += step, p1 += step, p2 += step, p3 += step) {
        const a = Math.imul(data[p0]!, w0) + Math.imul(data[p1]!, w1);
        out[o] = (sums[i]! + a + Math.imul(data[p2]!, w2) + Math.imul(data[p3]!, w3)) >> BITS;
      }
    }
  }
}

/** What a model does to a picture that is not its input size: shorter edge to `shortEdge`, then the centre `crop` square. */
export interface Fit {
  readonly shortEdge: number;
  readonly filter: Filter;
  readonly crop: number;
}

/**
 * torchvision's `Resize(shortEdge)` and `CenterCrop(crop)` on a PIL picture, equal in every value: the longer edge becomes
 * int(shortEdge * long / short), the crop starts at round-half-even of half the surplus, a smaller picture is padded with 0.
 */
export function fitTile(image: Rgb, { shortEdge, filter, crop }: Fit): Rgb {
  const { width, height } = image;
  const long = Math.trunc((shortEdge * Math.max(width, height)) / Math.min(width, height));
  const resized = width <= height ? resize(image, shortEdge, long, filter) : resize(image, long, shortEdge, filter);
  if (resized.width === crop && resized.height === crop) return resized;
  const left = cropOffset(resized.width, crop);
  const top = cropOffset(resized.height, crop);
  const data = new Uint8Array(3 * crop * crop);
  const used = Math.min(crop, resized.width);
  for (let y = 0; y < crop; y++) {
    const from = y + top;
    if (from < 0 || from >= resized.height) continue;
    const start = 3 * (from * resized.width + Math.max(0, left));
    data.set(resized.data.subarray(start, start + 3 * used), 3 * (y * crop + Math.max(0, -left)));
  }
  return { width: crop, height: crop, data };
}

/** Where a crop starts; negative where it is larger than the picture. */
function cropOffset(size: number, crop: number): number {
  if (size < crop) return -Math.floor((crop - size) / 2);
  const half = Math.floor((size - crop) / 2);
  return (size - crop) % 4 === 3 ? half + 1 : half;
}
