import { NightshiftError } from '../../errors.ts';
import type { ByteSource } from '../../source/source.ts';
import { bytes, mpp } from '../../units.ts';
import { STATE } from '../codec/openslide.ts';
import type { Slide } from '../slide.ts';
import { assembleSlide } from '../stored-level.ts';
import { LIMITS } from '../tiff/ifd.ts';
import type { OpenedSlide, OpenSlideReply } from './child.ts';
import { type LocalCopy, localCopy } from './local-copy.ts';
import { ChildDied, OpenSlideProcess } from './process.ts';

/** Side of the squares that a level is read in, px. */
const SIDE = 512;
/** A state (0: pixels follow; else a failure, whose text follows), then uint8 RGB [SIDE, SIDE, 3]. */
const BLOCK_BYTES = 1 + 3 * SIDE ** 2;
const MOST_LEVELS = 64;

/**
 * Opens a slide with OpenSlide; null where it does not know the format. Its levels have no stored blocks: squares of their pixels
 * take the place of blocks, and the slide's source is those squares one after the other, each read when it is asked for.
 * A square that cannot be read, or that the process dies of, is a failed block; the next one is read by a new process.
 * Owns the source. Errors: `slide-corrupt`, `slide-limits`, `slide-unsupported`, `disk-full`, and those of the source.
 */
export async function openByOpenSlide(source: ByteSource, library: string | null): Promise<Slide | null> {
  const copy = await localCopy(source);
  const reader = new Reader(copy, library);
  try {
    const opened = await reader.open();
    if (opened.type === 'failed' && opened.what === 'format') {
      await reader.close();
      return null;
    }
    if (opened.type !== 'opened') {
      const what = opened.type === 'failed' ? opened.message : opened.type;
      throw new NightshiftError('slide-corrupt', `${source.uri} cannot be opened by OpenSlide: ${what}`);
    }
    return assemble(source, reader, opened.slide);
  } catch (error) {
    await reader.close();
    if (!(error instanceof ChildDied)) throw error;
    throw new NightshiftError('slide-corrupt', `${source.uri} cannot be opened: ${error.message}`);
  }
}

function assemble(
  source: ByteSource,
  reader: Reader,
  { vendor, levels, mpp: found, objectivePower }: OpenedSlide,
): Slide {
  const limit = (what: string) => new NightshiftError('slide-limits', `${source.uri} exceeds a safety limit: ${what}`);
  if (levels.length === 0 || levels.length > MOST_LEVELS) throw limit(`${levels.length} levels`);
  const placed: Placed[] = [];
  let size = 0;
  for (const [level, { width, height, downsample }] of levels.entries()) {
    if (!(width >= 1 && height >= 1 && width <= LIMITS.side && height <= LIMITS.side)) {
      throw limit(`a level of ${width} x ${height} px`);
    }
    const columns = Math.ceil(width / SIDE);
    placed.push({ level, columns, downsample, from: size });
    size += columns * Math.ceil(height / SIDE) * BLOCK_BYTES;
  }
  const squares: ByteSource = {
    uri: source.uri,
    size: bytes(size),
    contentId: source.contentId,
    read: (ranges, signal) =>
      Promise.all(ranges.map(({ offset, length }) => readSquares(reader, placed, offset, length, signal))),
    close: async () => {
      await reader.close();
      await source.close();
    },
  };
  return assembleSlide(
    {
      source: squares,
      format: 'openslide',
      vendor,
      mpp: found && { x: mpp(found[0]), y: mpp(found[1]), source: 'vendor' },
      objectivePower,
    },
    levels.map(({ width, height, downsample }, level) => ({
      ...{ width, height, downsample, blockWidth: SIDE, blockHeight: SIDE, codec: { kind: 'openslide' } },
      readIndex: async () => ({
        range: (column, row) => {
          const { from, columns } = placed[level]!;
          return { offset: from + (row * columns + column) * BLOCK_BYTES, length: BLOCK_BYTES };
        },
      }),
    })),
  );
}

/** Where the squares of a level begin in the source. */
interface Placed {
  readonly level: number;
  readonly columns: number;
  readonly downsample: number;
  readonly from: number;
}

async function readSquares(
  reader: Reader,
  placed: readonly Placed[],
  offset: number,
  length: number,
  signal: AbortSignal | undefined,
): Promise<Uint8Array> {
  const out = new Uint8Array(length);
  for (let at = offset; at < offset + length; ) {
    const { level, columns, downsample, from } = placed.findLast((one) => one.from <= at)!;
    const index = Math.floor((at - from) / BLOCK_BYTES);
    const start = from + index * BLOCK_BYTES;
    const [column, row] = [index % columns, Math.floor(index / columns)];
    const block = await reader.read(
      level,
      Math.round(column * SIDE * downsample),
      Math.round(row * SIDE * downsample),
      signal,
    );
    const part = block.subarray(at - start, offset + length - start);
    out.set(part, at - offset);
    at += part.length;
  }
  return out;
}

/** A slide open in a process, which is replaced when it dies. */
class Reader {
  readonly #copy: LocalCopy;
  readonly #library: string | null;
  #process: OpenSlideProcess | null = null;
  /** Squares are read one after the other: who dies is known by the one that was asked for. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(copy: LocalCopy, library: string | null) {
    this.#copy = copy;
    this.#library = library;
  }

  async open(): Promise<OpenSlideReply> {
    this.#process = new OpenSlideProcess(this.#library);
    return this.#process.ask({ type: 'open', path: this.#copy.path });
  }

  /** A square as a block. */
  read(level: number, x: number, y: number, signal: AbortSignal | undefined): Promise<Uint8Array> {
    const block = this.#turn.then(() => {
      signal?.throwIfAborted();
      return this.#read(level, x, y);
    });
    this.#turn = block.catch(() => {});
    return block;
  }

  async #read(level: number, x: number, y: number): Promise<Uint8Array> {
    try {
      if (this.#process === null || this.#process.ended) {
        const opened = await this.open();
        if (opened.type !== 'opened') return failed(STATE.corrupt, 'OpenSlide cannot open the slide again');
      }
      const reply = await this.#process!.ask({ type: 'read', level, x, y, side: SIDE });
      if (reply.type === 'pixels') {
        const block = new Uint8Array(BLOCK_BYTES);
        block.set(reply.rgb, 1);
        return block;
      }
      // After an error its handle gives nothing more.
      await this.#drop();
      return failed(STATE.corrupt, reply.type === 'failed' ? reply.message : reply.type);
    } catch (error) {
      if (!(error instanceof ChildDied)) throw error;
      await this.#drop();
      return failed(STATE.crashed, error.message);
    }
  }

  async #drop(): Promise<void> {
    const old = this.#process;
    this.#process = null;
    await old?.close();
  }

  async close(): Promise<void> {
    await this.#drop();
    await this.#copy.release();
  }
}

function failed(state: number, text: string): Uint8Array {
  const block = new Uint8Array(BLOCK_BYTES);
  block[0] = state;
  new TextEncoder().encodeInto(text, block.subarray(1, 1_000));
  return block;
}
