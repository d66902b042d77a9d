import { fractalNoise, type Noise, randomFrom } from './noise.ts';
import { type Stains, toRgb } from './stains.ts';
import { paintGlands, paintNuclei, paintVessels } from './structures.ts';
import {
  FAT,
  GLANDS,
  GLASS,
  kindAt,
  LYMPHOID,
  layOutTissue,
  MUSCLE,
  type Piece,
  STROMA,
  type TissueMap,
  TUMOUR,
} from './tissue.ts';

/** A picture that passes for a slide stained with haematoxylin and eosin. RGB, row by row. */
export function paintSlide(width: number, height: number, pieces: readonly Piece[], seed: number): Uint8Array {
  const random = randomFrom(seed);
  const noise = fractalNoise(random);
  const map = layOutTissue({ width, height }, pieces, random, noise);
  const stains: Stains = {
    width,
    height,
    haematoxylin: new Uint8ClampedArray(width * height),
    eosin: new Uint8ClampedArray(width * height),
  };
  paintGround(stains, map, noise);
  paintNuclei(stains, map, random, noise);
  paintGlands(stains, map, random, noise);
  paintVessels(stains, map, random, noise);
  return toRgb(stains, noise);
}

/** Everything between the nuclei. */
function paintGround({ width, height, haematoxylin, eosin }: Stains, map: TissueMap, noise: Noise): void {
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const kind = kindAt(map, x, y, noise);
      if (kind === GLASS) continue;
      const i = y * width + x;
      const grain = noise(x * 1.7, y * 1.7);
      switch (kind) {
        case STROMA:
        case GLANDS: {
          const bundle = fibres(x, y, noise, 0.13, 1.1, 210);
          const strand = fibres(x, y, noise, 0.4, 3.3, 630);
          const gap = Math.min(1, Math.max(0, (bundle - 0.24) / 0.12));
          eosin[i] = 18 + 8 * grain + gap * (12 + 40 * bundle + 34 * strand);
          haematoxylin[i] = 5 + 9 * grain;
          break;
        }
        case MUSCLE: {
          const bundle = fibres(y, x, noise, 0.05, 0.75, 120);
          const strand = fibres(y, x, noise, 0.2, 2.6, 420);
          const gap = Math.min(1, Math.max(0, (bundle - 0.26) / 0.06));
          eosin[i] = 24 + 8 * grain + gap * (40 + 26 * bundle + 34 * strand);
          haematoxylin[i] = 6 + 8 * grain;
          break;
        }
        case TUMOUR:
          eosin[i] = 24 + 44 * noise(x * 0.8, y * 0.8) + 22 * grain;
          haematoxylin[i] = 14 + 34 * grain;
          break;
        case LYMPHOID:
          eosin[i] = 22 + 26 * grain;
          haematoxylin[i] = 26 + 26 * grain;
          break;
        case FAT: {
          const wall = cellWall(x, y, noise);
          eosin[i] = wall > 0 ? 60 * wall + 12 * grain : 0;
          haematoxylin[i] = 6 * wall;
          break;
        }
      }
    }
  }
}

/** Waving strands along x: 0 in the gap between two, 1 in the middle of one. */
function fibres(x: number, y: number, noise: Noise, along: number, across: number, bend: number): number {
  const bent = y + bend * noise(x * 0.11, y * 0.11);
  return noise(x * along, bent * across);
}

/** Thin walls around large empty cells (Worley noise on a jittered grid): 0 inside a cell, up to 1 on its wall. */
function cellWall(x: number, y: number, noise: Noise): number {
  const side = 120;
  const wx = x + 24 * noise(x * 0.3, y * 0.3);
  const wy = y + 24 * noise(y * 0.3, x * 0.3 + 50);
  const column = Math.floor(wx / side);
  const row = Math.floor(wy / side);
  let first = Number.POSITIVE_INFINITY;
  let second = Number.POSITIVE_INFINITY;
  for (let r = row - 1; r <= row + 1; r++) {
    for (let c = column - 1; c <= column + 1; c++) {
      const dx = (c + 0.15 + 0.7 * hash(c, r)) * side - wx;
      const dy = (r + 0.15 + 0.7 * hash(r + 31, c)) * side - wy;
      const distance = Math.sqrt(dx * dx + dy * dy);
      if (distance < first) [first, second] = [distance, first];
      else if (distance < second) second = distance;
    }
  }
  return Math.max(0, 1 - (second - first) / 7);
}

/** 0 to 1, the same for the same pair. */
function hash(a: number, b: number): number {
  let t = Math.imul(a, 0x27d4eb2d) ^ Math.imul(b, 0x165667b1);
  t = Math.imul(t ^ (t >>> 15), 0x85ebca6b);
  return ((t ^ (t >>> 13)) >>> 0) / 2 ** 32;
}
