import { NightshiftError } from '../../errors.ts';
import { type BlockShape, type DctScale, reduceByMean } from './block.ts';

/** First byte of a block that OpenSlide's process has decoded: pixels follow, or the text of what went wrong. */
export const STATE = { pixels: 0, corrupt: 1, crashed: 2 } as const;

/** Takes the pixels of such a block (uint8 RGB, whole), or fails with what its state says. */
export function takeRegion(block: Uint8Array, shape: BlockShape, out: Uint8Array, scale: DctScale): void {
  const { width, height } = shape;
  const [state] = block;
  if (state !== STATE.pixels) {
    const text = new TextDecoder().decode(block.subarray(1, 1_000)).replace(/\0.*$/s, '');
    throw new NightshiftError(state === STATE.crashed ? 'tile-decode-crash' : 'tile-corrupt', text);
  }
  reduceByMean(block.subarray(1), width, height, out, 3 * Math.ceil(width / scale), scale);
}
