/** What is wanted of a data set. Tags are numbers, group * 65,536 + element. Values are views of the bytes that are walked. */
export interface Visitor {
  value?(tag: number, value: DataView): void;
  /** An item of a sequence begins: who is told of it, null for nobody. */
  item?(tag: number): Visitor | null;
}

/** Where a data set stopped: at its pixels. */
export interface PixelElement {
  /** Of its value in the bytes. */
  readonly at: number;
  /** Null: encapsulated, fragments follow. */
  readonly length: number | null;
}

/** `more`: the bytes end before the pixels do; `corrupt`: they cannot be a data set; `limits`: they hold more than one has. */
export class DatasetError extends Error {
  readonly kind: 'more' | 'corrupt' | 'limits';

  constructor(kind: DatasetError['kind'], what: string) {
    super(what);
    this.kind = kind;
  }
}

export const PIXEL_DATA = 0x7fe0_0010;
const ITEM = 0xfffe_e000;
const ITEM_END = 0xfffe_e00d;
const SEQUENCE_END = 0xfffe_e0dd;
const UNDEFINED = 0xffff_ffff;
const MOST_DEPTH = 16;
/** Elements and items. 200,000 frames with a position each have about 3 million. */
const MOST_ELEMENTS = 4_000_000;
/** Value representations whose length has 32 bits (PS3.5, table 7.1-1). */
const LONG = new Set(['OB', 'OD', 'OF', 'OL', 'OV', 'OW', 'SQ', 'SV', 'UC', 'UN', 'UR', 'UT', 'UV']);

/**
 * Walks the elements of a little-endian data set (DICOM PS3.5, section 7) from byte `at`, items in items, up to its pixels. Null
 * where it has none. Takes time in proportion to the bytes, whatever they hold.
 */
export function walkDataset(bytes: Uint8Array, at: number, explicit: boolean, visitor: Visitor): PixelElement | null {
  return new Walk(bytes).elements(at, bytes.length, explicit, visitor, 0, true).pixels;
}

interface Header {
  readonly tag: number;
  readonly vr: string;
  /** Of the value. */
  readonly at: number;
  readonly length: number;
}

class Walk {
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  #elements = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Elements up to `end`, or up to the end of an item of undefined length. */
  elements(
    at: number,
    end: number,
    explicit: boolean,
    visitor: Visitor | null,
    depth: number,
    top = false,
  ): { end: number; pixels: PixelElement | null } {
    if (depth > MOST_DEPTH) throw new DatasetError('corrupt', `items ${depth} deep`);
    while (at < end) {
      const { tag, vr, at: value, length } = this.#header(at, explicit);
      if (tag === ITEM_END) return { end: value, pixels: null };
      if (tag === PIXEL_DATA && top) {
        return { end: value, pixels: { at: value, length: length === UNDEFINED ? null : length } };
      }
      if (vr === 'SQ' || length === UNDEFINED) {
        // One of unknown representation and undefined length is a sequence of implicit elements (PS3.5, 6.2.2).
        at = this.#items(tag, value, length, explicit && vr !== 'UN', visitor, depth);
        continue;
      }
      this.#need(value + length);
      visitor?.value?.(tag, new DataView(this.#bytes.buffer, this.#bytes.byteOffset + value, length));
      at = value + length;
    }
    // Without a length of its own the end of the bytes is no end.
    if (top) throw new DatasetError('more', 'the data set goes on');
    return { end: at, pixels: null };
  }

  #items(tag: number, at: number, length: number, explicit: boolean, visitor: Visitor | null, depth: number): number {
    const end = length === UNDEFINED ? Number.POSITIVE_INFINITY : at + length;
    while (at < end) {
      this.#need(at + 8);
      this.#count();
      const item = this.#tag(at);
      const itemLength = this.#view.getUint32(at + 4, true);
      at += 8;
      if (item === SEQUENCE_END) return at;
      if (item !== ITEM) throw new DatasetError('corrupt', `tag ${item.toString(16)} where an item should be`);
      const inner = visitor?.item?.(tag) ?? null;
      if (itemLength === UNDEFINED) {
        at = this.elements(at, Number.POSITIVE_INFINITY, explicit, inner, depth + 1).end;
      } else {
        this.#need(at + itemLength);
        if (inner !== null) this.elements(at, at + itemLength, explicit, inner, depth + 1);
        at += itemLength;
      }
    }
    return at;
  }

  #header(at: number, explicit: boolean): Header {
    this.#need(at + 8);
    this.#count();
    const tag = this.#tag(at);
    if (!explicit || tag >= ITEM) return { tag, vr: '', at: at + 8, length: this.#view.getUint32(at + 4, true) };
    const vr = String.fromCharCode(this.#bytes[at + 4]!, this.#bytes[at + 5]!);
    if (!/^[A-Z]{2}$/.test(vr)) throw new DatasetError('corrupt', `no value representation at byte ${at}`);
    if (!LONG.has(vr)) return { tag, vr, at: at + 8, length: this.#view.getUint16(at + 6, true) };
    this.#need(at + 12);
    return { tag, vr, at: at + 12, length: this.#view.getUint32(at + 8, true) };
  }

  #count(): void {
    if (++this.#elements > MOST_ELEMENTS) throw new DatasetError('limits', `more than ${MOST_ELEMENTS} elements`);
  }

  #tag(at: number): number {
    return this.#view.getUint16(at, true) * 65_536 + this.#view.getUint16(at + 2, true);
  }

  #need(end: number): void {
    if (end > this.#bytes.length) throw new DatasetError('more', `an element reaches to byte ${end}`);
  }
}
