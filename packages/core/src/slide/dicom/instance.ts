import { NightshiftError } from '../../errors.ts';
import type { DicomHead } from '../../source/series.ts';
import type { ByteSource, SourcePart } from '../../source/source.ts';
import { DatasetError, type PixelElement, type Visitor, walkDataset } from './dataset.ts';

/** One file of a whole-slide image: some frames of one of its levels, as its data set states them. */
export interface Instance {
  readonly part: SourcePart;
  /** Third value of Image Type: VOLUME, LABEL, OVERVIEW, THUMBNAIL; empty where the file is no whole-slide image. */
  readonly flavor: string;
  readonly transferSyntax: string;
  readonly series: string;
  readonly frames: number;
  /** Size of a frame, px. */
  readonly rows: number;
  readonly columns: number;
  /** Size of the level, px. */
  readonly totalRows: number;
  readonly totalColumns: number;
  readonly focalPlanes: number;
  readonly samples: number;
  readonly bits: number;
  readonly planar: number;
  readonly photometric: string;
  readonly organization: string;
  /** Micrometres from row to row and from column to column. */
  readonly spacing: { readonly x: number; readonly y: number } | null;
  readonly objectivePower: number | null;
  /** Parts of one level: what they have in common, and the number of the first frame in each. */
  readonly concatenation: { readonly uid: string; readonly firstFrame: number } | null;
  /** Where each frame lies in the level, column and row by turns, from 1; empty where the order says it. */
  readonly positions: readonly number[];
  /** Extended offset table: 64-bit offsets of frames, and their lengths. */
  readonly extendedOffsets: BigUint64Array | null;
  readonly extendedLengths: BigUint64Array | null;
  /** `at` counts in the source of the whole slide. */
  readonly pixels: PixelElement | null;
}

const WHOLE_SLIDE = '1.2.840.10008.5.1.4.1.1.77.1.6';
const IMPLICIT = '1.2.840.10008.1.2';
const BIG_ENDIAN = '1.2.840.10008.1.2.2';
const DEFLATED = '1.2.840.10008.1.2.1.99';
/** The first read of a file; what says that it is a label lies within, its pixels hardly do. */
const FIRST_BYTES = 4_096;
/** 200,000 frames with a position each take 40 MB. */
const MOST_BYTES = 64 << 20;
const MOST_POSITIONS = 1_000_000;

/**
 * Reads the data set of one file, no pixels: of a label or an overview, which may show a patient's name, not more than its
 * beginning. Null where the file is no DICOM file.
 */
export async function readInstance(source: ByteSource, part: SourcePart): Promise<Instance | null> {
  const corrupt = (what: string) => new NightshiftError('slide-corrupt', `${part.uri} is damaged: ${what}`);
  for (let length = FIRST_BYTES; ; length *= 8) {
    if (length > MOST_BYTES && part.size > MOST_BYTES) {
      throw new NightshiftError(
        'slide-limits',
        `${part.uri} exceeds a safety limit: a data set of ${MOST_BYTES} bytes`,
      );
    }
    const whole = length >= part.size;
    const [bytes] = await source.read([{ offset: part.offset, length: Math.min(length, part.size) }]);
    if (bytes!.length < 132 || Buffer.from(bytes!.subarray(128, 132)).toString('latin1') !== 'DICM') return null;
    const collected = new Collector();
    try {
      const pixels = collected.walk(bytes!);
      if (pixels === 'syntax') {
        const message = `${part.uri} has the transfer syntax ${collected.transferSyntax}, which cannot be read`;
        throw new NightshiftError('slide-unsupported', message);
      }
      return collected.instance(part, pixels && { ...pixels, at: part.offset + pixels.at });
    } catch (error) {
      if (!(error instanceof DatasetError)) throw error;
      if (error.kind === 'corrupt') throw corrupt(error.message);
      if (error.kind === 'limits') {
        throw new NightshiftError('slide-limits', `${part.uri} exceeds a safety limit: ${error.message}`);
      }
      if (collected.isOther() || (whole && collected.isNoSlide())) return collected.instance(part, null);
      if (whole) {
        const message = `${part.uri} has ${part.size} bytes and ends within its data set`;
        throw new NightshiftError('slide-truncated', message, { data: { size: part.size } });
      }
    }
  }
}

