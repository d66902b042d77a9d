import type { TissueArea } from './grid.ts';
import type { TissueMask } from './tissue.ts';

/**
 * Tissue share of rectangles in level-0 px, from an integral image of the mask: four look-ups a rectangle, whatever its size. Exact for
 * fractional positions (each mask pixel is a square of even content). Of a rectangle that leaves the mask, as rounded overviews are a
 * little short of the slide, the part inside counts.
 */
export function tissueArea(mask: TissueMask, downsampleX: number, downsampleY: number): TissueArea {
  const { width, height, data } = mask;
  const stride = width + 1;
  const sums = new Uint32Array(stride * (height + 1));
  for (let y = 0; y < height; y++) {
    let row = 0;
    for (let x = 0; x < width; x++) {
      row += data[y * width + x];
      sums[(y + 1) * stride + x + 1] = sums[y * stride + x + 1] + row;
    }
  }
  /** Tissue left of and above a point of the mask, in mask pixels; bilinear between the corners is the exact area. */
  const upTo = (x: number, y: number): number => {
    const x0 = Math.min(Math.floor(x), width - 1);
    const y0 = Math.min(Math.floor(y), height - 1);
    const fx = x - x0;
    const fy = y - y0;
    const i = y0 * stride + x0;
    const top = sums[i] * (1 - fx) + sums[i + 1] * fx;
    const bottom = sums[i + stride] * (1 - fx) + sums[i + stride + 1] * fx;
    return top * (1 - fy) + bottom * fy;
  };
  return {
    share(x, y, w, h) {
      const left = clamp(x / downsampleX, width);
      const right = clamp((x + w) / downsampleX, width);
      const top = clamp(y / downsampleY, height);
      const bottom = clamp((y + h) / downsampleY, height);
      const area = (right - left) * (bottom - top);
      if (area <= 0) return 0;
      return (upTo(right, bottom) - upTo(left, bottom) - upTo(right, top) + upTo(left, top)) / area;
    },
  };
}

const clamp = (value: number, max: number): number => Math.min(Math.max(value, 0), max);
