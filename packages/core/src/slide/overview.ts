import { BlockReader } from './block-reader.ts';
import type { DctScale } from './codec/block.ts';
import { blocksPerTask, decodeBlocks } from './decode-blocks.ts';
import type { DecodePool } from './decode-pool.ts';
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
  const scale = dctScale(level, factor);
  const sums = new BinSums(level, scale, factor / scale);
  const reader = await BlockReader.open(slide, index, signal);
  const codec = slide.codec(index);
  const taskBlocks = blocksPerTask(level);
  let blocksFailed = 0;

  async function add(first: number, last: number): Promise<void> {
    const wanted = Array.from({ length: last - first }, (_, i) => first + i);
    const decoded = await decodeBlocks(reader, wanted, ({ blocks, compressed }, transfer) => {
      const columns = Int32Array.from(blocks, (block) => block % level.columns);
      const rows = Int32Array.from(blocks, (block) => Math.floor(block / level.columns));
      const size = { width: level.blockWidth, height: level.blockHeight };
      const task = { codec, compressed, ...size, columns, rows, scale, bin: factor / scale };
      return pool.run('bins', task, { transfer, signal });
    });
    for (const [block, { code }] of decoded.failures) {
      if (code === 'tile-missing') sums.addWhite(block % level.columns, Math.floor(block / level.columns));
      else blocksFailed++;
    }
    for (const { blocks, result } of decoded.results) {
      for (const [i, block] of blocks.entries()) {
        const part = result.sums[i];
        if (part) sums.add(block % level.columns, Math.floor(block / level.columns), part);
      }
    }
  }

  const count = level.columns * level.rows;
  reader.expect(Array(count).keys());
  let next = 0;
  const lane = async () => {
    while (next < count) {
      const first = next;
      next = Math.min(count, first + taskBlocks);
      try {
        await add(first, next);
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

/** Sums over bins of the picture, put together from the sums of its blocks. */
class BinSums {
  readonly #bin: number;
  /** Level and block, in pixels after the DCT scaling. */
  readonly #level: { readonly width: number; readonly height: number };
  readonly #block: { readonly width: number; readonly height: number };
  readonly #width: number;
  readonly #height: number;
  readonly #sums: Uint32Array;

  constructor(level: Level, scale: number, bin: number) {
    this.#bin = bin;
    this.#level = { width: Math.ceil(level.width / scale), height: Math.ceil(level.height / scale) };
    this.#block = { width: level.blockWidth / scale, height: level.blockHeight / scale };
    this.#width = Math.ceil(this.#level.width / bin);
    this.#height = Math.ceil(this.#level.height / bin);
    this.#sums = new Uint32Array(4 * this.#width * this.#height);
  }

  /** Adds what a `bins` task gave for one block. */
  add(column: number, row: number, part: Uint32Array): void {
    const left = Math.floor((column * this.#block.width) / this.#bin);
    const right = Math.floor((Math.min(this.#level.width, (column + 1) * this.#block.width) - 1) / this.#bin);
    const top = Math.floor((row * this.#block.height) / this.#bin);
    const length = 4 * (right - left + 1);
    for (let from = 0, y = top; from < part.length; from += length, y++) {
      const to = 4 * (y * this.#width + left);
      for (let i = 0; i < length; i++) this.#sums[to + i] = this.#sums[to + i]! + part[from + i]!;
    }
  }

  /** Adds a block that is white. */
  addWhite(column: number, row: number): void {
    const bin = this.#bin;
    const across = {
      from: column * this.#block.width,
      to: Math.min(this.#level.width, (column + 1) * this.#block.width),
    };
    const down = { from: row * this.#block.height, to: Math.min(this.#level.height, (row + 1) * this.#block.height) };
    for (let y = Math.floor(down.from / bin); y * bin < down.to; y++) {
      const tall = Math.min(down.to, (y + 1) * bin) - Math.max(down.from, y * bin);
      for (let x = Math.floor(across.from / bin); x * bin < across.to; x++) {
        const count = tall * (Math.min(across.to, (x + 1) * bin) - Math.max(across.from, x * bin));
        const i = 4 * (y * this.#width + x);
        for (let c = 0; c < 3; c++) this.#sums[i + c] = this.#sums[i + c]! + 255 * count;
        this.#sums[i + 3] = this.#sums[i + 3]! + count;
      }
    }
  }

  picture(): { width: number; height: number; rgb: Uint8Array; unreadable: Uint8Array } {
    const width = this.#width;
    const height = this.#height;
    const rgb = new Uint8Array(3 * width * height);
    const unreadable = new Uint8Array(width * height);
    for (let y = 0; y < height; y++) {
      const tall = Math.min(this.#bin, this.#level.height - y * this.#bin);
      for (let x = 0; x < width; x++) {
        const i = y * width + x;
        const count = this.#sums[4 * i + 3]!;
        if (count < tall * Math.min(this.#bin, this.#level.width - x * this.#bin)) unreadable[i] = 1;
        for (let c = 0; c < 3; c++) {
          rgb[3 * i + c] = count === 0 ? 255 : Math.round(this.#sums[4 * i + c]! / count);
        }
      }
    }
    return { width, height, rgb, unreadable };
  }
}
