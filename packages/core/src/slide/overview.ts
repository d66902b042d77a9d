import { BlockReader } from './block-reader.ts';
import type { DctScale } from './codec/block.ts';
import { blocksPerTask, decodeBlocks } from './decode-blocks.ts';
import type { DecodePool } from './decode-pool.ts';
import type { Piece } from './layout.ts';
import type { Level, Slide } from './slide.ts';

/** A small picture of a whole slide. */
export interface Overview {
  readonly width: number;
  readonly height: number;
  /** Level-0 pixels per pixel of the overview. The last column and row may reach beyond the slide. */
  readonly downsampleX: number;
  readonly downsampleY: number;
  /** uint8 RGB [height, width, 3]; white where nothing could be read, and where a sparse file stores nothing: nobody scanned there. */
  readonly rgb: Uint8Array;
  /** [height, width]: 1 where some of the pixels below are stored and could not be read or decoded. */
  readonly unreadable: Uint8Array;
  readonly blocksFailed: number;
}

/** The sums of a bin fit into 32 bits above this. */
const LEAST_PIXELS = 65_536;

/**
 * The whole slide as at most `maxPixels` pixels (65,536 at least): box averages of the coarsest level that is no smaller than a
 * quarter of that. Where the bins allow it blocks are decoded at 1/2, 1/4 or 1/8 in the DCT, which changes a value by 0.1 to 0.6
 * in the mean. Memory does not grow with the slide. Blocks that cannot be decoded are counted and marked.
 */
export async function readOverview(
  slide: Slide,
  options: { readonly maxPixels: number },
  pool: DecodePool,
  signal: AbortSignal = new AbortController().signal,
): Promise<Overview> {
  const maxPixels = Math.max(LEAST_PIXELS, options.maxPixels);
  const index = suitableLevel(slide.levels, maxPixels);
  const level = slide.levels[index]!;
  const factor = binFactor(level, maxPixels);
  const reader = await BlockReader.open(slide, index, signal);
  const { layout } = reader;
  const scale = layout.regular ? dctScale(level, factor) : 1;
  const sums = new BinSums(level, scale, factor / scale);
  const codec = slide.codec(index);
  const taskBlocks = blocksPerTask(level);
  let blocksFailed = 0;

  async function add(part: readonly number[]): Promise<void> {
    const decoded = await decodeBlocks(reader, part, ({ blocks, compressed }, transfer) => {
      const size = { width: level.blockWidth, height: level.blockHeight };
      const pieces = blocks.map((block) => layout.of(block));
      const task = { codec, compressed, ...size, pieces, scale, bin: factor / scale };
      return pool.run('bins', task, { transfer, signal });
    });
    for (const [block, { code }] of decoded.failures) {
      if (code === 'tile-missing') continue;
      blocksFailed++;
      for (const piece of layout.of(block)) sums.addUnreadable(piece);
    }
    for (const { blocks, result } of decoded.results) {
      for (const [i, block] of blocks.entries()) {
        const parts = result.sums[i];
        if (parts) for (const [k, piece] of layout.of(block).entries()) sums.add(piece, parts[k]!);
      }
    }
  }

  const numbered = level.columns * level.rows;
  const drawn = (block: number) => layout.regular || layout.of(block).length > 0;
  const wanted = Array.from({ length: numbered }, (_, block) => block).filter(drawn);
  const count = wanted.length;
  reader.expect(wanted);
  let next = 0;
  const lane = async () => {
    while (next < count) {
      const first = next;
      next = Math.min(count, first + taskBlocks);
      try {
        await add(wanted.slice(first, next));
      } catch (error) {
        next = count;
        throw error;
      }
    }
  };
  const lanes = Array.from({ length: pool.threads + 1 }, lane);
  // Nothing reads or decodes any more when this returns or throws.
  await Promise.allSettled(lanes);
  await reader.settled();
  await Promise.all(lanes);
  const base = slide.levels[0]!;
  return {
    ...sums.picture(),
    downsampleX: factor * (base.width / level.width),
    downsampleY: factor * (base.height / level.height),
    blocksFailed,
  };
}

