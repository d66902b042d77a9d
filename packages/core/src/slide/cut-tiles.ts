import { blendPieces, PIECE_NUMBERS } from './blend.ts';
import { type Measure, measureTile } from './measure/measure.ts';
import { type Filter, type Fit, fitTile, type Rgb, resize } from './resample.ts';

/** Decoded blocks in shared memory: slot i is uint8 RGB [height, width, 3] from byte `i * width * height * 3`. */
export interface BlockStore {
  readonly memory: SharedArrayBuffer;
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
  /** Memory for the pixels, handed over and back again: see `ReadMemory`; exactly as long as they are. */
  readonly reuse: ArrayBuffer | null;
}

/** What is cut out of each block as soon as it is decoded, while the processor's cache still holds it: of tiles that stay as they are stored. */
export interface BlockCuts {
  /** Size of the picture of all tiles of the chunk one below the other, px. */
  readonly width: number;
  readonly height: number;
  /** Where the pieces of each block in turn end: their number so far. */
  readonly ends: Int32Array;
  /** As in `TilesTask`, with corners in that picture. */
  readonly pieces: Int32Array;
  readonly reuse: ArrayBuffer | null;
}

/** A value a tile for each measure that was asked for; NaN of a tile that cannot be had. */
export type Measured = Readonly<Partial<{ [measure in Measure]: Float64Array }>>;

interface BlockSize {
  readonly width: number;
  readonly height: number;
}

export function cutTiles(task: TilesTask): { readonly pixels: Uint8Array<ArrayBuffer>; readonly measured: Measured } {
  const { width, height, resample, fit, counts, pieces, shifts } = task;
  const side = fit?.crop ?? resample?.px;
  const bytes = side === undefined ? 3 * width * height : 3 * side * side;
  const pixels = new Uint8Array(task.reuse ?? new ArrayBuffer(bytes * counts.length));
  const measured = task.measures.map((name) => [name, new Float64Array(counts.length).fill(Number.NaN)] as const);
  const direct = resample === null && fit === null;
  // Buffer.copy makes no view per row: 24 against 38 us a tile for `out.set(blocks.subarray(...))`.
  const blocks = Buffer.from(task.store.memory);
  const cut = direct ? Buffer.from(pixels.buffer) : Buffer.alloc(3 * width * height);
  for (let i = 0, at = 0; i < counts.length; i++) {
    if (counts[i] === -1) {
      pixels.fill(0, i * bytes, (i + 1) * bytes);
      continue;
    }
    const to = direct ? i * bytes : 0;
    const end = at + counts[i]!;
    const under = pieces.subarray(PIECE_NUMBERS * at, PIECE_NUMBERS * end);
    const shifted = shifts?.subarray(2 * at, 2 * end);
    at = end;
    if (shifted?.some((shift) => shift > 0)) {
      blendPieces(blocks, task.store, under, shifted, cut, to, width, height);
    } else {
      if (task.gaps) cut.fill(255, to, to + 3 * width * height);
      for (let k = 0; k < under.length; k += PIECE_NUMBERS)
        copyPiece(blocks, task.store, under.subarray(k, k + PIECE_NUMBERS), cut, to, width);
    }
    let image: Rgb = { width, height, data: cut.subarray(to, to + 3 * width * height) };
    if (resample !== null) image = resize(image, resample.px, resample.px, resample.filter);
    for (const [name, values] of measured) values[i] = measureTile(name, image.data, image.width);
    if (direct) continue;
    if (fit !== null) image = fitTile(image, fit);
    pixels.set(image.data, i * bytes);
  }
  return { pixels, measured: Object.fromEntries(measured) };
}

/** The picture that `cuts` describe, and what adds the task's block `i` to it once that is decoded. */
export function blockCutter(store: BlockStore, cuts: BlockCuts) {
  const { width, height, ends, pieces } = cuts;
  const pixels = new Uint8Array(cuts.reuse ?? new ArrayBuffer(3 * width * height));
  const [blocks, out] = [Buffer.from(store.memory), Buffer.from(pixels.buffer)];
  const cut = (i: number): void => {
    const end = PIECE_NUMBERS * ends[i]!;
    for (let at = PIECE_NUMBERS * (ends[i - 1] ?? 0); at < end; at += PIECE_NUMBERS) {
      copyPiece(blocks, store, pieces.subarray(at, at + PIECE_NUMBERS), out, 0, width);
    }
  };
  return { pixels, cut };
}

/** Copies a piece into the tile, `width` px a row, that begins at byte `to` of `out`. */
function copyPiece(blocks: Buffer, store: BlockSize, piece: Int32Array, out: Buffer, to: number, width: number): void {
  const bytes = 3 * piece[3]!;
  let from = 3 * ((piece[0]! * store.height + piece[2]!) * store.width + piece[1]!);
  let into = to + 3 * (piece[6]! * width + piece[5]!);
  for (let row = 0; row < piece[4]!; row++) {
    blocks.copy(out, into, from, from + bytes);
    from += 3 * store.width;
    into += 3 * width;
  }
}
