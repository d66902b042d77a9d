import { type ErrorRecord, isNightshiftError, NightshiftError, toErrorRecord } from '../errors.ts';
import { coalesce } from '../source/ranges.ts';
import type { ByteRange } from '../source/source.ts';
import type { CompressedBlocks } from './decode-tasks.ts';
import type { BlockIndex, Level, Slide } from './slide.ts';
import { LIMITS } from './tiff/ifd.ts';

/** Neighbouring blocks are joined to reads of about a MiB: one request costs more than decoding some tiles. */
const JOIN = { maxGap: 65_536, maxLength: 1 << 20 } as const;

export interface ReadBlocks {
  /** The blocks that were read, in the order asked. */
  readonly blocks: readonly number[];
  readonly compressed: CompressedBlocks;
  readonly failures: ReadonlyMap<number, ErrorRecord>;
  readonly bytesRead: number;
  readonly requests: number;
}

/** Reads compressed blocks of one level. A block is named by its index, `row * columns + column`. */
export class BlockReader {
  readonly slide: Slide;
  readonly level: number;
  readonly #index: BlockIndex;
  readonly #signal: AbortSignal;

  private constructor(slide: Slide, level: number, index: BlockIndex, signal: AbortSignal) {
    this.slide = slide;
    this.level = level;
    this.#index = index;
    this.#signal = signal;
  }

  static async open(slide: Slide, level: number, signal: AbortSignal): Promise<BlockReader> {
    return new BlockReader(slide, level, await slide.blocks(level, signal), signal);
  }