function suitableLevel(levels: readonly Level[], maxPixels: number): number {
  const enough = levels.findLastIndex(({ width, height }) => width * height >= maxPixels / 4);
  return Math.max(0, enough);
}

/** Pixels of the level per pixel of the overview, a multiple of 8, 4 or 2 where that costs little resolution. */
function binFactor({ width, height }: Level, maxPixels: number): number {
  let factor = 1;
  while (Math.ceil(width / factor) * Math.ceil(height / factor) > maxPixels) factor++;
  const multiple = factor > 16 ? 8 : factor > 8 ? 4 : factor > 4 ? 2 : 1;
  return Math.ceil(factor / multiple) * multiple;
}

function dctScale({ blockWidth, blockHeight }: Level, factor: number): DctScale {
  const scales = [8, 4, 2] as const;
  return scales.find((s) => factor % s === 0 && blockWidth % s === 0 && blockHeight % s === 0) ?? 1;
}

/** Sums over bins of the picture, put together from the sums of pieces of blocks. */
class BinSums {
  readonly #bin: number;
  readonly #scale: number;
  /** Level in pixels after the DCT scaling. */
  readonly #level: { readonly width: number; readonly height: number };
  readonly #width: number;
  readonly #height: number;
  readonly #sums: Uint32Array;
  readonly #unreadable: Uint8Array;

  constructor(level: Level, scale: number, bin: number) {
    this.#bin = bin;
    this.#scale = scale;
    this.#level = { width: Math.ceil(level.width / scale), height: Math.ceil(level.height / scale) };
    this.#width = Math.ceil(this.#level.width / bin);
    this.#height = Math.ceil(this.#level.height / bin);
    this.#sums = new Uint32Array(4 * this.#width * this.#height);
    this.#unreadable = new Uint8Array(this.#width * this.#height);
  }

  /** Adds what a `bins` task gave for a piece. */
  add(piece: Piece, part: Uint32Array): void {
    let from = 0;
    for (const bin of this.#binsUnder(piece)) {
      for (let i = 4 * bin; i < 4 * bin + 4; i++) this.#sums[i] = this.#sums[i]! + part[from++]!;
    }
  }

  addUnreadable(piece: Piece): void {
    for (const bin of this.#binsUnder(piece)) this.#unreadable[bin] = 1;
  }

  *#binsUnder({ x, y, width, height }: Piece): Iterable<number> {
    const across = (from: number, size: number) => ({
      first: Math.floor(from / this.#scale / this.#bin),
      last: Math.floor((from / this.#scale + Math.ceil(size / this.#scale) - 1) / this.#bin),
    });
    const [columns, rows] = [across(x, width), across(y, height)];
    for (let row = rows.first; row <= rows.last; row++) {
      for (let column = columns.first; column <= columns.last; column++) yield row * this.#width + column;
    }
  }

  picture(): { width: number; height: number; rgb: Uint8Array; unreadable: Uint8Array } {
    const width = this.#width;
    const height = this.#height;
    const rgb = new Uint8Array(3 * width * height);
    for (let y = 0; y < height; y++) {
      const tall = Math.min(this.#bin, this.#level.height - y * this.#bin);
      for (let x = 0; x < width; x++) {
        const i = y * width + x;
        const count = this.#sums[4 * i + 3]!;
        const area = tall * Math.min(this.#bin, this.#level.width - x * this.#bin);
        // What lacks and is not known as unreadable is not stored.
        const white = this.#unreadable[i] === 1 ? 0 : Math.max(0, area - count);
        for (let c = 0; c < 3; c++) {
          const sum = this.#sums[4 * i + c]! + 255 * white;
          rgb[3 * i + c] = count + white === 0 ? 255 : Math.round(sum / (count + white));
        }
      }
    }
    return { width, height, rgb, unreadable: this.#unreadable };
  }
}
