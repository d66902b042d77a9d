import { isNightshiftError, NightshiftError } from '../errors.ts';
import { cached } from '../source/ranges.ts';
import type { ByteSource } from '../source/source.ts';
import { openDicom } from './dicom/slide.ts';
import { openMirax } from './mirax/slide.ts';
import { openPicture } from './picture.ts';
import type { Slide } from './slide.ts';
import { openTiff } from './tiff/slide.ts';

/**
 * Opens a whole-slide image: reads its structure, no pixels. What cannot be read here goes to OpenSlide where the machine has it
 * (NIGHTSHIFT_OPENSLIDE). The slide owns the source, which is closed where opening fails. Errors: `slide-not-a-slide`,
 * `slide-truncated`, `slide-corrupt`, `slide-limits`, `slide-unsupported`, and those of the source.
 */
export async function openSlide(source: ByteSource): Promise<Slide> {
  try {
    return await open(source, cached(source)).catch((error: unknown) => {
      // Of several files OpenSlide takes the one that names the others; a folder of DICOM files has none.
      const hasPath = source.parts === undefined || /\.mrxs$/i.test(source.uri);
      if (isNightshiftError(error, 'slide-unsupported') && hasPath) return fallBack(source, error);
      throw error;
    });
  } catch (error) {
    await source.close();
    throw error;
  }
}

/** The slide by OpenSlide; else what was in the way here, with what is in the way there. */
async function fallBack(source: ByteSource, refused: NightshiftError): Promise<Slide> {
  const [{ findOpenSlide }, { openByOpenSlide }] = await Promise.all([
    import('./openslide/process.ts'),
    import('./openslide/slide.ts'),
  ]);
  const found = await findOpenSlide();
  const slide = found.state === 'good' ? await openByOpenSlide(source, found.library) : null;
  if (slide !== null) return slide;
  const { message, data } = refused;
  if (found.state === 'good') {
    throw new NightshiftError('slide-unsupported', `${message}; OpenSlide ${found.version} does not know it`, {
      data,
      next: refused.next,
    });
  }
  const next =
    found.state === 'too-old'
      ? `${refused.next} Or update OpenSlide, which may read it: ${found.why}.`
      : `${refused.next} Or install OpenSlide 4.0.1 or later, which may read it; NIGHTSHIFT_OPENSLIDE names a library that is not found.`;
  throw new NightshiftError('slide-unsupported', message, { data, next });
}

async function open(source: ByteSource, headers: ByteSource): Promise<Slide> {
  const mirax = await openMirax(source);
  if (mirax !== null) return mirax;
  const dicom = await openDicom(source, headers);
  if (dicom !== null) return dicom;
  if (source.parts !== undefined)
    throw new NightshiftError('slide-not-a-slide', `${source.uri} is a folder of no slide`);
  const tiff = await openTiff(source, headers);
  if (tiff !== null) return tiff;
  const picture = await openPicture(source, headers);
  if (picture !== null) return picture;
  const [head] = await headers.read([{ offset: 0, length: Math.min(source.size, 132) }]);
  const text = Buffer.from(head!).toString('latin1');
  const foreign = FOREIGN.find(([start]) => text.startsWith(start))?.[1];
  if (foreign !== undefined) {
    throw new NightshiftError(
      'slide-unsupported',
      `${source.uri} is ${foreign}, which nightshift does not read itself`,
    );
  }
  const what =
    source.size === 0 ? 'is empty' : (OTHERS.find(([start]) => text.startsWith(start))?.[1] ?? 'is no slide');
  throw new NightshiftError('slide-not-a-slide', `${source.uri} ${what}`);
}

/** What OpenSlide may read, by its beginning or by its name. */
const FOREIGN: readonly (readonly [string, string])[] = [
  ['ZISRAWFILE', 'a Zeiss CZI file'],
  ['[Virtual Microscope Specimen]', 'a Hamamatsu VMS slide'],
  ['[Uncompressed Virtual Microscope Specimen]', 'a Hamamatsu VMU slide'],
  ['SQLite format 3', 'an SQLite file, as Sakura slides are'],
];
const OTHERS: readonly (readonly [string, string])[] = [
  ['%PDF', 'is a PDF document'],
  ['PK\x03\x04', 'is a zip archive'],
  ['\x1f\x8b', 'is gzip data'],
];
