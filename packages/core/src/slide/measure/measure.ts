import { NightshiftError } from '../../errors.ts';
import { hsvShare } from './hsv.ts';
import { isBlack, isInk } from './ink.ts';

/**
 * What can be told of a tile's pixels. `hsv`: share of H&E-coloured pixels, 0 to 1 (`hsv.ts`); `blur`: sharpness, the variance of the Laplacian
 * (4 neighbours) of luma 0 to 255; `pen`: share of pixels in the colours of ink, or black, 0 to 1.
 */
export const MEASURES = ['hsv', 'blur', 'pen'] as const;
export type Measure = (typeof MEASURES)[number];

const OF_TILE: Record<Measure, (rgb: Uint8Array, side: number) => number> = {
  hsv: (rgb) => hsvShare(rgb, 0, rgb.length / 3).inside / (rgb.length / 3),
  blur: sharpness,
  pen: inkShare,
};

/** One measure of a tile, uint8 RGB [side, side, 3]. */
export function measureTile(measure: Measure, rgb: Uint8Array, side: number): number {
  if (rgb.length !== 3 * side * side) {
    throw new NightshiftError('internal', `${rgb.length} bytes are no square of ${side} px`);
  }
  return OF_TILE[measure](rgb, side);
}

/** Variance of the Laplacian of the luma. */
function sharpness(rgb: Uint8Array, side: number): number {
  const luma = new Int32Array(side * side);
  for (let i = 0, p = 0; i < luma.length; i++, p += 3) luma[i] = 77 * rgb[p] + 150 * rgb[p + 1] + 29 * rgb[p + 2];
  let sum = 0;
  let squares = 0;
  for (let y = 1; y < side - 1; y++) {
    for (let i = y * side + 1; i < (y + 1) * side - 1; i++) {
      const value = (luma[i - 1] + luma[i + 1] + luma[i - side] + luma[i + side] - 4 * luma[i]) / 256;
      sum += value;
      squares += value * value;
    }
  }
  const count = Math.max(1, (side - 2) ** 2);
  return squares / count - (sum / count) ** 2;
}

function inkShare(rgb: Uint8Array): number {
  let ink = 0;
  for (let i = 0; i < rgb.length; i += 3) {
    const [r, g, b] = [rgb[i], rgb[i + 1], rgb[i + 2]];
    if (isInk(r, g, b) || isBlack(r, g, b)) ink++;
  }
  return (3 * ink) / rgb.length;
}
