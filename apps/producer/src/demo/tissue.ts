import type { Noise } from './noise.ts';

/** What grows where. The number is stored in the map. */
export const GLASS = 0;
export const STROMA = 1;
export const GLANDS = 2;
export const TUMOUR = 3;
export const LYMPHOID = 4;
export const FAT = 5;
export const MUSCLE = 6;

/** A piece of tissue, as an ellipse in shares of the slide. */
export interface Piece {
  readonly x: number;
  readonly y: number;
  readonly rx: number;
  readonly ry: number;
}

/** Kinds of tissue over the slide, one cell for 8 x 8 px. */
export interface TissueMap {
  readonly width: number;
  readonly height: number;
  readonly cells: Uint8Array;
}

export const CELL_PX = 8;

/** Pieces with ragged edges; inside, each point has the kind of its nearest seed, over a warped distance. */
export function layOutTissue(
  slide: { readonly width: number; readonly height: number },
  pieces: readonly Piece[],
  random: () => number,
  noise: Noise,
): TissueMap {
  const width = Math.ceil(slide.width / CELL_PX);
  const height = Math.ceil(slide.height / CELL_PX);
  const cells = new Uint8Array(width * height);
  const seeds = scatterSeeds(width, height, random);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const ragged = noise(x * 0.35, y * 0.35) - 0.5;
      const inside = pieces.some((piece) => {
        const dx = (x / width - piece.x) / piece.rx;
        const dy = (y / height - piece.y) / piece.ry;
        return dx * dx + dy * dy < 1 + 1.1 * ragged;
      });
      const torn = Math.abs(noise(x * 0.22 + 100, y * 0.22 + 300) - 0.5) < 0.0025;
      if (inside && !torn) cells[y * width + x] = nearestKind(seeds, x, y, noise);
    }
  }
  return { width, height, cells };
}

interface Seed {
  readonly x: number;
  readonly y: number;
  readonly kind: number;
}

/** One seed in each field of a 5 x 4 grid, the kinds dealt out in a fixed proportion. */
function scatterSeeds(width: number, height: number, random: () => number): Seed[] {
  const deck = [6, 5, 4, 2, 2, 1].flatMap((share, i) => {
    const kind = [STROMA, TUMOUR, GLANDS, LYMPHOID, MUSCLE, FAT][i]!;
    return Array.from({ length: share }, () => ({ kind, order: random() }));
  });
  deck.sort((a, b) => a.order - b.order);
  return deck.map(({ kind }, i) => ({
    kind,
    x: (((i % 5) + random()) / 5) * width,
    y: ((Math.floor(i / 5) + random()) / 4) * height,
  }));
}

function nearestKind(seeds: readonly Seed[], x: number, y: number, noise: Noise): number {
  const wx = x + 180 * (noise(x * 0.7, y * 0.7 + 200) - 0.5);
  const wy = y + 180 * (noise(x * 0.7 + 200, y * 0.7) - 0.5);
  let best = STROMA;
  let least = Number.POSITIVE_INFINITY;
  for (const seed of seeds) {
    // A lymphoid aggregate is small: its seed reaches less far.
    const reach = seed.kind === LYMPHOID ? 1.7 : 1;
    const distance = reach * ((seed.x - wx) ** 2 + (seed.y - wy) ** 2);
    if (distance < least) [best, least] = [seed.kind, distance];
  }
  return best;
}

/** Kind of tissue at a pixel, along edges that are rough at the scale of cells. */
export function kindAt(map: TissueMap, x: number, y: number, noise: Noise): number {
  const column = Math.floor((x + 60 * (noise(x * 0.5, y * 0.5) - 0.5)) / CELL_PX);
  const row = Math.floor((y + 60 * (noise(y * 0.5 + 77, x * 0.5) - 0.5)) / CELL_PX);
  if (column < 0 || row < 0 || column >= map.width || row >= map.height) return GLASS;
  return map.cells[row * map.width + column]!;
}