  /**
   * Reads blocks by joined ranges. Where a joined read fails its blocks are read one by one, so that a damaged stretch costs
   * only the blocks in it. Throws where nothing more can be read: `slide-changed`, or the signal's reason.
   */
  async read(wanted: readonly number[]): Promise<ReadBlocks> {
    const failures = new Map<number, ErrorRecord>();
    const blocks: number[] = [];
    const ranges: ByteRange[] = [];
    for (const block of wanted) {
      const range = this.#range(block);
      if (range instanceof NightshiftError) {
        failures.set(block, toErrorRecord(range));
        continue;
      }
      blocks.push(block);
      ranges.push(range);
    }
    if (blocks.length === 0) return this.#result([], [], { ranges: [], ...coalesce([], JOIN) }, failures, 0);
    const joined = coalesce(ranges, JOIN);
    const { source } = this.slide;
    try {
      const reads = await source.read(joined.reads, this.#signal);
      return this.#result(blocks, reads, { ranges, ...joined }, failures, joined.reads.length);
    } catch (error) {
      this.#rethrowFinal(error);
    }
    const good: { block: number; range: ByteRange; bytes: Uint8Array }[] = [];
    for (const [i, block] of blocks.entries()) {
      try {
        const [bytes] = await source.read([ranges[i]!], this.#signal);
        good.push({ block, range: ranges[i]!, bytes: bytes! });
      } catch (error) {
        this.#rethrowFinal(error);
        failures.set(block, tileError(error, this.#name(block)));
      }
    }
    const apart = {
      ranges: good.map(({ range }) => range),
      read: Int32Array.from(good.keys()),
      offset: new Float64Array(good.length),
    };
    const reads = good.map(({ bytes }) => bytes);
    return this.#result(
      good.map(({ block }) => block),
      reads,
      apart,
      failures,
      joined.reads.length + blocks.length,
    );
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

  #result(
    blocks: readonly number[],
    reads: readonly Uint8Array[],
    joined: { readonly ranges: readonly ByteRange[]; readonly read: Int32Array; readonly offset: Float64Array },
    failures: ReadonlyMap<number, ErrorRecord>,
    requests: number,
  ): ReadBlocks {
    const { width, height, blockWidth, blockHeight, columns } = this.slide.levels[this.level]!;
    const used = (block: number, along: 'x' | 'y') =>
      along === 'x'
        ? Math.min(blockWidth, width - (block % columns) * blockWidth)
        : Math.min(blockHeight, height - Math.floor(block / columns) * blockHeight);
    const compressed: CompressedBlocks = {
      reads,
      read: joined.read,
      offset: joined.offset,
      length: Int32Array.from(joined.ranges, ({ length }) => length),
      usedWidth: Int32Array.from(blocks, (block) => used(block, 'x')),
      usedHeight: Int32Array.from(blocks, (block) => used(block, 'y')),
    };
    const bytesRead = reads.reduce((sum, { length }) => sum + length, 0);
    return { blocks, compressed, failures, bytesRead, requests };
  }

  /** An error names the block: level, column and row. */
  #name(block: number): string {
    const { columns } = this.slide.levels[this.level]!;
    return `block (${block % columns}, ${Math.floor(block / columns)}) of level ${this.level}`;
  }

  #rethrowFinal(error: unknown): void {
    this.#signal.throwIfAborted();
    if (!isNightshiftError(error, 'slide-truncated', 'slide-unreadable')) throw error;
  }
}

function tileError(error: unknown, name: string): ErrorRecord {
  const code = isNightshiftError(error, 'slide-truncated') ? 'tile-truncated' : 'tile-unreadable';
  return toErrorRecord(new NightshiftError(code, `${name}: ${(error as Error).message}`));
}

/** Blocks that one task decodes: some tens of milliseconds of work, and at worst some seconds. */
export function blocksPerTask({ blockWidth, blockHeight }: Level): number {
  return Math.max(1, Math.floor(2 ** 22 / (blockWidth * blockHeight)));
}

/** What `decodeBlocks` found out. */
export interface DecodedBlocks<R> {
  /** One entry for each task that ended: its blocks and what it gave. */
  readonly results: readonly { readonly blocks: readonly number[]; readonly result: R }[];
  readonly failures: Map<number, ErrorRecord>;
  /** A thread was given up; where it hangs it may still write to memory that it shares. */
  readonly crashed: boolean;
  readonly bytesRead: number;
  readonly requests: number;
}

/**
 * Reads blocks and runs a task on them that may kill its thread. Then each block is read and run again alone, so that only the
 * one at fault fails.
 */
export async function decodeBlocks<R extends { readonly failures: readonly { index: number; error: ErrorRecord }[] }>(
  reader: BlockReader,
  wanted: readonly number[],
  run: (read: ReadBlocks, transfer: ArrayBuffer[]) => Promise<R>,
): Promise<DecodedBlocks<R>> {
  const read = await reader.read(wanted);
  const failures = new Map(read.failures);
  let { bytesRead, requests } = read;
  const { blocks } = read;
  if (blocks.length === 0) return { results: [], failures, crashed: false, bytesRead, requests };
  try {
    const result = await run(read, owned(read.compressed.reads));
    for (const { index, error } of result.failures) failures.set(blocks[index]!, error);
    return { results: [{ blocks, result }], failures, crashed: false, bytesRead, requests };
  } catch (error) {
    if (!isNightshiftError(error, 'tile-decode-crash')) throw error;
    if (blocks.length === 1) {
      failures.set(blocks[0]!, toErrorRecord(error));
      return { results: [], failures, crashed: true, bytesRead, requests };
    }
  }
  const results: { blocks: readonly number[]; result: R }[] = [];
  for (const block of blocks) {
    const alone = await decodeBlocks(reader, [block], run);
    results.push(...alone.results);
    for (const [failed, error] of alone.failures) failures.set(failed, error);
    bytesRead += alone.bytesRead;
    requests += alone.requests;
  }
  return { results, failures, crashed: true, bytesRead, requests };
}

/** Buffers that may be handed to another thread: each whole and used once. */
function owned(reads: readonly Uint8Array[]): ArrayBuffer[] {
  const buffers = new Set<ArrayBuffer>();
  for (const { buffer, byteLength } of reads) {
    if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) buffers.add(buffer);
  }
  return [...buffers];
}
