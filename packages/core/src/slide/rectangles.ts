import { type ErrorRecord, NightshiftError } from '../errors.ts';
import { PIECE_NUMBERS } from './blend.ts';
import type { BlockReader } from './block-reader.ts';
import type { DctScale } from './codec/block.ts';
import type { BlockCuts, TilesTask } from './cut-tiles.ts';
import type { Piece } from './layout.ts';

/** What a job cuts: rectangles of one size on one level, resampled alike. */
export type Rectangles = Pick<TilesTask, 'width' | 'height' | 'resample' | 'fit' | 'measures'> & {
  readonly level: number;
  readonly dct: DctScale;
  readonly x: Int32Array;
  readonly y: Int32Array;
};

/** The pieces under each tile of a chunk in turn. */
export type ChunkPieces = readonly (readonly Piece[])[];

/** Pieces begin at multiples of the blocks' size where they lie side by side, and nowhere in particular elsewhere. */
export function scaleOf({ dct, x, y, width, height }: Rectangles, { slide, level, layout }: BlockReader): DctScale {
  const { blockWidth, blockHeight } = slide.levels[level]!;
  if (dct === 1 || !layout.regular || blockWidth % dct !== 0 || blockHeight % dct !== 0) return 1;
  const off = (px: number) => px % dct !== 0;
  if (off(width) || off(height) || x.some(off) || y.some(off)) {
    throw new NightshiftError('internal', `tiles to be decoded at 1/${dct} do not lie at multiples of ${dct}`);
  }
  return dct;
}

export function cuttingOf({ width, height, resample, fit }: Rectangles, scale: DctScale) {
  const cut = { width: width / scale, height: height / scale };
  const done = resample !== null && cut.width === resample.px && cut.height === resample.px;
  return { ...cut, resample: done ? null : resample, fit };
}

/** The pieces of tiles from index `first` on that lie in `blocks`, block by block, in a picture of the tiles one below the other. */
export function piecesByBlock(
  request: Rectangles,
  scale: DctScale,
  first: number,
  tiles: ChunkPieces,
  blocks: readonly number[],
  slots: Int32Array,
): Pick<BlockCuts, 'ends' | 'pieces'> {
  const at = new Map(blocks.map((block, i) => [block, i]));
  const numbers: number[][] = blocks.map(() => []);
  const tileHeight = request.height / scale;
  for (const [tile, under] of tiles.entries()) {
    for (const piece of under) {
      const i = at.get(piece.block);
      if (i !== undefined) {
        numbers[i]!.push(...pieceNumbers(request, scale, first + tile, piece, slots[i]!, tile * tileHeight));
      }
    }
  }
  const ends = new Int32Array(blocks.length);
  for (const [i, { length }] of numbers.entries()) ends[i] = (ends[i - 1] ?? 0) + length / PIECE_NUMBERS;
  return { ends, pieces: Int32Array.from(numbers.flat()) };
}

/** The pieces of tiles from index `first` on, tile by tile, but for those in blocks whose slot is null. */
export function piecesByTile(
  request: Rectangles,
  scale: DctScale,
  first: number,
  tiles: ChunkPieces,
  errors: readonly (ErrorRecord | null)[],
  slotOf: (block: number) => number | null,
): Pick<TilesTask, 'counts' | 'pieces'> & { readonly shifts: Int32Array } {
  const counts = new Int32Array(tiles.length);
  const pieces: number[] = [];
  const shifts: number[] = [];
  for (const [i, under] of tiles.entries()) {
    if (errors[i] !== null) {
      counts[i] = -1;
      continue;
    }
    for (const piece of under) {
      const slot = slotOf(piece.block);
      if (slot === null) continue;
      counts[i]!++;
      pieces.push(...pieceNumbers(request, scale, first + i, piece, slot, 0));
      shifts.push(piece.shift?.x ?? 0, piece.shift?.y ?? 0);
    }
  }
  return { counts, pieces: Int32Array.from(pieces), shifts: Int32Array.from(shifts) };
}

/**
 * The seven numbers of the part of a piece that lies in a tile, in pixels as decoded; of all of it where it lies between pixels. `down`: where
 * the tile begins in a picture of several.
 */
function pieceNumbers(
  request: Rectangles,
  scale: DctScale,
  index: number,
  { left, top, x, y, width, height, shift }: Piece,
  slot: number,
  down: number,
): readonly number[] {
  const [tileX, tileY] = [request.x[index]!, request.y[index]!];
  if (shift !== undefined) return [slot, left, top, width, height, x - tileX, down + y - tileY];
  const [fromX, fromY] = [Math.max(x, tileX), Math.max(y, tileY)];
  const toX = Math.min(x + width, tileX + request.width);
  const toY = Math.min(y + height, tileY + request.height);
  const part = [left + fromX - x, top + fromY - y, toX - fromX, toY - fromY, fromX - tileX, fromY - tileY];
  const numbers = [slot, ...part.map((px) => px / scale)];
  numbers[6]! += down;
  return numbers;
}