/** Series and kind are said early in a file. */
const MOST_HEAD_BYTES = 1 << 20;

/** The series of one file, by its beginning. Null where the file is no DICOM file, or does not say it soon. */
export async function readHead(source: ByteSource): Promise<DicomHead | null> {
  for (let length = FIRST_BYTES; ; length *= 8) {
    const [bytes] = await source.read([{ offset: 0, length: Math.min(length, source.size) }]);
    if (bytes!.length < 132 || Buffer.from(bytes!.subarray(128, 132)).toString('latin1') !== 'DICM') return null;
    const collected = new Collector();
    let more = length < source.size && length <= MOST_HEAD_BYTES;
    try {
      collected.walk(bytes!);
      more = false;
    } catch (error) {
      if (!(error instanceof DatasetError)) throw error;
      if (error.kind === 'corrupt' || collected.isOther()) more = false;
    }
    const head = collected.head();
    if (head !== null || !more) return head;
  }
}

/** Takes what is wanted from a data set. */
class Collector {
  transferSyntax = '';
  readonly #texts = new Map<number, string>();
  readonly #integers = new Map<number, number>();
  readonly #positions: number[] = [];
  #spacing: { x: number; y: number } | null = null;
  #lens: number | null = null;
  #extendedOffsets: BigUint64Array | null = null;
  #extendedLengths: BigUint64Array | null = null;

  walk(bytes: Uint8Array): PixelElement | null | 'syntax' {
    // File meta information: explicit, its length first (PS3.10, section 7.1).
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (bytes.length < 144) throw new DatasetError('more', 'no file meta information');
    if (view.getUint32(132, true) !== 0x0000_0002) throw new DatasetError('corrupt', 'no file meta information');
    const end = 144 + view.getUint32(140, true);
    if (end > bytes.length) throw new DatasetError('more', 'the file meta information goes on');
    try {
      walkDataset(bytes.subarray(0, end), 144, true, {
        value: (tag, value) => {
          if (tag === 0x0002_0010) this.transferSyntax = text(value);
        },
      });
    } catch (error) {
      // It holds no pixels: its walk ends where it ends.
      if (!(error instanceof DatasetError && error.kind === 'more')) throw error;
    }
    if (this.transferSyntax === BIG_ENDIAN || this.transferSyntax === DEFLATED) return 'syntax';
    return walkDataset(bytes, end, this.transferSyntax !== IMPLICIT, this.#top);
  }

  /** A file whose beginning says that it holds nothing to be read. */
  isOther(): boolean {
    const known = this.#texts.get(0x0008_0008) !== undefined && this.#texts.get(0x0008_0016) !== undefined;
    return known && this.#flavor() !== 'VOLUME';
  }

  /** A report or an annotation, which has no pixels. */
  isNoSlide(): boolean {
    const sopClass = this.#texts.get(0x0008_0016);
    return sopClass !== undefined && sopClass !== WHOLE_SLIDE;
  }

  /** Null until it is known. */
  head(): DicomHead | null {
    const series = this.#texts.get(0x0020_000e) ?? '';
    const sopClass = this.#texts.get(0x0008_0016);
    if (sopClass === undefined || !/^[0-9][0-9.]{0,63}$/.test(series)) return null;
    return { series, isWholeSlide: sopClass === WHOLE_SLIDE };
  }

  instance(part: SourcePart, pixels: PixelElement | null): Instance {
    const integer = (tag: number, absent: number) => this.#integers.get(tag) ?? absent;
    const string = (tag: number) => this.#texts.get(tag) ?? '';
    const uid = string(0x0020_9161);
    return {
      part,
      flavor: this.#flavor(),
      transferSyntax: this.transferSyntax,
      series: string(0x0020_000e),
      frames: integer(0x0028_0008, 1),
      rows: integer(0x0028_0010, 0),
      columns: integer(0x0028_0011, 0),
      totalColumns: integer(0x0048_0006, 0),
      totalRows: integer(0x0048_0007, 0),
      focalPlanes: integer(0x0048_0303, 1),
      samples: integer(0x0028_0002, 1),
      bits: integer(0x0028_0100, 0),
      planar: integer(0x0028_0006, 0),
      photometric: string(0x0028_0004),
      organization: string(0x0020_9311),
      spacing: this.#spacing,
      objectivePower: this.#lens,
      concatenation: uid === '' ? null : { uid, firstFrame: integer(0x0020_9228, 0) },
      positions: this.#positions,
      extendedOffsets: this.#extendedOffsets,
      extendedLengths: this.#extendedLengths,
      pixels,
    };
  }

  #flavor(): string {
    if (this.isNoSlide()) return '';
    return this.#texts.get(0x0008_0008)?.split('\\')[2]?.trim() ?? '';
  }

