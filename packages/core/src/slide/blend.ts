/** Size of each decoded block, px. */
interface BlockSize {
  readonly width: number;
  readonly height: number;
}

/** Numbers of a piece: see `TilesTask.pieces`. */
export const PIECE_NUMBERS = 7;
/** A pixel, in the units of `Piece.shift`. */
export const SHIFTS = 65_536;

/**
 * Draws the pieces of a tile of which some lie between pixels, into `width` x `height` px from byte `to` of `out`; white where none
 * lies. As OpenSlide does with cairo and pixman 0.42, and with their rounding: each piece is sampled bilinearly, is transparent beyond its
 * edges, and adds to what lies over it only what that leaves open (the operator SATURATE), which closes the seams
 * between neighbours.
 * @param blocks uint8 RGB, block after block
 * @param pieces `PIECE_NUMBERS` each, the topmost last. They may reach beyond the tile.
 * @param shifts two each, to the right and down, of `SHIFTS`
 */
export function blendPieces(
  blocks: Uint8Array,
  size: BlockSize,
  pieces: Int32Array,
  shifts: Int32Array,
  out: Uint8Array,
  to: number,
  width: number,
  height: number,
): void {
  /** RGBA, the colours times the alpha. */
  const drawn = new Uint8Array(4 * width * height);
  const row = 3 * size.width;
  for (let piece = pieces.length / PIECE_NUMBERS - 1; piece >= 0; piece--) {
    const at = PIECE_NUMBERS * piece;
    const pieceWidth = pieces[at + 3]!;
    const pieceHeight = pieces[at + 4]!;
    const x = pieces[at + 5]!;
    const y = pieces[at + 6]!;
    const corner = 3 * ((pieces[at]! * size.height + pieces[at + 2]!) * size.width + pieces[at + 1]!);
    const shiftX = shifts[2 * piece]!;
    const shiftY = shifts[2 * piece + 1]!;
    // The weight of the neighbour to the left and above; the pixel itself has the rest.
    const otherX = shiftX / SHIFTS;
    const otherY = shiftY / SHIFTS;
    const toX = Math.min(width, x + pieceWidth + (shiftX > 0 ? 1 : 0));
    const toY = Math.min(height, y + pieceHeight + (shiftY > 0 ? 1 : 0));
    for (let v = Math.max(0, y); v < toY; v++) {
      const j = v - y;
      const weightAbove = j > 0 ? otherY : 0;
      const weightBelow = j < pieceHeight ? 1 - otherY : 0;
      // Where a neighbour lies beyond the edge its weight is 0: any pixel will do.
      const above = corner + row * Math.max(0, j - 1);
      const below = corner + row * Math.min(pieceHeight - 1, j);
      for (let u = Math.max(0, x); u < toX; u++) {
        const p = 4 * (v * width + u);
        const open = 255 - drawn[p + 3]!;
        if (open === 0) continue;
        const i = u - x;
        const weightLeft = i > 0 ? otherX : 0;
        const weightRight = i < pieceWidth ? 1 - otherX : 0;
        const left = 3 * Math.max(0, i - 1);
        const right = 3 * Math.min(pieceWidth - 1, i);
        const a = weightAbove * weightLeft;
        const b = weightAbove * weightRight;
        const c = weightBelow * weightLeft;
        const d = weightBelow * weightRight;
        const [al, ar, bl, br] = [above + left, above + right, below + left, below + right];
        const alpha = 255 * (a + b + c + d);
        const share = alpha > open ? open / alpha : 1;
        const red = a * blocks[al]! + b * blocks[ar]! + c * blocks[bl]! + d * blocks[br]!;
        const green = a * blocks[al + 1]! + b * blocks[ar + 1]! + c * blocks[bl + 1]! + d * blocks[br + 1]!;
        const blue = a * blocks[al + 2]! + b * blocks[ar + 2]! + c * blocks[bl + 2]! + d * blocks[br + 2]!;
        drawn[p] = stored(drawn[p]! + share * red);
        drawn[p + 1] = stored(drawn[p + 1]! + share * green);
        drawn[p + 2] = stored(drawn[p + 2]! + share * blue);
        drawn[p + 3] = stored(drawn[p + 3]! + share * alpha);
      }
    }
  }
  for (let from = 0, into = to; from < drawn.length; from += 4, into += 3) {
    const white = 255 - drawn[from + 3]!;
    out[into] = Math.min(255, drawn[from]! + white);
    out[into + 1] = Math.min(255, drawn[from + 1]! + white);
    out[into + 2] = Math.min(255, drawn[from + 2]! + white);
  }
}

/** A byte as pixman makes it of a colour, here up to 255 with fractions. It computes in float32: of 60,000 values one may differ by 1. */
const stored = (value: number): number => Math.min(255, Math.floor((value * 256) / 255));
