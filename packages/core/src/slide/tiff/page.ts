import { NightshiftError } from '../../errors.ts';
import type { ByteRange } from '../../source/source.ts';
import { jpegPrefix } from '../codec/markers.ts';
import type { Piece } from '../layout.ts';
import type { BlockCodec, BlockIndex } from '../slide.ts';
import type { StoredLevel } from '../stored-level.ts';
import { type Entry, type Ifd, LIMITS, type Tiff } from './ifd.ts';

/** Tags of TIFF 6.0 that are used here. */
export const TAG = {
  subfileType: 254,
  width: 256,
  height: 257,
  bitsPerSample: 258,
  compression: 259,
  photometric: 262,
  description: 270,
  stripOffsets: 273,
  samplesPerPixel: 277,
  stripByteCounts: 279,
  xResolution: 282,
  yResolution: 283,
  planar: 284,
  resolutionUnit: 296,
  software: 305,
  predictor: 317,
  tileWidth: 322,
  tileHeight: 323,
  tileOffsets: 324,
  tileByteCounts: 325,
  jpegTables: 347,
  xmp: 700,
} as const;

const COMPRESSIONS: Readonly<Record<number, string>> = {
  2: 'CCITT RLE',
  6: 'old-style JPEG',
  32773: 'PackBits',
  34892: 'lossy JPEG (DNG)',
  34925: 'LZMA',
  50000: 'Zstandard',
  50001: 'WebP',
  50002: 'JPEG XL',
};
const PHOTOMETRICS: Readonly<Record<number, string>> = {
  0: 'grey (white is zero)',
  1: 'grey',
  2: 'RGB',
  3: 'a palette',
  5: 'CMYK',
  6: 'YCbCr',
};

/** A tiled page of a TIFF file. Striped pages (thumbnail, label, macro) never become one. */
export interface Page {
  readonly ifd: Ifd;
  readonly width: number;
  readonly height: number;
  readonly tileWidth: number;
  readonly tileHeight: number;
  readonly columns: number;
  readonly rows: number;
  /** Bit 0 of NewSubfileType: the page says that it is a smaller version of another one. */
  readonly reduced: boolean;
}

/** Null where the page is not tiled. Its geometry is checked here, its compression by `pageCodec`. */
export async function readPage(tiff: Tiff, ifd: Ifd): Promise<Page | null> {
  if (!ifd.entries.has(TAG.tileWidth)) return null;
  const width = await integer(tiff, ifd, TAG.width);
  const height = await integer(tiff, ifd, TAG.height);
  const tileWidth = await integer(tiff, ifd, TAG.tileWidth);
  const tileHeight = await integer(tiff, ifd, TAG.tileHeight);
  if (width === 0 || height === 0) throw tiff.corrupt(`the page at byte ${ifd.offset} is ${width} x ${height} px`);
  if (tileWidth === 0 || tileHeight === 0) throw tiff.corrupt(`tiles of ${tileWidth} x ${tileHeight} px`);
  if (width > LIMITS.side || height > LIMITS.side) throw tiff.limit(`a page of ${width} x ${height} px`);
  if (tileWidth * tileHeight > LIMITS.blockPixels) throw tiff.limit(`tiles of ${tileWidth} x ${tileHeight} px`);
  const columns = Math.ceil(width / tileWidth);
  const rows = Math.ceil(height / tileHeight);
  for (const tag of [TAG.tileOffsets, TAG.tileByteCounts]) {
    const entry = ifd.entries.get(tag);
    if (entry === undefined) throw tiff.corrupt('a tiled page without tile offsets');
    if (entry.count !== columns * rows) {
      throw tiff.corrupt(`tag ${tag} has ${entry.count} values for ${columns} x ${rows} tiles`);
    }
    tiff.requireWithin(entry);
  }
  const subfileType = await integer(tiff, ifd, TAG.subfileType, 0);
  return { ifd, width, height, tileWidth, tileHeight, columns, rows, reduced: (subfileType & 1) === 1 };
}

export function requirePages(tiff: Tiff, pages: readonly Page[]): readonly Page[] {
  if (pages.length > 0) return pages;
  throw new NightshiftError('slide-unsupported', `${tiff.uri} is a TIFF without a tiled page`);
}

/** A page as a level, or `slide-unsupported` where its tiles cannot be decoded. */
export async function pageLevel(tiff: Tiff, page: Page): Promise<StoredLevel> {
  const { width, height, tileWidth, tileHeight } = page;
  return {
    width,
    height,
    blockWidth: tileWidth,
    blockHeight: tileHeight,
    codec: await pageCodec(tiff, page),
    readIndex: (signal) => readBlockIndex(tiff, page, signal),
  };
}

/** The part of a tile that is picture: those at the edge may be stored clipped. */
export function tilePart({ width, height, tileWidth, tileHeight, columns }: Page, block: number) {
  return {
    width: Math.min(tileWidth, width - (block % columns) * tileWidth),
    height: Math.min(tileHeight, height - Math.floor(block / columns) * tileHeight),
  };
}

