import type { ErrorRecord } from '../errors.ts';

/** A decoded block, or one being decoded. */
export interface CachedBlock {
  readonly block: number;
  readonly slot: number;
  /** Settles once the slot holds pixels or `error` is set; rejects where the whole read ends. */
  ready: Promise<void>;
  error: ErrorRecord | null;
}

interface Entry extends CachedBlock {
  users: number;
}

/**
 * Which decoded blocks are held in which slot. A block stays until the last tile that needs it is done; where slots run out
 * before that, the block that was used longest ago makes room and is decoded again when its turn comes.
 */
export class BlockCache {
  readonly #entries = new Map<number, Entry>();
  readonly #free: number[] = [];

  constructor(slots: number) {
    for (let slot = slots - 1; slot >= 0; slot--) this.#free.push(slot);
  }

  /**
   * Holds the blocks until they are released; `missing` ones have a slot and are the caller's to decode. Null where too many
   * slots are in use: after a release it may succeed.
   */
  hold(blocks: readonly number[]): { held: CachedBlock[]; missing: CachedBlock[] } | null {
    let needed = -this.#free.length;
    for (const block of blocks) if (!this.#entries.has(block)) needed++;
    if (needed > 0 && !this.#evict(needed, new Set(blocks))) return null;
    const held: CachedBlock[] = [];
    const missing: CachedBlock[] = [];
    for (const block of blocks) {
      let entry = this.#entries.get(block);
      if (entry === undefined) {
        entry = { block, slot: this.#free.pop()!, ready: Promise.resolve(), error: null, users: 0 };
        missing.push(entry);
      }
      entry.users++;
      this.#entries.delete(block);
      this.#entries.set(block, entry);
      held.push(entry);
    }
    return { held, missing };
  }

  /** `isDone` tells of a block whether no later tile needs it. */
  release(blocks: readonly CachedBlock[], isDone: (block: number) => boolean): void {
    for (const { block } of blocks) {
      const entry = this.#entries.get(block)!;
      entry.users--;
      if (entry.users === 0 && isDone(block)) this.#drop(entry);
    }
  }

  #evict(count: number, wanted: ReadonlySet<number>): boolean {
    const victims: Entry[] = [];
    for (const entry of this.#entries.values()) {
      if (entry.users > 0 || wanted.has(entry.block)) continue;
      victims.push(entry);
      if (victims.length === count) break;
    }
    if (victims.length < count) return false;
    for (const entry of victims) this.#drop(entry);
    return true;
  }

  #drop(entry: Entry): void {
    this.#entries.delete(entry.block);
    this.#free.push(entry.slot);
  }
}
