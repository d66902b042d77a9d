import { inflateSync } from 'node:zlib';
import { NightshiftError } from '../../errors.ts';
import type { BlockCodec } from '../slide.ts';
import { type BlockShape, type DctScale, reduceByMean } from './block.ts';
import { unpackLzw } from './lzw.ts';

export type PlainCodec = Extract<BlockCodec, { predictor: unknown }>;

/**
 * Decodes one block without loss (raw, LZW or Deflate; TIFF 6.0 sections 13 and 14) into `out`, as `JpegBlocks.decode` does. Such
 * blocks are always stored whole; those of a strip end at the slide's last row.
 */
export function decodePlain(
  block: Uint8Array,
  { kind, predictor }: PlainCodec,
  shape: BlockShape,
  out: Uint8Array,
  scale: DctScale,
): void {
  const { width, height, usedHeight } = shape;
  const row = 3 * width;
  const bytes = unpack(block, kind, row * height);
  if (bytes.length < row * usedHeight) {
    const message = `the tile holds ${bytes.length} bytes where its ${usedHeight} rows need ${row * usedHeight}`;
    throw new NightshiftError('tile-truncated', message);
  }
  const rows = Math.min(height, Math.floor(bytes.length / row));
  const pixels = predictor === 2 ? undoDifferences(bytes, row, rows) : bytes.subarray(0, row * rows);
  reduceByMean(pixels, width, rows, out, 3 * Math.ceil(width / scale), scale);
}

function unpack(block: Uint8Array, kind: PlainCodec['kind'], most: number): Uint8Array {
  if (kind === 'raw') return block.subarray(0, most);
  if (kind === 'lzw') return unpackLzw(block, most);
  try {
    return inflateSync(block, { maxOutputLength: most });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const ends = code === 'Z_BUF_ERROR';
    throw new NightshiftError(ends ? 'tile-truncated' : 'tile-corrupt', `the tile cannot be inflated (${code})`);
  }
}

/** Horizontal differencing: each sample is stored as its difference to the one left of it. */
function undoDifferences(bytes: Uint8Array, row: number, rows: number): Uint8Array {
  const out = bytes.slice(0, row * rows);
  for (let y = 0; y < rows; y++) {
    for (let i = y * row + 3; i < (y + 1) * row; i++) out[i] = out[i]! + out[i - 3]!;
  }
  return out;
}
