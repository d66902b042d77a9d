import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { composeSource } from '../../packages/core/src/compose.ts';
import { type JpegDecoder, loadJpeg } from '../../packages/core/src/slide/codec/jpeg.ts';
import { SequentialJpeg } from '../../packages/core/src/slide/codec/sequential/decoder.ts';
import { openSlide } from '../../packages/core/src/slide/open.ts';

export interface JpegBench {
  readonly slide: string;
  readonly blocks: number;
  /** Pixels of the built-in decoder a second over those of the native libjpeg-turbo and of its WebAssembly build: medians of the rounds' ratios. */
  readonly native: number;
  readonly wasm: number;
}

interface Picture {
  readonly jpeg: Uint8Array;
  readonly width: number;
  readonly height: number;
}

const SLIDES = [
  'CMU-1-Small-Region.svs',
  'test3-DAPI-2-387.ndpi',
  'dicom-cmu',
  'derived/cmu-420-pyr.tif',
  'OS-1-detail.ome.tif',
  'OS-2-vsi.ome.tif',
];
const ROUNDS = 15;
/** A round decodes a slide's blocks as often as makes this many pixels. */
const ROUND_PIXELS = 8e6;

/**
 * The JPEG decoders alone, by turns in one thread, on all blocks of level 0 of real slides. They must agree on every pixel. Null, with the reason printed,
 * where `../shared/slides` or a decoder is absent.
 */
export async function benchJpeg(): Promise<readonly JpegBench[] | null> {
  const folder = join(import.meta.dirname, '../../../shared/slides');
  const builtIn = SequentialJpeg.load();
  if (!existsSync(folder) || builtIn === null) {
    console.error(
      `jpeg: skipped, ${builtIn === null ? 'the built-in decoder cannot be loaded' : 'no ../shared/slides'}`,
    );
    return null;
  }
  const [native, wasm] = [await loadJpeg('native'), await loadJpeg('wasm')];
  const results: JpegBench[] = [];
  for (const slide of SLIDES) {
    const pictures = await picturesOf(join(folder, slide));
    const out = Buffer.alloc(Math.max(...pictures.map(({ width, height }) => 3 * width * height)));
    const right = Buffer.alloc(out.length);
    for (const { jpeg, width, height } of pictures) {
      const [size, pitch] = [3 * width * height, 3 * width];
      if (!builtIn.decode(jpeg, width, height, out, pitch)) throw new Error(`${slide}: a block is left to the library`);
      for (const library of [native, wasm]) {
        library.decode(jpeg, width, height, right, pitch);
        if (!out.subarray(0, size).equals(right.subarray(0, size))) throw new Error(`${slide}: the pixels differ`);
      }
    }
    const pixels = pictures.reduce((sum, { width, height }) => sum + width * height, 0);
    const times = Math.ceil(ROUND_PIXELS / pixels);
    const seconds = (decode: JpegDecoder['decode'] | SequentialJpeg['decode']): number => {
      const before = performance.now();
      for (let i = 0; i < times; i++) {
        for (const { jpeg, width, height } of pictures) decode(jpeg, width, height, out, 3 * width);
      }
      return performance.now() - before;
    };
    const ratios = { native: [] as number[], wasm: [] as number[] };
    // The first round warms up.
    for (let round = -1; round < ROUNDS; round++) {
      const ours = seconds((...picture) => builtIn.decode(...picture));
      const [theirs, slow] = [seconds(native.decode), seconds(wasm.decode)];
      if (round < 0) continue;
      ratios.native.push(theirs / ours);
      ratios.wasm.push(slow / ours);
    }
    results.push({ slide, blocks: pictures.length, native: median(ratios.native), wasm: median(ratios.wasm) });
  }
  return results;
}

/** The blocks of level 0 as whole JPEGs. */
async function picturesOf(path: string): Promise<readonly Picture[]> {
  const slide = await openSlide(await composeSource(path));
  const { columns, rows, height, blockWidth, blockHeight } = slide.levels[0]!;
  const codec = slide.codec(0);
  const index = await slide.blocks(0);
  const pictures: Picture[] = [];
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const [block] = await slide.source.read([index.range(column, row)!]);
      if (codec.kind === 'jpeg') {
        const jpeg = Buffer.concat([codec.prefix, block!.subarray(2)]);
        pictures.push({ jpeg, width: blockWidth, height: blockHeight });
      } else if (codec.kind === 'jpeg-stretch') {
        const used = Math.min(blockHeight, height - row * blockHeight);
        const whole = Math.ceil(used / codec.mcuHeight) * codec.mcuHeight;
        const jpeg = Buffer.concat([codec.header, block!]);
        jpeg.writeUInt16BE(whole, codec.heightAt);
        jpeg[jpeg.length - 1] = 0xd9;
        pictures.push({ jpeg, width: blockWidth, height: whole });
      } else throw new Error(`${path} has no JPEG blocks`);
    }
  }
  await slide.close();
  return pictures;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1]!;
}

if (import.meta.main) {
  for (const { slide, blocks, native, wasm } of (await benchJpeg()) ?? []) {
    console.log(
      `${slide} (${blocks} blocks): ${native.toFixed(2)} x libjpeg-turbo, ${wasm.toFixed(2)} x its WebAssembly`,
    );
  }
}
