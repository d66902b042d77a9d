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

/** Formats whose tiles overlap, are padded or lie in several pictures: read as plain TIFF they would give wrong pixels. */
const REFUSED: readonly { name: string; is: (text: string) => boolean }[] = [
  { name: 'Ventana BIF', is: (text) => text.includes('<iScan') || /level=\d+ mag=/.test(text) },
];

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
  const text = [description, await tiff.text(first.entries.get(TAG.xmp))].join('\n');
  const refused = REFUSED.find(({ is }) => is(text));
  if (refused !== undefined) {
    throw new NightshiftError('slide-unsupported', `${tiff.uri} is ${refused.name}, which cannot be read yet`);
  }
  return openGeneric(tiff, ifds);
}
