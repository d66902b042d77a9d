import { NightshiftError } from '../../../errors.ts';
import { MOST_PIECES } from '../../layout.ts';
import { type XmlElement, xmlNumber } from '../../xml.ts';
import type { Tiff } from '../ifd.ts';
import type { Page } from '../page.ts';

/** Where the tiles of level 0 lie. */
export interface Stitching {
  readonly areas: readonly Area[];
  /** From one tile to the next, px: tiles overlap by the rest. */
  readonly advanceX: number;
  readonly advanceY: number;
}

/** A part of the glass that was scanned: tiles of level 0 from (firstColumn, firstRow), the first one at (x, y). */
interface Area {
  readonly x: number;
  readonly y: number;
  readonly firstColumn: number;
  readonly firstRow: number;
  readonly across: number;
  readonly down: number;
}

interface Sum {
  overlap: number;
  confidence: number;
}

const MOST_AREAS = 1_000;

/**
 * The stitching of a BIF from the XML of its level 0: for each area its place, and for each pair of neighbours by how much they
 * overlap and how sure that is. Tiles are numbered from 1, from the bottom row up, every second row from right to left.
 */
export function readStitching(tiff: Tiff, root: XmlElement, page: Page): Stitching {
  const below = (element: XmlElement | undefined, name: string) =>
    element?.children.filter((child) => child.name === name) ?? [];
  const infos = below(below(root, 'SlideStitchInfo')[0], 'ImageInfo');
  const origins = below(root, 'AoiOrigin')[0]?.children ?? [];
  if (infos.length !== origins.length) {
    throw tiff.corrupt(`its XML describes ${infos.length} areas and the origins of ${origins.length}`);
  }
  if (infos.length > MOST_AREAS) throw tiff.limit(`${infos.length} areas`);
  const sumX: Sum = { overlap: 0, confidence: 0 };
  const sumY: Sum = { overlap: 0, confidence: 0 };
  const areas: Area[] = [];
  let tiles = 0;
  for (const [i, info] of infos.entries()) {
    if (whole(tiff, info, 'AOIScanned') === 0) continue;
    const area = readArea(tiff, info, origins[i]!, page);
    tiles += area.across * area.down;
    if (tiles > MOST_PIECES) throw tiff.limit(`${tiles} tiles in its areas`);
    areas.push(area);
    for (const joint of below(info, 'TileJointInfo')) addJoint(tiff, joint, area, sumX, sumY);
  }
  if (areas.length === 0) throw new NightshiftError('slide-unsupported', `${tiff.uri}: none of its areas was scanned`);
  const advance = (side: number, { overlap, confidence }: Sum) => side - (confidence > 0 ? overlap / confidence : 0);
  const [advanceX, advanceY] = [advance(page.tileWidth, sumX), advance(page.tileHeight, sumY)];
  if (!(advanceX >= 1 && advanceY >= 1)) throw tiff.corrupt('its tiles overlap by all there is of them');
  // The file counts from below the lowest area to the bottom of each.
  const heightOf = ({ down }: Area) => Math.trunc((down - 1) * advanceY + page.tileHeight);
  const top = Math.max(...areas.map((area) => area.y + heightOf(area)));
  return { areas: areas.map((area) => ({ ...area, y: top - area.y - heightOf(area) })), advanceX, advanceY };
}

function readArea(tiff: Tiff, info: XmlElement, origin: XmlElement, { tileWidth, tileHeight }: Page): Area {
  const [width, height] = [whole(tiff, info, 'Width'), whole(tiff, info, 'Height')];
  if (width !== tileWidth || height !== tileHeight) {
    throw tiff.corrupt(`an area of tiles of ${width} x ${height} px in pages of ${tileWidth} x ${tileHeight} px`);
  }
  const firstColumn = whole(tiff, origin, 'OriginX') / tileWidth;
  const firstRow = whole(tiff, origin, 'OriginY') / tileHeight;
  if (!Number.isInteger(firstColumn) || !Number.isInteger(firstRow)) {
    throw new NightshiftError('slide-unsupported', `${tiff.uri}: an area does not begin at a tile`);
  }
  const [across, down] = [whole(tiff, info, 'NumCols'), whole(tiff, info, 'NumRows')];
  if (across === 0 || down === 0) throw tiff.corrupt(`an area of ${across} x ${down} tiles`);
  const [x, y] = [number(tiff, info, 'Pos-X'), number(tiff, info, 'Pos-Y')];
  return { x: Math.trunc(x), y: Math.trunc(y), firstColumn, firstRow, across, down };
}

function addJoint(tiff: Tiff, joint: XmlElement, area: Area, sumX: Sum, sumY: Sum): void {
  const [one, two] = [place(tiff, joint, 'Tile1', area), place(tiff, joint, 'Tile2', area)];
  const direction = joint.attributes.get('Direction');
  if (direction !== 'RIGHT' && direction !== 'UP') {
    throw new NightshiftError(
      'slide-unsupported',
      `${tiff.uri}: it joins tiles in a direction other than right and up`,
    );
  }
  const isRight = direction === 'RIGHT';
  if (two.column - one.column !== (isRight ? 1 : 0) || two.row - one.row !== (isRight ? 0 : -1)) {
    throw new NightshiftError('slide-unsupported', `${tiff.uri}: it joins tiles that are no neighbours`);
  }
  const confidence = whole(tiff, joint, 'Confidence');
  const sum = isRight ? sumX : sumY;
  sum.overlap += confidence * number(tiff, joint, isRight ? 'OverlapX' : 'OverlapY');
  sum.confidence += confidence;
}

function place(tiff: Tiff, joint: XmlElement, name: string, { across, down }: Area): { column: number; row: number } {
  const tile = whole(tiff, joint, name) - 1;
  if (tile < 0 || tile >= across * down) throw tiff.corrupt(`it joins tile ${tile + 1} of ${across * down}`);
  const fromBottom = Math.floor(tile / across);
  const along = tile % across;
  return { column: fromBottom % 2 === 0 ? along : across - 1 - along, row: down - 1 - fromBottom };
}

function number(tiff: Tiff, element: XmlElement, name: string): number {
  const value = xmlNumber(element.attributes.get(name));
  if (value === null || !Number.isFinite(value)) throw tiff.corrupt(`its XML gives no ${name} of a ${element.name}`);
  return value;
}

/** Not negative. */
function whole(tiff: Tiff, element: XmlElement, name: string): number {
  const value = number(tiff, element, name);
  if (!Number.isSafeInteger(value) || value < 0) throw tiff.corrupt(`${name} of a ${element.name} is ${value}`);
  return value;
}
