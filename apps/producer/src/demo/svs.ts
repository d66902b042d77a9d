import { open } from 'node:fs/promises';
import sharp from 'sharp';

/** A picture as RGB bytes, row by row. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  readonly rgb: Uint8Array;
}

export interface SvsOptions {
  /** um/px of the first picture. */
  readonly mpp: number;
  readonly objectivePower: number;
  readonly title: string;
}

const TILE_PX = 240;
const QUALITY = 88;

const SHORT = 3;
const LONG = 4;
const ASCII = 2;

/**
 * Writes a pyramid as Aperio's scanners do: a little-endian classic TIFF (TIFF 6.0), one IFD a level, JPEG tiles of 240 px
 * (compression 7 of TIFF Technical Note 2, each tile a complete stream), resolution in `ImageDescription`. No label, no macro.
 */
export async function writeSvs(path: string, levels: readonly Picture[], options: SvsOptions): Promise<void> {
  const file = await open(path, 'w');
  try {
    let at = 8;
    const append = async (bytes: Uint8Array): Promise<number> => {
      const offset = at;
      // Values of a TIFF begin on a word boundary.
      const padded = bytes.length % 2 === 0 ? bytes : Buffer.concat([bytes, Buffer.alloc(1)]);
      await file.write(padded, 0, padded.length, offset);
      at += padded.length;
      return offset;
    };
    let link = 4;
    for (const level of levels) {
      const offsets: number[] = [];
      const lengths: number[] = [];
      for await (const tile of jpegTiles(level)) {
        lengths.push(tile.length);
        offsets.push(await append(tile));
      }
      const ifd = await append(await directory(level, levels[0]!, options, offsets, lengths, append));
      await file.write(uint32s([ifd]), 0, 4, link);
      link = ifd + 2 + 12 * ENTRIES;
    }
    const header = Buffer.from([0x49, 0x49, 42, 0]);
    await file.write(header, 0, header.length, 0);
  } finally {
    await file.close();
  }
}

/** The tiles of a level in row order; those at the right and the lower edge are filled up by repeating the edge. */
async function* jpegTiles({ width, height, rgb }: Picture): AsyncGenerator<Uint8Array> {
  for (let top = 0; top < height; top += TILE_PX) {
    const row: Promise<Uint8Array>[] = [];
    for (let left = 0; left < width; left += TILE_PX) {
      const tile = new Uint8Array(TILE_PX * TILE_PX * 3);
      for (let y = 0; y < TILE_PX; y++) {
        const from = Math.min(height - 1, top + y) * width;
        const whole = Math.min(TILE_PX, width - left);
        tile.set(rgb.subarray(3 * (from + left), 3 * (from + left + whole)), 3 * y * TILE_PX);
        const last = rgb.subarray(3 * (from + width - 1), 3 * (from + width));
        for (let x = whole; x < TILE_PX; x++) tile.set(last, 3 * (y * TILE_PX + x));
      }
      row.push(
        sharp(tile, { raw: { width: TILE_PX, height: TILE_PX, channels: 3 } })
          .jpeg({ quality: QUALITY, chromaSubsampling: '4:2:0' })
          .toBuffer(),
      );
    }
    yield* await Promise.all(row);
  }
}

const ENTRIES = 13;

/** An IFD; values of more than four bytes are appended before it. */
async function directory(
  { width, height }: Picture,
  base: Picture,
  options: SvsOptions,
  offsets: readonly number[],
  lengths: readonly number[],
  append: (bytes: Uint8Array) => Promise<number>,
): Promise<Uint8Array> {
  const scaled = width === base.width ? '' : ` -> ${width}x${height}`;
  const description =
    `Aperio Image Library v12.0.0 (synthetic)\r\n${base.width}x${base.height} [0,0 ${base.width}x${base.height}] ` +
    `(${TILE_PX}x${TILE_PX})${scaled} JPEG/RGB Q=${QUALITY}|AppMag = ${options.objectivePower}|` +
    `MPP = ${options.mpp.toFixed(4)}|Title = ${options.title}\0`;
  const entries: readonly (readonly [tag: number, type: number, count: number, value: number])[] = [
    [254, LONG, 1, width === base.width ? 0 : 1], // NewSubfileType: reduced resolution
    [256, LONG, 1, width],
    [257, LONG, 1, height],
    [258, SHORT, 3, await append(uint16s([8, 8, 8]))],
    [259, SHORT, 1, 7], // Compression: JPEG
    [262, SHORT, 1, 6], // PhotometricInterpretation: YCbCr
    [270, ASCII, description.length, await append(Buffer.from(description, 'latin1'))],
    [277, SHORT, 1, 3],
    [322, LONG, 1, TILE_PX],
    [323, LONG, 1, TILE_PX],
    [324, LONG, offsets.length, offsets.length === 1 ? offsets[0]! : await append(uint32s(offsets))],
    [325, LONG, lengths.length, lengths.length === 1 ? lengths[0]! : await append(uint32s(lengths))],
    [530, SHORT, 2, 2 | (2 << 16)], // YCbCrSubSampling: 2, 2
  ];
  const ifd = Buffer.alloc(2 + 12 * ENTRIES + 4);
  ifd.writeUInt16LE(ENTRIES, 0);
  for (const [i, [tag, type, count, value]] of entries.entries()) {
    ifd.writeUInt16LE(tag, 2 + 12 * i);
    ifd.writeUInt16LE(type, 4 + 12 * i);
    ifd.writeUInt32LE(count, 6 + 12 * i);
    ifd.writeUInt32LE(value, 10 + 12 * i);
  }
  return ifd;
}

const uint16s = (values: readonly number[]): Uint8Array => new Uint8Array(Uint16Array.from(values).buffer);
const uint32s = (values: readonly number[]): Uint8Array => new Uint8Array(Uint32Array.from(values).buffer);
