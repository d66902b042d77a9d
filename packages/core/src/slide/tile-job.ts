import { type ErrorRecord, isNightshiftError, NightshiftError, toErrorRecord } from '../errors.ts';
import { BlockCache, type CachedBlock } from './block-cache.ts';
import type { BlockReader } from './block-reader.ts';
import type { DctScale } from './codec/block.ts';
import type { BlockCuts, BlockStore, Measured, TilesTask } from './cut-tiles.ts';
import { blocksPerTask, decodeBlocks } from './decode-blocks.ts';
import type { DecodePool } from './decode-pool.ts';
import type { Piece } from './layout.ts';
import { bufferOf, MOST_BYTES } from './memory.ts';
import { type ChunkPieces, cuttingOf, piecesByBlock, piecesByTile, type Rectangles, scaleOf } from './rectangles.ts';
import type { TileChunk, TileOptions, TileStats } from './tiles.ts';

/** Two rows of most slides' stripes of tiles, or one of 32 tiles of 224 px. */
const CHUNK_BYTES = 5 << 20;
const DEFAULT_BYTES_IN_FLIGHT = 64 << 20;
/** Pixels that one task resamples at most: some seconds of work at the worst, within a thread's deadline. */
const TASK_PIXELS = 1 << 25;
interface Decoded {
  readonly stats: TileStats;
  /** Blocks whose pieces the chunk's pixels hold already. */
  readonly cut: readonly number[];
}

/** Tiles of a chunk, where they begin in the request, and where their pixels go. */
interface Chunk {
  readonly first: number;
  readonly tiles: ChunkPieces;
  /** Byte of the store's memory. */
  readonly to: number;
}

