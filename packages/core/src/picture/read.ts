import { readFile } from 'node:fs/promises';
import sharp from 'sharp';
import { NightshiftError } from '../errors.ts';
import type { Rgb } from '../slide/resample.ts';

/** Larger pictures are slides, not queries. */
const MOST_PIXELS = 64_000_000;

/**
 * A JPEG, PNG or WebP picture as it is seen: turned by its EXIF tag, transparency on white.
 * @throws `source-not-found`, `picture-unreadable`
 */
export async function readPicture(path: string): Promise<Rgb> {
  const file = await readFile(path).catch((cause: NodeJS.ErrnoException) => {
    throw new NightshiftError('source-not-found', `cannot read ${path}: ${cause.code}`, { cause });
  });
  try {
    const image = sharp(file, { limitInputPixels: MOST_PIXELS });
    const { format } = await image.metadata();
    if (format !== 'jpeg' && format !== 'png' && format !== 'webp') throw new Error(`format ${format}`);
    const { data, info } = await image
      .autoOrient()
      .flatten({ background: '#fff' })
      .toColourspace('srgb')
      .raw()
      .toBuffer({ resolveWithObject: true });
    return { data, width: info.width, height: info.height };
  } catch (cause) {
    throw new NightshiftError(
      'picture-unreadable',
      `${path} is no picture that can be read: ${(cause as Error).message}`,
      { cause },
    );
  }
}
