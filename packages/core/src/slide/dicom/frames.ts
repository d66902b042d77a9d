import { NightshiftError } from '../../errors.ts';
import type { ByteRange, ByteSource } from '../../source/source.ts';
import type { Instance } from './instance.ts';

/** Where the frames of an instance lie, in the source of the whole slide. */
export interface Frames {
  readonly offset: Float64Array;
  readonly length: Float64Array;
}

const ITEM = 0xe000_fffe;
const SEQUENCE_END = 0xe0dd_fffe;
/** Small fragments are found by reading all of the pixels, in pieces of this size; large ones by their headers alone. */
const PIECE_BYTES = 4 << 20;
const LARGE_FRAGMENT = 256 << 10;

/**
 * Finds the frames of an instance: by arithmetic where they are not compressed, else by the extended or the basic offset table, or,
 * where both are empty, by walking the fragments, which reads the instance once.
 */
export async function findFrames(source: ByteSource, instance: Instance, signal?: AbortSignal): Promise<Frames> {
  const frames = await locate(source, instance, signal);
  const end = instance.part.offset + instance.part.size;
  const { offset, length } = frames;
  // What lies behind the end of its file lies behind the end of all: the bytes of the next file are no pixels of this one.
  for (let i = 0; i < offset.length; i++) if (offset[i]! + length[i]! > end) offset[i] = source.size;
  return frames;
}

async function locate(source: ByteSource, instance: Instance, signal?: AbortSignal): Promise<Frames> {
  const { pixels, frames, part } = instance;
  const corrupt = (what: string) => new NightshiftError('slide-corrupt', `${part.uri} is damaged: ${what}`);
  if (pixels === null) throw corrupt('it has no pixels');
  const end = part.offset + part.size;
  const read = async (range: ByteRange): Promise<DataView> => {
    if (range.offset + range.length > end) {
      const message = `${part.uri} has ${part.size} bytes; its frames reach to byte ${range.offset + range.length - part.offset}`;
      throw new NightshiftError('slide-truncated', message, { data: { size: part.size } });
    }
    const [bytes] = await source.read([range], signal);
    return new DataView(bytes!.buffer, bytes!.byteOffset, bytes!.byteLength);
  };
  const offset = new Float64Array(frames);
  const length = new Float64Array(frames);

  if (pixels.length !== null) {
    const bytes = instance.rows * instance.columns * instance.samples;
    for (let i = 0; i < frames; i++) offset[i] = pixels.at + i * bytes;
    return { offset, length: length.fill(bytes) };
  }

  const head = await read({ offset: pixels.at, length: 8 });
  if (head.getUint32(0, true) !== ITEM) throw corrupt('its pixels do not begin with an offset table');
  const tableBytes = head.getUint32(4, true);
  const first = pixels.at + 8 + tableBytes;

  const { extendedOffsets, extendedLengths } = instance;
  if (extendedOffsets?.length === frames && extendedLengths?.length === frames) {
    for (let i = 0; i < frames; i++) {
      offset[i] = first + Number(extendedOffsets[i]) + 8;
      length[i] = Number(extendedLengths[i]);
    }
    return { offset, length };
  }

  if (tableBytes === 0) return walkFragments();
  if (tableBytes !== 4 * frames) throw corrupt(`an offset table of ${tableBytes} bytes for ${frames} frames`);
  const table = await read({ offset: pixels.at + 8, length: tableBytes });
  for (let i = 0; i < frames; i++) offset[i] = first + table.getUint32(4 * i, true) + 8;
  for (let i = 0; i + 1 < frames; i++) length[i] = Math.max(0, offset[i + 1]! - 8 - offset[i]!);
  // The table does not say where a frame ends that consists of several fragments, nor where the last one does.
  for (const i of new Set([0, frames - 1])) {
    const item = await read({ offset: offset[i]! - 8, length: 8 });
    if (item.getUint32(0, true) !== ITEM) throw corrupt(`no frame where its offset table has frame ${i + 1}`);
    const stated = item.getUint32(4, true);
    if (i < frames - 1 && stated !== length[i]) throw severalFragments();
    length[i] = stated;
  }
  return { offset, length };

  function severalFragments(): NightshiftError {
    return new NightshiftError('slide-unsupported', `${part.uri}: its frames consist of several fragments each`);
  }

  async function walkFragments(): Promise<Frames> {
    let piece: DataView | null = null;
    let pieceAt = 0;
    let at = first;
    for (let i = 0; ; i++) {
      if (piece === null || at < pieceAt || at + 8 > pieceAt + piece.byteLength) {
        const large = i > 0 && length[i - 1]! > LARGE_FRAGMENT;
        pieceAt = at;
        piece = await read({ offset: at, length: Math.max(8, Math.min(large ? 8 : PIECE_BYTES, end - at)) });
      }
      const tag = piece.getUint32(at - pieceAt, true);
      const bytes = piece.getUint32(at - pieceAt + 4, true);
      if (tag === SEQUENCE_END) {
        if (i < frames) throw corrupt(`${i} fragments for ${frames} frames`);
        return { offset, length };
      }
      if (tag !== ITEM) throw corrupt(`no fragment at byte ${at - part.offset}`);
      if (i === frames) throw severalFragments();
      offset[i] = at + 8;
      length[i] = bytes;
      at += 8 + bytes;
    }
  }
}
