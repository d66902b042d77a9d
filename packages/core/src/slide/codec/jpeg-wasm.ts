import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import type { JpegDecoder } from './jpeg.ts';

/** What is used of it; the types of Node lack it. */
declare const WebAssembly: {
  compile(binary: Uint8Array): Promise<object>;
  readonly Instance: new (module: object, imports: object) => { readonly exports: object };
  readonly RuntimeError: new () => Error;
};

interface WasmDecoder {
  getEncodedBuffer(length: number): Uint8Array;
  getDecodedBuffer(): Uint8Array;
  decode(): void;
  getFrameInfo(): { readonly width: number; readonly height: number; readonly componentCount: number };
  delete(): void;
}
interface WasmModule {
  readonly JPEGDecoder: new () => WasmDecoder;
}
/** What the script that comes with the wasm reads, and what it adds to it. */
interface Instance extends Partial<WasmModule> {
  instantiateWasm(imports: object, done: (instance: object) => void): object;
  print(): void;
  printErr(): void;
}

/**
 * An instance is dropped after this many failed decodes: its exceptions free nothing of what the decoder held, nor its stack, which after
 * 4,000 of them runs into the heap.
 */
const FAILURES = 100;

/** libjpeg-turbo compiled to wasm: the same pixels as the native library at a third to a half of its speed. */
export async function loadWasmJpeg(): Promise<JpegDecoder> {
  const require = createRequire(import.meta.url);
  const create = require('@cornerstonejs/codec-libjpeg-turbo-8bit/decodewasmjs') as (instance: Instance) => unknown;
  const binary = await readFile(require.resolve('@cornerstonejs/codec-libjpeg-turbo-8bit/decodewasm'));
  const compiled = await WebAssembly.compile(binary);
  let failures = 0;
  let module = instantiate();
  let decoder = new module.JPEGDecoder();

  /** At once, not in a later turn: many blocks may fail in one. 6 ms. */
  function instantiate(): WasmModule {
    const instance: Instance = {
      print() {},
      printErr() {},
      instantiateWasm(imports, done) {
        const made = new WebAssembly.Instance(compiled, imports);
        done(made);
        return made.exports;
      },
    };
    create(instance);
    const { JPEGDecoder } = instance;
    if (JPEGDecoder === undefined) throw new Error('the wasm decoder is not there when its script returns');
    return { JPEGDecoder };
  }

  function recover(error: unknown): void {
    failures++;
    // A trap: its memory may be anything.
    if (failures === FAILURES || error instanceof WebAssembly.RuntimeError) {
      failures = 0;
      module = instantiate();
    }
    decoder = new module.JPEGDecoder();
  }

  return {
    names: ['wasm'],
    decode(jpeg, width, height, out, pitch) {
      try {
        decoder.getEncodedBuffer(jpeg.length).set(jpeg);
        decoder.decode();
      } catch (error) {
        recover(error);
        return 'libjpeg-turbo reports damaged data';
      }
      const frame = decoder.getFrameInfo();
      if (frame.width !== width || frame.height !== height || frame.componentCount !== 3)
        return 'not the declared size';
      const pixels = decoder.getDecodedBuffer();
      const row = 3 * width;
      for (let y = 0; y < height; y++) out.set(pixels.subarray(y * row, (y + 1) * row), y * pitch);
      return null;
    },
    scales: false,
  };
}
