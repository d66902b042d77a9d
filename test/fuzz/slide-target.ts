import { fromErrorRecord, NightshiftError } from '../../packages/core/src/errors.ts';
import { BlockReader } from '../../packages/core/src/slide/block-reader.ts';
import { createTaskRunner, type TaskRunner } from '../../packages/core/src/slide/decode-tasks.ts';
import { openSlide } from '../../packages/core/src/slide/open.ts';
import type { ByteSource } from '../../packages/core/src/source/source.ts';
import { bytes } from '../../packages/core/src/units.ts';

/** Of a level's blocks only so many are decoded, and of the levels. */
const BLOCKS = 3;
const LEVELS = 2;
/** Bytes that opening a file and reading some blocks may ask for: more than this and several times the file. */
const MOST_READ = 64 << 20;
const GUARD = 64;

let runner: Promise<TaskRunner> | undefined;

/** Opens a slide and decodes blocks of its first levels, in this thread. */
export async function openAndDecode(source: ByteSource): Promise<void> {
  const slide = await openSlide(source);
  try {
    let failure: NightshiftError | null = null;
    for (let level = 0; level < Math.min(LEVELS, slide.levels.length); level++)
      failure ??= await decodeSome(slide, level);
    if (failure !== null) throw failure;
  } finally {
    await slide.close();
  }
}

async function decodeSome(
  slide: Awaited<ReturnType<typeof openSlide>>,
  level: number,
): Promise<NightshiftError | null> {
  const { columns, rows, blockWidth: width, blockHeight: height } = slide.levels[level]!;
  const reader = await BlockReader.open(slide, level, new AbortController().signal);
  const last = columns * rows - 1;
  const { blocks, compressed, failures } = await reader.read(
    [...new Set([0, Math.min(1, last), last])].slice(0, BLOCKS),
  );
  for (const error of failures.values()) return fromErrorRecord(error);
  const size = 3 * width * height * blocks.length;
  const memory = new SharedArrayBuffer(size + GUARD);
  const guard = new Uint8Array(memory, size).fill(0xa5);
  runner ??= createTaskRunner('auto');
  const task = {
    codec: slide.codec(level),
    compressed,
    store: { memory, width, height },
    scale: 1 as const,
    slots: Int32Array.from(blocks.keys()),
    cuts: null,
  };
  const result = await (await runner).blocks(task);
  if (guard.some((byte) => byte !== 0xa5)) throw new Error('the decoder wrote behind its memory');
  return result.failures.length === 0 ? null : fromErrorRecord(result.failures[0]!.error);
}

/** Bytes in memory as a source that takes nothing amiss which a real one would misread. */
export function strictSource(content: Buffer, uri: string): ByteSource {
  let total = 0;
  return {
    uri,
    size: bytes(content.length),
    contentId: 'fuzz',
    async read(ranges) {
      return ranges.map(({ offset, length }) => {
        if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(length) || offset < 0 || length < 0) {
          throw new Error(`${length} bytes from ${offset} were asked for`);
        }
        total += length;
        if (total > MOST_READ + 4 * content.length) throw new Error(`${total} bytes were asked for`);
        if (offset + length > content.length) throw new NightshiftError('slide-truncated', `${uri} ends before`);
        return Uint8Array.from(content.subarray(offset, offset + length));
      });
    },
    async close() {},
  };
}
