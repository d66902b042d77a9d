/** A component's or table's number is 0 to 3. */
export interface CodeTable {
  readonly kind: 'dc' | 'ac';
  readonly number: number;
  /** How many codes there are of each length, 1 to 16 bits. */
  readonly counts: Uint8Array;
  /** What the codes stand for, the shortest first. */
  readonly symbols: Uint8Array;
}

/** What the headers of a picture of three components in one sequential scan say, where they say nothing unusual. */
export interface SequentialHeader {
  readonly width: number;
  readonly height: number;
  /** Log2 of the pixels for one sample of chroma, across and down: 0 and 0, 1 and 0, or 1 and 1. */
  readonly across: 0 | 1;
  readonly down: 0 | 1;
  /** False: the components are red, green and blue. */
  readonly yCbCr: boolean;
  /** MCUs between restart markers; 0: there are none. */
  readonly restartInterval: number;
  /** Of each component in turn. */
  readonly components: readonly {
    /** The table's 64 values in zigzag order. */
    readonly quantisation: Uint8Array;
    readonly dc: number;
    readonly ac: number;
  }[];
  readonly codes: readonly CodeTable[];
  /** Where the scan's data begins. */
  readonly end: number;
}

const SUBSAMPLING: Readonly<Record<number, readonly [0 | 1, 0 | 1]>> = { 17: [0, 0], 33: [1, 0], 34: [1, 1] };
/** Below it libjpeg upsamples in another way. */
const MIN_SIDE = 8;

/** Reads SOI up to the header of the scan; null where anything is unusual or wrong, which another decoder is to judge. */
export function readSequentialHeader(jpeg: Uint8Array): SequentialHeader | null {
  if (jpeg[0] !== 0xff || jpeg[1] !== 0xd8) return null;
  const quantisation: (Uint8Array | undefined)[] = [];
  const codes = new Map<number, CodeTable>();
  let frame: Uint8Array | null = null;
  let restartInterval = 0;
  let jfif = false;
  let adobe: number | null = null;
  for (let at = 2; at + 4 <= jpeg.length; ) {
    const marker = jpeg[at + 1]!;
    const end = at + 2 + ((jpeg[at + 2]! << 8) | jpeg[at + 3]!);
    if (jpeg[at] !== 0xff || end < at + 4 || end > jpeg.length) return null;
    const segment = jpeg.subarray(at + 4, end);
    switch (marker) {
      case 0xdb:
        if (!readQuantisation(segment, quantisation)) return null;
        break;
      case 0xc4:
        if (!readCodes(segment, codes)) return null;
        break;
      case 0xdd:
        if (segment.length !== 2) return null;
        restartInterval = (segment[0]! << 8) | segment[1]!;
        break;
      case 0xc0:
      case 0xc1:
        if (frame !== null || segment.length !== 15) return null;
        frame = segment;
        break;
      case 0xda:
        if (frame === null) return null;
        return whole(frame, segment, { quantisation, codes, jfif, adobe, restartInterval, end });
      case 0xe0:
        if (segment.length < 14 || !startsWith(segment, 'JFIF\0')) break;
        if (segment[5] !== 1) return null;
        jfif = true;
        break;
      case 0xee:
        if (segment.length >= 12 && startsWith(segment, 'Adobe')) adobe = segment[11]!;
        break;
      default:
        // Comments and other applications' segments.
        if (marker !== 0xfe && (marker & 0xf0) !== 0xe0) return null;
    }
    at = end;
  }
  return null;
}

interface Found {
  readonly quantisation: readonly (Uint8Array | undefined)[];
  readonly codes: ReadonlyMap<number, CodeTable>;
  readonly jfif: boolean;
  readonly adobe: number | null;
  readonly restartInterval: number;
  readonly end: number;
}

function whole(frame: Uint8Array, scan: Uint8Array, found: Found): SequentialHeader | null {
  const { quantisation, codes, restartInterval, end } = found;
  const height = (frame[1]! << 8) | frame[2]!;
  const width = (frame[3]! << 8) | frame[4]!;
  const subsampling = SUBSAMPLING[frame[7]!];
  const plain = frame[0] === 8 && frame[5] === 3 && frame[10] === 0x11 && frame[13] === 0x11;
  if (!plain || subsampling === undefined || width < MIN_SIDE || height < MIN_SIDE) return null;
  const ids = [frame[6]!, frame[9]!, frame[12]!];
  const yCbCr = isYCbCr(found, ids);
  if (yCbCr === null || (!yCbCr && subsampling[0] === 1) || new Set(ids).size < 3) return null;
  // Three components in the frame's order, all coefficients at once.
  if (scan.length !== 10 || scan[0] !== 3 || scan[7] !== 0 || scan[8] !== 63 || scan[9] !== 0) return null;
  const components: SequentialHeader['components'][number][] = [];
  const used = new Set<CodeTable>();
  for (const [i, id] of ids.entries()) {
    const [dc, ac] = [scan[2 + 2 * i]! >> 4, scan[2 + 2 * i]! & 15];
    const table = quantisation[frame[8 + 3 * i]!];
    const [dcCodes, acCodes] = [codes.get(dc), codes.get(0x10 | ac)];
    if (scan[1 + 2 * i] !== id || !table || !dcCodes || !acCodes) return null;
    used.add(dcCodes).add(acCodes);
    components.push({ quantisation: table, dc, ac });
  }
  const [across, down] = subsampling;
  return { width, height, across, down, yCbCr, restartInterval, components, codes: [...used], end };
}

/** By the rule of libjpeg (default_decompress_parms); null where it warns. */
function isYCbCr({ jfif, adobe }: Found, ids: readonly number[]): boolean | null {
  if (jfif) return true;
  if (adobe !== null) return adobe > 1 ? null : adobe === 1;
  return String.fromCharCode(...ids) !== 'RGB';
}

function readQuantisation(segment: Uint8Array, tables: (Uint8Array | undefined)[]): boolean {
  if (segment.length % 65 !== 0) return false;
  for (let at = 0; at < segment.length; at += 65) {
    // Of 8 bits, as in baseline pictures.
    if (segment[at]! > 3) return false;
    tables[segment[at]!] = segment.subarray(at + 1, at + 65);
  }
  return true;
}

function readCodes(segment: Uint8Array, tables: Map<number, CodeTable>): boolean {
  for (let at = 0; at < segment.length; ) {
    const name = segment[at]!;
    const counts = segment.subarray(at + 1, at + 17);
    if ((name & 0xef) > 3 || counts.length < 16) return false;
    const end = at + 17 + counts.reduce((sum, count) => sum + count, 0);
    if (end > segment.length || end - at - 17 > 256) return false;
    const kind = name < 0x10 ? 'dc' : 'ac';
    tables.set(name, { kind, number: name & 15, counts, symbols: segment.subarray(at + 17, end) });
    at = end;
  }
  return true;
}

const startsWith = (bytes: Uint8Array, text: string): boolean =>
  [...text].every((letter, i) => bytes[i] === letter.charCodeAt(0));
