import { inflateSync } from 'node:zlib';
import { NightshiftError } from '../../errors.ts';
import type { ByteSource, SourcePart } from '../../source/source.ts';
import { mpp } from '../../units.ts';
import { between, MOST_PIECES, type Piece, placedLayout, shiftOf } from '../layout.ts';
import type { BlockCodec, BlockIndex, Slide } from '../slide.ts';
import { assembleSlide, type StoredLevel } from '../stored-level.ts';
import { LIMITS } from '../tiff/ifd.ts';
import { IndexFile, type StoredAt } from './index-file.ts';
import { type MiraxLevel, readSlidedat, type Slidedat } from './slidedat.ts';

const SLIDEDAT = 'Slidedat.ini';
const MOST_SLIDEDAT_BYTES = 1 << 20;
const MOST_INDEX_BYTES = 64 << 20;
/** Of a photo: a flag, x, y. */
const POSITION_BYTES = 9;

const CODECS: Readonly<Record<MiraxLevel['format'], BlockCodec>> = {
  JPEG: { kind: 'jpeg', prefix: Uint8Array.of(0xff, 0xd8) },
  PNG: { kind: 'png' },
  BMP24: { kind: 'bmp' },
};

/**
 * A MIRAX slide: a small .mrxs file and the folder beside it (OpenSlide 3.4.1, openslide-vendor-mirax.c). The camera's photos
 * overlap and have measured positions. Each is cut into pictures, and 2 x 2 pictures are joined for the next level, also those of
 * different photos: from there on a picture is several pieces at places of their own. Other records, the label and the macro
 * among them, are never read. Null where the source is no such slide.
 */
export async function openMirax(source: ByteSource): Promise<Slide | null> {
  const slidedatPart = partOf(source, SLIDEDAT);
  if (slidedatPart === null) return null;
  if (slidedatPart.size > MOST_SLIDEDAT_BYTES) throw limit(source, `a ${SLIDEDAT} of ${slidedatPart.size} bytes`);
  const [text] = await source.read([{ offset: slidedatPart.offset, length: slidedatPart.size }]);
  const slidedat = readSlidedat(source.uri, Buffer.from(text!).toString('utf8'));
  const needed = (name: string) => {
    const part = partOf(source, name);
    if (part === null) throw new NightshiftError('slide-truncated', `${source.uri}: its folder has no file ${name}`);
    return part;
  };
  const files = { index: needed(slidedat.indexFile), data: slidedat.dataFiles.map(needed) };
  if (files.index.size > MOST_INDEX_BYTES) throw limit(source, `an index of ${files.index.size} bytes`);

  let placed: Promise<Placed> | undefined;
  const place = (signal?: AbortSignal) => {
    placed ??= readPlaces(source, slidedat, files, signal).catch((error: unknown) => {
      placed = undefined;
      throw error;
    });
    return placed;
  };
  const [base] = slidedat.levels;
  const full = {
    width: extent(slidedat.imagesAcross, slidedat.divisions, base!.imageWidth, slidedat.overlapX),
    height: extent(slidedat.imagesDown, slidedat.divisions, base!.imageHeight, slidedat.overlapY),
  };
  return assembleSlide(
    {
      source,
      format: 'mirax',
      vendor: 'mirax',
      mpp: { x: mpp(base!.mppX), y: mpp(base!.mppY), source: 'vendor' },
      objectivePower: slidedat.objectivePower,
    },
    slidedat.levels.map((level, i) =>
      storedLevel(source, slidedat, level, full, async (size, signal) =>
        readLevel(source, slidedat, i, await place(signal), files.data, size),
      ),
    ),
  );
}

function storedLevel(
  source: ByteSource,
  slidedat: Slidedat,
  level: MiraxLevel,
  full: Size,
  readIndex: (size: Size, signal?: AbortSignal) => Promise<BlockIndex>,
): StoredLevel {
  const [base] = slidedat.levels;
  const width = Math.floor(full.width / level.concat);
  const height = Math.floor(full.height / level.concat);
  if (!(width >= 1 && height >= 1)) {
    throw new NightshiftError('slide-corrupt', `${source.uri} is damaged: a level of ${width} x ${height} px`);
  }
  if (width > LIMITS.side || height > LIMITS.side) throw limit(source, `a level of ${width} x ${height} px`);
  const size = { width, height };
  return {
    ...size,
    blockWidth: level.imageWidth,
    blockHeight: level.imageHeight,
    codec: CODECS[level.format],
    downsample: level.concat / base!.concat,
    numbered: {
      columns: Math.ceil(slidedat.imagesAcross / level.concat),
      rows: Math.ceil(slidedat.imagesDown / level.concat),
    },
    readIndex: (signal) => readIndex(size, signal),
  };
}

