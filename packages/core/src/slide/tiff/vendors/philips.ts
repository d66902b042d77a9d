import { mpp } from '../../../units.ts';
import type { MppReading } from '../../slide.ts';
import type { StoredLevel } from '../../stored-level.ts';
import { type XmlElement, xmlNumber } from '../../xml.ts';
import { type Entry, type Ifd, LIMITS, type Tiff } from '../ifd.ts';
import { type Page, pageLevel, requirePages, TAG } from '../page.ts';
import { readXml } from './description.ts';
import { tiledPages } from './generic.ts';
import type { Vendor } from './vendor.ts';

export const isPhilips = (description: string): boolean => description.includes('DPUfsImport');

/**
 * Philips TIFF (OpenSlide 3.4.1, openslide-vendor-philips.c). The XML of the first description gives the size of a pixel of each
 * level in mm. Pages below level 0 are padded to whole tiles: how much of them is picture follows from their downsample, a
 * whole number. Areas outside the regions of interest are not stored. The XML also carries the label and the macro picture as
 * text, which is never decoded.
 */
export async function openPhilips(tiff: Tiff, ifds: readonly Ifd[]): Promise<Vendor> {
  const image = await slideImage(tiff, ifds[0]!.entries.get(TAG.description)!);
  const pages = requirePages(tiff, await tiledPages(tiff, ifds));
  const spacings = objectsOf(attribute(image, 'PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE'))
    .filter(({ attributes }) => attributes.get('ObjectType') === 'PixelDataRepresentation')
    .map((level) => spacing(attribute(level, 'DICOM_PIXEL_SPACING')));
  if (spacings.length !== pages.length) {
    throw tiff.corrupt(`its XML describes ${spacings.length} levels, the file has ${pages.length}`);
  }
  const levels: StoredLevel[] = [];
  for (const [i, page] of pages.entries()) {
    if (i > 0 && !page.reduced) throw tiff.corrupt(`the page of level ${i} does not call itself reduced`);
    levels.push(await philipsLevel(tiff, page, pages[0]!, downsampleOf(tiff, spacings, i)));
  }
  return {
    name: 'philips',
    mpp: spacing(attribute(image, 'DICOM_PIXEL_SPACING')) ?? spacings[0]!,
    objectivePower: null,
    levels,
  };
}

/** The one element that describes the scan. */
async function slideImage(tiff: Tiff, entry: Entry): Promise<XmlElement> {
  const root = await readXml(tiff, entry);
  const images = objectsOf(attribute(root, 'PIM_DP_SCANNED_IMAGES')).filter(
    (object) => attribute(object, 'PIM_DP_IMAGE_TYPE')?.text === 'WSI',
  );
  if (images.length !== 1) throw tiff.corrupt(`its XML describes ${images.length} scans, not one`);
  return images[0]!;
}

function downsampleOf(tiff: Tiff, spacings: readonly (MppReading | null)[], level: number): number {
  const [base, own] = [spacings[0], spacings[level]];
  const downsample = base && own ? Math.round((own.x / base.x + own.y / base.y) / 2) : Number.NaN;
  if (downsample >= 1 && downsample <= LIMITS.side) return downsample;
  throw tiff.corrupt(`its XML gives no size of a pixel of level ${level} that fits level 0`);
}

async function philipsLevel(tiff: Tiff, page: Page, base: Page, downsample: number): Promise<StoredLevel> {
  const [width, height] = [Math.floor(base.width / downsample), Math.floor(base.height / downsample)];
  if (width < 1 || height < 1 || width > page.width || height > page.height) {
    const stored = `${page.width} x ${page.height} px`;
    throw tiff.corrupt(`a level of ${stored} cannot be 1/${downsample} of ${base.width} x ${base.height} px`);
  }
  return { ...(await pageLevel(tiff, page)), width, height, downsample };
}

const attribute = (object: XmlElement, name: string): XmlElement | undefined =>
  object.children.find((child) => child.name === 'Attribute' && child.attributes.get('Name') === name);

const objectsOf = (parent: XmlElement | undefined): XmlElement[] =>
  (parent?.children ?? [])
    .filter(({ name }) => name === 'Array')
    .flatMap(({ children }) => children.filter(({ name }) => name === 'DataObject'));

/** `"<between rows>" "<between columns>"`, mm. */
function spacing(element: XmlElement | undefined): MppReading | null {
  const [y, x, ...more] = (element?.text ?? '').split(/\s+/).map((part) => xmlNumber(part.replaceAll('"', '')));
  if (!x || !y || more.length > 0) return null;
  return { x: mpp(1e3 * x), y: mpp(1e3 * y), source: 'vendor' };
}
