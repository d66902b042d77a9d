import { NightshiftError } from '../../errors.ts';
import { seriesUri } from '../../source/series.ts';
import type { ByteSource } from '../../source/source.ts';
import { mpp } from '../../units.ts';
import { jpegPrefix } from '../codec/markers.ts';
import type { BlockCodec, BlockIndex, Slide } from '../slide.ts';
import { assembleSlide, type StoredLevel, sameAspect } from '../stored-level.ts';
import { LIMITS } from '../tiff/ifd.ts';
import { findFrames } from './frames.ts';
import { type Instance, readInstance } from './instance.ts';

/** Frames that all levels of a slide may have: typed arrays of 20 bytes a frame. */
const MOST_FRAMES = 4_000_000;

const UNCOMPRESSED = ['1.2.840.10008.1.2', '1.2.840.10008.1.2.1'];
const JPEG = ['1.2.840.10008.1.2.4.50', '1.2.840.10008.1.2.4.51'];
const JPEG_2000 = ['1.2.840.10008.1.2.4.90', '1.2.840.10008.1.2.4.91'];
/** Names of others that slides come in (PS3.6, table A-1). */
const UNREADABLE: Readonly<Record<string, string>> = {
  '1.2.840.10008.1.2.4.57': 'lossless JPEG',
  '1.2.840.10008.1.2.4.70': 'lossless JPEG',
  '1.2.840.10008.1.2.4.80': 'JPEG-LS',
  '1.2.840.10008.1.2.4.81': 'JPEG-LS',
  '1.2.840.10008.1.2.4.110': 'JPEG XL',
  '1.2.840.10008.1.2.4.111': 'JPEG XL',
  '1.2.840.10008.1.2.4.112': 'JPEG XL',
  '1.2.840.10008.1.2.4.201': 'High-Throughput JPEG 2000',
  '1.2.840.10008.1.2.4.202': 'High-Throughput JPEG 2000',
  '1.2.840.10008.1.2.4.203': 'High-Throughput JPEG 2000',
  '1.2.840.10008.1.2.5': 'RLE',
};

/**
 * A DICOM whole-slide image (PS3.3, A.32.8), one file or all files of a series: the instances that call themselves VOLUME are its
 * levels, by their size, where their sides shrink alike. Labels, overviews and thumbnails are never read. Null where the file, or the first one, is no DICOM file.
 * `headers` is the same source, cached.
 */
export async function openDicom(source: ByteSource, headers: ByteSource): Promise<Slide | null> {
  const instances: Instance[] = [];
  const { uri, size, parts = [{ uri, offset: 0, size }] } = source;
  for (const part of parts) {
    // Of several files some are labels: a cache would read their pixels with their data sets.
    const instance = await readInstance(parts.length > 1 ? source : headers, part);
    if (instance !== null) instances.push(instance);
    else if (instances.length === 0) return null;
    else throw new NightshiftError('slide-corrupt', `${part.uri} is no DICOM file`);
  }
  const unsupported = (what: string, next?: string) =>
    new NightshiftError('slide-unsupported', `${source.uri} ${what}`, next === undefined ? {} : { next });
  const volumes = instances.filter(({ flavor }) => flavor === 'VOLUME');
  if (volumes.length === 0) {
    const others = ['LABEL', 'OVERVIEW', 'THUMBNAIL'].filter((other) =>
      instances.some(({ flavor }) => flavor === other),
    );
    const what = others.length > 0 ? `, only its ${others.join(', ')}` : '';
    throw unsupported(`holds no level of a whole-slide image${what}`, 'Give the folder that holds the whole series.');
  }
  const series = [...new Set(volumes.map((instance) => instance.series))];
  if (series.length > 1) {
    const next = `Name one of them, e.g. ${seriesUri(source.uri, series[0]!)}, or give the folder to embed or submit: each becomes a slide.`;
    throw unsupported(`holds ${series.length} series`, next);
  }

  for (const instance of volumes) check(instance);
  if (volumes.reduce((sum, { frames }) => sum + frames, 0) > MOST_FRAMES) {
    throw new NightshiftError('slide-limits', `${source.uri} exceeds a safety limit: more than ${MOST_FRAMES} frames`);
  }
  const bySize = Map.groupBy(volumes, ({ totalColumns, totalRows }) => `${totalColumns} x ${totalRows}`);
  const levels = Array.from(bySize.values(), (parts) => joined(parts)).sort(
    (a, b) => b[0].totalColumns * b[0].totalRows - a[0].totalColumns * a[0].totalRows,
  );
  const [base] = levels[0]!;
  const { spacing } = base;
  return assembleSlide(
    {
      source,
      format: 'dicom',
      vendor: 'dicom',
      mpp: spacing && { x: mpp(spacing.x), y: mpp(spacing.y), source: 'dicom' },
      objectivePower: base.objectivePower,
    },
    levels.filter(([first]) => sameAspect(sizeOf(first), sizeOf(base))).map((parts) => level(source, parts)),
  );
}

