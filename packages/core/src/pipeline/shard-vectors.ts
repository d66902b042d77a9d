import { type ErrorRecord, NightshiftError, toErrorRecord } from '../errors.ts';
import type { TileSink } from './batcher.ts';

/** Collects the vectors of one shard while its tiles ride in whatever batches. */
export interface ShardVectors {
  /** Where the vector of tile `i` of the shard goes. */
  sink(i: number): TileSink;
  /** Tile `i` has no pixels, hence no vector. */
  failed(i: number, error: ErrorRecord): void;
  /** Resolves when every tile has its vector or its failure; rejects when the encoder gave up or was told to. */
  readonly complete: Promise<void>;
  /** After `complete`: indexes of the tiles with a vector, ascending, and their vectors, float32 [ok.length, dims]. */
  rows(): { readonly ok: readonly number[]; readonly vectors: Float32Array };
  readonly failures: ReadonlyMap<number, ErrorRecord>;
}

/**
 * `from` is where the wanted `dims` values begin in what the encoder gives (CLS is the first half of CLS+mean). `onVector` is called
 * for each tile that the encoder answered.
 */
export function shardVectors(tiles: number, dims: number, from: number, onVector: () => void = () => {}): ShardVectors {
  const vectors = new Float32Array(tiles * dims);
  const failures = new Map<number, ErrorRecord>();
  let left = tiles;
  const { promise: complete, resolve, reject } = Promise.withResolvers<void>();
  // A shard that is given up is awaited by nobody: its rejection is not an unhandled one.
  complete.catch(() => {});
  const settle = () => {
    left -= 1;
    if (left === 0) resolve();
  };
  if (tiles === 0) resolve();

  return {
    complete,
    failures,
    sink: (i) => ({
      vector(values) {
        const wanted = values.subarray(from, from + dims);
        if (wanted.every(Number.isFinite)) vectors.set(wanted, i * dims);
        else failures.set(i, toErrorRecord(new NightshiftError('vector-not-finite', 'the model gave NaN or infinity')));
        onVector();
        settle();
      },
      failed: reject,
    }),
    failed(i, error) {
      failures.set(i, error);
      settle();
    },
    rows() {
      const ok = Array.from({ length: tiles }, (_, i) => i).filter((i) => !failures.has(i));
      ok.forEach((i, row) => {
        if (row !== i) vectors.copyWithin(row * dims, i * dims, (i + 1) * dims);
      });
      return { ok, vectors: vectors.subarray(0, ok.length * dims) };
    },
  };
}
