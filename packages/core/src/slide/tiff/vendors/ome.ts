import { mpp } from '../../../units.ts';
import type { MppReading } from '../../slide.ts';
import { findAll, parseXml, type XmlElement, xmlNumber } from '../../xml.ts';
import type { Ifd, Tiff } from '../ifd.ts';
import { type Page, pageLevel } from '../page.ts';
import { pyramid, resolutionMpp } from './generic.ts';
import type { Vendor } from './vendor.ts';

/** Micrometres of a unit of length of the OME schema (2016-06). `pixel` and `reference frame` are none. */
const MICROMETRES: Readonly<Record<string, number>> = {
  pm: 1e-6,
  Å: 1e-4,
  nm: 1e-3,
  µm: 1,
  // The Greek letter instead of the micro sign.
  μm: 1,
  mm: 1e3,
  cm: 1e4,
  dm: 1e5,
  m: 1e6,
  in: 25_400,
};

/**
 * OME-TIFF: a plain pyramid, whose levels may be children of its first page. The size of a pixel is that of the image of the
 * same size in the XML of the first description; where it gives none, that of the resolution tags.
 */
export async function openOme(tiff: Tiff, ifds: readonly Ifd[], description: string): Promise<Vendor> {
  const pages = await pyramid(tiff, ifds);
  const ome = parseXml(Buffer.from(description, 'latin1').toString('utf8'));
  return {
    name: 'ome',
    mpp: (ome && physicalSize(ome, pages[0])) ?? (await resolutionMpp(tiff, pages[0].ifd)),
    objectivePower: ome && nominalMagnification(ome),
    levels: await Promise.all(pages.map((page) => pageLevel(tiff, page))),
  };
}

function physicalSize(ome: XmlElement, { width, height }: Page): MppReading | null {
  const pixels = findAll(ome, 'Pixels').find(
    ({ attributes }) => Number(attributes.get('SizeX')) === width && Number(attributes.get('SizeY')) === height,
  );
  const along = (axis: 'X' | 'Y'): number | null => {
    const value = xmlNumber(pixels?.attributes.get(`PhysicalSize${axis}`));
    const unit = MICROMETRES[pixels?.attributes.get(`PhysicalSize${axis}Unit`) ?? 'µm'];
    return value === null || unit === undefined ? null : value * unit;
  };
  const [x, y] = [along('X'), along('Y')];
  return x === null || y === null ? null : { x: mpp(x), y: mpp(y), source: 'ome' };
}

/** Where there is one objective only: which image belongs to which is not looked at. */
function nominalMagnification(ome: XmlElement): number | null {
  const [only, ...others] = findAll(ome, 'Objective');
  return others.length > 0 ? null : xmlNumber(only?.attributes.get('NominalMagnification'));
}
