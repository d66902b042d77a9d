import { NightshiftError } from '../../errors.ts';
import { type BlockShape, type DctScale, reduceByMean, requireSize } from './block.ts';

/**
 * Decodes a PNG into `out`, as `JpegBlocks.decode` does: the samples as they are stored, no colour profile applied, what is
 * transparent on white.
 */
export async function decodePng(block: Uint8Array, shape: BlockShape, out: Uint8Array, scale: DctScale): Promise<void> {
  const { default: sharp } = await import('sharp');
  const { width, height } = shape;
  const options = { failOn: 'warning', ignoreIcc: true, limitInputPixels: width * height } as const;
  let decoded: { data: Buffer; info: { width: number; height: number; channels: number } };
  try {
    const picture = sharp(block, options).flatten({ background: '#ffffff' }).toColourspace('srgb');
    decoded = await picture.raw().toBuffer({ resolveWithObject: true });
  } catch (error) {
    const complete = Buffer.from(block.buffer, block.byteOffset, block.byteLength).includes('IEND', -32, 'latin1');
    const reason = (error as Error).message.split('\n')[0];
    if (complete) throw new NightshiftError('tile-corrupt', `the picture cannot be decoded: ${reason}`);
    throw new NightshiftError('tile-truncated', `the picture's data ends early, after ${block.length} bytes`);
  }
  const { data, info } = decoded;
  requireSize(info, shape);
  if (info.channels !== 3) throw new NightshiftError('tile-corrupt', `the picture has ${info.channels} channels`);
  reduceByMean(data, width, height, out, 3 * Math.ceil(width / scale), scale);
}
