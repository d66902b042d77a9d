import { NightshiftError } from '../../../errors.ts';
import { type JpegHeader, readFrame, readHeader } from '../../codec/markers.ts';
import type { BlockIndex } from '../../slide.ts';
import type { StoredLevel } from '../../stored-level.ts';
import { type Ifd, LIMITS, type Tiff } from '../ifd.ts';
import { integer, TAG } from '../page.ts';
import { resolutionMpp } from './generic.ts';
import type { Vendor } from './vendor.ts';

/** Tags of NDPI, named as in OpenSlide (openslide-vendor-hamamatsu.c). */
const SOURCE_LENS = 65_421;
const FOCAL_PLANE = 65_424;
/** Where the pixels behind each restart marker begin, counted from the strip: lower and upper 32 bits. */
const MCU_STARTS_LOW = 65_426;
const MCU_STARTS_HIGH = 65_432;

const HEADER_BYTES = 16_384;

interface Strip {
  readonly width: number;
  readonly height: number;
  readonly offset: number;
  readonly length: number;
}

/**
 * Hamamatsu NDPI: each level is one JPEG, cut into blocks at its restart markers. Pages that are no level are the macro picture and
 * the map (a source lens below 0) and other focal planes.
 */
export async function openHamamatsu(tiff: Tiff, ifds: readonly Ifd[]): Promise<Vendor> {
  const levels: StoredLevel[] = [];
  let first: { ifd: Ifd; lens: number } | null = null;
  for (const ifd of ifds) {
    const lensEntry = ifd.entries.get(SOURCE_LENS);
    const lens = lensEntry === undefined ? 0 : await tiff.float(lensEntry);
    if (!(lens > 0) || (await integer(tiff, ifd, FOCAL_PLANE, 0)) !== 0) continue;
    const level = await readLevel(tiff, ifd);
    const last = levels.at(-1);
    if (last !== undefined && level.width >= last.width) throw tiff.corrupt('its levels are not in order');
    levels.push(level);
    first ??= { ifd, lens };
  }
  if (first === null) throw new NightshiftError('slide-unsupported', `${tiff.uri} is an NDPI file without a level`);
  return {
    name: 'hamamatsu',
    mpp: await resolutionMpp(tiff, first.ifd),
    objectivePower: first.lens,
    levels,
  };
}

async function readLevel(tiff: Tiff, ifd: Ifd): Promise<StoredLevel> {
  if ((ifd.entries.get(TAG.stripOffsets)?.count ?? 0) !== 1) throw tiff.corrupt('a level of several strips');
  const strip: Strip = {
    width: await integer(tiff, ifd, TAG.width),
    height: await integer(tiff, ifd, TAG.height),
    offset: await integer(tiff, ifd, TAG.stripOffsets),
    length: await integer(tiff, ifd, TAG.stripByteCounts),
  };
  const compression = await integer(tiff, ifd, TAG.compression, 1);
  if (compression !== 7) {
    throw new NightshiftError('slide-unsupported', `${tiff.uri}: its levels are compressed with method ${compression}`);
  }
  if (strip.width === 0 || strip.height === 0) throw tiff.corrupt(`a level of ${strip.width} x ${strip.height} px`);
  if (strip.width > LIMITS.side || strip.height > LIMITS.side) {
    throw tiff.limit(`a level of ${strip.width} x ${strip.height} px`);
  }
  const start = await tiff.at(strip.offset, Math.min(HEADER_BYTES, strip.length));
  const header = readHeader(start);
  if (header === null) throw tiff.corrupt('a level does not start with the header of an RGB JPEG');
  return (await stretches(tiff, ifd, strip, header)) ?? wholePicture(tiff, strip, start);
}

/** A level cut at its restart markers; null where it has none, or no table of them that fits. */
async function stretches(tiff: Tiff, ifd: Ifd, strip: Strip, header: JpegHeader): Promise<StoredLevel | null> {
  const { width, height } = strip;
  const { mcuWidth, mcuHeight, restartInterval, heightAt } = header;
  const mcusAcross = Math.ceil(width / mcuWidth);
  const mcuRows = Math.ceil(height / mcuHeight);
  const low = ifd.entries.get(MCU_STARTS_LOW);
  const high = ifd.entries.get(MCU_STARTS_HIGH);
  if (low === undefined || restartInterval === 0 || mcusAcross % restartInterval !== 0) return null;
  const across = mcusAcross / restartInterval;
  if (low.count !== across * mcuRows || (high !== undefined && high.count !== low.count)) return null;
  // Where one interval is a whole row, eight rows are one stretch of bytes, and their markers count from 0 as in a JPEG of its own.
  const rowsTogether = across === 1 ? 8 : 1;
  const blockWidth = restartInterval * mcuWidth;
  const blockHeight = rowsTogether * mcuHeight;
  if (blockWidth * blockHeight > LIMITS.blockPixels || blockWidth > 65_500) {
    throw tiff.limit(`stretches of ${blockWidth} x ${blockHeight} px`);
  }
  for (const entry of [low, high]) if (entry !== undefined) tiff.requireWithin(entry);
  const own = Uint8Array.from(header.bytes);
  own[heightAt + 2] = blockWidth >> 8;
  own[heightAt + 3] = blockWidth & 0xff;
  return {
    width,
    height,
    blockWidth,
    blockHeight,
    codec: { kind: 'jpeg-stretch', header: own, heightAt, mcuHeight },
    async readIndex(signal) {
      const options = signal === undefined ? { index: true } : { index: true, signal };
      const starts = await tiff.numbers(low, options);
      const upper = high === undefined ? null : await tiff.numbers(high, options);
      for (const i of starts.keys()) starts[i] = starts[i]! + (upper === null ? 0 : 2 ** 32 * upper[i]!);
      return stretchIndex(strip, starts, across, rowsTogether);
    },
  };
}

function stretchIndex(strip: Strip, starts: Float64Array, across: number, rowsTogether: number): BlockIndex {
  return {
    range(column, row) {
      const from = starts[row * rowsTogether * across + column]!;
      const next = across === 1 ? (row + 1) * rowsTogether : row * across + column + 1;
      const to = starts[next] ?? strip.length;
      // A table that runs backwards gives a block that cannot be decoded.
      return { offset: strip.offset + from, length: Math.max(2, to - from) };
    },
  };
}

/** A level that is one block. Its own header may be right about its size where the tags are not. */
function wholePicture(tiff: Tiff, strip: Strip, start: Uint8Array): StoredLevel {
  const { width, height } = readFrame(start);
  if (width === 0 || height === 0 || width * height > LIMITS.blockPixels) {
    throw new NightshiftError(
      'slide-unsupported',
      `${tiff.uri}: a level of ${strip.width} x ${strip.height} px has no table of its restart markers`,
    );
  }
  return {
    width,
    height,
    blockWidth: width,
    blockHeight: height,
    codec: { kind: 'jpeg', prefix: Uint8Array.of(0xff, 0xd8) },
    readIndex: async () => ({ range: () => ({ offset: strip.offset, length: strip.length }) }),
  };
}
