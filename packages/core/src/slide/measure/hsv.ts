/**
 * The tile filter of Midnight (Virchow2's, arXiv 2408.00738 section 5): a tile is kept when at least 60 % of its pixels have H in
 * [90, 180], S in [8, 255] and V in [103, 255] on OpenCV's 8-bit scale, where H is degrees / 2, 0 to 179. Bounds are inclusive.
 *
 * OpenCV rounds H and S through fixed-point tables (shift 12); a float HSV differs on borderline colours, so the integer
 * arithmetic is the definition here (equal to cv2.cvtColor on all 16,777,216 colours).
 */
const SHIFT = 12;
const HALF = 1 << (SHIFT - 1);
const MIN_HUE = 90;
const MIN_SATURATION = 8;
const MIN_VALUE = 103;

const SATURATION_FACTOR = factors(255);
const HUE_FACTOR = factors(180 / 6);

/** rint(scale * 2^12 / i): no tie occurs for 255 and 30, so Math.round is rint here. */
function factors(scale: number): Int32Array {
  return Int32Array.from({ length: 256 }, (_, i) => (i === 0 ? 0 : Math.round((scale * (1 << SHIFT)) / i)));
}

/** RGB to OpenCV's 8-bit HSV. In and out: uint8, interleaved, 3 values a pixel. */
export function toHsv(rgb: Uint8Array): Uint8Array {
  const hsv = new Uint8Array(rgb.length);
  for (let i = 0; i < rgb.length; i += 3) {
    const r = rgb[i];
    const g = rgb[i + 1];
    const b = rgb[i + 2];
    const v = Math.max(r, g, b);
    const diff = v - Math.min(r, g, b);
    const sector = v === r ? g - b : v === g ? b - r + 2 * diff : r - g + 4 * diff;
    const h = (sector * HUE_FACTOR[diff] + HALF) >> SHIFT;
    hsv[i] = h < 0 ? h + 180 : h;
    hsv[i + 1] = (diff * SATURATION_FACTOR[v] + HALF) >> SHIFT;
    hsv[i + 2] = v;
  }
  return hsv;
}

/** Least `diff` that reaches the saturation, by value. */
const LEAST_DIFF = least((v, diff) => (diff * SATURATION_FACTOR[v] + HALF) >> SHIFT >= MIN_SATURATION);
/** Red is largest: hue is inside where it wraps below 0, i.e. from this `b - g` on, by `diff`. */
const LEAST_BLUE_OVER_GREEN = least((diff, d) => (-d * HUE_FACTOR[diff] + HALF) >> SHIFT < 0);
/** Green is largest: hue (60 to 90 degrees / 2) is inside from this `b - r` on, by `diff`. */
const LEAST_BLUE_OVER_RED = least((diff, d) => ((d + 2 * diff) * HUE_FACTOR[diff] + HALF) >> SHIFT >= MIN_HUE);

/** For each row the least column, 0 to 255, that holds; 256 where none does. */
function least(holds: (row: number, column: number) => boolean): Int16Array {
  return Int16Array.from({ length: 256 }, (_, row) => {
    for (let column = 0; column < 256; column++) if (holds(row, column)) return column;
    return 256;
  });
}

/**
 * How many of `pixels` RGB pixels from byte `offset` on lie inside the filter's ranges. Runs on every tile, so it compares
 * against tables of limits instead of computing H and S; a pixel whose largest channel is blue alone always has H >= 90.
 */
export function hsvShare(rgb: Uint8Array, offset: number, pixels: number): { readonly inside: number } {
  const end = offset + 3 * pixels;
  let inside = 0;
  for (let i = offset; i < end; i += 3) {
    const r = rgb[i];
    const g = rgb[i + 1];
    const b = rgb[i + 2];
    if (r >= g && r >= b) {
      const diff = r - Math.min(g, b);
      if (r >= MIN_VALUE && diff >= LEAST_DIFF[r] && b - g >= LEAST_BLUE_OVER_GREEN[diff]) inside++;
    } else if (g >= b) {
      const diff = g - Math.min(r, b);
      if (g >= MIN_VALUE && diff >= LEAST_DIFF[g] && b - r >= LEAST_BLUE_OVER_RED[diff]) inside++;
    } else if (b >= MIN_VALUE && b - Math.min(r, g) >= LEAST_DIFF[b]) inside++;
  }
  return { inside };
}
