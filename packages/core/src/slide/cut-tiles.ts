import { blendPieces, PIECE_NUMBERS } from './blend.ts';
import { type CopyRectangle, copierBetween, copierWithin } from './copy-rectangle.ts';
import { type Measure, measureTile } from './measure/measure.ts';
import { bufferOf, type SharedMemory } from './memory.ts';
import { type Filter, type Fit, fitTile, type Rgb, resize } from './resample.ts';

/**
 * Decoded blocks in shared memory: slot i is uint8 RGB [height, width, 3] from byte `i * width * height * 3`. Behind them lie the tiles that are cut
 * out of them.
 */
export interface BlockStore {
  readonly memory: SharedMemory;
  readonly width: number;
  readonly height: number;
}

/** Cuts rectangles out of decoded blocks, and resamples them. */
export interface TilesTask {
  readonly store: BlockStore;
  readonly width: number;
  readonly height: number;
  /** Resampled to `px` square after the cut; null: as cut. */
  readonly resample: { readonly px: number; readonly filter: Filter } | null;
  readonly fit: Fit | null;
  /** Of square tiles: what is measured, before the fit. */
  readonly measures: readonly Measure[];
  /** How many pieces of blocks each tile in turn is made of; -1: it cannot be had and stays 0. */
  readonly counts: Int32Array;
  /** The pieces, seven numbers each: the slot, the corner in it, the size, the corner in the tile. Later ones go over earlier ones. */
  readonly pieces: Int32Array;
  /** Two numbers a piece, as in `Piece.shift`, where some piece lies between pixels. */
  readonly shifts: Int32Array | null;
  /** The pieces leave parts of tiles out: white. */
  readonly gaps: boolean;
  /** Byte of the store's memory where the tiles' pixels begin. */
  readonly to: number;
}

/** What is cut out of each block as soon as it is decoded, while the processor's cache still holds it: of tiles that stay as they are stored. */
export interface BlockCuts {
  /** Width of the tiles, px. */
  readonly width: number;
  /** Where the pieces of each block in turn end: their number so far. */
  readonly ends: Int32Array;
  /** As in `TilesTask`, with corners in the picture of all tiles of the chunk one below the other. */
  readonly pieces: Int32Array;
  readonly to: number;
}

/** A value a tile for each measure that was asked for; NaN of a tile that cannot be had. */
export type Measured = Readonly<Partial<{ [measure in Measure]: Float64Array }>>;

export function cutTiles(task: TilesTask): Measured {
  const { store, width, height, resample, fit, counts, pieces, shifts } = task;
  const side = fit?.crop ?? resample?.px;
  const bytes = side === undefined ? 3 * width * height : 3 * side * side;
  const measured = task.measures.map((name) => [name, new Float64Array(counts.length).fill(Number.NaN)] as const);
  const memory = bufferOf(store.memory);
  const pixels = memory.subarray(task.to, task.to + bytes * counts.length);
  const direct = resample === null && fit === null;
  const cut = direct ? memory : Buffer.alloc(3 * width * height);
  const copy = direct ? copierWithin(store.memory) : copierBetween(memory, cut);
  for (let i = 0, at = 0; i < counts.length; i++) {
    if (counts[i] === -1) {
      pixels.fill(0, i * bytes, (i + 1) * bytes);
      continue;
    }
    const to = direct ? task.to + i * bytes : 0;
    const end = at + counts[i]!;
    const under = pieces.subarray(PIECE_NUMBERS * at, PIECE_NUMBERS * end);
    const shifted = shifts?.subarray(2 * at, 2 * end);
    if (shifted?.some((shift) => shift > 0)) {
      blendPieces(memory, store, under, shifted, cut, to, width, height);
    } else {
      if (task.gaps) cut.fill(255, to, to + 3 * width * height);
      for (let piece = at; piece < end; piece++) copyPiece(copy, store, pieces, piece, to, width);
    }
    at = end;
    let image: Rgb = { width, height, data: cut.subarray(to, to + 3 * width * height) };
    if (resample !== null) image = resize(image, resample.px, resample.px, resample.filter);
    for (const [name, values] of measured) values[i] = measureTile(name, image.data, image.width);
    if (direct) continue;
    if (fit !== null) image = fitTile(image, fit);
    pixels.set(image.data, i * bytes);
  }
  return Object.fromEntries(measured);
}

/** Cuts block `i` of the task once it is decoded. */
export function blockCutter(store: BlockStore, { width, ends, pieces, to }: BlockCuts): (i: number) => void {
  const copy = copierWithin(store.memory);
  return (i) => {
    for (let piece = ends[i - 1] ?? 0; piece < ends[i]!; piece++) copyPiece(copy, store, pieces, piece, to, width);
  };
}

/** Copies a piece into the tile, `width` px a row, that begins at byte `to`. */
function copyPiece(
  copy: CopyRectangle,
  store: BlockStore,
  pieces: Int32Array,
  piece: number,
  to: number,
  width: number,
): void {
  const at = PIECE_NUMBERS * piece;
  const [slot, left, top] = [pieces[at]!, pieces[at + 1]!, pieces[at + 2]!];
  const [x, y] = [pieces[at + 5]!, pieces[at + 6]!];
  copy(
    3 * ((slot * store.height + top) * store.width + left),
    3 * store.width,
    to + 3 * (y * width + x),
    3 * width,
    3 * pieces[at + 3]!,
    pieces[at + 4]!,
  );
}
