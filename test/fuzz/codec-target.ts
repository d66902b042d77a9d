import { NightshiftError } from '../../packages/core/src/errors.ts';
import type { BlockShape, DctScale } from '../../packages/core/src/slide/codec/block.ts';
import { readCodestream } from '../../packages/core/src/slide/codec/codestream.ts';
import { loadDecoders } from '../../packages/core/src/slide/codec/decoder.ts';
import { type JpegChoice, type JpegDecoder, loadJpeg } from '../../packages/core/src/slide/codec/jpeg.ts';
import { readFrame } from '../../packages/core/src/slide/codec/markers.ts';
import { SequentialJpeg } from '../../packages/core/src/slide/codec/sequential/decoder.ts';
import type { BlockCodec } from '../../packages/core/src/slide/slide.ts';
import type { Target } from './targets.ts';

const SIDE = 16;
/** Pictures that say they are larger are decoded as if the slide had said otherwise: they are refused. */
const MOST_SIDE = 256;
const SCALES: readonly DctScale[] = [1, 1, 2, 8];
const GUARD = 64;

const WORDS: Readonly<Record<string, readonly string[]>> = {
  jpeg: [
    '\xff\xd8',
    '\xff\xd9',
    '\xff\xda',
    '\xff\xc0',
    '\xff\xc2',
    '\xff\xc4',
    '\xff\xdb',
    '\xff\xdd\0\x04\0\x01',
    '\xff\xee',
  ],
  jpeg2000: [
    '\xff\x4f',
    '\xff\x51',
    '\xff\x52',
    '\xff\x53',
    '\xff\x5c',
    '\xff\x90',
    '\xff\x93',
    '\xff\xd9',
    '\xff\x5f',
  ],
  bmp: ['BM', '\x28\0\0\0', '\x18\0', '\xf0\xff\xff\xff', '\xff\xff\xff\xff'],
  png: ['IHDR', 'IDAT', 'IEND', 'PLTE', 'tRNS', 'acTL', 'fdAT'],
};

/**
 * Blocks of one kind. Whatever they hold a decoder refuses them or writes every pixel, the same ones each time, and nothing
 * behind them: each is decoded into memory of zeros and into memory of ones.
 */
export function codecTarget(codec: BlockCodec, jpeg: JpegChoice = 'auto'): Target {
  let decoders: ReturnType<typeof loadDecoders> | undefined;
  return {
    words: WORDS[codec.kind] ?? [],
    async run(input) {
      decoders ??= loadDecoders(jpeg);
      const decode = await (await decoders)(codec);
      const { width, height } = sizeOf(codec, input);
      const shape: BlockShape = { width, height, usedWidth: width, usedHeight: height };
      const scale = SCALES[input.length % SCALES.length]!;
      const size = 3 * Math.ceil(width / scale) * Math.ceil(height / scale);
      const pictures: Buffer[] = [];
      for (const fill of [0, 0xff]) {
        const memory = Buffer.alloc(size + GUARD, fill);
        try {
          await decode(input, shape, memory.subarray(0, size), scale);
        } catch (error) {
          if (error instanceof NightshiftError || codec.kind !== 'jpeg2000') throw error;
          // By design an exception of its library ends the thread, and with it the library's memory.
          decoders = undefined;
          throw new NightshiftError('tile-decode-crash', String(error));
        }
        if (memory.subarray(size).some((byte) => byte !== fill)) throw new Error('the decoder wrote behind its memory');
        pictures.push(memory);
      }
      if (pictures[0]!.compare(pictures[1]!, 0, size, 0, size) !== 0) throw new Error('some pixels were not written');
    },
  };
}

/** Our own JPEG decoder beside libjpeg-turbo: what it decodes the library decodes too, to the same pixels. */
export function builtInTarget(): Target {
  let library: Promise<JpegDecoder> | undefined;
  const builtIn = SequentialJpeg.load();
  return {
    words: WORDS.jpeg!,
    async run(input) {
      library ??= loadJpeg('native');
      const { width, height } = sizeOf({ kind: 'jpeg', prefix: input }, input);
      const pictures = [0, 0xff].map((fill) => Buffer.alloc(3 * width * height + GUARD, fill));
      const [ours, theirs] = pictures as [Buffer, Buffer];
      const decoded = builtIn?.decode(input, width, height, ours, 3 * width) ?? false;
      if (ours.subarray(-GUARD).some((byte) => byte !== 0)) throw new Error('the decoder wrote behind its memory');
      if (!decoded) throw new NightshiftError('tile-corrupt', 'left to the library');
      const reason = (await library).decode(input, width, height, theirs, 3 * width);
      if (reason !== null) throw new Error(`the library refuses what our decoder takes: ${reason}`);
      if (!ours.subarray(0, -GUARD).equals(theirs.subarray(0, -GUARD))) throw new Error('the pixels differ');
    },
  };
}

/** The size that a block states, so that what it holds is decoded and not refused for its size. */
function sizeOf(codec: BlockCodec, input: Uint8Array): { width: number; height: number } {
  const stated = { width: SIDE, height: SIDE };
  try {
    if (codec.kind === 'jpeg') Object.assign(stated, readFrame(input));
    if (codec.kind === 'jpeg2000') Object.assign(stated, readCodestream(input));
  } catch {
    // What is no picture is for the decoder to refuse.
  }
  const { width, height } = stated;
  const plausible = width > 0 && height > 0 && width <= MOST_SIDE && height <= MOST_SIDE;
  return plausible ? { width, height } : { width: SIDE, height: SIDE };
}
