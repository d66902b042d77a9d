import { join } from 'node:path';
import { openSafetensors } from './convert/read/safetensors.ts';
import { safetensorsHeader } from './convert/safetensors-header.ts';
import type { ModelInfo } from './encoder.ts';
import { verifyModelFile } from './info.ts';

export const PROBE_FILE = 'probe.safetensors';
const TENSOR = 'embedding';

/** Tiles of a probe: tissue, noise, one colour, and tissue beside glass. */
export const PROBE_TILES = 4;

/**
 * The tiles that every probe is made of, uint8 [PROBE_TILES, px, px, 3]. Integer arithmetic only: the same on every machine, so
 * that a model directory stores their vectors and not their pixels. They must never change; `ModelInfo.probe.tiles` numbers them.
 */
export function probeTiles(px: number): Uint8Array<ArrayBuffer> {
  const tiles = new Uint8Array(PROBE_TILES * px * px * 3);
  const [tissue, noise, colour, border] = Array.from({ length: PROBE_TILES }, (_, i) =>
    tiles.subarray(i * px * px * 3, (i + 1) * px * px * 3),
  ) as [Uint8Array, Uint8Array, Uint8Array, Uint8Array];
  const random = integers(20261123);
  paintTissue(tissue, px, px, random);
  for (let i = 0; i < noise.length; i++) noise[i] = random(256);
  fill(colour, 0, px * px, EOSIN);
  fill(border, 0, px * px, GLASS);
  paintTissue(border, px, px >> 1, random);
  return tiles;
}

const EOSIN = [226, 168, 201] as const;
const HAEMATOXYLIN = [96, 64, 142] as const;
const GLASS = [243, 242, 244] as const;

function fill(tile: Uint8Array, from: number, to: number, colour: readonly number[]): void {
  for (let i = from; i < to; i++) tile.set(colour, i * 3);
}

/** Eosin with grain, and dark nuclei, on the left `width` columns. */
function paintTissue(tile: Uint8Array, px: number, width: number, random: (below: number) => number): void {
  for (let y = 0; y < px; y++) {
    fill(tile, y * px, y * px + width, EOSIN);
    for (let i = y * px * 3; i < (y * px + width) * 3; i++) tile[i]! -= random(32);
  }
  for (let n = 0; n < (px * width) >> 9; n++) {
    const [cx, cy, rx, ry] = [random(width), random(px), 3 + random(5), 3 + random(5)];
    for (let y = Math.max(0, cy - ry); y < Math.min(px, cy + ry); y++) {
      for (let x = Math.max(0, cx - rx); x < Math.min(width, cx + rx); x++) {
        if ((x - cx) ** 2 * ry * ry + (y - cy) ** 2 * rx * rx > rx * rx * ry * ry) continue;
        for (let c = 0; c < 3; c++) tile[(y * px + x) * 3 + c] = HAEMATOXYLIN[c]! + random(24);
      }
    }
  }
}

/** Whole numbers below a bound: the high bits of a linear congruential generator (Numerical Recipes). */
function integers(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return ((state >>> 16) * below) >>> 16;
  };
}

/** Bytes of a probe file: float32 [PROBE_TILES, dims]. */
export function probeFile(vectors: Float32Array): Uint8Array[] {
  const header = safetensorsHeader([{ name: TENSOR, shape: [PROBE_TILES, vectors.length / PROBE_TILES] }]);
  return [header, new Uint8Array(vectors.buffer, vectors.byteOffset, vectors.byteLength)];
}

/** The stored vectors of a model's probe, float32 [PROBE_TILES, dims]. @throws NightshiftError `model-digest` */
export async function readProbe(dir: string, probe: NonNullable<ModelInfo['probe']>): Promise<Float32Array> {
  await verifyModelFile(dir, probe.file);
  const file = await openSafetensors(join(dir, probe.file.name));
  try {
    return await file.read(TENSOR);
  } finally {
    await file.close();
  }
}

/** How far vectors are from what they should be. */
export interface Difference {
  /** Least cosine of a vector with its reference; NaN where one is not finite. */
  readonly cosine: number;
  /** Largest difference of a value, as a share of the largest value of its reference vector. */
  readonly maxError: number;
}

/** Compares float32 [n, dims] with as many of the reference vectors. */
export function compareVectors(found: Float32Array, reference: Float32Array, dims: number): Difference {
  let cosine = 1;
  let maxError = 0;
  for (let from = 0; from < found.length; from += dims) {
    let [dot, a, b, error, largest] = [0, 0, 0, 0, 0];
    for (let i = from; i < from + dims; i++) {
      const [x, y] = [found[i]!, reference[i]!];
      dot += x * y;
      a += x * x;
      b += y * y;
      error = Math.max(error, Math.abs(x - y));
      largest = Math.max(largest, Math.abs(y));
    }
    // Math.min and Math.max give NaN where one of the two is.
    cosine = Math.min(cosine, dot / Math.sqrt(a * b));
    maxError = Math.max(maxError, error / largest);
  }
  return { cosine, maxError };
}
