import { type ErrorRecord, fromErrorRecord, isNightshiftError, NightshiftError } from '../errors.ts';
import type { LevelPx, TilePx } from '../units.ts';
import { BlockCache, type CachedBlock } from './block-cache.ts';
import { BlockReader, decodeBlocks } from './block-reader.ts';
import type { DecodePool } from './decode-pool.ts';
import type { BlockStore, TaskResult, TilesTask } from './decode-tasks.ts';
import type { Filter, Fit } from './resample.ts';
import type { Slide } from './slide.ts';

/** Squares of one level, each resampled alike. */
export interface TileRequest {
  readonly level: number;
  /** Side of the square that is read. */
  readonly readPx: LevelPx;
  /** Side after resampling with `filter`. */
  readonly tilePx: TilePx;
  readonly filter: Filter;
  /** What the model does to a tile after that; null: nothing. */
  readonly fit: Fit | null;
  /** Top-left corners in pixels of the level, in the order wanted: narrow stripes keep few blocks alive. */
  readonly x: Int32Array;
  readonly y: Int32Array;
}

export interface TileChunk {
  /** Index of its first tile in the request. */
  readonly first: number;
  readonly count: number;
  /**
   * uint8 RGB [count, px, px, 3]; px is `fit.crop`, or `tilePx` without a fit. A tile that failed is all 0. Valid
   * until the next chunk is asked for: then the memory is used again and the array is empty.
   */
  readonly pixels: Uint8Array;
  /** Tiles that could not be read or decoded wholly; `index` as in the request. */
  readonly failures: readonly TileFailure[];
}

export interface TileFailure {
  readonly index: number;
  readonly error: ErrorRecord;
}

/** What a chunk cost. */
export interface TileStats {
  readonly bytesRead: number;
  readonly requests: number;
  readonly blocksDecoded: number;
  /** Seconds that threads spent decoding blocks. */
  readonly decodeSeconds: number;
}

export interface TileOptions {
  readonly signal?: AbortSignal | undefined;
  /** Decoded blocks and chunks that one call holds; at least what one tile needs. Default 64 MiB. */
  readonly maxBytesInFlight?: number | undefined;
  /** Called once a chunk, with what this chunk has cost. */
  readonly onStats?: ((stats: TileStats) => void) | undefined;
}

const CHUNK_BYTES = 4 << 20;
const DEFAULT_BYTES_IN_FLIGHT = 64 << 20;
/** Most memory that the blocks under one tile may take. */
const MOST_STORE_BYTES = 2 ** 31;

/**
 * Reads tiles, in the order of the request, in chunks of about 4 MiB. Bytes of the next chunks are read and decoded while the
 * caller works on one; a block is decoded once a call as long as the blocks between two tiles that share it fit into memory.
 * A block that is missing, truncated, corrupt or kills its decoder fails the tiles that touch it and no others. Throws where no
 * more can be read: `slide-changed`, a lost pool, the signal's reason. Tiles must lie wholly on the level.
 */
export async function* readTiles(
  slide: Slide,
  request: TileRequest,
  pool: DecodePool,
  options: TileOptions = {},
): AsyncGenerator<TileChunk, void, void> {
  const { readPx, tilePx, filter } = request;
  const resample = (readPx as number) === tilePx ? null : { px: tilePx, filter };
  yield* readRectangles(slide, { ...request, width: readPx, height: readPx, resample }, pool, options);
}

/** A rectangle of a level as stored: uint8 RGB [height, width, 3]. Throws the error of the first block that cannot be decoded. */
export async function readRegion(
  slide: Slide,
  level: number,
  x: number,
  y: number,
  width: number,
  height: number,
  pool: DecodePool,
): Promise<Uint8Array> {
  const one = { level, width, height, resample: null, fit: null, x: Int32Array.of(x), y: Int32Array.of(y) };
  for await (const { pixels, failures } of readRectangles(slide, one, pool, {})) {
    if (failures.length > 0) throw fromErrorRecord(failures[0]!.error);
    return pixels;
  }
  throw new NightshiftError('internal', 'a region gave no chunk');
}

type Rectangles = Omit<TilesTask, 'store' | 'slots' | 'reuse'> & { readonly level: number };

