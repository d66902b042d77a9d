import type { ByteRange, ByteSource } from './source.ts';

export interface JoinOptions {
  /** Bytes that nobody asked for but that are read to save a request. */
  readonly maxGap: number;
  /** Length a joined read does not exceed; a single longer range is read as it is. */
  readonly maxLength: number;
}

/** Reads that cover a list of ranges, and where each range lies in them. */
export interface JoinedReads {
  /** In order of offset. */
  readonly reads: readonly ByteRange[];
  /** For range i: which read holds it. */
  readonly read: Int32Array;
  /** For range i: its offset within that read. */
  readonly offset: Float64Array;
}

/** Joins ranges that lie close together. Ranges may repeat, overlap and come in any order, as TIFF tile offsets do. */
export function coalesce(ranges: readonly ByteRange[], { maxGap, maxLength }: JoinOptions): JoinedReads {
  const order = ranges.map((_, i) => i).sort((a, b) => ranges[a]!.offset - ranges[b]!.offset);
  const reads: { offset: number; length: number }[] = [];
  const read = new Int32Array(ranges.length);
  const offset = new Float64Array(ranges.length);
  for (const i of order) {
    const range = ranges[i]!;
    let last = reads.at(-1);
    const end = range.offset + range.length;
    const fits =
      last !== undefined &&
      range.offset - (last.offset + last.length) <= maxGap &&
      (end - last.offset <= maxLength || end <= last.offset + last.length);
    if (last === undefined || !fits) {
      last = { offset: range.offset, length: range.length };
      reads.push(last);
    } else last.length = Math.max(last.length, end - last.offset);
    read[i] = reads.length - 1;
    offset[i] = range.offset - last.offset;
  }
  return { reads, read, offset };
}

export interface CacheOptions {
  readonly blockBytes?: number;
  readonly maxBlocks?: number;
}

/**
 * A source for reading headers: small reads that jump about are answered from aligned blocks (64 KiB, the latest 64 kept),
 * neighbouring missing blocks are one request. A range longer than four blocks passes through uncached.
 */
export function cached(source: ByteSource, { blockBytes = 65_536, maxBlocks = 64 }: CacheOptions = {}): ByteSource {
  const blocks = new Map<number, Uint8Array>();
  const { uri, size, contentId } = source;

  async function load(first: number, last: number, signal?: AbortSignal): Promise<void> {
    const missing: ByteRange[] = [];
    for (let i = first; i <= last; i++) {
      if (blocks.has(i)) continue;
      missing.push({ offset: i * blockBytes, length: Math.min(blockBytes, size - i * blockBytes) });
    }
    if (missing.length === 0) return;
    const { reads } = coalesce(missing, { maxGap: 0, maxLength: Number.POSITIVE_INFINITY });
    const parts = await source.read(reads, signal);
    for (const [k, { offset, length }] of reads.entries()) {
      for (let at = 0; at < length; at += blockBytes) {
        blocks.set((offset + at) / blockBytes, parts[k]!.subarray(at, at + blockBytes));
      }
    }
  }

  async function readOne(range: ByteRange, signal?: AbortSignal): Promise<Uint8Array> {
    const { offset, length } = range;
    if (length > 4 * blockBytes || offset < 0 || length < 0 || offset + length > size) {
      return (await source.read([range], signal))[0]!;
    }
    if (length === 0) return new Uint8Array(0);
    const first = Math.floor(offset / blockBytes);
    const last = Math.floor((offset + length - 1) / blockBytes);
    await load(first, last, signal);
    const out = new Uint8Array(length);
    for (let i = first; i <= last; i++) {
      const block = blocks.get(i)!;
      blocks.delete(i);
      blocks.set(i, block);
      const from = Math.max(0, offset - i * blockBytes);
      const part = block.subarray(from, Math.min(block.length, offset + length - i * blockBytes));
      out.set(part, i * blockBytes + from - offset);
    }
    while (blocks.size > maxBlocks) blocks.delete(blocks.keys().next().value!);
    return out;
  }

  // One range after the other: overlapping calls could otherwise evict what another one has just loaded.
  let turn: Promise<unknown> = Promise.resolve();
  return {
    uri,
    size,
    contentId,
    read(ranges, signal) {
      const result = turn.then(async () => {
        const parts: Uint8Array[] = [];
        for (const range of ranges) parts.push(await readOne(range, signal));
        return parts;
      });
      turn = result.catch(() => {});
      return result;
    },
    close: () => source.close(),
  };
}
