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
  readonly taps: Int32Array;
  readonly maxTaps: number;
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
  const maxTaps = Math.ceil(support) * 2 + 1;
  const first = new Int32Array(outSize);
  const taps = new Int32Array(outSize);
  const weights = new Int32Array(outSize * maxTaps);
  const exact = new Float64Array(maxTaps);
  for (let i = 0; i < outSize; i++) {
    const centre = (i + 0.5) * scale;
    const from = Math.max(0, Math.trunc(centre - support + 0.5));
    const count = Math.min(inSize, Math.trunc(centre + support + 0.5)) - from;
    let sum = 0;
    for (let k = 0; k < count; k++) sum += exact[k] = kernel.at((k + from - centre + 0.5) * (1 / filterScale));
    for (let k = 0; k < count; k++) {
      const weight = (sum === 0 ? exact[k]! : exact[k]! / sum) * (1 << BITS);
      weights[i * maxTaps + k] = Math.trunc(weight < 0 ? weight - 0.5 : weight + 0.5);
    }
    first[i] = from;
    taps[i] = count;
  }
  return { outSize, first, taps, maxTaps, weights };
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

function resizeAcross({ width, height, data }: Rgb, { outSize, first, taps, maxTaps, weights }: Axis): Rgb {
  const out = new Uint8ClampedArray(3 * outSize * height);
  for (let y = 0, o = 0; y < height; y++) {
    const row = 3 * y * width;
    for (let x = 0; x < outSize; x++, o += 3) {
      let r = HALF;
      let g = HALF;
      let b = HALF;
      let k = x * maxTaps;
      let p = row + 3 * first[x]!;
      for (const end = k + taps[x]!; k < end; k++, p += 3) {
        const weight = weights[k]!;
        r = (r + Math.imul(data[p]!, weight)) | 0;
        g = (g + Math.imul(data[p + 1]!, weight)) | 0;
        b = (b + Math.imul(data[p + 2]!, weight)) | 0;
      }
      out[o] = r >> BITS;
      out[o + 1] = g >> BITS;
      out[o + 2] = b >> BITS;
    }
  }
  return { width: outSize, height, data: new Uint8Array(out.buffer) };
}

function resizeDown({ width, data }: Rgb, { outSize, first, taps, maxTaps, weights }: Axis): Rgb {
  const row = 3 * width;
  const out = new Uint8ClampedArray(row * outSize);
  const sums = new Int32Array(row);
  for (let y = 0; y < outSize; y++) {
    sums.fill(HALF);
    for (let k = 0; k < taps[y]!; k++) {
      const weight = weights[y * maxTaps + k]!;
      const from = (first[y]! + k) * row;
      for (let i = 0; i < row; i++) sums[i] = sums[i]! + Math.imul(data[from + i]!, weight);
    }
    for (let i = 0, o = y * row; i < row; i++, o++) out[o] = sums[i]! >> BITS;
  }
  return { width, height: outSize, data: new Uint8Array(out.buffer) };
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
