import { NightshiftError } from '../../errors.ts';
import { type BlockShape, type DctScale, reduceByMean, requireSize } from './block.ts';

const FILE_HEADER = 14;
/** Up to the kind of compression, of BITMAPINFOHEADER and its successors, which begin alike. */
const INFO_HEADER = 20;
const SMALLEST_INFO = 40;
const LARGEST_INFO = 124;

/**
 * Decodes an uncompressed bitmap of 24 bits a pixel (Microsoft's BITMAPFILEHEADER and BITMAPINFOHEADER) into `out`, as
 * `JpegBlocks.decode` does: blue, green, red; rows of a multiple of four bytes, the lowest first unless the height is negative.
 */
export function decodeBmp(block: Uint8Array, shape: BlockShape, out: Uint8Array, scale: DctScale): void {
  if (block.length < FILE_HEADER + INFO_HEADER) {
    throw new NightshiftError('tile-truncated', `the bitmap's data ends early, after ${block.length} bytes`);
  }
  const view = new DataView(block.buffer, block.byteOffset, block.byteLength);
  const infoBytes = view.getUint32(14, true);
  if (view.getUint16(0) !== 0x424d || infoBytes < SMALLEST_INFO || infoBytes > LARGEST_INFO) {
    throw new NightshiftError('tile-corrupt', 'the picture is no bitmap');
  }
  const start = view.getUint32(10, true);
  const width = view.getInt32(18, true);
  const signedHeight = view.getInt32(22, true);
  const height = Math.abs(signedHeight);
  const [planes, bits, compression] = [view.getUint16(26, true), view.getUint16(28, true), view.getUint32(30, true)];
  if (planes !== 1 || bits !== 24 || compression !== 0) {
    const message = `the bitmap has ${planes} planes of ${bits} bits, compression ${compression}; only 24 bits uncompressed are read`;
    throw new NightshiftError('tile-corrupt', message);
  }
  if (start < FILE_HEADER + infoBytes) {
    throw new NightshiftError('tile-corrupt', `the bitmap's pixels begin at byte ${start}, within its header`);
  }
  requireSize({ width, height }, shape);
  const row = 3 * width;
  const pitch = Math.ceil(row / 4) * 4;
  // The padding of the last row is no loss.
  const needed = start + pitch * (height - 1) + row;
  if (block.length < needed) {
    const message = `the bitmap holds ${block.length} bytes where its ${height} rows need ${needed}`;
    throw new NightshiftError('tile-truncated', message);
  }
  const rgb = new Uint8Array(row * height);
  for (let y = 0; y < height; y++) {
    const from = start + pitch * (signedHeight > 0 ? height - 1 - y : y);
    for (let i = 0; i < row; i += 3) {
      rgb[y * row + i] = block[from + i + 2]!;
      rgb[y * row + i + 1] = block[from + i + 1]!;
      rgb[y * row + i + 2] = block[from + i]!;
    }
  }
  reduceByMean(rgb, width, height, out, 3 * Math.ceil(shape.width / scale), scale);
}
