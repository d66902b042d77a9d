import { type ErrorRecord, isNightshiftError, toErrorRecord } from '../errors.ts';
import type { DctScale } from './codec/block.ts';
import { loadDecoders } from './codec/decoder.ts';
import type { JpegChoice } from './codec/jpeg.ts';
import { type BlockCuts, type BlockStore, blockCutter, cutTiles, type Measured, type TilesTask } from './cut-tiles.ts';
import type { Piece } from './layout.ts';
import { bufferOf } from './memory.ts';
import type { BlockCodec } from './slide.ts';

/** Compressed blocks: block i is `length[i]` of the `bytes` from `offset[i]`. */
export interface CompressedBlocks {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly offset: Float64Array;
  readonly length: Int32Array;
  /** Part of block i that lies on the slide, px. */
  readonly usedWidth: Int32Array;
  readonly usedHeight: Int32Array;
}

/** Decodes blocks, each into its slot. */
export interface BlocksTask {
  readonly codec: BlockCodec;
  readonly compressed: CompressedBlocks;
  readonly store: BlockStore;
  /** The store's blocks are so many times smaller than the compressed ones. */
  readonly scale: DctScale;
  readonly slots: Int32Array;
  /** Null: nothing is cut out of them yet. */
  readonly cuts: BlockCuts | null;
}

export interface BlockFailure {
  /** Index into the task's blocks. */
  readonly index: number;
  readonly error: ErrorRecord;
}

/** Box-averages blocks: sums over bins of `bin` px (after the DCT scaling) that are aligned to the level's origin. */
export interface BinsTask {
  readonly codec: BlockCodec;
  readonly compressed: CompressedBlocks;
  readonly width: number;
  readonly height: number;
  /** The pieces of each block in turn. */
  readonly pieces: readonly (readonly Piece[])[];
  /** Above 1 only where each block is one piece, from its corner, that lies at a multiple of it. */
  readonly scale: DctScale;
  readonly bin: number;
}

/** Every task of a decode worker: what goes in and what comes out. All of it is plain data and crosses threads. */
export interface Tasks {
  blocks: {
    task: BlocksTask;
    result: { readonly failures: readonly BlockFailure[]; readonly seconds: number };
  };
  tiles: { task: TilesTask; result: { readonly measured: Measured } };
  bins: {
    task: BinsTask;
    /** Per block and piece the sums of its bins, row by row: r, g, b, pixels; null where the block cannot be decoded. */
    result: {
      readonly sums: readonly (readonly Uint32Array[] | null)[];
      readonly failures: readonly BlockFailure[];
      readonly seconds: number;
    };
  };
}

export type TaskKind = keyof Tasks;
export type Task<K extends TaskKind> = Tasks[K]['task'];
export type TaskResult<K extends TaskKind> = Tasks[K]['result'];

export type TaskRunner = { readonly [K in TaskKind]: (task: Task<K>) => Promise<TaskResult<K>> };

/** The tasks over one JPEG library. Runs in a decode worker; holds no state between tasks but buffers. */
export async function createTaskRunner(jpeg: JpegChoice): Promise<TaskRunner> {
  const decoderFor = await loadDecoders(jpeg);

  /** Decodes a task's blocks one after the other: block i goes to `outOf(i)`, and `decoded(i)` is called where that succeeds. */
  async function decodeAll(
    { codec, compressed }: BlocksTask | BinsTask,
    size: { readonly width: number; readonly height: number },
    scale: DctScale,
    outOf: (i: number) => Uint8Array,
    decoded: (i: number) => void,
  ): Promise<{ readonly failures: readonly BlockFailure[]; readonly seconds: number }> {
    const decode = await decoderFor(codec);
    const started = performance.now();
    const failures: BlockFailure[] = [];
    const { bytes, offset, length, usedWidth, usedHeight } = compressed;
    for (let i = 0; i < length.length; i++) {
      try {
        const block = bytes.subarray(offset[i]!, offset[i]! + length[i]!);
        // Most decoders are done when they return: waiting all the same would cost a turn a block.
        const pending = decode(
          block,
          { ...size, usedWidth: usedWidth[i]!, usedHeight: usedHeight[i]! },
          outOf(i),
          scale,
        );
        if (pending) await pending;
        decoded(i);
      } catch (error) {
        // Anything else is a decoder that broke: the thread ends, and what came with the block is decoded by another one.
        if (!isNightshiftError(error)) throw error;
        failures.push({ index: i, error: toErrorRecord(error) });
      }
    }
    return { failures, seconds: (performance.now() - started) / 1_000 };
  }

  return {
    async blocks(task) {
      const { scale, cuts, store } = task;
      const { width, height } = store;
      const memory = bufferOf(store.memory);
      const bytes = 3 * width * height;
      const slot = (i: number) => memory.subarray(task.slots[i]! * bytes, (task.slots[i]! + 1) * bytes);
      const cut = cuts === null ? () => {} : blockCutter(store, cuts);
      return decodeAll(task, { width: width * scale, height: height * scale }, scale, slot, cut);
    },

    tiles: async (task) => ({ measured: cutTiles(task) }),

    async bins(task) {
      const { width, height, scale, bin } = task;
      const pixels = new Uint8Array(3 * Math.ceil(width / scale) * Math.ceil(height / scale));
      const sums: (Uint32Array[] | null)[] = Array(task.pieces.length).fill(null);
      const decoded = await decodeAll(
        task,
        { width, height },
        scale,
        () => pixels,
        (i) => {
          sums[i] = task.pieces[i]!.map((piece) =>
            sumBins(pixels, Math.ceil(width / scale), scaled(piece, scale), bin),
          );
        },
      );
      return { ...decoded, sums };
    },
  };
}

/** A piece in pixels of a block that is decoded smaller. */
const scaled = ({ left, top, width, height, x, y }: Piece, scale: number): Omit<Piece, 'block'> => ({
  left: left / scale,
  top: top / scale,
  width: Math.ceil(width / scale),
  height: Math.ceil(height / scale),
  x: x / scale,
  y: y / scale,
});

/** Sums of a piece of a block over the bins that it touches. */
function sumBins(pixels: Uint8Array, rowPixels: number, piece: Omit<Piece, 'block'>, bin: number): Uint32Array {
  const firstX = Math.floor(piece.x / bin);
  const firstY = Math.floor(piece.y / bin);
  const binsX = Math.floor((piece.x + piece.width - 1) / bin) - firstX + 1;
  const binsY = Math.floor((piece.y + piece.height - 1) / bin) - firstY + 1;
  const sums = new Uint32Array(4 * binsX * binsY);
  for (let y = 0; y < piece.height; y++) {
    const row = 4 * binsX * (Math.floor((piece.y + y) / bin) - firstY);
    let p = 3 * ((piece.top + y) * rowPixels + piece.left);
    for (let x = 0; x < piece.width; ) {
      const column = Math.floor((piece.x + x) / bin) - firstX;
      const end = Math.min(piece.width, (firstX + column + 1) * bin - piece.x);
      let r = 0;
      let g = 0;
      let b = 0;
      const count = end - x;
      for (; x < end; x++, p += 3) {
        r += pixels[p]!;
        g += pixels[p + 1]!;
        b += pixels[p + 2]!;
      }
      const s = row + 4 * column;
      sums[s] = sums[s]! + r;
      sums[s + 1] = sums[s + 1]! + g;
      sums[s + 2] = sums[s + 2]! + b;
      sums[s + 3] = sums[s + 3]! + count;
    }
  }
  return sums;
}
