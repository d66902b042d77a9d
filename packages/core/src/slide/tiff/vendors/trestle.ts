import { mpp } from '../../../units.ts';
import { placedLayout } from '../../layout.ts';
import type { MppReading } from '../../slide.ts';
import type { StoredLevel } from '../../stored-level.ts';
import { xmlNumber } from '../../xml.ts';
import type { Ifd, Tiff } from '../ifd.ts';
import { type Page, pageLevel, readBlockIndex, requirePages, TAG, tilePart, tilesOf } from '../page.ts';
import { tiledPages } from './generic.ts';
import type { Vendor } from './vendor.ts';

export const isTrestle = (software: string): boolean => software.startsWith('MedScan');

/**
 * Trestle (OpenSlide 3.4.1, openslide-vendor-trestle.c): the description is `key=value;...`. `OverlapsXY` states by how many pixels the
 * tiles of each page overlap. The resolution tags hold um/px as they are, whatever their unit.
 */
export async function openTrestle(tiff: Tiff, ifds: readonly Ifd[], description: string): Promise<Vendor> {
  const pages = requirePages(tiff, await tiledPages(tiff, ifds));
  const fields = description.split(';').map((field) => field.trim());
  const overlaps = (fields.find((field) => field.startsWith('OverlapsXY=')) ?? '').split(/\s+/).slice(1).map(xmlNumber);
  const power = fields.find((field) => field.startsWith('Objective Power='))?.slice('Objective Power='.length);
  const levels: StoredLevel[] = [];
  for (const [i, page] of pages.entries()) {
    const [x = 0, y = 0] = overlaps.slice(2 * i, 2 * i + 2);
    levels.push(await overlapping(tiff, page, x, y));
    const [before, last] = levels.slice(-2);
    if (last !== undefined && last.width * last.height > before!.width * before!.height) {
      throw tiff.corrupt('its levels are not in order');
    }
  }
  return { name: 'trestle', mpp: await micrometres(tiff, ifds[0]!), objectivePower: xmlNumber(power), levels };
}

async function overlapping(tiff: Tiff, page: Page, x: number | null, y: number | null): Promise<StoredLevel> {
  const level = await pageLevel(tiff, page);
  if (x === 0 && y === 0) return level;
  const { tileWidth, tileHeight, columns, rows } = page;
  const fits = (overlap: number | null, side: number) => overlap !== null && overlap >= 0 && overlap < side;
  if (!fits(x, tileWidth) || !fits(y, tileHeight) || !Number.isInteger(x) || !Number.isInteger(y)) {
    throw tiff.corrupt(`tiles of ${tileWidth} x ${tileHeight} px that overlap by ${x} x ${y}`);
  }
  const size = { width: page.width - (columns - 1) * x!, height: page.height - (rows - 1) * y! };
  if (size.width < 1 || size.height < 1) throw tiff.corrupt('tiles that overlap by more than there is of them');
  return {
    ...level,
    ...size,
    numbered: { columns, rows },
    async readIndex(signal) {
      const pieces = tilesOf(page, (column, row) => ({ x: column * (tileWidth - x!), y: row * (tileHeight - y!) }));
      return {
        ...(await readBlockIndex(tiff, page, signal)),
        layout: placedLayout(tiff.uri, size, pieces, (block) => tilePart(page, block)),
      };
    },
  };
}

async function micrometres(tiff: Tiff, ifd: Ifd): Promise<MppReading | null> {
  const [x, y] = [ifd.entries.get(TAG.xResolution), ifd.entries.get(TAG.yResolution)];
  if (x === undefined || y === undefined) return null;
  const [perX, perY] = [await tiff.rational(x), await tiff.rational(y)];
  return perX > 0 && perY > 0 ? { x: mpp(perX), y: mpp(perY), source: 'vendor' } : null;
}
