import { NightshiftError } from '../../errors.ts';

/** What a block must be: its size, and the part of it that lies on the slide (smaller at the right and bottom edge), px. */
export interface BlockShape {
  readonly width: number;
  readonly height: number;
  readonly usedWidth: number;
  readonly usedHeight: number;
}

/** Pixels of a block per pixel that comes out, along each side. */
export type DctScale = 1 | 2 | 4 | 8;

/** Writers pad the blocks at the edge or store them clipped: a picture is one or the other, or `tile-size-mismatch`. */
export function requireSize(picture: { readonly width: number; readonly height: number }, shape: BlockShape): void {
  const { width, height } = picture;
  if (width === shape.width && height === shape.height) return;
  if (width === shape.usedWidth && height === shape.usedHeight) return;
  throw new NightshiftError(
    'tile-size-mismatch',
    `the tile is ${width} x ${height} px where the slide declares ${shape.width} x ${shape.height}`,
    { data: { width, height } },
  );
}

/** Box average of a picture, where a decoder cannot decode smaller: close to what others do, not equal. By 1: a copy. */
export function reduceByMean(
  picture: Uint8Array,
  width: number,
  height: number,
  out: Uint8Array,
  pitch: number,
  scale: number,
): void {
  if (scale === 1) {
    const row = 3 * width;
    for (let y = 0; y < height; y++) out.set(picture.subarray(y * row, (y + 1) * row), y * pitch);
    return;
  }
  for (let y = 0; y * scale < height; y++) {
    const bottom = Math.min(height, (y + 1) * scale);
    for (let x = 0; x * scale < width; x++) {
      const right = Math.min(width, (x + 1) * scale);
      const area = (bottom - y * scale) * (right - x * scale);
      for (let c = 0; c < 3; c++) {
        let sum = 0;
        for (let v = y * scale; v < bottom; v++) {
          for (let u = x * scale; u < right; u++) sum += picture[3 * (v * width + u) + c]!;
        }
        out[y * pitch + 3 * x + c] = Math.round(sum / area);
      }
    }
  }
}
