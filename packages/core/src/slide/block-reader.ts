import { type ErrorRecord, NightshiftError, toErrorRecord } from '../errors.ts';
import { coalesce } from '../source/ranges.ts';
import type { ByteRange } from '../source/source.ts';
import type { CompressedBlocks } from './decode-tasks.ts';
import { type BlockLayout, layoutOf } from './layout.ts';
import type { BlockIndex, Slide } from './slide.ts';
import { LIMITS } from './tiff/ifd.ts';

/**
 * Neighbouring blocks are joined to reads of about a MiB: one request costs more than decoding some tiles. A gap of a block or
 * so is read with them; a larger one would be a good part of what a slide of little tissue reads.
 */
const JOIN = { maxGap: 16_384, maxLength: 1 << 20 } as const;
/** Compressed bytes that are joined at a time, and read before they are asked for. */
const AHEAD_BYTES = 8 << 20;

export interface ReadBlocks {
  /** The blocks that were read, in the order asked. */
  readonly blocks: readonly number[];
  /** Their bytes, in memory of their own. */
  readonly compressed: CompressedBlocks;
  readonly failures: ReadonlyMap<number, ErrorRecord>;
  /** What this call asked of the source; a joined read counts for the call that comes for the first of its blocks. */
  readonly bytesRead: number;
  readonly requests: number;
}

/** A joined read. */
interface Read {
  readonly range: ByteRange;
  /** Blocks in it that nobody has come for yet. */
  waiting: number;
  /** Null until it is started and after its last block was taken. */
  bytes: Promise<Uint8Array> | null;
  counted: boolean;
}

interface Placed {
  readonly read: Read;
  readonly range: ByteRange;
}

/**
 * Reads compressed blocks of one level, each once, ahead of the calls that want them. A block is named by its index,
 * `row * columns + column`.
 */
export class BlockReader {
  readonly slide: Slide;
  readonly level: number;
  readonly layout: BlockLayout;
  readonly #index: BlockIndex;
  readonly #signal: AbortSignal;
  #order: Iterator<number> = [].values();
  #ahead: number = AHEAD_BYTES;
  /** Blocks that were expected and are planned: whoever wants one again reads it apart. */
  readonly #seen = new Set<number>();
  /** Blocks whose read is planned and that nobody has come for yet. */
  readonly #placed = new Map<number, Placed>();
  /** Planned reads that are not started, the first wanted first. */
  #planned: Read[] = [];
  #heldBytes = 0;
  readonly #underWay = new Set<Promise<unknown>>();

  private constructor(slide: Slide, level: number, index: BlockIndex, signal: AbortSignal) {
    this.slide = slide;
    this.level = level;
    this.layout = layoutOf(slide.levels[level]!, index);
    this.#index = index;
    this.#signal = signal;
  }

  static async open(slide: Slide, level: number, signal: AbortSignal): Promise<BlockReader> {
    return new BlockReader(slide, level, await slide.blocks(level, signal), signal);
  }

  /** Which blocks will be asked for, about in which order: they are joined and read ahead, at most about `maxBytes` of them. */
  expect(order: Iterable<number>, maxBytes: number = AHEAD_BYTES): void {
    this.#order = order[Symbol.iterator]();
    this.#ahead = Math.max(JOIN.maxLength, Math.min(AHEAD_BYTES, maxBytes));
  }

