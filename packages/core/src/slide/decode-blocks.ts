import { type ErrorRecord, isNightshiftError, toErrorRecord } from '../errors.ts';
import type { BlockReader, ReadBlocks } from './block-reader.ts';
import type { Level } from './slide.ts';

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
    const result = await run(read, [read.compressed.bytes.buffer]);
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
