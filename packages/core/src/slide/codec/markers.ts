import { NightshiftError } from '../../errors.ts';

/** What the frame header (SOF) of a JPEG says. */
export interface JpegFrame {
  readonly width: number;
  readonly height: number;
  readonly components: number;
  readonly precision: number;
  /** 0 baseline, 1 extended sequential, 2 progressive; the others are not supported by libjpeg-turbo's 8-bit decoder. */
  readonly process: number;
}

/**
 * The frame header of a JPEG, found by walking its markers (ITU-T T.81 B.1.1): libjpeg scales or leaves old bytes where
 * the size differs from the caller's buffer, so it must be known before. `tile-truncated` or `tile-corrupt` without one.
 */
export function readFrame(jpeg: Uint8Array): JpegFrame {
  if (jpeg.length >= 2 && (jpeg[0] !== 0xff || jpeg[1] !== 0xd8)) throw new NightshiftError('tile-corrupt', 'no JPEG');
  let at = 2;
  while (at + 4 <= jpeg.length) {
    if (jpeg[at] !== 0xff) throw new NightshiftError('tile-corrupt', `no JPEG marker at byte ${at}`);
    const marker = jpeg[at + 1]!;
    if (marker === 0xff) {
      at++;
      continue;
    }
    const length = (jpeg[at + 2]! << 8) | jpeg[at + 3]!;
    const isFrame = marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc;
    if (isFrame && at + 10 <= jpeg.length) {
      return {
        process: marker - 0xc0,
        precision: jpeg[at + 4]!,
        height: (jpeg[at + 5]! << 8) | jpeg[at + 6]!,
        width: (jpeg[at + 7]! << 8) | jpeg[at + 8]!,
        components: jpeg[at + 9]!,
      };
    }
    if (marker === 0xda || marker === 0xd9 || length < 2) {
      throw new NightshiftError('tile-corrupt', `marker 0x${marker.toString(16)} before the frame header`);
    }
    at += 2 + length;
  }
  throw new NightshiftError('tile-truncated', `the JPEG ends after ${jpeg.length} bytes, before its frame header`);
}

/** True where the data holds an end-of-image marker: what cannot be decoded then is corrupt and not cut short. */
export function isComplete(jpeg: Uint8Array): boolean {
  const end = Buffer.from(jpeg.buffer, jpeg.byteOffset, jpeg.byteLength);
  return end.lastIndexOf('\xff\xd9', undefined, 'latin1') >= 0;
}
