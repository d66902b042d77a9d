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
  const indexOf = new Map(blocks.map((block, i) => [block, i]));
  const next = new Int32Array(blocks.length + 1);
  for (const under of tiles) {
    for (const { block } of under) {
      const i = indexOf.get(block);
      if (i !== undefined) next[i + 1]!++;
    }
  }
  for (let i = 1; i < next.length; i++) next[i]! += next[i - 1]!;
  const pieces = new Int32Array(PIECE_NUMBERS * next.at(-1)!);
  const tileHeight = request.height / scale;
  for (let tile = 0; tile < tiles.length; tile++) {
    for (const piece of tiles[tile]!) {
      const i = indexOf.get(piece.block);
      if (i === undefined) continue;
      putPiece(pieces, next[i]!++, request, scale, first + tile, piece, slots[i]!, tile * tileHeight);
    }
  }
  return { ends: next.subarray(0, -1), pieces };
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
  const most = tiles.reduce((sum, { length }) => sum + length, 0);
  const pieces = new Int32Array(PIECE_NUMBERS * most);
  const shifts = new Int32Array(2 * most);
  let at = 0;
  for (let tile = 0; tile < tiles.length; tile++) {
    if (errors[tile] !== null) {
      counts[tile] = -1;
      continue;
    }
    for (const piece of tiles[tile]!) {
      const slot = slotOf(piece.block);
      if (slot === null) continue;
      putPiece(pieces, at, request, scale, first + tile, piece, slot, 0);
      shifts[2 * at] = piece.shift?.x ?? 0;
      shifts[2 * at + 1] = piece.shift?.y ?? 0;
      counts[tile]!++;
      at++;
    }
  }
  return { counts, pieces: pieces.slice(0, PIECE_NUMBERS * at), shifts: shifts.slice(0, 2 * at) };
}

/**
 * Writes piece `at`: the seven numbers of the part of a piece that lies in a tile, in pixels as decoded; of all of it where it lies between
 * pixels. `down`: where the tile begins in a picture of several.
 */
function putPiece(
  pieces: Int32Array,
  at: number,
  request: Rectangles,
  scale: DctScale,
  index: number,
  { left, top, x, y, width, height, shift }: Piece,
  slot: number,
  down: number,
): void {
  const tileX = request.x[index]!;
  const tileY = request.y[index]!;
  const whole = shift !== undefined;
  const fromX = whole ? x : Math.max(x, tileX);
  const fromY = whole ? y : Math.max(y, tileY);
  const toX = whole ? x + width : Math.min(x + width, tileX + request.width);
  const toY = whole ? y + height : Math.min(y + height, tileY + request.height);
  const to = PIECE_NUMBERS * at;
  pieces[to] = slot;
  pieces[to + 1] = (left + fromX - x) / scale;
  pieces[to + 2] = (top + fromY - y) / scale;
  pieces[to + 3] = (toX - fromX) / scale;
  pieces[to + 4] = (toY - fromY) / scale;
  pieces[to + 5] = (fromX - tileX) / scale;
  pieces[to + 6] = (fromY - tileY) / scale + down;
}