const sizeOf = ({ totalColumns, totalRows }: Instance) => ({ width: totalColumns, height: totalRows });

function check(instance: Instance): void {
  const { part, rows, columns, totalRows, totalColumns, frames, samples, bits, planar, photometric } = instance;
  const refuse = (what: string) => new NightshiftError('slide-unsupported', `${part.uri}: ${what}`);
  if (rows < 1 || columns < 1 || totalRows < 1 || totalColumns < 1 || !(frames >= 1)) {
    const message = `${part.uri} is damaged: ${frames} frames of ${columns} x ${rows} px in ${totalColumns} x ${totalRows}`;
    throw new NightshiftError('slide-corrupt', message);
  }
  if (totalRows > LIMITS.side || totalColumns > LIMITS.side || rows * columns > LIMITS.blockPixels) {
    const message = `${part.uri} exceeds a safety limit: frames of ${columns} x ${rows} px in ${totalColumns} x ${totalRows}`;
    throw new NightshiftError('slide-limits', message);
  }
  if (samples !== 3 || bits !== 8) {
    throw refuse(
      `its pixels have ${samples} channel${samples === 1 ? '' : 's'} of ${bits} bits; only 8-bit RGB can be read`,
    );
  }
  if (instance.focalPlanes > 1) throw refuse(`it has ${instance.focalPlanes} focal planes`);
  if (UNCOMPRESSED.includes(instance.transferSyntax) && (planar !== 0 || photometric !== 'RGB')) {
    throw refuse(`its pixels are uncompressed ${photometric}${planar === 0 ? '' : ', channels apart'}`);
  }
  codecOf(instance);
}

function codecOf({ part, transferSyntax, photometric }: Instance): BlockCodec {
  if (UNCOMPRESSED.includes(transferSyntax)) return { kind: 'raw', predictor: 1 };
  if (JPEG.includes(transferSyntax)) return { kind: 'jpeg', prefix: jpegPrefix(photometric !== 'RGB') };
  // YBR_ICT and YBR_RCT are the codestream's own transforms, which its decoder undoes.
  if (JPEG_2000.includes(transferSyntax)) return { kind: 'jpeg2000', yCbCr: photometric.startsWith('YBR_FULL') };
  const name = UNREADABLE[transferSyntax];
  const what = name === undefined ? transferSyntax : `${transferSyntax} (${name})`;
  throw new NightshiftError('slide-unsupported', `${part.uri}: its transfer syntax ${what} cannot be read`);
}