  readonly #top: Visitor = {
    value: (tag, value) => {
      switch (tag) {
        case 0x0008_0008:
        case 0x0008_0016:
        case 0x0020_000e:
        case 0x0020_9161:
        case 0x0020_9311:
        case 0x0028_0004:
          this.#texts.set(tag, text(value));
          break;
        case 0x0028_0008:
          this.#integers.set(tag, decimals(value)[0] ?? 1);
          break;
        case 0x0028_0002:
        case 0x0028_0006:
        case 0x0028_0010:
        case 0x0028_0011:
        case 0x0028_0100:
          if (value.byteLength >= 2) this.#integers.set(tag, value.getUint16(0, true));
          break;
        case 0x0020_9228:
        case 0x0048_0006:
        case 0x0048_0007:
        case 0x0048_0303:
          if (value.byteLength >= 4) this.#integers.set(tag, value.getUint32(0, true));
          break;
        case 0x7fe0_0001:
          this.#extendedOffsets = longs(value);
          break;
        case 0x7fe0_0002:
          this.#extendedLengths = longs(value);
          break;
      }
    },
    item: (tag) => {
      if (tag === 0x5200_9229) return this.#shared;
      if (tag === 0x5200_9230) return this.#perFrame;
      return tag === 0x0048_0105 ? this.#opticalPath : null;
    },
  };

  readonly #opticalPath: Visitor = {
    value: (tag, value) => {
      if (tag === 0x0048_0112) this.#lens ??= decimals(value)[0] ?? null;
    },
  };

  readonly #measures: Visitor = {
    value: (tag, value) => {
      if (tag !== 0x0028_0030) return;
      // Millimetres: between rows, then between columns.
      const [y, x] = decimals(value);
      if (x !== undefined && y !== undefined) this.#spacing ??= { x: 1_000 * x, y: 1_000 * y };
    },
  };

  readonly #shared: Visitor = { item: (tag) => (tag === 0x0028_9110 ? this.#measures : null) };

  readonly #position: Visitor = {
    value: (tag, value) => {
      if (value.byteLength < 4) return;
      if (tag === 0x0048_021e) this.#positions[this.#positions.length - 2] = value.getInt32(0, true);
      if (tag === 0x0048_021f) this.#positions[this.#positions.length - 1] = value.getInt32(0, true);
    },
  };

  readonly #perFrame: Visitor = {
    item: (tag) => {
      if (tag === 0x0028_9110) return this.#measures;
      if (tag !== 0x0048_021a) return null;
      if (this.#positions.length >= 2 * MOST_POSITIONS) {
        throw new DatasetError('limits', `places of more than ${MOST_POSITIONS} frames`);
      }
      this.#positions.push(0, 0);
      return this.#position;
    },
  };
}

function text(value: DataView): string {
  const bytes = Buffer.from(value.buffer, value.byteOffset, Math.min(value.byteLength, 1_024));
  return bytes.toString('latin1').replace(/[\0 ]+$/, '');
}

const decimals = (value: DataView): number[] =>
  text(value)
    .split('\\')
    .map((part) => (part.trim() === '' ? Number.NaN : Number(part)))
    .filter((number) => Number.isFinite(number));

function longs(value: DataView): BigUint64Array {
  return BigUint64Array.from({ length: value.byteLength >> 3 }, (_, i) => value.getBigUint64(8 * i, true));
}
