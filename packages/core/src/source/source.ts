import type { Bytes } from '../units.ts';

/** `length` bytes from `offset`. */
export interface ByteRange {
  readonly offset: number;
  readonly length: number;
}

/** One file of several, and where its bytes lie among those of all. */
export interface SourcePart {
  readonly uri: string;
  readonly offset: number;
  readonly size: number;
}

/**
 * The bytes of one object, read by ranges. Drivers: a file (`file.ts`), an object in S3 (`s3.ts`), several of either (`parts.ts`).
 * An object that changes while it is open makes `read` fail with `slide-changed`: bytes of two versions never mix.
 */
export interface ByteSource {
  readonly uri: string;
  readonly size: Bytes;
  /** Changes whenever the content may have: ETag and size of an object, size and mtime of a file. */
  readonly contentId: string;
  /** Of a slide of several files: what lies where. Absent: one file. */
  readonly parts?: readonly SourcePart[];
  /**
   * The bytes of each range, in the order asked. Every returned array has exactly the length asked for: a range that
   * leaves the object is `slide-truncated`, a failed read `slide-unreadable` (retry helps). The arrays are the caller's own:
   * none shares its memory with another one or with a cache.
   */
  read(ranges: readonly ByteRange[], signal?: AbortSignal): Promise<Uint8Array[]>;
  close(): Promise<void>;
}
