import { NightshiftError } from '../../../errors.ts';
import type { Ifd, Tiff } from '../ifd.ts';
import { TAG } from '../page.ts';
import { openAperio } from './aperio.ts';
import { openGeneric } from './generic.ts';
import { openHamamatsu } from './hamamatsu.ts';
import { isLeica, openLeica } from './leica.ts';
import { openOme } from './ome.ts';
import { isPhilips, openPhilips } from './philips.ts';
import { isTrestle, openTrestle } from './trestle.ts';
import type { Vendor } from './vendor.ts';
import { openVentana } from './ventana.ts';

/** Opens a TIFF by who wrote it, told by its first IFD; `slide-unsupported` where the format is known but cannot be read. */
export async function openByVendor(tiff: Tiff, ifds: readonly Ifd[]): Promise<Vendor> {
  if (tiff.ndpi) return openHamamatsu(tiff, ifds);
  const first = ifds[0]!;
  const description = await tiff.text(first.entries.get(TAG.description));
  if (description.startsWith('Aperio') && first.entries.has(TAG.tileWidth)) return openAperio(tiff, ifds, description);
  if (/<(\w+:)?OME[\s>]/.test(description)) return openOme(tiff, ifds, description);
  if (isLeica(description)) return openLeica(tiff, ifds);
  if (isPhilips(description)) return openPhilips(tiff, ifds);
  if (isTrestle(await tiff.text(first.entries.get(TAG.software)))) return openTrestle(tiff, ifds, description);
  const xmp = first.entries.get(TAG.xmp);
  if (xmp !== undefined && /<iScan[\s/>]/.test(await tiff.text(xmp))) return openVentana(tiff, ifds, xmp);
  // Its tiles may overlap: read as plain TIFF it could give wrong pixels.
  if (/^level=\d+ mag=/.test(description)) {
    throw new NightshiftError('slide-unsupported', `${tiff.uri} is of a Ventana scanner, but has no iScan element`);
  }
  return openGeneric(tiff, ifds);
}
