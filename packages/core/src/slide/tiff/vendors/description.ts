import { parseXml, type XmlElement } from '../../xml.ts';
import { type Entry, LIMITS, type Tiff } from '../ifd.ts';

/** The XML of a text tag, read whole: some carry pictures and are megabytes long. `slide-limits` or `slide-corrupt` without one. */
export async function readXml(tiff: Tiff, entry: Entry, mostTags?: number): Promise<XmlElement> {
  if (entry.count > LIMITS.tagBytes / 2) throw tiff.limit(`an XML text of ${entry.count} bytes`);
  const root = parseXml(await tiff.text(entry, entry.count), mostTags);
  if (root === null) throw tiff.corrupt('its XML text holds no element, or too many');
  return root;
}
