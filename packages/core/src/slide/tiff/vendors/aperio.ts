import { mpp } from '../../../units.ts';
import type { Ifd, Tiff } from '../ifd.ts';
import { pageLevel, requirePages } from '../page.ts';
import { byArea, tiledPages } from './generic.ts';
import type { Vendor } from './vendor.ts';

/**
 * Aperio SVS. The description is `title|key = value|...`. MPP holds for both axes and there is no fallback to the TIFF
 * resolution tags (OpenSlide 3.4.1, openslide-vendor-aperio.c). Every tiled page is a level.
 */
export async function openAperio(tiff: Tiff, ifds: readonly Ifd[], description: string): Promise<Vendor> {
  const pages = byArea(requirePages(tiff, await tiledPages(tiff, ifds)));
  const value = field(description, 'MPP');
  return {
    name: 'aperio',
    mpp: value === null ? null : { x: mpp(value), y: mpp(value), source: 'aperio' },
    objectivePower: field(description, 'AppMag'),
    levels: await Promise.all(pages.map((page) => pageLevel(tiff, page))),
  };
}

function field(description: string, key: string): number | null {
  const value = new RegExp(`\\|\\s*${key}\\s*=\\s*([^|]*)`).exec(description)?.[1]?.trim().replace(',', '.');
  return value === undefined || !/^[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?$/i.test(value) ? null : Number(value);
}
