/** Sizes are powers of two from here, so that memory fits the next reader too. */
const STEP = 1 << 26;
const PAGE = 1 << 16;
/** What WebAssembly can address. */
export const MOST_BYTES = 2 ** 32;

/** Memory of all threads. A `SharedArrayBuffer` where the process may not reserve the 10 GiB of addresses that V8 puts around a `Memory`. */
export type SharedMemory = WebAssembly.Memory | SharedArrayBuffer;

export const bufferOf = (memory: SharedMemory): Buffer =>
  Buffer.from(memory instanceof SharedArrayBuffer ? memory : (memory.buffer as SharedArrayBuffer));

/**
 * Memory that readers of one pool use again: a page touched for the first time costs about 2 us here, a fifth of the time of
 * decoding a small slide. What it holds is left over from before.
 */
export class ReadMemory {
  readonly #free: SharedMemory[] = [];
  readonly #most: number;

  constructor(most: number) {
    this.#most = most;
  }

  /** At least `bytes` long, of which there are at most `MOST_BYTES`. */
  borrow(bytes: number): SharedMemory {
    const at = this.#free.findIndex((memory) => bufferOf(memory).length >= bytes);
    return at >= 0 ? this.#free.splice(at, 1)[0]! : allocate(Math.max(STEP, 2 ** Math.ceil(Math.log2(bytes))));
  }

  /** Only of memory that no task writes to any more. */
  giveBack(memory: SharedMemory): void {
    if (this.#free.length < this.#most) this.#free.push(memory);
  }

  clear(): void {
    this.#free.length = 0;
  }
}

function allocate(bytes: number): SharedMemory {
  const pages = bytes / PAGE;
  try {
    return new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return new SharedArrayBuffer(bytes);
  }
}