  /**
   * The bytes of blocks. One that lies outside the file or claims too much is a failure. Throws the source's error where it
   * cannot be read, or the signal's reason.
   */
  async read(wanted: readonly number[]): Promise<ReadBlocks> {
    const failures = new Map<number, ErrorRecord>();
    const blocks: number[] = [];
    const places: Placed[] = [];
    const apart = this.#place(wanted.filter((block) => !this.#placed.has(block) && !this.#planUpTo(block)));
    for (const block of wanted) {
      const placed = this.#placed.get(block) ?? apart.get(block);
      if (placed === undefined) failures.set(block, toErrorRecord(this.#range(block)));
      else {
        blocks.push(block);
        places.push(placed);
      }
    }
    const cost = { bytesRead: 0, requests: 0 };
    for (const { read } of places) {
      this.#start(read);
      if (read.counted) continue;
      read.counted = true;
      cost.bytesRead += read.range.length;
      cost.requests++;
    }
    this.#readAhead();
    const compressed = await this.#take(blocks, places);
    this.#readAhead();
    return { blocks, compressed, failures, ...cost };
  }

  /** Resolves when no read is under way any more. */
  async settled(): Promise<void> {
    await Promise.all(this.#underWay);
  }

  /** Plans reads until one holds the block; false where it is not, or no longer, expected. */
  #planUpTo(block: number): boolean {
    if (this.#seen.has(block)) return false;
    while (!this.#seen.has(block)) {
      const window: number[] = [];
      for (let bytes = 0; bytes < this.#ahead; ) {
        const next = this.#order.next();
        if (next.done) break;
        window.push(next.value);
        this.#seen.add(next.value);
        const range = this.#range(next.value);
        if (!(range instanceof NightshiftError)) bytes += range.length;
      }
      if (window.length === 0) return false;
      const placed = this.#place(window);
      for (const [at, place] of placed) this.#placed.set(at, place);
      this.#planned.push(...new Set(Array.from(placed.values(), ({ read }) => read)));
    }
    return true;
  }

  /** The reads for some blocks, in the order of the blocks. Those that cannot be read are left out. */
  #place(blocks: readonly number[]): Map<number, Placed> {
    const readable: number[] = [];
    const ranges: ByteRange[] = [];
    for (const block of new Set(blocks)) {
      const range = this.#range(block);
      if (range instanceof NightshiftError) continue;
      readable.push(block);
      ranges.push(range);
    }
    const joined = coalesce(ranges, JOIN);
    const reads = joined.reads.map((range): Read => ({ range, waiting: 0, bytes: null, counted: false }));
    const placed = new Map<number, Placed>();
    for (const [i, block] of readable.entries()) {
      const read = reads[joined.read[i]!]!;
      read.waiting++;
      placed.set(block, { read, range: ranges[i]! });
    }
    return placed;
  }

  /** Starts planned reads as far as the memory for them goes. */
  #readAhead(): void {
    while (this.#planned.length > 0) {
      const next = this.#planned[0]!;
      if (next.bytes === null && this.#heldBytes + next.range.length > this.#ahead) return;
      this.#planned.shift();
      this.#start(next);
    }
  }

  #start(read: Read): void {
    if (read.bytes !== null || read.waiting === 0) return;
    this.#heldBytes += read.range.length;
    const bytes = this.slide.source.read([read.range], this.#signal).then(([only]) => only!);
    read.bytes = bytes;
    // Who comes for a block of it sees the failure; where nobody comes it is nobody's.
    const over = bytes
      .catch(() => {})
      .then(() => {
        this.#underWay.delete(over);
      });
    this.#underWay.add(over);
  }

  /** Copies blocks out of the reads that hold them: what goes to another thread must not take its neighbours along. */
  async #take(blocks: readonly number[], places: readonly Placed[]): Promise<CompressedBlocks> {
    const reads = await Promise.all(places.map(({ read }) => read.bytes!)).catch((error) => {
      this.#signal.throwIfAborted();
      throw error;
    });
    const length = Int32Array.from(places, ({ range }) => range.length);
    const offset = new Float64Array(places.length);
    const bytes = new Uint8Array(length.reduce((sum, one) => sum + one, 0));
    for (let i = 0, at = 0; i < places.length; i++) {
      const { read, range } = places[i]!;
      const from = range.offset - read.range.offset;
      bytes.set(reads[i]!.subarray(from, from + range.length), at);
      offset[i] = at;
      at += range.length;
      this.#placed.delete(blocks[i]!);
      read.waiting--;
      if (read.waiting > 0) continue;
      this.#heldBytes -= read.range.length;
      read.bytes = null;
    }
    return { bytes, offset, length, ...this.#used(blocks) };
  }

  #range(block: number): ByteRange | NightshiftError {
    const { columns } = this.slide.levels[this.level]!;
    const range = this.#index.range(block % columns, Math.floor(block / columns));
    const name = this.#name(block);
    if (range === null) return new NightshiftError('tile-missing', `${name} is not stored`);
    const { size } = this.slide.source;
    if (range.offset + range.length > size) {
      const end = range.offset + range.length;
      return new NightshiftError('tile-truncated', `${name} reaches to byte ${end}, the file has ${size}`);
    }
    if (range.length > LIMITS.blockBytes) {
      return new NightshiftError('tile-corrupt', `${name} claims ${range.length} bytes`);
    }
    return range;
  }

  /** The part of each block that lies on the slide. */
  #used(blocks: readonly number[]): { usedWidth: Int32Array; usedHeight: Int32Array } {
    const used = blocks.map((block) => this.layout.used(block));
    return {
      usedWidth: Int32Array.from(used, ({ width }) => width),
      usedHeight: Int32Array.from(used, ({ height }) => height),
    };
  }

  /** An error names the block: level, column and row. */
  #name(block: number): string {
    const { columns } = this.slide.levels[this.level]!;
    return `block (${block % columns}, ${Math.floor(block / columns)}) of level ${this.level}`;
  }
}
