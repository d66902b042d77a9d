/** Sizes of shared memory are powers of two from here, so that it fits the next reader too. */
const SHARED_STEP = 1 << 25;
const MOST_CHUNKS = 8;

/**
 * Memory that readers of one pool use again: a page touched for the first time costs about 2 us here, a fifth of the time of
 * decoding a small slide. What it holds is left over from before.
 */
export class ReadMemory {
  readonly #shared: SharedArrayBuffer[] = [];
  readonly #chunks: ArrayBuffer[] = [];
  readonly #mostShared: number;

  constructor(mostShared: number) {
    this.#mostShared = mostShared;
  }

  /** For decoded blocks; at least `bytes` long. */
  borrowShared(bytes: number): SharedArrayBuffer {
    const at = this.#shared.findIndex((memory) => memory.byteLength >= bytes);
    if (at >= 0) return this.#shared.splice(at, 1)[0]!;
    return new SharedArrayBuffer(Math.max(SHARED_STEP, 2 ** Math.ceil(Math.log2(bytes))));
  }

  /** Only of memory that no task writes to any more. */
  giveBackShared(memory: SharedArrayBuffer): void {
    if (this.#shared.length < this.#mostShared) this.#shared.push(memory);
  }

  /** For the pixels of a chunk; exactly `bytes` long, or null where there is none. */
  borrowChunk(bytes: number): ArrayBuffer | null {
    const at = this.#chunks.findIndex((memory) => memory.byteLength === bytes);
    return at >= 0 ? this.#chunks.splice(at, 1)[0]! : null;
  }

  giveBackChunk(memory: ArrayBuffer): void {
    if (memory.byteLength === 0) return;
    if (this.#chunks.length === MOST_CHUNKS) this.#chunks.shift();
    this.#chunks.push(memory);
  }

  clear(): void {
    this.#shared.length = 0;
    this.#chunks.length = 0;
  }
}