type Size = { readonly width: number; readonly height: number };

/** Pixels of a row of pictures: each photo but the last one gives up what it shares with the next. */
function extent(count: number, divisions: number, picture: number, overlap: number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) {
    const inner = i % divisions !== divisions - 1 || i === count - 1;
    sum = Math.trunc(sum + picture - (inner ? 0 : overlap));
  }
  return sum;
}

/** The index, and where the photos lie. */
interface Placed {
  readonly index: IndexFile;
  /** x and y of each photo, px of level 0. */
  readonly positions: Float64Array;
  /** 1: level 0 has a picture of the photo. */
  readonly active: Uint8Array;
}

async function readPlaces(
  source: ByteSource,
  slidedat: Slidedat,
  files: { readonly index: SourcePart; readonly data: readonly SourcePart[] },
  signal?: AbortSignal,
): Promise<Placed> {
  const { offset, size } = files.index;
  const [bytes] = await source.read([{ offset, length: size }], signal);
  const index = new IndexFile(source.uri, bytes!, slidedat.slideId);
  const positions = await readPositions(source, slidedat, index, files.data, signal);
  const active = new Uint8Array(positions.length / 2);
  for (const { image } of index.pictures(0)) {
    const photo = photoOf(source, slidedat, image % slidedat.imagesAcross, Math.floor(image / slidedat.imagesAcross));
    // A photo that was not taken stands at the origin, where only the first one can lie.
    if (photo === 0 || positions[2 * photo] !== 0 || positions[2 * photo + 1] !== 0) active[photo] = 1;
  }
  return { index, positions, active };
}