/** The tiles of a page, row by row, at places of their own. */
export function* tilesOf(
  page: Page,
  place: (column: number, row: number) => { readonly x: number; readonly y: number },
): Generator<Piece> {
  for (let block = 0; block < page.columns * page.rows; block++) {
    const at = place(block % page.columns, Math.floor(block / page.columns));
    yield { block, left: 0, top: 0, ...tilePart(page, block), ...at };
  }
}

/** How the tiles of a page are compressed, or `slide-unsupported` with what is in the way. */
export async function pageCodec(tiff: Tiff, { ifd }: Page): Promise<BlockCodec> {
  const compression = await integer(tiff, ifd, TAG.compression, 1);
  const refuse = (what: string) =>
    new NightshiftError(
      'slide-unsupported',
      `${tiff.uri}: ${what}; only 8-bit RGB in tiles of JPEG, JPEG 2000, LZW, Deflate or no compression can be read`,
    );
  const samples = await integer(tiff, ifd, TAG.samplesPerPixel, 1);
  const bitsEntry = ifd.entries.get(TAG.bitsPerSample);
  if (bitsEntry !== undefined && bitsEntry.count > 64) throw tiff.corrupt(`${bitsEntry.count} values of BitsPerSample`);
  const bits = bitsEntry === undefined ? [1] : [...(await tiff.numbers(bitsEntry))];
  const photometric = await integer(tiff, ifd, TAG.photometric, 2);
  if (samples !== 3 || bits.some((value) => value !== 8)) {
    throw refuse(`its pixels have ${samples} channel${samples === 1 ? '' : 's'} of ${Math.max(...bits)} bits`);
  }
  if (photometric !== 2 && photometric !== 6) {
    throw refuse(`its colours are ${PHOTOMETRICS[photometric] ?? `photometric ${photometric}`}`);
  }
  if ((await integer(tiff, ifd, TAG.planar, 1)) !== 1) throw refuse('its channels are stored apart');
  const plain = PLAIN[compression];
  if (plain !== undefined) {
    const predictor = await integer(tiff, ifd, TAG.predictor, 1);
    if (photometric !== 2) throw refuse(`its ${plain} tiles hold ${PHOTOMETRICS[photometric]}`);
    if (predictor !== 1 && predictor !== 2) throw refuse(`its tiles are compressed with predictor ${predictor}`);
    return { kind: plain, predictor };
  }
  // Aperio's own: 33003 is YCbCr whatever the photometric tag says, 33005 is RGB.
  if (compression === 33003 || compression === 33005 || compression === 34712) {
    return { kind: 'jpeg2000', yCbCr: compression === 33003 || (compression === 34712 && photometric === 6) };
  }
  if (compression !== 7) {
    throw refuse(`its tiles are compressed with ${COMPRESSIONS[compression] ?? `method ${compression}`}`);
  }
  const tables = ifd.entries.get(TAG.jpegTables);
  return { kind: 'jpeg', prefix: jpegPrefix(photometric === 6, tables && (await jpegTables(tiff, tables))) };
}

const PLAIN: Readonly<Record<number, 'raw' | 'lzw' | 'deflate'>> = {
  1: 'raw',
  5: 'lzw',
  8: 'deflate',
  32946: 'deflate',
};

async function jpegTables(tiff: Tiff, entry: Entry): Promise<Uint8Array> {
  if (entry.count > LIMITS.textBytes) throw tiff.limit(`JPEG tables of ${entry.count} bytes`);
  const tables = await tiff.bytes(entry);
  if (tables.length < 4 || tables[0] !== 0xff || tables[1] !== 0xd8) throw tiff.corrupt('its JPEG tables are no JPEG');
  const complete = tables.at(-2) === 0xff && tables.at(-1) === 0xd9;
  return tables.subarray(2, complete ? -2 : undefined);
}

/** Where the tiles of a page lie. Costs two reads of 4 or 8 bytes a tile. */
export async function readBlockIndex(tiff: Tiff, page: Page, signal?: AbortSignal): Promise<BlockIndex> {
  const { ifd, columns } = page;
  const options = signal === undefined ? { index: true } : { index: true, signal };
  const offset = await tiff.numbers(ifd.entries.get(TAG.tileOffsets)!, options);
  const length = await tiff.numbers(ifd.entries.get(TAG.tileByteCounts)!, options);
  return {
    range(column: number, row: number): ByteRange | null {
      const i = row * columns + column;
      return length[i] === 0 || offset[i] === 0 ? null : { offset: offset[i]!, length: length[i]! };
    },
  };
}

export async function integer(tiff: Tiff, ifd: Ifd, tag: number, absent?: number): Promise<number> {
  const entry = ifd.entries.get(tag);
  if (entry === undefined) {
    if (absent !== undefined) return absent;
    throw tiff.corrupt(`the page at byte ${ifd.offset} lacks tag ${tag}`);
  }
  if (entry.count < 1) throw tiff.corrupt(`tag ${tag} of the page at byte ${ifd.offset} is empty`);
  return (await tiff.numbers({ ...entry, count: 1 }))[0]!;
}
