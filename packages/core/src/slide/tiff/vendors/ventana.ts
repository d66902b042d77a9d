import { NightshiftError } from '../../../errors.ts';
import { mpp } from '../../../units.ts';
import { between, type Piece, placedLayout, shiftOf } from '../../layout.ts';
import type { StoredLevel } from '../../stored-level.ts';
import { findAll, xmlNumber } from '../../xml.ts';
import { type Entry, type Ifd, LIMITS, type Tiff } from '../ifd.ts';
import { type Page, pageLevel, readBlockIndex, readPage, TAG, tilePart } from '../page.ts';
import { readXml } from './description.ts';
import type { Vendor } from './vendor.ts';
import { readStitching, type Stitching } from './ventana-stitching.ts';

/**
 * Ventana BIF, and Ventana TIFF without stitching (OpenSlide 3.4.1, openslide-vendor-ventana.c). Pages whose description has
 * `level=<n> mag=<m>` are levels; the label and the thumbnail are left out. The tiles of level 0 overlap, by the mean of what its XML
 * says of each pair. Coarser levels are made of whole tiles all the same: each of their tiles is cut into what its
 * level-0 tiles have become.
 */
export async function openVentana(tiff: Tiff, ifds: readonly Ifd[], xmp: Entry): Promise<Vendor> {
  const [scan] = findAll(await readXml(tiff, xmp), 'iScan');
  if (scan === undefined) throw tiff.corrupt('its XML has no iScan element');
  const found: { ifd: Ifd; page: Page; downsample: number }[] = [];
  let [first, last] = [0, Number.POSITIVE_INFINITY];
  for (const ifd of ifds) {
    const fields = /(?:^|\s)level=(\d{1,4})\s+mag=(\S{1,30})/.exec(await tiff.text(ifd.entries.get(TAG.description)));
    if (fields === null) continue;
    const magnification = xmlNumber(fields[2]) ?? 0;
    if (Number(fields[1]) !== found.length || !(magnification > 0 && magnification < last)) {
      throw tiff.corrupt(
        `level ${fields[1]} at ${magnification} x comes behind level ${found.length - 1} at ${last} x`,
      );
    }
    if (found.length === 0) first = magnification;
    last = magnification;
    const page = await readPage(tiff, ifd);
    if (page === null) throw tiff.corrupt(`level ${fields[1]} has no tiles`);
    found.push({ ifd, page, downsample: first / magnification });
  }
  const [base] = found;
  if (base === undefined) throw new NightshiftError('slide-unsupported', `${tiff.uri}: it has no level`);
  const stitched = base.ifd.entries.get(TAG.xmp);
  const stitching = stitched && readStitching(tiff, await readXml(tiff, stitched, 100_000), base.page);
  const levels: StoredLevel[] = [];
  for (const { page, downsample } of found) {
    if (page.tileWidth !== base.page.tileWidth || page.tileHeight !== base.page.tileHeight) {
      throw new NightshiftError('slide-unsupported', `${tiff.uri}: its levels have tiles of different sizes`);
    }
    const level = { ...(await pageLevel(tiff, page)), downsample };
    levels.push(stitching ? stitchedLevel(tiff, level, page, downsample, stitching) : level);
  }
  const micrometres = xmlNumber(scan.attributes.get('ScanRes'));
  return {
    name: 'ventana',
    mpp: micrometres === null ? null : { x: mpp(micrometres), y: mpp(micrometres), source: 'vendor' },
    objectivePower: xmlNumber(scan.attributes.get('Magnification')),
    levels,
  };
}

function stitchedLevel(
  tiff: Tiff,
  level: StoredLevel,
  page: Page,
  downsample: number,
  { areas, advanceX, advanceY }: Stitching,
): StoredLevel {
  // So many level-0 tiles lie in a tile of this level, along a side.
  if (!Number.isInteger(downsample)) {
    throw new NightshiftError('slide-unsupported', `${tiff.uri}: a level is 1/${downsample} of level 0`);
  }
  const { tileWidth, tileHeight, columns, rows } = page;
  const [partWidth, partHeight] = [tileWidth / downsample, tileHeight / downsample];
  const end = (at: number, count: number, advance: number, side: number) =>
    Math.ceil((at + (count - 1) * advance + side) / downsample);
  const width = Math.max(...areas.map(({ x, across }) => end(x, across, advanceX, tileWidth)));
  const height = Math.max(...areas.map(({ y, down }) => end(y, down, advanceY, tileHeight)));
  if (!(width >= 1 && height >= 1)) throw tiff.corrupt(`its areas make a level of ${width} x ${height} px`);
  if (width > LIMITS.side || height > LIMITS.side) throw tiff.limit(`a level of ${width} x ${height} px`);

  /** By their place in the grid of level 0: of two in one place the later counts, as in OpenSlide. */
  function pieces(): Iterable<Piece> {
    const byPlace = new Map<number, Piece>();
    for (const { x, y, firstColumn, firstRow, across, down } of areas) {
      for (let row = 0; row < down; row++) {
        for (let column = 0; column < across; column++) {
          const [ownColumn, ownRow] = [firstColumn + column, firstRow + row];
          const [tileColumn, tileRow] = [Math.floor(ownColumn / downsample), Math.floor(ownRow / downsample)];
          if (tileColumn >= columns || tileRow >= rows) {
            throw tiff.corrupt(`an area reaches to tile (${ownColumn}, ${ownRow}) of ${columns} x ${rows}`);
          }
          const block = tileRow * columns + tileColumn;
          const used = tilePart(page, block);
          const left = part(ownColumn % downsample, partWidth, used.width, (x + column * advanceX) / downsample);
          const top = part(ownRow % downsample, partHeight, used.height, (y + row * advanceY) / downsample);
          const corner = { left: left.from, top: top.from };
          const size = { width: left.length, height: top.length };
          const at = { x: left.at, y: top.at, ...shiftOf(left, top) };
          byPlace.set(ownRow * 2 ** 26 + ownColumn, { block, ...corner, ...size, ...at });
        }
      }
    }
    // The lower right is drawn last.
    const order = [...byPlace.keys()].sort((a, b) => a - b);
    return order.values().map((place) => byPlace.get(place)!);
  }

  return {
    ...level,
    width,
    height,
    numbered: { columns, rows },
    async readIndex(signal) {
      const index = await readBlockIndex(tiff, page, signal);
      return {
        ...index,
        layout: placedLayout(tiff.uri, { width, height }, pieces(), (block) => tilePart(page, block)),
      };
    },
  };
}

/** The part of a tile that one level-0 tile has become, along a side, and where it begins. One of no whole pixels is put at some, so that neighbours leave no gap. */
function part(number: number, length: number, used: number, position: number) {
  const start = number * length;
  const from = Math.floor(start);
  const place = Number.isInteger(length) ? between(position) : { at: Math.floor(position - (start - from)), shift: 0 };
  return { from, length: Math.min(used, Math.ceil(start + length)) - from, ...place };
}
