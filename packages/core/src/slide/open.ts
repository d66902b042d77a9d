import { NightshiftError } from '../errors.ts';
import { cached } from '../source/ranges.ts';
import type { ByteSource } from '../source/source.ts';
import { openDicom } from './dicom/slide.ts';
import { openMirax } from './mirax/slide.ts';
import { openPicture } from './picture.ts';
import type { Slide } from './slide.ts';
import { openTiff } from './tiff/slide.ts';

/**
 * Opens a whole-slide image: reads its structure, no pixels. The slide owns the source, which is closed where opening
 * fails. Errors: `slide-not-a-slide`, `slide-truncated`, `slide-corrupt`, `slide-limits`, `slide-unsupported`, and those
 * of the source.
 */
export async function openSlide(source: ByteSource): Promise<Slide> {
  try {
    return await open(source, cached(source));
  } catch (error) {
    await source.close();
    throw error;
  }
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
  const what =
    source.size === 0 ? 'is empty' : (OTHERS.find(([start]) => text.startsWith(start))?.[1] ?? 'is no slide');
  throw new NightshiftError('slide-not-a-slide', `${source.uri} ${what}`);
}

const OTHERS: readonly (readonly [string, string])[] = [
  ['%PDF', 'is a PDF document'],
  ['PK\x03\x04', 'is a zip archive'],
  ['\x1f\x8b', 'is gzip data'],
];
