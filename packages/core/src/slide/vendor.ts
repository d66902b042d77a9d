import { NightshiftError } from '../errors.ts';
import { mpp } from '../units.ts';
import type { MppReading } from './slide.ts';
import type { Ifd, Tiff } from './tiff/ifd.ts';
import { integer, type Page, TAG } from './tiff/page.ts';

/** What a kind of TIFF says in its own way. */
export interface Vendor {
  readonly name: string;
  /** The pages that are levels, finest first. */
  levels(pages: readonly Page[]): Page[];
  mpp(tiff: Tiff, ifd: Ifd): Promise<MppReading | null>;
  objectivePower(): number | null;
}

/** Formats whose tiles overlap, are padded or lie in several pictures: read as plain TIFF they would give wrong pixels. */
const REFUSED: readonly { name: string; is: (text: string, ifd: Ifd) => boolean }[] = [
  { name: 'Hamamatsu NDPI', is: (_, ifd) => ifd.entries.has(TAG.hamamatsu) },
  { name: 'Leica SCN', is: (text) => text.includes('<scn') },
  { name: 'Ventana BIF', is: (text) => text.includes('<iScan') || /level=\d+ mag=/.test(text) },
  { name: 'Philips TIFF', is: (text) => text.includes('DPUfsImport') },
  { name: 'Trestle', is: (text) => text.includes('MedScan') },
];

/** Who wrote the file, from the first IFD, or `slide-unsupported` where the format is known but cannot be read. */
export async function recogniseVendor(tiff: Tiff, first: Ifd): Promise<Vendor> {
  const description = await tiff.text(first.entries.get(TAG.description));
  if (description.startsWith('Aperio') && first.entries.has(TAG.tileWidth)) return aperio(description);
  const other = await Promise.all([TAG.xmp, TAG.software].map((tag) => tiff.text(first.entries.get(tag))));
  const text = [description, ...other].join('\n');
  const refused = REFUSED.find(({ is }) => is(text, first));
  if (refused !== undefined) {
    throw new NightshiftError('slide-unsupported', `${tiff.uri} is ${refused.name}, which cannot be read yet`);
  }
  return generic;
}

/**
 * Aperio SVS. The description is `title|key = value|...`. MPP holds for both axes and there is no fallback to the TIFF
 * resolution tags (OpenSlide 3.4.1, openslide-vendor-aperio.c). Every tiled page is a level.
 */
function aperio(description: string): Vendor {
  const field = (key: string): number | null => {
    const value = new RegExp(`\\|\\s*${key}\\s*=\\s*([^|]*)`).exec(description)?.[1]?.trim().replace(',', '.');
    return value === undefined || !/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(value) ? null : Number(value);
  };
  const value = field('MPP');
  return {
    name: 'aperio',
    levels: byArea,
    mpp: async () => (value === null ? null : { x: mpp(value), y: mpp(value), source: 'aperio' }),
    objectivePower: () => field('AppMag'),
  };
}

/**
 * Tiled TIFF of no known vendor. Level 0 is the largest page that does not call itself reduced; smaller pages of the same
 * aspect are its levels, of two equally large ones the first.
 */
const generic: Vendor = {
  name: 'generic-tiff',
  levels(pages) {
    const full = pages.filter((page) => !page.reduced);
    const base = byArea(full.length > 0 ? full : pages)[0];
    if (base === undefined) return [];
    const levels = [base];
    for (const page of byArea(pages)) {
      const last = levels.at(-1)!;
      // Writers round the size of each level from the one before: two pixels or 1 % of slack.
      const height = (page.width * base.height) / base.width;
      const sameAspect = Math.abs(page.height - height) <= Math.max(2, page.height / 100);
      if (sameAspect && page.width < last.width && page.height < last.height) levels.push(page);
    }
    return levels;
  },
  mpp: resolutionMpp,
  objectivePower: () => null,
};

function byArea(pages: readonly Page[]): Page[] {
  return pages.toSorted((a, b) => b.width * b.height - a.width * a.height);
}

/** Micrometres per pixel from XResolution, YResolution and ResolutionUnit; no unit tag means inch (TIFF 6.0). */
async function resolutionMpp(tiff: Tiff, ifd: Ifd): Promise<MppReading | null> {
  const [x, y] = [ifd.entries.get(TAG.xResolution), ifd.entries.get(TAG.yResolution)];
  const micrometres = { 2: 25_400, 3: 10_000 }[await integer(tiff, ifd, TAG.resolutionUnit, 2)];
  if (x === undefined || y === undefined || micrometres === undefined) return null;
  const [perX, perY] = [await tiff.rational(x), await tiff.rational(y)];
  if (!(perX > 0) || !(perY > 0)) return null;
  return { x: mpp(micrometres / perX), y: mpp(micrometres / perY), source: 'tiff-resolution' };
}
