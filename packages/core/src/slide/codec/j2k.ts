import { NightshiftError } from '../../errors.ts';
import { type BlockShape, type DctScale, reduceByMean, requireSize } from './block.ts';
import { readCodestream } from './codestream.ts';
import type { J2kDecoder } from './openjpeg.ts';

export class J2kBlocks {
  readonly #decoder: J2kDecoder;

  constructor(decoder: J2kDecoder) {
    this.#decoder = decoder;
  }

  /**
   * Decodes one JPEG 2000 block into `out`, as `JpegBlocks.decode` does. `yCbCr`: its components are not RGB, and nothing in it
   * says so.
   */
  decode(block: Uint8Array, yCbCr: boolean, shape: BlockShape, out: Uint8Array, scale: DctScale): void {
    const header = readCodestream(block);
    const { width, height, bits, fullChroma, decompositions } = header;
    requireSize(header, shape);
    if (bits.length !== 3 || bits.some((depth) => depth !== 8)) {
      throw new NightshiftError('tile-corrupt', `the tile has ${bits.length} components of ${bits.join(', ')} bits`);
    }
    // The wavelet halves a picture with more noise than a mean has (3.6 in the mean at 1/2, 8.4 at 1/8 on a frozen section, where
    // a JPEG's DCT has 0.6): once is half of the time saved, and the mean over the rest takes the noise away.
    const reduce = scale > 1 && decompositions > 0 ? 1 : 0;
    const pixels = this.#decoder.decode(block, reduce);
    if (typeof pixels === 'string') {
      throw new NightshiftError('tile-corrupt', `the tile cannot be decoded: ${pixels}`);
    }
    const [w, h] = [Math.ceil(width / 2 ** reduce), Math.ceil(height / 2 ** reduce)];
    if (pixels.length !== 3 * w * h) {
      throw new NightshiftError('tile-corrupt', `the tile decodes to ${pixels.length} bytes`);
    }
    if (yCbCr && fullChroma) toRgb(pixels);
    reduceByMean(pixels, w, h, out, 3 * Math.ceil(shape.width / scale), scale >> reduce);
  }
}

/** Half of 1 in 16 bits of fraction. */
const HALF = 1 << 15;

/** JFIF YCbCr to RGB in place, in libjpeg's fixed point (jdcolor.c), as OpenSlide does. */
function toRgb(pixels: Uint8Array): void {
  const clamp = (value: number) => Math.max(0, Math.min(255, value));
  for (let i = 0; i < pixels.length; i += 3) {
    const y = pixels[i]!;
    const [cb, cr] = [pixels[i + 1]! - 128, pixels[i + 2]! - 128];
    pixels[i] = clamp(y + ((91_881 * cr + HALF) >> 16));
    pixels[i + 1] = clamp(y + ((-22_554 * cb - 46_802 * cr + HALF) >> 16));
    pixels[i + 2] = clamp(y + ((116_130 * cb + HALF) >> 16));
  }
}
