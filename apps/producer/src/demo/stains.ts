import type { Noise } from './noise.ts';

/** Amounts of the two stains, pixel by pixel: 255 is an optical density of 1.2. */
export interface Stains {
  readonly width: number;
  readonly height: number;
  readonly haematoxylin: Uint8ClampedArray;
  readonly eosin: Uint8ClampedArray;
}

/**
 * Light through the stains, by Beer and Lambert: every channel loses its share of density to each stain. Stain colours
 * after Ruifrok & Johnston 2001, eosin turned towards the pink of bright-field scanners.
 */
export function toRgb({ width, height, haematoxylin, eosin }: Stains, noise: Noise): Uint8Array {
  const haematoxylinOd = [0.61, 0.72, 0.33];
  const eosinOd = [0.1, 0.74, 0.38];
  const light = [244, 243, 245];
  const passed = (share: number): Float32Array =>
    Float32Array.from({ length: 256 }, (_, amount) => 10 ** ((-1.2 * share * amount) / 255));
  const h = haematoxylinOd.map(passed);
  const e = eosinOd.map(passed);
  const rgb = new Uint8Array(width * height * 3);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const shimmer = 3 * noise(x * 2.3, y * 2.3) - 1.5;
      for (let c = 0; c < 3; c++) {
        rgb[3 * i + c] = light[c]! * h[c]![haematoxylin[i]!]! * e[c]![eosin[i]!]! + shimmer;
      }
    }
  }
  return rgb;
}