/** One `readTiles` call: which tiles come next, which decoded blocks are held, what is under way. */
export class TileJob {
  readonly lookAhead: number;
  readonly #reader: BlockReader;
  readonly #request: Rectangles;
  readonly #pool: DecodePool;
  readonly #signal: AbortSignal;
  readonly #onStats: TileOptions['onStats'];
  readonly #store: BlockStore;
  readonly #scale: DctScale;
  /** What is cut and resampled, in pixels as decoded. */
  readonly #cutting: Pick<TilesTask, 'width' | 'height' | 'resample' | 'fit'>;
  readonly #cache: BlockCache;
  /** Where pixels of chunks begin in the store's memory that no chunk has. */
  readonly #freeChunks: number[] = [];
  readonly #tileBytes: number;
  readonly #chunkTiles: number;
  readonly #chunkBlocks: number;
  readonly #taskBlocks: number;
  /** Tiles are copies of what is stored: they can be cut block by block. */
  readonly #copied: boolean;
  /** Last tile that needs a block. */
  readonly #lastUse: Int32Array;
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
    const order: number[] = [];
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
        if (this.#lastUse[block] === -1) order.push(block);
        this.#lastUse[block] = i;
      }
    }
    const distinct = order.length;
    reader.expect(order, budget / 8);
    this.#scale = scaleOf(request, reader);
    this.#cutting = cuttingOf(request, this.#scale);
    const { resample, fit } = this.#cutting;
    this.#copied = reader.layout.regular && resample === null && fit === null && request.measures.length === 0;
    const block = { width: blockWidth / this.#scale, height: blockHeight / this.#scale };
    const blockBytes = 3 * block.width * block.height;
    const slots = Math.min(distinct, Math.max(underOne, Math.floor(budget / 2 / blockBytes)));
    this.#cache = new BlockCache(slots);
    const side = request.fit?.crop ?? this.#cutting.resample?.px;
    const pixels = this.#cutting.width * this.#cutting.height;
    const tileBytes = side === undefined ? 3 * pixels : 3 * side * side;
    this.#tileBytes = tileBytes;
    this.#chunkTiles = Math.max(1, Math.min(Math.floor(CHUNK_BYTES / tileBytes), Math.floor(TASK_PIXELS / pixels)));
    this.#taskBlocks = blocksPerTask(slide.levels[level]!);
    // Half of the slots, so that the next chunk is decoded meanwhile.
    this.#chunkBlocks = slots === distinct ? slots : Math.ceil(slots / 2);
    const most = Math.floor(budget / 2 / Math.max(CHUNK_BYTES, tileBytes));
    this.lookAhead = Math.max(1, Math.min(most, pool.threads + 2));
    const chunkBytes = tileBytes * Math.min(this.#chunkTiles, request.x.length);
    const allBytes = slots * blockBytes + this.lookAhead * chunkBytes;
    if (allBytes > MOST_BYTES) {
      throw new NightshiftError(
        'slide-limits',
        `one tile covers ${underOne} blocks and wants ${allBytes} bytes of memory`,
      );
    }
    this.#store = { memory: pool.memory.borrow(allBytes), ...block };
    for (let to = slots * blockBytes; to < allBytes; to += chunkBytes) this.#freeChunks.push(to);
  }

  /** Starts the next chunk; null where all are started, or where it must wait for a slot that a chunk in flight holds. */
  startNext(): Promise<TileChunk> | null {
    const first = this.#next;
    const wanted = new Set<number>();
    const tiles: (readonly Piece[])[] = [];
    const most = this.#mostInNext();
    while (tiles.length < most) {
      const under = this.#piecesUnder(first + tiles.length);
      const more = new Set(under.filter(({ block }) => !wanted.has(block)).map(({ block }) => block));
      if (tiles.length > 0 && wanted.size + more.size > this.#chunkBlocks) break;
      for (const block of more) wanted.add(block);
      tiles.push(under);
    }
    if (tiles.length === 0) return null;
    const blocks = this.#cache.hold([...wanted]);
    if (blocks === null) return null;
    this.#next = first + tiles.length;
    // Of the memory of the chunks in flight none is left only where the caller has not given one back.
    const chunk: Chunk = { first, tiles, to: this.#freeChunks.pop()! };
    const parts: Promise<Decoded>[] = [];
    for (let from = 0; from < blocks.missing.length; from += this.#taskBlocks) {
      const part = blocks.missing.slice(from, from + this.#taskBlocks);
      const decoded = this.#decode(part, chunk);
      const ready = decoded.then(() => {});
      ready.catch(() => {});
      for (const entry of part) entry.ready = ready;
      parts.push(decoded);
    }
    return this.#finish(chunk, blocks.held, parts);
  }

  /** Chunks end with a row of tiles where that leaves them half full: what lies under a row is then cut as soon as it is decoded. */
  #mostInNext(): number {
    const { y } = this.#request;
    const full = Math.min(this.#next + this.#chunkTiles, y.length);
    let end = full;
    while (end > this.#next && y[end] === y[end - 1]) end--;
    return 2 * (end - this.#next) >= this.#chunkTiles ? end - this.#next : full - this.#next;
  }

  /** To be called when no chunk is in flight. */
  async close(): Promise<void> {
    await this.#reader.settled();
    if (!this.#crashed) this.#pool.memory.giveBack(this.#store.memory);
  }

  /** Takes back the memory of a chunk that the caller is done with. */
  reuse({ byteOffset }: Uint8Array): void {
    this.#freeChunks.push(byteOffset);
  }

  /** Decodes blocks and, where tiles are copies of them, puts what lies in them into the chunk. */
  async #decode(missing: readonly CachedBlock[], chunk: Chunk): Promise<Decoded> {
    const entries = new Map(missing.map((entry) => [entry.block, entry]));
    const codec = this.#reader.slide.codec(this.#reader.level);
    const decoded = await decodeBlocks(this.#reader, [...entries.keys()], ({ blocks, compressed }, transfer) => {
      const slots = this.#slotsOf(blocks, entries, chunk);
      const cuts = this.#copied ? this.#cutsOf(chunk, blocks, slots) : null;
      const task = { codec, compressed, store: this.#store, scale: this.#scale, slots, cuts };
      return this.#pool.run('blocks', task, { transfer, signal: this.#signal });
    });
    for (const [block, error] of decoded.failures) entries.get(block)!.error = error;
    if (decoded.crashed) this.#crashed = true;
    const { bytesRead, requests, results, failures } = decoded;
    const decodeSeconds = results.reduce((sum, { result }) => sum + result.seconds, 0);
    const stats = { bytesRead, requests, blocksDecoded: missing.length - failures.size, decodeSeconds };
    return { stats, cut: this.#copied ? results.flatMap(({ blocks }) => blocks) : [] };
  }

  /**
   * Where a task decodes its blocks to. Those that are cut at once and that no later chunk needs follow one another in one slot, which then stays in the
   * processor's cache.
   */
  #slotsOf(blocks: readonly number[], entries: ReadonlyMap<number, CachedBlock>, { first, tiles }: Chunk): Int32Array {
    let shared: number | null = null;
    return Int32Array.from(blocks, (block) => {
      const { slot } = entries.get(block)!;
      if (!this.#copied || this.#lastUse[block]! >= first + tiles.length) return slot;
      shared ??= slot;
      return shared;
    });
  }

  /** The cuts of a chunk's tiles out of some blocks. */
  #cutsOf({ first, tiles, to }: Chunk, blocks: readonly number[], slots: Int32Array): BlockCuts {
    const pieces = piecesByBlock(this.#request, this.#scale, first, tiles, blocks, slots);
    return { width: this.#cutting.width, ...pieces, to };
  }

  async #finish(
    { first, tiles, to }: Chunk,
    held: readonly CachedBlock[],
    parts: readonly Promise<Decoded>[],
  ): Promise<TileChunk> {
    const decoded = await settled(parts);
    await Promise.all(held.map(({ ready }) => ready));
    const byBlock = new Map(held.map((entry) => [entry.block, entry]));
    const errors = tiles.map((under, i) => (under.length === 0 ? this.#unscanned(first + i) : errorOf(under, byBlock)));
    const failures = errors.flatMap((error, i) => (error === null ? [] : [{ index: first + i, error }]));
    const done = new Set(decoded.flatMap(({ cut }) => cut));
    const slotOf = (block: number) => (done.has(block) ? null : byBlock.get(block)!.slot);
    const { counts, pieces, shifts } = piecesByTile(this.#request, this.#scale, first, tiles, errors, slotOf);
    const measured = await this.#cutRest({
      store: this.#store,
      ...this.#cutting,
      measures: this.#request.measures,
      counts,
      pieces,
      shifts: this.#reader.layout.shifted ? shifts : null,
      gaps: !this.#reader.layout.regular,
      to,
    });
    this.#cache.release(held, (block) => this.#lastUse[block]! < this.#next);
    this.#onStats?.(total(decoded.map(({ stats }) => stats)));
    // Not a `Buffer`, whose `slice` is no copy.
    const pixels = new Uint8Array(bufferOf(this.#store.memory).buffer, to, tiles.length * this.#tileBytes);
    return { first, count: tiles.length, pixels, measured, failures };
  }

  /** Cutting reads what is already decoded: where its thread dies it was not to blame, and once more is enough. */
  async #cutRest(task: TilesTask): Promise<Measured> {
    if (this.#copied && task.counts.every((count) => count === 0)) return {};
    const run = async () => (await this.#pool.run('tiles', task, { signal: this.#signal })).measured;
    try {
      return await run();
    } catch (error) {
      if (!isNightshiftError(error, 'tile-decode-crash')) throw error;
      this.#crashed = true;
      return await run();
    }
  }

  #piecesUnder(index: number): readonly Piece[] {
    const { x, y, width, height } = this.#request;
    return this.#reader.layout.under(x[index]!, y[index]!, width, height);
  }

  #blocksUnder(index: number): number[] {
    return [...new Set(this.#piecesUnder(index).map(({ block }) => block))];
  }

  #unscanned(index: number): ErrorRecord {
    const at = `(${this.#request.x[index]}, ${this.#request.y[index]})`;
    return toErrorRecord(
      new NightshiftError('tile-missing', `nothing is stored at ${at} of level ${this.#reader.level}`),
    );
  }
}

function errorOf(pieces: readonly Piece[], blocks: ReadonlyMap<number, CachedBlock>): ErrorRecord | null {
  return pieces.map(({ block }) => blocks.get(block)!.error).find((error) => error !== null) ?? null;
}

/** All values, or the first error once nothing runs any more: what still runs writes to shared memory. */
async function settled<T>(promises: readonly Promise<T>[]): Promise<T[]> {
  await Promise.allSettled(promises);
  return Promise.all(promises);
}

function total(parts: readonly TileStats[]): TileStats {
  const sum = (key: keyof TileStats) => parts.reduce((so, part) => so + part[key], 0);
  return {
    bytesRead: sum('bytesRead'),
    requests: sum('requests'),
    blocksDecoded: sum('blocksDecoded'),
    decodeSeconds: sum('decodeSeconds'),
  };
}
