import { isNightshiftError, NightshiftError } from '../../errors.ts';
import type { ByteSource } from '../../source/source.ts';

/** What a hostile file may cost. A real slide has at most some hundred IFDs and a few MB of tags. */
export const LIMITS = {
  ifds: 1_000,
  entriesPerIfd: 1_000,
  /** Values of one tag, and all tag values that opening a slide reads. */
  tagBytes: 16 * 2 ** 20,
  side: 2 ** 20,
  blockPixels: 4_096 ** 2,
  blockBytes: 64 * 2 ** 20,
  /** Text of a description or of XMP that is looked at. */
  textBytes: 65_536,
} as const;

/** One tag: its values lie at `offset` of the file, also where they are stored inline. */
export interface Entry {
  readonly tag: number;
  readonly type: number;
  readonly count: number;
  readonly offset: number;
  /** NDPI: what is to be added to a value that is stored inline. */
  readonly more: number;
}

export interface Ifd {
  readonly offset: number;
  readonly entries: ReadonlyMap<number, Entry>;
}

/** Bytes of one value by TIFF type (TIFF 6.0 section 2, BigTIFF): index = type. */
const TYPE_BYTES = [0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8] as const;
const SUB_IFDS = 330;
/** In every IFD of an NDPI file. */
const NDPI = 65_420;

/** The structure of a TIFF or BigTIFF file and bounded access to its tag values. */
export class Tiff {
  readonly uri: string;
  readonly bigTiff: boolean;
  /**
   * Hamamatsu's variant of a classic TIFF, which grows beyond 4 GiB: offsets of IFDs have 64 bits, and behind each IFD stand
   * the upper 32 bits of each of its values and offsets.
   */
  readonly ndpi: boolean;
  readonly #source: ByteSource;
  readonly #littleEndian: boolean;
  #budget: number = LIMITS.tagBytes;

  private constructor(source: ByteSource, littleEndian: boolean, variant: 'classic' | 'big' | 'ndpi') {
    this.uri = source.uri;
    this.bigTiff = variant === 'big';
    this.ndpi = variant === 'ndpi';
    this.#source = source;
    this.#littleEndian = littleEndian;
  }

