import { type ErrorRecord, isNightshiftError, NightshiftError, toErrorRecord } from '../errors.ts';
import { BlockCache, type CachedBlock } from './block-cache.ts';
import type { BlockReader } from './block-reader.ts';
import type { DctScale } from './codec/block.ts';
import { blocksPerTask, decodeBlocks } from './decode-blocks.ts';
import type { DecodePool } from './decode-pool.ts';
import type { BlockStore, TaskResult, TilesTask } from './decode-tasks.ts';
import type { Piece } from './layout.ts';
import type { TileChunk, TileFailure, TileOptions, TileStats } from './tiles.ts';

/** What a job cuts: rectangles of one size on one level, resampled alike. */
export type Rectangles = Pick<TilesTask, 'width' | 'height' | 'resample' | 'fit' | 'measures'> & {
  readonly level: number;
  readonly dct: DctScale;
  readonly x: Int32Array;
  readonly y: Int32Array;
};

const CHUNK_BYTES = 4 << 20;
const DEFAULT_BYTES_IN_FLIGHT = 64 << 20;
/** Pixels that one task resamples at most: some seconds of work at the worst, within a thread's deadline. */
const TASK_PIXELS = 1 << 25;
/** Most memory that the blocks under one tile may take. */
const MOST_STORE_BYTES = 2 ** 31;

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
  readonly #tileBytes: number;
  readonly #chunkTiles: number;
  readonly #chunkBlocks: number;
  readonly #taskBlocks: number;
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
    const block = { width: blockWidth / this.#scale, height: blockHeight / this.#scale };
    const blockBytes = 3 * block.width * block.height;
    const slots = Math.min(distinct, Math.max(underOne, Math.floor(budget / 2 / blockBytes)));
    if (slots * blockBytes > MOST_STORE_BYTES) {
      throw new NightshiftError('slide-limits', `one tile covers ${underOne} blocks, ${slots * blockBytes} bytes`);
    }
    this.#store = { memory: pool.memory.borrowShared(slots * blockBytes), ...block };
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
    const parts: Promise<TileStats>[] = [];
    for (let from = 0; from < blocks.missing.length; from += this.#taskBlocks) {
      const part = blocks.missing.slice(from, from + this.#taskBlocks);
      const decoded = this.#decode(part);
      const ready = decoded.then(() => {});
      ready.catch(() => {});
      for (const entry of part) entry.ready = ready;
      parts.push(decoded);
    }
    return this.#finish(first, end - first, blocks.held, parts);
  }

  /** To be called when no chunk is in flight. */
  async close(): Promise<void> {
    await this.#reader.settled();
    if (!this.#crashed) this.#pool.memory.giveBackShared(this.#store.memory);
  }

  /** Takes back the memory of a chunk that the caller is done with. */
  reuse({ buffer }: Uint8Array): void {
    if (buffer instanceof ArrayBuffer) this.#pool.memory.giveBackChunk(buffer);
  }

  async #decode(missing: readonly CachedBlock[]): Promise<TileStats> {
    const entries = new Map(missing.map((entry) => [entry.block, entry]));
    const codec = this.#reader.slide.codec(this.#reader.level);
    const decoded = await decodeBlocks(this.#reader, [...entries.keys()], ({ blocks, compressed }, transfer) => {
      const slots = Int32Array.from(blocks, (block) => entries.get(block)!.slot);
      const task = { codec, compressed, store: this.#store, scale: this.#scale, slots };
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
    decoded: readonly Promise<TileStats>[],
  ): Promise<TileChunk> {
    const stats = total(await settled(decoded));
    await Promise.all(held.map(({ ready }) => ready));
    const byBlock = new Map(held.map((entry) => [entry.block, entry]));
    const failures: TileFailure[] = [];
    const counts = new Int32Array(count);
    const pieces: number[] = [];
    const shifts: number[] = [];
    for (let index = first; index < first + count; index++) {
      const under = this.#piecesUnder(index);
      const error = under.length === 0 ? this.#unscanned(index) : errorOf(under, byBlock);
      counts[index - first] = error === null ? under.length : -1;
      if (error !== null) failures.push({ index, error });
      else {
        for (const piece of under) {
          pieces.push(...this.#cutPiece(index, piece, byBlock.get(piece.block)!.slot));
          if (this.#reader.layout.shifted) shifts.push(piece.shift?.x ?? 0, piece.shift?.y ?? 0);
        }
      }
    }
    const task: TilesTask = {
      store: this.#store,
      ...this.#cutting,
      measures: this.#request.measures,
      counts,
      pieces: Int32Array.from(pieces),
      shifts: shifts.length > 0 ? Int32Array.from(shifts) : null,
      gaps: !this.#reader.layout.regular,
      reuse: this.#pool.memory.borrowChunk(count * this.#tileBytes),
    };
    const { pixels, measured } = await this.#cut(task);
    this.#cache.release(held, (block) => this.#lastUse[block]! < this.#next);
    this.#onStats?.(stats);
    return { first, count, pixels, measured, failures };
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

  #piecesUnder(index: number): readonly Piece[] {
    const { x, y, width, height } = this.#request;
    return this.#reader.layout.under(x[index]!, y[index]!, width, height);
  }

  #blocksUnder(index: number): number[] {
    return [...new Set(this.#piecesUnder(index).map(({ block }) => block))];
  }

  /** The seven numbers of the part of a piece that lies in a tile, in pixels as decoded; of all of it where it lies between pixels. */
  #cutPiece(index: number, { left, top, x, y, width, height, shift }: Piece, slot: number): number[] {
    const [tileX, tileY] = [this.#request.x[index]!, this.#request.y[index]!];
    if (shift !== undefined) return [slot, left, top, width, height, x - tileX, y - tileY];
    const [fromX, fromY] = [Math.max(x, tileX), Math.max(y, tileY)];
    const toX = Math.min(x + width, tileX + this.#request.width);
    const toY = Math.min(y + height, tileY + this.#request.height);
    const part = [left + fromX - x, top + fromY - y, toX - fromX, toY - fromY, fromX - tileX, fromY - tileY];
    return [slot, ...part.map((px) => px / this.#scale)];
  }

  #unscanned(index: number): ErrorRecord {
    const at = `(${this.#request.x[index]}, ${this.#request.y[index]})`;
    return toErrorRecord(
      new NightshiftError('tile-missing', `nothing is stored at ${at} of level ${this.#reader.level}`),
    );
  }
}

/** Pieces begin at multiples of the blocks' size where they lie side by side, and nowhere in particular elsewhere. */
function scaleOf({ dct, x, y, width, height }: Rectangles, { slide, level, layout }: BlockReader): DctScale {
  const { blockWidth, blockHeight } = slide.levels[level]!;
  if (dct === 1 || !layout.regular || blockWidth % dct !== 0 || blockHeight % dct !== 0) return 1;
  const off = (px: number) => px % dct !== 0;
  if (off(width) || off(height) || x.some(off) || y.some(off)) {
    throw new NightshiftError('internal', `tiles to be decoded at 1/${dct} do not lie at multiples of ${dct}`);
  }
  return dct;
}

function cuttingOf({ width, height, resample, fit }: Rectangles, scale: DctScale) {
  const cut = { width: width / scale, height: height / scale };
  const done = resample !== null && cut.width === resample.px && cut.height === resample.px;
  return { ...cut, resample: done ? null : resample, fit };
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
