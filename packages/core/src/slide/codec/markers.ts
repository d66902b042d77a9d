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

/**
 * SOI, an Adobe APP14 marker that states the colour space of the container, and the shared tables. A tile that says
 * otherwise by its own JFIF or APP14 marker wins, by libjpeg's rule: Bio-Formats and some DICOM writers state RGB over JFIF YCbCr
 * tiles, Aperio writes RGB tiles whose markers say nothing.
 */
export function jpegPrefix(yCbCr: boolean, tables: Uint8Array = new Uint8Array(0)): Uint8Array {
  const head = [0xff, 0xd8, 0xff, 0xee, 0, 14, ...Buffer.from('Adobe'), 0, 100, 0, 0, 0, 0, yCbCr ? 1 : 0];
  const prefix = new Uint8Array(head.length + tables.length);
  prefix.set(head);
  prefix.set(tables, head.length);
  return prefix;
}

/** The part of a JPEG in front of its pixels, from SOI to the header of the first scan. */
export interface JpegHeader {
  readonly bytes: Uint8Array;
  /** Where in it the frame's height stands, two bytes, and behind it the width. */
  readonly heightAt: number;
  /** Pixels that are coded together. */
  readonly mcuWidth: number;
  readonly mcuHeight: number;
  /** MCUs between two restart markers, 0: there are none. */
  readonly restartInterval: number;
}

/** The header of a JPEG; null where it is not that of a sequential 8-bit picture of three components, or not whole. */
export function readHeader(jpeg: Uint8Array): JpegHeader | null {
  if (jpeg[0] !== 0xff || jpeg[1] !== 0xd8) return null;
  let frame: { heightAt: number; mcuWidth: number; mcuHeight: number } | null = null;
  let restartInterval = 0;
  for (let at = 2; at + 4 <= jpeg.length; ) {
    const marker = jpeg[at + 1]!;
    const end = at + 2 + ((jpeg[at + 2]! << 8) | jpeg[at + 3]!);
    if (jpeg[at] !== 0xff || end < at + 4 || end > jpeg.length) return null;
    if (marker === 0xdd && end >= at + 6) restartInterval = (jpeg[at + 4]! << 8) | jpeg[at + 5]!;
    if (marker === 0xc0 || marker === 0xc1) {
      if (end < at + 19 || jpeg[at + 4] !== 8 || jpeg[at + 9] !== 3) return null;
      const sampling = [11, 14, 17].map((p) => jpeg[at + p]!);
      const most = (shift: number) => 8 * Math.max(...sampling.map((factors) => (factors >> shift) & 15));
      frame = { heightAt: at + 5, mcuWidth: most(4), mcuHeight: most(0) };
      if (frame.mcuWidth === 0 || frame.mcuHeight === 0) return null;
    } else if (marker >= 0xc2 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc) return null;
    if (marker === 0xda) return frame && { bytes: jpeg.subarray(0, end), restartInterval, ...frame };
    at = end;
  }
  return null;
}

/** True where the data holds an end-of-image marker: what cannot be decoded then is corrupt and not cut short. */
export function isComplete(jpeg: Uint8Array): boolean {
  const end = Buffer.from(jpeg.buffer, jpeg.byteOffset, jpeg.byteLength);
  return end.lastIndexOf('\xff\xd9', undefined, 'latin1') >= 0;
}
