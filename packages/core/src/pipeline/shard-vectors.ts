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
  /**
   * After `complete`: indexes of the tiles with a vector, ascending; their vectors, float32 [ok.length, dims]; and their patch grids,
   * float16 [ok.length, patch], where these are wanted.
   */
  rows(): { readonly ok: readonly number[]; readonly vectors: Float32Array; readonly patch?: Float16Array };
  readonly failures: ReadonlyMap<number, ErrorRecord>;
}

export interface ShardShape {
  readonly tiles: number;
  readonly dims: number;
  /** Where the wanted values begin in what the encoder gives. */
  readonly from: number;
  /** Values of a patch grid; 0 where none is wanted. */
  readonly patch: number;
}

/** Bytes that `shardVectors` holds. */
export const shardBytes = ({ tiles, dims, patch }: Omit<ShardShape, 'from'>): number => tiles * (dims * 4 + patch * 2);

/** `onVector` is called for each tile that the encoder answered. */
export function shardVectors(shape: ShardShape, onVector: () => void = () => {}): ShardVectors {
  const { tiles, dims, from } = shape;
  const vectors = new Float32Array(tiles * dims);
  const patches = new Float16Array(tiles * shape.patch);
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

  /** False where a value is not finite, be it only as a float16. */
  function keep(i: number, values: Float32Array, patch: Float32Array | undefined): boolean {
    const wanted = values.subarray(from, from + dims);
    if (!wanted.every(Number.isFinite)) return false;
    vectors.set(wanted, i * dims);
    if (!patch || shape.patch === 0) return shape.patch === 0;
    const kept = patches.subarray(i * shape.patch, (i + 1) * shape.patch);
    kept.set(patch);
    return kept.every(Number.isFinite);
  }

  /** Closes the gaps that failed tiles leave in a table of `width` columns. */
  function compact<T extends Float32Array | Float16Array>(values: T, width: number, ok: readonly number[]): T {
    ok.forEach((i, row) => {
      if (row !== i) values.copyWithin(row * width, i * width, (i + 1) * width);
    });
    return values.subarray(0, ok.length * width) as T;
  }

  return {
    complete,
    failures,
    sink: (i) => ({
      patch: shape.patch > 0,
      vector(values, patch) {
        if (!keep(i, values, patch)) {
          failures.set(i, toErrorRecord(new NightshiftError('vector-not-finite', 'the model gave NaN or infinity')));
        }
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
      const rows = { ok, vectors: compact(vectors, dims, ok) };
      return shape.patch === 0 ? rows : { ...rows, patch: compact(patches, shape.patch, ok) };
    },
  };
}
