import { NightshiftError } from '../errors.ts';
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
  /**
   * Fails with `out-not-writable` unless a file can be made, published and removed, and with `out-no-put-if-absent` where the
   * place does not refuse a name that is taken.
   */
  probe(): Promise<void>;
}

/** The key, if it is one: no empty part, no `.` or `..`, and outside of the folder that a driver `reserves` for itself. */
export function checkKey(key: string, reserves?: string): string {
  const parts = key.split('/');
  const bad = (part: string) => part === '' || part === '.' || part === '..' || /[\0\\]/.test(part);
  if (parts.some(bad) || (reserves !== undefined && key.startsWith(reserves))) {
    throw new NightshiftError('internal', `not a key of a record: ${JSON.stringify(key)}`);
  }
  return key;
}
