import type { ByteSource } from '../source/source.ts';

export type Body = Uint8Array | AsyncIterable<Uint8Array>;

/** Named immutable objects: what a record needs of a disk or a bucket. Keys are relative, `/`-separated, without `..`. */
export interface Blobs {
  readonly uri: string;
  /** Whole content, or null where there is none. */
  get(key: string): Promise<Uint8Array | null>;
  /** For reading by ranges, or null where there is none. */
  open(key: string): Promise<ByteSource | null>;
  /** Publishes under the name unless it is taken; atomic: nobody ever sees a part. The first writer wins. */
  putIfAbsent(key: string, body: Body): Promise<'written' | 'exists'>;
  /** Publishes under the name, replacing what is there; atomic. */
  put(key: string, body: Body): Promise<void>;
  /** Keys under a prefix, sorted. */
  list(prefix: string): AsyncIterable<{ readonly key: string; readonly size: number }>;
  delete(key: string): Promise<void>;
  /** Fails with `out-not-writable` unless a file can be made, published and removed. */
  probe(): Promise<void>;
}