async function* readRectangles(slide: Slide, request: Rectangles, pool: DecodePool, options: TileOptions) {
  if (request.x.length === 0) return;
  const stop = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, stop.signal]) : stop.signal;
  signal.throwIfAborted();
  const reader = await BlockReader.open(slide, request.level, signal);
  const job = new TileJob(reader, request, pool, signal, options);
  const inFlight: Promise<TileChunk>[] = [];
  try {
    for (;;) {
      while (inFlight.length < job.lookAhead) {
        const chunk = job.startNext();
        if (chunk === null) break;
        // Awaited below, in order; until then its failure is not an unhandled one.
        chunk.catch(() => {});
        inFlight.push(chunk);
      }
      const oldest = inFlight.shift();
      if (oldest === undefined) return;
      const chunk = await oldest;
      signal.throwIfAborted();
      yield chunk;
      job.reuse(chunk.pixels);
    }
  } finally {
    stop.abort();
    await Promise.allSettled(inFlight);
    job.close();
  }
}

/** One `readTiles` call: which tiles come next, which decoded blocks are held, what is under way. */
class TileJob {
  readonly lookAhead: number;
  readonly #reader: BlockReader;
  readonly #request: Rectangles;
  readonly #pool: DecodePool;
  readonly #signal: AbortSignal;
  readonly #onStats: TileOptions['onStats'];
  readonly #store: BlockStore;
  readonly #cache: BlockCache;
  readonly #chunkTiles: number;
  readonly #chunkBlocks: number;
  /** Last tile that needs a block. */
  readonly #lastUse: Int32Array;
  readonly #spare: ArrayBuffer[] = [];
  /** A thread was given up: it may still write to the memory. */
  #crashed = false;
  #next = 0;

