import { NightshiftError } from '../../errors.ts';
import { LIMITS } from '../tiff/ifd.ts';
import { xmlNumber } from '../xml.ts';
import { type Ini, parseIni } from './ini.ts';

/** One zoom level. */
export interface MiraxLevel {
  /** Pictures of level 0's finest grid that are joined in one picture of this level, along a side: a power of two. */
  readonly concat: number;
  readonly format: 'JPEG' | 'PNG' | 'BMP24';
  /** Size of a stored picture. */
  readonly imageWidth: number;
  readonly imageHeight: number;
  readonly mppX: number;
  readonly mppY: number;
}

/** What Slidedat.ini says, checked. */
export interface Slidedat {
  readonly slideId: string;
  /** Pictures of the finest grid. */
  readonly imagesAcross: number;
  readonly imagesDown: number;
  /** Pictures that one photo of the camera is cut into, along a side. */
  readonly divisions: number;
  /** What two photos share, px. */
  readonly overlapX: number;
  readonly overlapY: number;
  readonly objectivePower: number;
  readonly indexFile: string;
  readonly dataFiles: readonly string[];
  readonly levels: readonly MiraxLevel[];
  /** Which record holds the positions of the photos, and whether it is deflated; null: they lie on a grid. */
  readonly positions: { readonly record: number; readonly deflated: boolean } | null;
}

const MOST_IMAGES = 4_000_000;
const MOST_FILES = 1_000;
const MOST_LEVELS = 30;
const MOST_RECORDS = 10_000;

/** Reads Slidedat.ini (OpenSlide 3.4.1, openslide-vendor-mirax.c). `slide-corrupt`, `slide-limits` or `slide-unsupported`. */
export function readSlidedat(uri: string, text: string): Slidedat {
  const read = new Reader(uri, parseIni(text));
  const [across, down] = [read.positive('GENERAL', 'IMAGENUMBER_X'), read.positive('GENERAL', 'IMAGENUMBER_Y')];
  if (across * down > MOST_IMAGES) throw read.limit(`${across} x ${down} pictures`);
  const count = read.positive('HIERARCHICAL', 'HIER_0_COUNT');
  if (count > MOST_LEVELS) throw read.limit(`${count} levels`);
  if (read.text('HIERARCHICAL', 'HIER_0_NAME') !== 'Slide zoom level') {
    throw read.unsupported('its first hierarchy is not that of the zoom levels');
  }
  const files = read.positive('DATAFILE', 'FILE_COUNT');
  if (files > MOST_FILES) throw read.limit(`${files} data files`);
  const sections = numbers(count).map((i) => read.text('HIERARCHICAL', `HIER_0_VAL_${i}_SECTION`));
  let exponent = 0;
  const levels = sections.map((section, i): MiraxLevel => {
    const step = read.whole(section, 'IMAGE_CONCAT_FACTOR');
    exponent += step;
    if (step < (i === 0 ? 0 : 1) || exponent > MOST_LEVELS)
      throw read.corrupt(`level ${i} joins 2^${exponent} pictures`);
    const imageWidth = read.positive(section, 'DIGITIZER_WIDTH');
    const imageHeight = read.positive(section, 'DIGITIZER_HEIGHT');
    if (imageWidth * imageHeight > LIMITS.blockPixels)
      throw read.limit(`pictures of ${imageWidth} x ${imageHeight} px`);
    const format = read.text(section, 'IMAGE_FORMAT');
    if (format !== 'JPEG' && format !== 'PNG' && format !== 'BMP24') {
      throw read.unsupported(`the pictures of level ${i} are ${format}; only JPEG, PNG and BMP24 can be read`);
    }
    const mpp = (axis: 'X' | 'Y') => read.number(section, `MICROMETER_PER_PIXEL_${axis}`);
    return { concat: 2 ** exponent, format, imageWidth, imageHeight, mppX: mpp('X'), mppY: mpp('Y') };
  });
  return {
    slideId: read.text('GENERAL', 'SLIDE_ID'),
    imagesAcross: across,
    imagesDown: down,
    divisions: read.has('GENERAL', 'CameraImageDivisionsPerSide')
      ? read.positive('GENERAL', 'CameraImageDivisionsPerSide')
      : 1,
    overlapX: read.number(sections[0]!, 'OVERLAP_X'),
    overlapY: read.number(sections[0]!, 'OVERLAP_Y'),
    objectivePower: read.number('GENERAL', 'OBJECTIVE_MAGNIFICATION'),
    indexFile: read.text('HIERARCHICAL', 'INDEXFILE'),
    dataFiles: numbers(files).map((i) => read.text('DATAFILE', `FILE_${i}`)),
    levels,
    positions: positionRecord(read),
  };
}

/** Records are counted through all names. */
function positionRecord(read: Reader): Slidedat['positions'] {
  const first = new Map<string, number>();
  const names = read.whole('HIERARCHICAL', 'NONHIER_COUNT');
  if (names > MOST_RECORDS) throw read.limit(`${names} kinds of records`);
  let record = 0;
  for (let i = 0; i < names; i++) {
    first.set(read.text('HIERARCHICAL', `NONHIER_${i}_NAME`), record);
    record += read.whole('HIERARCHICAL', `NONHIER_${i}_COUNT`);
  }
  const plain = first.get('VIMSLIDE_POSITION_BUFFER');
  if (plain !== undefined) return { record: plain, deflated: false };
  const deflated = first.get('StitchingIntensityLayer');
  return deflated === undefined ? null : { record: deflated, deflated: true };
}

const numbers = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

class Reader {
  readonly #uri: string;
  readonly #ini: Ini;

  constructor(uri: string, ini: Ini) {
    this.#uri = uri;
    this.#ini = ini;
  }

  has(section: string, key: string): boolean {
    return this.#ini.get(section)?.has(key) ?? false;
  }

  text(section: string, key: string): string {
    const value = this.#ini.get(section)?.get(key);
    if (value === undefined) throw this.corrupt(`its Slidedat.ini has no ${key} in [${section}]`);
    return value;
  }

  number(section: string, key: string): number {
    const value = xmlNumber(this.text(section, key));
    if (value === null || !Number.isFinite(value)) throw this.corrupt(`${key} of its Slidedat.ini is no number`);
    return value;
  }

  /** Not negative. */
  whole(section: string, key: string): number {
    const value = this.number(section, key);
    if (!Number.isSafeInteger(value) || value < 0) throw this.corrupt(`${key} of its Slidedat.ini is ${value}`);
    return value;
  }

  positive(section: string, key: string): number {
    const value = this.whole(section, key);
    if (value === 0) throw this.corrupt(`${key} of its Slidedat.ini is 0`);
    return value;
  }

  corrupt(what: string): NightshiftError {
    return new NightshiftError('slide-corrupt', `${this.#uri} is damaged: ${what}`);
  }

  limit(what: string): NightshiftError {
    return new NightshiftError('slide-limits', `${this.#uri} exceeds a safety limit: ${what}`);
  }

  unsupported(what: string): NightshiftError {
    return new NightshiftError('slide-unsupported', `${this.#uri}: ${what}`);
  }
}