  /** Null where the file does not start as a TIFF does. `source` should be cached: reads are small and jump about. */
  static async open(source: ByteSource): Promise<{ tiff: Tiff; ifds: Ifd[] } | null> {
    if (source.size < 8) return null;
    const [head] = await source.read([{ offset: 0, length: Math.min(16, source.size) }]);
    const order = String.fromCharCode(head![0]!, head![1]!);
    if (order !== 'II' && order !== 'MM') return null;
    const littleEndian = order === 'II';
    const view = new DataView(head!.buffer, head!.byteOffset, head!.byteLength);
    const version = view.getUint16(2, littleEndian);
    if (version === 42) {
      const ndpi = littleEndian && head!.length >= 12 ? await Tiff.#openNdpi(source, view) : null;
      if (ndpi !== null) return ndpi;
      const tiff = new Tiff(source, littleEndian, 'classic');
      return { tiff, ifds: await tiff.#walk(view.getUint32(4, littleEndian)) };
    }
    if (version !== 43) return null;
    if (head!.length < 16) throw new NightshiftError('slide-truncated', `${source.uri} ends within its header`);
    if (view.getUint16(4, littleEndian) !== 8 || view.getUint16(6, littleEndian) !== 0) return null;
    const tiff = new Tiff(source, littleEndian, 'big');
    return { tiff, ifds: await tiff.#walk(tiff.#offset(view, 8)) };
  }

  /** Null where no first IFD says that the file is an NDPI. */
  static async #openNdpi(source: ByteSource, head: DataView): Promise<{ tiff: Tiff; ifds: Ifd[] } | null> {
    const tiff = new Tiff(source, true, 'ndpi');
    // What stands behind the 32-bit offset is part of it, or the first bytes of something else.
    for (const first of new Set([tiff.#offset(head, 4), head.getUint32(4, true)])) {
      if (first >= source.size) continue;
      try {
        const { ifd } = await tiff.#readIfd(first);
        if (ifd.entries.has(NDPI)) return { tiff, ifds: await tiff.#walk(first) };
      } catch (error) {
        if (!isNightshiftError(error, 'slide-truncated', 'slide-corrupt', 'slide-limits')) throw error;
      }
    }
    return null;
  }

  async #walk(first: number): Promise<Ifd[]> {
    const seen = new Set<number>();
    const ifds: Ifd[] = [];
    for (let at = first; at !== 0; ) {
      if (seen.has(at)) throw this.corrupt(`its IFD chain loops back to byte ${at}`);
      seen.add(at);
      if (ifds.length === LIMITS.ifds) throw this.limit(`more than ${LIMITS.ifds} IFDs`);
      const { ifd, next } = await this.#readIfd(at);
      ifds.push(ifd);
      at = next;
    }
    if (ifds.length === 0) throw this.corrupt('it has no IFD');
    return ifds;
  }

  /** IFDs that a page keeps as children (tag 330), without their own chains: the pyramid of an OME-TIFF. */
  async subIfds(parent: Ifd): Promise<Ifd[]> {
    const entry = parent.entries.get(SUB_IFDS);
    if (entry === undefined) return [];
    if (entry.count > LIMITS.ifds) throw this.limit(`${entry.count} sub-IFDs`);
    const ifds: Ifd[] = [];
    for (const at of await this.numbers(entry)) ifds.push((await this.#readIfd(at)).ifd);
    return ifds;
  }

  async #readIfd(at: number): Promise<{ ifd: Ifd; next: number }> {
    const { bigTiff: big, ndpi } = this;
    const word = big ? 8 : 4;
    const head = await this.#read(at, big ? 8 : 2, `the IFD at byte ${at}`);
    const count = big ? this.#offset(head, 0) : head.getUint16(0, this.#littleEndian);
    if (count === 0) throw this.corrupt(`the IFD at byte ${at} is empty`);
    if (count > LIMITS.entriesPerIfd) throw this.limit(`${count} tags in the IFD at byte ${at}`);
    const entryBytes = 4 + 2 * word;
    const first = at + (big ? 8 : 2);
    const end = count * entryBytes;
    const view = await this.#read(first, end + (ndpi ? 8 + 4 * count : word), `the IFD at byte ${at}`);
    const unsigned = (p: number) => (big ? this.#offset(view, p) : view.getUint32(p, this.#littleEndian));
    const entries = new Map<number, Entry>();
    for (let i = 0; i < count; i++) {
      const p = i * entryBytes;
      const tag = view.getUint16(p, this.#littleEndian);
      const type = view.getUint16(p + 2, this.#littleEndian);
      const values = unsigned(p + 4);
      const inline = p + 4 + word;
      const fits = (TYPE_BYTES[type] ?? 0) * values <= word;
      const more = ndpi ? 2 ** 32 * view.getUint32(end + 8 + 4 * i, true) : 0;
      const offset = fits ? first + inline : unsigned(inline) + more;
      // The first one of a repeated tag counts, as in libtiff.
      if (!entries.has(tag)) entries.set(tag, { tag, type, count: values, offset, more: fits ? more : 0 });
    }
    const next = ndpi ? this.#offset(view, end) : unsigned(end);
    return { ifd: { offset: at, entries }, next };
  }

  /**
   * Integer values of a tag: BYTE, SHORT, LONG (signed or not: negative ones come out as large), LONG8 and the IFD types. `index: true` is for the arrays of block offsets,
   * which are limited one by one and not by what opening may read.
   */
  async numbers(entry: Entry, { index = false, signal }: { index?: boolean; signal?: AbortSignal } = {}) {
    const { type, count } = entry;
    const size = TYPE_BYTES[type] ?? 0;
    if (![1, 3, 4, 9, 13, 16, 18].includes(type))
      throw this.corrupt(`tag ${entry.tag} has type ${type}, not an integer`);
    const view = await this.#values(entry, index, signal);
    const out = new Float64Array(count);
    const little = this.#littleEndian;
    if (size === 1) for (let i = 0; i < count; i++) out[i] = view.getUint8(i);
    else if (size === 2) for (let i = 0; i < count; i++) out[i] = view.getUint16(2 * i, little);
    else if (size === 4) for (let i = 0; i < count; i++) out[i] = view.getUint32(4 * i, little);
    else for (let i = 0; i < count; i++) out[i] = this.#offset(view, 8 * i);
    if (entry.more > 0 && size === 4) out[0] = out[0]! + entry.more;
    return out;
  }

  /** First value of a FLOAT tag. */
  async float(entry: Entry): Promise<number> {
    if (entry.type !== 11 || entry.count < 1)
      throw this.corrupt(`tag ${entry.tag} has type ${entry.type}, not a float`);
    return (await this.#values({ ...entry, count: 1 }, false)).getFloat32(0, this.#littleEndian);
  }

  /** Bytes of the file that a tag points to, such as the header of a strip. */
  async at(offset: number, length: number): Promise<Uint8Array> {
    const view = await this.#read(offset, length, `${length} bytes at ${offset}`);
    return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  }

  /** First value of a RATIONAL or SRATIONAL tag; NaN where the denominator is 0. */
  async rational(entry: Entry): Promise<number> {
    if ((entry.type !== 5 && entry.type !== 10) || entry.count < 1) {
      throw this.corrupt(`tag ${entry.tag} has type ${entry.type} and ${entry.count} values, not a fraction`);
    }
    const view = await this.#values({ ...entry, count: 1 }, false);
    const denominator = view.getUint32(4, this.#littleEndian);
    return denominator === 0 ? Number.NaN : view.getUint32(0, this.#littleEndian) / denominator;
  }

  /** Bytes of a BYTE, ASCII or UNDEFINED tag. */
  async bytes(entry: Entry): Promise<Uint8Array> {
    if (![1, 2, 7].includes(entry.type)) throw this.corrupt(`tag ${entry.tag} has type ${entry.type}, not bytes`);
    const view = await this.#values(entry, false);
    return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  }

  /** The start of a text tag, latin1. May hold patient data: look at it, never pass it on. */
  async text(entry: Entry | undefined, maxBytes: number = LIMITS.textBytes): Promise<string> {
    if (entry === undefined) return '';
    const bytes = await this.bytes({ ...entry, count: Math.min(entry.count, maxBytes) });
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1').replace(/\0.*$/s, '');
  }

  /** Fails with `slide-truncated` or `slide-limits` where the values of a tag cannot be read, without reading them. */
  requireWithin(entry: Entry): void {
    this.#check(entry.offset, this.#length(entry), describe(entry));
  }

  corrupt(what: string): NightshiftError {
    return new NightshiftError('slide-corrupt', `${this.uri} is damaged: ${what}`);
  }

  limit(what: string): NightshiftError {
    return new NightshiftError('slide-limits', `${this.uri} exceeds a safety limit: ${what}`);
  }

  #values(entry: Entry, index: boolean, signal?: AbortSignal): Promise<DataView> {
    return this.#read(entry.offset, this.#length(entry), describe(entry), index, signal);
  }

  #length({ tag, type, count }: Entry): number {
    const length = count * (TYPE_BYTES[type] ?? 0);
    if (length > LIMITS.tagBytes) throw this.limit(`tag ${tag} holds ${length} bytes`);
    return length;
  }

  #check(offset: number, length: number, what: string): void {
    const { size } = this.#source;
    if (offset + length <= size) return;
    const message = `${this.uri} has ${size} bytes, but ${what} reaches to byte ${offset + length}`;
    throw new NightshiftError('slide-truncated', message, { data: { size, end: offset + length } });
  }

  async #read(offset: number, length: number, what: string, index = false, signal?: AbortSignal): Promise<DataView> {
    this.#check(offset, length, what);
    if (!index) this.#budget -= length;
    if (this.#budget < 0) throw this.limit(`more than ${LIMITS.tagBytes} bytes of tags`);
    const [bytes] = await this.#source.read([{ offset, length }], signal);
    return new DataView(bytes!.buffer, bytes!.byteOffset, bytes!.byteLength);
  }

  /** 64-bit offset or count. One beyond 2^53 is beyond every file: it becomes 2^53, which later checks refuse. */
  #offset(view: DataView, at: number): number {
    const little = this.#littleEndian;
    const high = view.getUint32(little ? at + 4 : at, little);
    const low = view.getUint32(little ? at : at + 4, little);
    return Math.min(high * 2 ** 32 + low, 2 ** 53);
  }
}

const describe = (entry: Entry) => `tag ${entry.tag} with ${entry.count} values`;