async function readPositions(
  source: ByteSource,
  slidedat: Slidedat,
  index: IndexFile,
  data: readonly SourcePart[],
  signal?: AbortSignal,
): Promise<Float64Array> {
  const { divisions, imagesAcross, imagesDown, levels } = slidedat;
  const across = Math.floor(imagesAcross / divisions);
  const count = across * Math.floor(imagesDown / divisions);
  const positions = new Float64Array(2 * count);
  const [base] = levels;
  if (slidedat.positions === null) {
    for (let i = 0; i < count; i++) {
      positions[2 * i] = Math.trunc((i % across) * (base!.imageWidth * divisions - slidedat.overlapX));
      positions[2 * i + 1] = Math.trunc(Math.floor(i / across) * (base!.imageHeight * divisions - slidedat.overlapY));
    }
    return positions;
  }
  const at = index.record(slidedat.positions.record);
  const range = within(source, data, at);
  if (range === null || at.length > LIMITS.blockBytes) throw corrupt(source, 'its positions lie outside its files');
  const [stored] = await source.read([range], signal);
  const bytes = slidedat.positions.deflated ? inflated(source, stored!, count * POSITION_BYTES) : stored!;
  if (bytes.length !== count * POSITION_BYTES) {
    throw corrupt(source, `${bytes.length} bytes of positions for ${count} photos`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let i = 0; i < count; i++) {
    if ((bytes[POSITION_BYTES * i]! & 0xfe) !== 0) throw corrupt(source, `photo ${i} has an unknown flag`);
    positions[2 * i] = view.getInt32(POSITION_BYTES * i + 1, true) * base!.concat;
    positions[2 * i + 1] = view.getInt32(POSITION_BYTES * i + 5, true) * base!.concat;
  }
  return positions;
}

function inflated(source: ByteSource, bytes: Uint8Array, length: number): Uint8Array {
  try {
    return inflateSync(bytes, { maxOutputLength: length + 1 });
  } catch {
    throw corrupt(source, 'its positions cannot be inflated');
  }
}

async function readLevel(
  source: ByteSource,
  slidedat: Slidedat,
  number: number,
  { index, positions, active }: Placed,
  data: readonly SourcePart[],
  size: Size,
): Promise<BlockIndex> {
  const { imagesAcross, imagesDown, divisions } = slidedat;
  const level = slidedat.levels[number]!;
  const [base] = slidedat.levels;
  const { concat, imageWidth, imageHeight } = level;
  const columns = Math.ceil(imagesAcross / concat);
  const stored = new Map<number, StoredAt>();
  // With no overlap and no positions pictures abut, and none needs to be cut.
  const cut = slidedat.positions !== null || slidedat.overlapX !== 0 || slidedat.overlapY !== 0;
  const parts = cut ? Math.max(1, Math.floor(concat / divisions)) : 1;
  const step = cut ? Math.min(concat, divisions) : concat;
  const partWidth = imageWidth / parts;
  const partHeight = imageHeight / parts;
  /** A later picture of the same place counts, as in OpenSlide. */
  const byPlace = new Map<number, Piece>();
  let pieces = 0;

  for (const { image, ...at } of index.pictures(number)) {
    const x = image % imagesAcross;
    const y = Math.floor(image / imagesAcross);
    if (y >= imagesDown || x % concat !== 0 || y % concat !== 0) {
      throw corrupt(source, `picture ${image} is on no place of level ${number}`);
    }
    if (at.file >= data.length) throw corrupt(source, `picture ${image} is in file ${at.file} of ${data.length}`);
    const block = (y / concat) * columns + x / concat;
    stored.set(block, at);
    for (let row = 0; row < parts && y + row * divisions < imagesDown; row++) {
      for (let column = 0; column < parts && x + column * divisions < imagesAcross; column++) {
        if (++pieces > MOST_PIECES) throw limit(source, `more than ${MOST_PIECES} pieces of pictures`);
        const [ownX, ownY] = [x + column * divisions, y + row * divisions];
        const photo = photoOf(source, slidedat, ownX, ownY);
        if (cut && active[photo] === 0) continue;
        const across = alongAxis(column, partWidth, positions[2 * photo]! + base!.imageWidth * (ownX % divisions));
        const down = alongAxis(row, partHeight, positions[2 * photo + 1]! + base!.imageHeight * (ownY % divisions));
        const place = (Math.floor(y / step) + row) * 2 ** 23 + Math.floor(x / step) + column;
        byPlace.set(place, {
          block,
          left: across.from,
          top: down.from,
          width: Math.min(imageWidth, across.to) - across.from,
          height: Math.min(imageHeight, down.to) - down.from,
          x: across.at,
          y: down.at,
          ...shiftOf(across, down),
        });
      }
    }
  }

  /** A part of a picture along one side, and where it begins. Parts of no whole pixels are put at some, so that neighbours leave no gap. */
  function alongAxis(part: number, length: number, position: number) {
    const start = part * length;
    const from = Math.floor(start);
    const place = Number.isInteger(length)
      ? between(position / concat)
      : { at: Math.floor(position / concat - (start - from)), shift: 0 };
    return { from, to: Math.ceil(start + length), ...place };
  }

  // The lower right is drawn last.
  const order = [...byPlace.keys()].sort((a, b) => a - b);
  const whole = { width: imageWidth, height: imageHeight };
  return {
    layout: placedLayout(
      source.uri,
      size,
      order.values().map((place) => byPlace.get(place)!),
      () => whole,
    ),
    range(column, row) {
      const at = stored.get(row * columns + column);
      // Where a file ends early nothing is taken from the one behind it: such a picture lies behind them all.
      return at === undefined ? null : (within(source, data, at) ?? { offset: source.size, length: at.length });
    },
  };
}

/** Which photo the picture at a place of the finest grid is of. */
function photoOf(source: ByteSource, slidedat: Slidedat, x: number, y: number): number {
  const across = Math.floor(slidedat.imagesAcross / slidedat.divisions);
  const [column, row] = [Math.floor(x / slidedat.divisions), Math.floor(y / slidedat.divisions)];
  if (column >= across || row >= Math.floor(slidedat.imagesDown / slidedat.divisions)) {
    throw corrupt(source, `the picture at (${x}, ${y}) is of no photo`);
  }
  return row * across + column;
}

/** Null where it leaves its file. */
function within(source: ByteSource, data: readonly SourcePart[], { file, offset, length }: StoredAt) {
  const part = data[file];
  if (part === undefined) throw corrupt(source, `its index names file ${file} of ${data.length}`);
  return offset + length > part.size ? null : { offset: part.offset + offset, length };
}

const partOf = (source: ByteSource, name: string): SourcePart | null =>
  source.parts?.find(({ uri }) => uri.slice(Math.max(uri.lastIndexOf('/'), uri.lastIndexOf('\\')) + 1) === name) ??
  null;

const corrupt = (source: ByteSource, what: string) =>
  new NightshiftError('slide-corrupt', `${source.uri} is damaged: ${what}`);

const limit = (source: ByteSource, what: string) =>
  new NightshiftError('slide-limits', `${source.uri} exceeds a safety limit: ${what}`);
