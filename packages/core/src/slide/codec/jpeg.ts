import { NightshiftError } from '../../errors.ts';
import type { BlockCodec } from '../slide.ts';
import { type BlockShape, type DctScale, reduceByMean, requireSize } from './block.ts';
import { loadWasmJpeg } from './jpeg-wasm.ts';
import { isComplete, readFrame } from './markers.ts';
import { SequentialJpeg } from './sequential/decoder.ts';
import { loadTurboJpeg } from './turbojpeg.ts';

/** Decoders agree on every pixel of a full-size decode. */
export interface JpegDecoder {
  /** Who decodes, in the order they are asked: our own decoder, libjpeg-turbo on the machine, libjpeg-turbo as WebAssembly. */
  readonly names: readonly ('built-in' | 'native' | 'wasm')[];
  /**
   * Decodes into `out`, RGB, `pitch` bytes a row; null, or the reason where anything was wrong with the data, a warning of
   * libjpeg included: then `out` may hold parts of a picture.
   */
  decode(jpeg: Uint8Array, width: number, height: number, out: Uint8Array, pitch: number): string | null;
  /** True where a `width` and `height` of a half, a quarter or an eighth (rounded up) decode to that size in the DCT. */
  readonly scales: boolean;
}

export type JpegChoice = 'auto' | 'native' | 'wasm';

/**
 * `auto`: our own decoder, and for what it leaves the native library, or the wasm one where there is none; the others: that library alone. `auto` asks the
 * environment first (NIGHTSHIFT_JPEG=native|wasm).
 */
export async function loadJpeg(choice: JpegChoice): Promise<JpegDecoder> {
  if (choice === 'auto') {
    const wish = process.env.NIGHTSHIFT_JPEG ?? '';
    if (wish !== '' && wish !== 'native' && wish !== 'wasm') {
      throw new NightshiftError('usage', `NIGHTSHIFT_JPEG is "${wish}"; it can be native or wasm`);
    }
    if (wish !== '') return loadJpeg(wish);
  }
  const native = choice === 'wasm' ? null : loadTurboJpeg();
  if (native === null && choice === 'native') {
    throw new NightshiftError('usage', 'no libturbojpeg can be loaded on this machine', {
      next: 'Install libturbojpeg, or unset NIGHTSHIFT_JPEG to do without it.',
    });
  }
  const library = native ?? (await loadWasmJpeg());
  const builtIn = choice === 'auto' ? SequentialJpeg.load() : null;
  return builtIn === null ? library : builtInFirst(builtIn, library);
}

/** What our own decoder does not take is the library's to decode, and to judge where the data is damaged. */
const builtInFirst = (builtIn: SequentialJpeg, library: JpegDecoder): JpegDecoder => ({
  names: ['built-in', ...library.names],
  decode: (jpeg, width, height, out, pitch) =>
    builtIn.decode(jpeg, width, height, out, pitch) ? null : library.decode(jpeg, width, height, out, pitch),
  scales: library.scales,
});

/** See `BlockCodec`. */
export type StretchCodec = Extract<BlockCodec, { kind: 'jpeg-stretch' }>;

export class JpegBlocks {
  readonly decoder: JpegDecoder;
  #joined = new Uint8Array(1 << 18);
  #prefix: Uint8Array | null = null;
  #full = new Uint8Array(0);

  constructor(decoder: JpegDecoder) {
    this.decoder = decoder;
  }

  /**
   * Decodes one block into `out`: uint8 RGB, `ceil(width / scale)` pixels a row. Writers pad the blocks at the edge or
   * store them clipped; of a clipped one only the clipped part is written. `tile-truncated`, `tile-corrupt` or
   * `tile-size-mismatch`, then the content of `out` is undefined.
   */
  decode(block: Uint8Array, prefix: Uint8Array, shape: BlockShape, out: Uint8Array, scale: DctScale = 1): void {
    const frame = readFrame(block);
    requireSize(frame, shape);
    if (frame.components !== 3 || frame.precision !== 8 || frame.process > 2) {
      const { components, precision, process } = frame;
      const what = `${components} components of ${precision} bits, process ${process}`;
      throw new NightshiftError('tile-corrupt', `the tile is no 8-bit RGB JPEG (${what})`);
    }
    this.#run(this.#join(prefix, block.subarray(2)), frame, isComplete(block), shape, out, scale);
  }

  /**
   * Decodes a stretch of rows of a picture, `shape.width` wide: the bytes behind one restart marker up to and with a later one,
   * or with the picture's end.
   */
  decodeStretch(block: Uint8Array, codec: StretchCodec, shape: BlockShape, out: Uint8Array, scale: DctScale = 1): void {
    const last = block.at(-1) ?? 0;
    if (block.at(-2) !== 0xff || (last !== 0xd9 && (last < 0xd0 || last > 0xd7))) {
      throw new NightshiftError('tile-corrupt', 'the stretch of the picture does not end with a marker');
    }
    const height = Math.ceil(shape.usedHeight / codec.mcuHeight) * codec.mcuHeight;
    const jpeg = this.#join(codec.header, block);
    jpeg[codec.heightAt] = height >> 8;
    jpeg[codec.heightAt + 1] = height & 0xff;
    jpeg[jpeg.length - 1] = 0xd9;
    this.#run(jpeg, { width: shape.width, height }, true, shape, out, scale);
  }

  #run(
    jpeg: Uint8Array,
    { width, height }: { readonly width: number; readonly height: number },
    complete: boolean,
    shape: BlockShape,
    out: Uint8Array,
    scale: DctScale,
  ): void {
    const pitch = 3 * Math.ceil(shape.width / scale);
    const reason =
      scale === 1 || this.decoder.scales
        ? this.decoder.decode(jpeg, Math.ceil(width / scale), Math.ceil(height / scale), out, pitch)
        : this.#decodeAndReduce(jpeg, width, height, out, pitch, scale);
    if (reason === null) return;
    if (complete) throw new NightshiftError('tile-corrupt', `the tile cannot be decoded: ${reason}`);
    throw new NightshiftError('tile-truncated', `the tile's data ends early, after ${jpeg.length} bytes`);
  }

  /** The bytes behind `prefix`, which stays in the buffer from block to block. */
  #join(prefix: Uint8Array, bytes: Uint8Array): Uint8Array {
    const length = prefix.length + bytes.length;
    if (length > this.#joined.length) {
      this.#joined = new Uint8Array(2 * length);
      this.#prefix = null;
    }
    if (this.#prefix !== prefix) this.#joined.set(prefix);
    this.#prefix = prefix;
    this.#joined.set(bytes, prefix.length);
    return this.#joined.subarray(0, length);
  }

  /** Where the library cannot scale. */
  #decodeAndReduce(jpeg: Uint8Array, width: number, height: number, out: Uint8Array, pitch: number, scale: DctScale) {
    if (this.#full.length < 3 * width * height) this.#full = new Uint8Array(3 * width * height);
    const reason = this.decoder.decode(jpeg, width, height, this.#full, 3 * width);
    if (reason === null) reduceByMean(this.#full, width, height, out, pitch, scale);
    return reason;
  }
}
