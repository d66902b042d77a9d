import type { ByteSource } from '../../source/source.ts';
import type { Slide } from '../slide.ts';
import { assembleSlide } from '../stored-level.ts';
import { Tiff } from './ifd.ts';
import { openByVendor } from './vendors/recognise.ts';

/** A TIFF or BigTIFF file as a slide; null where the file is no TIFF. `headers` is the same source, cached. */
export async function openTiff(source: ByteSource, headers: ByteSource): Promise<Slide | null> {
  const opened = await Tiff.open(headers);
  if (opened === null) return null;
  const { tiff, ifds } = opened;
  const { name, mpp, objectivePower, levels } = await openByVendor(tiff, ifds);
  const format = tiff.bigTiff ? 'bigtiff' : 'tiff';
  return assembleSlide({ source, format, vendor: name, mpp, objectivePower }, levels);
}