/** The instances of one level: one, or the parts of a concatenation, in their order. */
function joined(parts: readonly Instance[]): [Instance, ...Instance[]] {
  const [first, ...rest] = parts.toSorted(
    (a, b) => (a.concatenation?.firstFrame ?? 0) - (b.concatenation?.firstFrame ?? 0),
  ) as [Instance, ...Instance[]];
  let next = first.frames;
  for (const part of rest) {
    const uid = part.concatenation?.uid;
    if (uid === undefined || uid !== first.concatenation?.uid) {
      const size = `${part.totalColumns} x ${part.totalRows} px`;
      throw new NightshiftError('slide-unsupported', `${part.part.uri}: another file holds a level of ${size} too`);
    }
    if (part.concatenation?.firstFrame !== next || part.rows !== first.rows || part.columns !== first.columns) {
      throw new NightshiftError(
        'slide-corrupt',
        `${part.part.uri} does not continue its concatenation at frame ${next + 1}`,
      );
    }
    next += part.frames;
  }
  return [first, ...rest];
}

function level(source: ByteSource, parts: readonly [Instance, ...Instance[]]): StoredLevel {
  const [{ totalColumns, totalRows, columns, rows }] = parts;
  const across = Math.ceil(totalColumns / columns);
  const down = Math.ceil(totalRows / rows);
  const frameOf = placeFrames(parts, across, down);
  return {
    width: totalColumns,
    height: totalRows,
    blockWidth: columns,
    blockHeight: rows,
    codec: codecOf(parts[0]),
    readIndex: (signal) => readIndex(source, parts, across, frameOf, signal),
  };
}

/** Block by block the number of its frame, -1 where there is none; null where they are in the order of the blocks. */
function placeFrames(parts: readonly [Instance, ...Instance[]], across: number, down: number): Int32Array | null {
  const [first] = parts;
  const { uri } = first.part;
  const frames = parts.reduce((sum, part) => sum + part.frames, 0);
  const positions = parts.flatMap((part) => part.positions as number[]);
  const sparse = first.organization === 'TILED_SPARSE' || (first.organization === '' && positions.length > 0);
  if (!sparse) {
    if (frames === across * down) return null;
    throw new NightshiftError('slide-unsupported', `${uri} has ${frames} frames for ${across} x ${down} places`);
  }
  if (positions.length !== 2 * frames) {
    throw new NightshiftError(
      'slide-corrupt',
      `${uri} is damaged: ${positions.length / 2} places for ${frames} frames`,
    );
  }
  const frameOf = new Int32Array(across * down).fill(-1);
  for (let i = 0; i < frames; i++) {
    const column = (positions[2 * i]! - 1) / first.columns;
    const row = (positions[2 * i + 1]! - 1) / first.rows;
    const inside =
      Number.isInteger(column) && Number.isInteger(row) && column >= 0 && row >= 0 && column < across && row < down;
    if (!inside) {
      const at = `(${positions[2 * i]}, ${positions[2 * i + 1]})`;
      throw new NightshiftError('slide-unsupported', `${uri}: frame ${i + 1} at ${at} lies on no grid of frames`);
    }
    if (frameOf[row * across + column] !== -1) {
      throw new NightshiftError('slide-unsupported', `${uri}: several frames lie in one place`);
    }
    frameOf[row * across + column] = i;
  }
  return frameOf;
}

async function readIndex(
  source: ByteSource,
  parts: readonly Instance[],
  across: number,
  frameOf: Int32Array | null,
  signal?: AbortSignal,
): Promise<BlockIndex> {
  const found = await Promise.all(parts.map((part) => findFrames(source, part, signal)));
  const total = found.reduce((sum, { offset }) => sum + offset.length, 0);
  const offset = new Float64Array(total);
  const length = new Float64Array(total);
  let at = 0;
  for (const part of found) {
    offset.set(part.offset, at);
    length.set(part.length, at);
    at += part.offset.length;
  }
  return {
    range(column, row) {
      const block = row * across + column;
      const frame = frameOf === null ? block : frameOf[block]!;
      return frame < 0 || length[frame] === 0 ? null : { offset: offset[frame]!, length: length[frame]! };
    },
  };
}