  constructor(reader: BlockReader, request: Rectangles, pool: DecodePool, signal: AbortSignal, options: TileOptions) {
    this.#reader = reader;
    this.#request = request;
    this.#pool = pool;
    this.#signal = signal;
    this.#onStats = options.onStats;
    const budget = options.maxBytesInFlight ?? DEFAULT_BYTES_IN_FLIGHT;
    const { slide, level } = reader;
    const { width, height, blockWidth, blockHeight, columns, rows } = slide.levels[level]!;

    this.#lastUse = new Int32Array(columns * rows).fill(-1);
    let distinct = 0;
    let underOne = 0;
    for (let i = 0; i < request.x.length; i++) {
      const [x, y] = [request.x[i]!, request.y[i]!];
      if (x < 0 || y < 0 || x + request.width > width || y + request.height > height) {
        throw new NightshiftError(
          'internal',
          `tile ${i} at (${x}, ${y}) leaves level ${level}, ${width} x ${height} px`,
        );
      }
      const blocks = this.#blocksUnder(i);
      underOne = Math.max(underOne, blocks.length);
      for (const block of blocks) {
        if (this.#lastUse[block] === -1) distinct++;
        this.#lastUse[block] = i;
      }
    }
    const blockBytes = 3 * blockWidth * blockHeight;
    const slots = Math.min(distinct, Math.max(underOne, Math.floor(budget / 2 / blockBytes)));
    if (slots * blockBytes > MOST_STORE_BYTES) {
      throw new NightshiftError('slide-limits', `one tile covers ${underOne} blocks, ${slots * blockBytes} bytes`);
    }
    this.#store = { memory: pool.borrow(slots * blockBytes), width: blockWidth, height: blockHeight };
    this.#cache = new BlockCache(slots);

    const side = request.fit?.crop ?? request.resample?.px;
    const tileBytes = side === undefined ? 3 * request.width * request.height : 3 * side * side;
    this.#chunkTiles = Math.max(1, Math.floor(CHUNK_BYTES / tileBytes));
    // Half of the slots, so that the next chunk is decoded meanwhile.
    this.#chunkBlocks = slots === distinct ? slots : Math.ceil(slots / 2);
    const most = Math.floor(budget / 2 / Math.max(CHUNK_BYTES, tileBytes));
    this.lookAhead = Math.max(1, Math.min(most, pool.threads + 2));
  }

  /** Starts the next chunk; null where all are started, or where it must wait for a slot that a chunk in flight holds. */
  startNext(): Promise<TileChunk> | null {
    const first = this.#next;
    const wanted = new Set<number>();
    let end = first;
    while (end < this.#request.x.length && end - first < this.#chunkTiles) {
      const under = this.#blocksUnder(end);
      const more = under.filter((block) => !wanted.has(block)).length;
      if (end > first && wanted.size + more > this.#chunkBlocks) break;
      for (const block of under) wanted.add(block);
      end++;
    }
    if (end === first) return null;
    const blocks = this.#cache.hold([...wanted]);
    if (blocks === null) return null;
    this.#next = end;
    const decoded = blocks.missing.length > 0 ? this.#decode(blocks.missing) : null;
    const ready = decoded === null ? Promise.resolve() : decoded.then(() => {});
    ready.catch(() => {});
    for (const entry of blocks.missing) entry.ready = ready;
    return this.#finish(first, end - first, blocks.held, decoded);
  }

  /** To be called when nothing is in flight. */
  close(): void {
    if (!this.#crashed) this.#pool.giveBack(this.#store.memory);
  }

  /** Takes back the memory of a chunk that the caller is done with. */
  reuse({ buffer }: Uint8Array): void {
    if (buffer instanceof ArrayBuffer && buffer.byteLength > 0) this.#spare.push(buffer);
  }

  async #decode(missing: readonly CachedBlock[]): Promise<TileStats> {
    const entries = new Map(missing.map((entry) => [entry.block, entry]));
    const codec = this.#reader.slide.codec(this.#reader.level);
    const decoded = await decodeBlocks(this.#reader, [...entries.keys()], ({ blocks, compressed }, transfer) => {
      const slots = Int32Array.from(blocks, (block) => entries.get(block)!.slot);
      const task = { codec, compressed, store: this.#store, slots };
      return this.#pool.run('blocks', task, { transfer, signal: this.#signal });
    });
    for (const [block, error] of decoded.failures) entries.get(block)!.error = error;
    if (decoded.crashed) this.#crashed = true;
    const { bytesRead, requests, results, failures } = decoded;
    const decodeSeconds = results.reduce((sum, { result }) => sum + result.seconds, 0);
    return { bytesRead, requests, blocksDecoded: missing.length - failures.size, decodeSeconds };
  }

  async #finish(
    first: number,
    count: number,
    held: readonly CachedBlock[],
    decoded: Promise<TileStats> | null,
  ): Promise<TileChunk> {
    const stats = (await decoded) ?? { bytesRead: 0, requests: 0, blocksDecoded: 0, decodeSeconds: 0 };
    await Promise.all(held.map(({ ready }) => ready));
    const byBlock = new Map(held.map((entry) => [entry.block, entry]));
    const failures: TileFailure[] = [];
    const slots: number[] = [];
    for (let index = first; index < first + count; index++) {
      const under = this.#blocksUnder(index).map((block) => byBlock.get(block)!);
      const error = under.find((entry) => entry.error !== null)?.error ?? null;
      if (error !== null) failures.push({ index, error });
      for (const { slot } of under) slots.push(error === null ? slot : -1);
    }
    const { x, y, width, height, resample, fit } = this.#request;
    const task: TilesTask = {
      store: this.#store,
      width,
      height,
      resample,
      fit,
      x: x.slice(first, first + count),
      y: y.slice(first, first + count),
      slots: Int32Array.from(slots),
      reuse: this.#spare.pop() ?? null,
    };
    const { pixels } = await this.#cut(task);
    this.#cache.release(held, (block) => this.#lastUse[block]! < this.#next);
    this.#onStats?.(stats);
    return { first, count, pixels, failures };
  }

  /** Cutting reads what is already decoded: where its thread dies it was not to blame, and once more is enough. */
  async #cut(task: TilesTask): Promise<TaskResult<'tiles'>> {
    try {
      return await this.#pool.run('tiles', task, {
        transfer: task.reuse === null ? [] : [task.reuse],
        signal: this.#signal,
      });
    } catch (error) {
      if (!isNightshiftError(error, 'tile-decode-crash')) throw error;
      this.#crashed = true;
      return await this.#pool.run('tiles', { ...task, reuse: null }, { signal: this.#signal });
    }
  }

  #blocksUnder(index: number): number[] {
    const { blockWidth, blockHeight, columns } = this.#reader.slide.levels[this.#reader.level]!;
    const [x, y] = [this.#request.x[index]!, this.#request.y[index]!];
    const lastColumn = Math.floor((x + this.#request.width - 1) / blockWidth);
    const lastRow = Math.floor((y + this.#request.height - 1) / blockHeight);
    const blocks: number[] = [];
    for (let row = Math.floor(y / blockHeight); row <= lastRow; row++) {
      for (let column = Math.floor(x / blockWidth); column <= lastColumn; column++) blocks.push(row * columns + column);
    }
    return blocks;
  }
}
