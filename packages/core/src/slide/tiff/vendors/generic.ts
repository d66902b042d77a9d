import { mpp } from '../../../units.ts';
import type { MppReading } from '../../slide.ts';
import { sameAspect } from '../../stored-level.ts';
import type { Ifd, Tiff } from '../ifd.ts';
import { integer, type Page, pageLevel, readPage, requirePages, TAG } from '../page.ts';
import type { Vendor } from './vendor.ts';

/** Tiled TIFF of no known vendor. */
export async function openGeneric(tiff: Tiff, ifds: readonly Ifd[]): Promise<Vendor> {
  const pages = await pyramid(tiff, ifds);
  return {
    name: 'generic-tiff',
    mpp: await resolutionMpp(tiff, pages[0]!.ifd),
    objectivePower: null,
    levels: await Promise.all(pages.map((page) => pageLevel(tiff, page))),
  };
}

/**
 * The pages of a pyramid, finest first. Level 0 is the largest page that does not call itself reduced; smaller pages of the same
 * aspect are its levels, of two equally large ones the first. Where level 0 has children (tag 330), they alone are looked at.
 */
export async function pyramid(tiff: Tiff, ifds: readonly Ifd[]): Promise<[Page, ...Page[]]> {
  const pages = requirePages(tiff, await tiledPages(tiff, ifds));
  const full = pages.filter((page) => !page.reduced);
  const base = byArea(full.length > 0 ? full : pages)[0]!;
  const children = await tiledPages(tiff, await tiff.subIfds(base.ifd));
  const levels: [Page, ...Page[]] = [base];
  for (const page of byArea(children.length > 0 ? children : pages)) {
    const last = levels.at(-1)!;
    if (sameAspect(page, base) && page.width < last.width && page.height < last.height) levels.push(page);
  }
  return levels;
}

export async function tiledPages(tiff: Tiff, ifds: readonly Ifd[]): Promise<Page[]> {
  const pages: Page[] = [];
  for (const ifd of ifds) {
    const page = await readPage(tiff, ifd);
    if (page !== null) pages.push(page);
  }
  return pages;
}

export function byArea(pages: readonly Page[]): Page[] {
  return pages.toSorted((a, b) => b.width * b.height - a.width * a.height);
}

/** Micrometres per pixel from XResolution, YResolution and ResolutionUnit; no unit tag means inch (TIFF 6.0). */
export async function resolutionMpp(tiff: Tiff, ifd: Ifd): Promise<MppReading | null> {
  const [x, y] = [ifd.entries.get(TAG.xResolution), ifd.entries.get(TAG.yResolution)];
  const micrometres = { 2: 25_400, 3: 10_000 }[await integer(tiff, ifd, TAG.resolutionUnit, 2)];
  if (x === undefined || y === undefined || micrometres === undefined) return null;
  const [perX, perY] = [await tiff.rational(x), await tiff.rational(y)];
  if (!(perX > 0) || !(perY > 0)) return null;
  return { x: mpp(micrometres / perX), y: mpp(micrometres / perY), source: 'tiff-resolution' };
}
