import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';

interface WasmDecoder {
  getEncodedBuffer(length: number): Uint8Array;
  getDecodedBuffer(): Uint8Array;
  decode(): void;
  decodeSubResolution(reduce: number, layers: number): void;
  delete(): void;
}
interface WasmModule {
  readonly J2KDecoder: new () => WasmDecoder;
  readonly HEAPU8: Uint8Array;
}

export interface J2kDecoder {
  /**
   * Decodes at 1/2^reduce, sides rounded up: 8-bit samples of a pixel together, valid until the next call; or the reason where
   * anything was wrong. Of pictures whose chroma is stored in less detail it has made RGB already, others are as stored.
   */
  decode(codestream: Uint8Array, reduce: number): Uint8Array | string;
}

/** A module is dropped after this many failures, or when it has grown so large: what a failed decode held may never be freed. */
const FAILURES = 100;
const MODULE_BYTES = 256 << 20;
/** What OpenJPEG says of pictures that are whole all the same. */
const HARMLESS = /^\[INFO\]|tgt_create|nknown marker/;

/** OpenJPEG compiled to wasm. An exception of it, as when memory runs out, leaves the module unusable: it is passed on, to end the thread. */
export async function loadOpenJpeg(): Promise<J2kDecoder> {
  const require = createRequire(import.meta.url);
  const create = require('@cornerstonejs/codec-openjpeg/decodewasmjs') as (
    options: Record<string, unknown>,
  ) => Promise<WasmModule>;
  const wasmBinary = await readFile(require.resolve('@cornerstonejs/codec-openjpeg/decodewasm'));
  // Its binding says nothing of a failure and gives the pixels of the picture before: only what it prints tells.
  let complaint = '';
  const listen = (line: string) => {
    if (!HARMLESS.test(line)) complaint ||= line.replace(/^\[\w+\]\s*/, '');
  };
  const instantiate = () => create({ wasmBinary, print: listen, printErr: listen });
  let module = await instantiate();
  let decoder = new module.J2KDecoder();
  let failures = 0;
  let renewing = false;

  async function renew(): Promise<void> {
    renewing = true;
    module = await instantiate();
    decoder = new module.J2KDecoder();
    failures = 0;
    renewing = false;
  }

  return {
    decode(codestream, reduce) {
      complaint = '';
      decoder.getEncodedBuffer(codestream.length).set(codestream);
      if (reduce === 0) decoder.decode();
      else decoder.decodeSubResolution(reduce, 0);
      if (complaint !== '') {
        decoder.delete();
        decoder = new module.J2KDecoder();
        failures++;
      }
      if (!renewing && (failures >= FAILURES || module.HEAPU8.length > MODULE_BYTES)) void renew();
      return complaint === '' ? decoder.getDecodedBuffer() : complaint;
    },
  };
}
