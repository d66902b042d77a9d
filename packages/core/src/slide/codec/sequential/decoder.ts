import { TABLE_LENGTH, writeCodeTable } from './code-table.ts';
import { readSequentialHeader, type SequentialHeader } from './header.ts';
import { JPEG_MODULE } from './module.ts';

/** What `packages/core/wasm/jpeg.ts` exports. */
interface Exports {
  readonly memory: { readonly buffer: ArrayBuffer };
  readonly tables: { readonly value: number };
  readonly steps: { readonly value: number };
  prepare(
    width: number,
    height: number,
    across: number,
    down: number,
    yCbCr: number,
    interval: number,
    tables: number,
    bytes: number,
  ): number;
  output(): number;
  begin(): number;
  next(): number;
}

/** Where in a block of 8 x 8 each coefficient of the zigzag order stands (ITU-T T.81 figure 5). */
// biome-ignore format: a diagonal and more a line
const ZIGZAG = [
  0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28,
  35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/** Compressed bytes that it takes: twice as much stays allocated. */
const MOST_BYTES = 16 << 20;

/**
 * The decoder of `packages/core/wasm/jpeg.ts`, with memory of its own: sequential pictures of three components, 4:4:4, 4:2:2 or 4:2:0.
 * Its pixels are libjpeg-turbo's.
 */
export class SequentialJpeg {
  readonly #wasm: Exports;
  /** The header that the tables were made for, as bytes and as read. */
  #bytes: Uint8Array = new Uint8Array(0);
  #header: SequentialHeader | null = null;

  /** Null where this machine's WebAssembly lacks 128-bit vectors, or the process may not reserve the addresses that V8 puts around a memory. */
  static load(): SequentialJpeg | null {
    try {
      const module = new WebAssembly.Module(Buffer.from(JPEG_MODULE, 'base64'));
      return new SequentialJpeg(new WebAssembly.Instance(module, {}).exports as unknown as Exports);
    } catch (error) {
      if (error instanceof RangeError || error instanceof WebAssembly.CompileError) return null;
      throw error;
    }
  }

  private constructor(wasm: Exports) {
    this.#wasm = wasm;
  }

  /**
   * Decodes into `out`, RGB, `pitch` bytes a row. False where the picture is not of this kind or of this size, or its data is not clean: then
   * `out` may hold parts of a picture, and libjpeg-turbo is to be asked.
   */
  decode(jpeg: Uint8Array, width: number, height: number, out: Uint8Array, pitch: number): boolean {
    const header = this.#read(jpeg);
    if (header === null || jpeg.length > MOST_BYTES) return false;
    const { across, down, yCbCr, restartInterval, components } = header;
    if (header.width !== width || header.height !== height) return false;
    const wasm = this.#wasm;
    const data = jpeg.subarray(header.end);
    let tables = 0;
    for (const [i, { dc, ac }] of components.entries()) tables |= (dc << (2 * i)) | (ac << (6 + 2 * i));
    const at = wasm.prepare(width, height, across, down, Number(yCbCr), restartInterval, tables, data.length);
    if (at === 0) return false;
    const memory = Buffer.from(wasm.memory.buffer);
    memory.set(data, at);
    if (!wasm.begin()) return false;
    const pixels = wasm.output();
    const row = 3 * width;
    for (let y = 0; y < height; ) {
      const rows = wasm.next();
      if (rows < 0) return false;
      // Not `set`, which copies to shared memory a word at a time.
      if (row === pitch) memory.copy(out, y * row, pixels, pixels + rows * row);
      else {
        for (let i = 0; i < rows; i++) memory.copy(out, (y + i) * pitch, pixels + i * row, pixels + (i + 1) * row);
      }
      y += rows;
    }
    return true;
  }

  /** The header, and its tables in place. Blocks of a level have the same one as a rule. */
  #read(jpeg: Uint8Array): SequentialHeader | null {
    const same = this.#header !== null && Buffer.compare(jpeg.subarray(0, this.#bytes.length), this.#bytes) === 0;
    if (same) return this.#header;
    this.#header = null;
    const header = readSequentialHeader(jpeg);
    if (header === null) return null;
    const { memory, tables, steps } = this.#wasm;
    for (const codes of header.codes) {
      const number = codes.number + (codes.kind === 'ac' ? 4 : 0);
      const table = new Int32Array(memory.buffer, tables.value + 4 * TABLE_LENGTH * number, TABLE_LENGTH);
      if (!writeCodeTable(codes, table)) return null;
    }
    const all = new Uint32Array(memory.buffer, steps.value, 3 * ZIGZAG.length);
    for (const [i, { quantisation }] of header.components.entries()) {
      for (const [k, place] of ZIGZAG.entries()) all[ZIGZAG.length * i + k] = (quantisation[k]! << 16) | (2 * place);
    }
    this.#bytes = jpeg.slice(0, header.end);
    this.#header = header;
    return header;
  }
}
