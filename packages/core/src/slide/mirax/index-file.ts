import { NightshiftError } from '../../errors.ts';

/** Where a stored picture or record lies. */
export interface StoredAt {
  readonly file: number;
  readonly offset: number;
  readonly length: number;
}

export interface StoredPicture extends StoredAt {
  /** Its place in the finest grid, `row * imagesAcross + column`. */
  readonly image: number;
}

const VERSION = '01.02';
const ENTRY_BYTES = 16;
/** Entries of one level. */
const MOST_ENTRIES = 1_000_000;

/** Index.dat: little-endian, in pages that point to one another (OpenSlide 3.4.1, openslide-vendor-mirax.c). */
export class IndexFile {
  readonly #uri: string;
  readonly #view: DataView;
  readonly #root: number;

  /** `slide-corrupt` where it is of another slide or version. */
  constructor(uri: string, bytes: Uint8Array, slideId: string) {
    this.#uri = uri;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const head = `${VERSION}${slideId}`;
    if (Buffer.from(bytes.subarray(0, head.length)).toString('latin1') !== head) {
      throw this.#corrupt('its index is of another slide, or of another version than 01.02');
    }
    this.#root = head.length;
  }

  /** The pictures of a level, in the order of the file. */
  *pictures(level: number): Generator<StoredPicture> {
    const list = this.#int(this.#int(this.#root) + 4 * level);
    if (this.#int(list) !== 0) throw this.#corrupt(`the list of level ${level} does not begin with 0`);
    const seen = new Set<number>();
    let entries = 0;
    for (let page = this.#int(list + 4); page !== 0; page = this.#int(page + 4)) {
      if (seen.has(page)) throw this.#corrupt(`the pages of level ${level} lead back to byte ${page}`);
      seen.add(page);
      const count = this.#int(page);
      entries += count;
      if (entries > MOST_ENTRIES) {
        throw new NightshiftError(
          'slide-limits',
          `${this.#uri} exceeds a safety limit: ${entries} pictures of a level`,
        );
      }
      for (let i = 0; i < count; i++) {
        const at = page + 8 + ENTRY_BYTES * i;
        yield { image: this.#int(at), offset: this.#int(at + 4), length: this.#int(at + 8), file: this.#int(at + 12) };
      }
    }
  }

  /** Where a record lies that is no picture. */
  record(number: number): StoredAt {
    const at = this.#int(this.#int(this.#root + 4) + 4 * number);
    if (this.#int(at) !== 0) throw this.#corrupt(`record ${number} does not begin with 0`);
    const page = this.#int(at + 4);
    if (this.#int(page) !== 1) throw this.#corrupt(`record ${number} is not one page`);
    return { offset: this.#int(page + 16), length: this.#int(page + 20), file: this.#int(page + 24) };
  }

  /** A number of the file, none of which may be negative. */
  #int(at: number): number {
    if (at + 4 > this.#view.byteLength) throw this.#corrupt(`its index ends before byte ${at + 4}`);
    const value = this.#view.getInt32(at, true);
    if (value < 0) throw this.#corrupt(`its index holds ${value} at byte ${at}`);
    return value;
  }

  #corrupt(what: string): NightshiftError {
    return new NightshiftError('slide-corrupt', `${this.#uri} is damaged: ${what}`);
  }
}
