import { type ErrorRecord, fromErrorRecord, NightshiftError } from '../errors.ts';
import type { LevelPx, TilePx } from '../units.ts';
import { BlockReader } from './block-reader.ts';
import type { DctScale } from './codec/block.ts';
import type { Measured } from './cut-tiles.ts';
import type { DecodePool } from './decode-pool.ts';
import type { Measure } from './measure/measure.ts';
import type { Rectangles } from './rectangles.ts';
import type { Filter, Fit } from './resample.ts';
import type { Slide } from './slide.ts';
import { TileJob } from './tile-job.ts';

/** Squares of one level, or rectangles where its pixels are not square, each resampled alike. */
export interface TileRequest {
  readonly level: number;
  /** Side of the square that is read. */
  readonly readPx: LevelPx;
  /** Where the vertical side is another. */
  readonly down?: { readonly readPx: LevelPx };
  /**
   * Blocks are decoded at a half, a quarter or an eighth before the rest is resampled: faster, and not the pixels of the exact way. Sides and
   * corners are multiples of it. Blocks that cannot be, because of their size or because they do not lie side by side, are decoded whole.
   */
  readonly dct?: DctScale;
  /** Side after resampling with `filter`. */
  readonly tilePx: TilePx;
  readonly filter: Filter;
  /** What the model does to a tile after that; null: nothing. */
  readonly fit: Fit | null;
  /** What is measured of each tile of `tilePx`, before the fit; absent: nothing. */
  readonly measures?: readonly Measure[];
  /** Top-left corners in pixels of the level, in the order wanted: narrow stripes keep few blocks alive. */
  readonly x: Int32Array;
  readonly y: Int32Array;
}

export interface TileChunk {
  /** Index of its first tile in the request. */
  readonly first: number;
  readonly count: number;
  /**
   * uint8 RGB [count, px, px, 3]; px is `fit.crop`, or `tilePx` without a fit. A tile that failed is all 0. In
   * shared memory, valid until the next chunk is asked for or the loop ends: then that memory is used again.
   */
  readonly pixels: Uint8Array;
  /** Of each tile, in the same order, by measure: what the request asks for. */
  readonly measured: Measured;
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
  /** Decoded blocks and chunks that one call holds; at least what one tile needs. Compressed blocks come on top, an eighth. Default 64 MiB. */
  readonly maxBytesInFlight?: number | undefined;
  /** Called once a chunk, with what this chunk has cost. */
  readonly onStats?: ((stats: TileStats) => void) | undefined;
}

/**
 * Reads tiles, in the order of the request, in chunks of up to 5 MiB. Bytes of the next chunks are read and decoded while the caller
 * works on one; a block is decoded once a call as long as the blocks between two tiles that share it fit into memory.
 * A block that is missing, truncated, corrupt or kills its decoder fails the tiles that touch it and no others. Throws where
 * bytes cannot be had: the source's error (`slide-unreadable`, `slide-changed`, a store that is down), a lost pool, the signal's
 * reason. Tiles must lie wholly on the level.
 */
export async function* readTiles(
  slide: Slide,
  request: TileRequest,
  pool: DecodePool,
  options: TileOptions = {},
): AsyncGenerator<TileChunk, void, void> {
  const { readPx: width, down, tilePx: px, filter } = request;
  const height = down?.readPx ?? width;
  const rectangles = { width, height, resample: { px, filter } };
  yield* readRectangles(slide, { dct: 1, measures: [], ...request, ...rectangles }, pool, options);
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
  const one = {
    level,
    dct: 1 as const,
    width,
    height,
    resample: null,
    fit: null,
    measures: [],
    x: Int32Array.of(x),
    y: Int32Array.of(y),
  };
  for await (const { pixels, failures } of readRectangles(slide, one, pool, {})) {
    if (failures.length > 0) throw fromErrorRecord(failures[0]!.error);
    return pixels.slice();
  }
  throw new NightshiftError('internal', 'a region gave no chunk');
}

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
    await job.close();
  }
}
