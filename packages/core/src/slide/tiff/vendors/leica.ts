import { NightshiftError } from '../../../errors.ts';
import { mpp } from '../../../units.ts';
import { MOST_PIECES, type Piece, placedLayout } from '../../layout.ts';
import type { StoredLevel } from '../../stored-level.ts';
import { findAll, type XmlElement, xmlNumber } from '../../xml.ts';
import { type Ifd, LIMITS, type Tiff } from '../ifd.ts';
import { type Page, pageLevel, readBlockIndex, readPage, TAG, tilePart } from '../page.ts';
import { readXml } from './description.ts';
import type { Vendor } from './vendor.ts';

export const isLeica = (description: string): boolean => /<(\w+:)?scn[\s>]/.test(description);

/** A scan of a part of the glass, nm. */
interface Area {
  readonly x: number;
  readonly y: number;
  readonly objective: string;
  /** Its pages, finest first. */
  readonly pages: readonly AreaPage[];
}

interface AreaPage {
  readonly page: Page;
  readonly nmPerPixelX: number;
  readonly nmPerPixelY: number;
}

/** Scans of tissue pieces on one glass. */
const MOST_AREAS = 1_000;
/** Sides of a view in nm are rounded to pixels. */
const SQUARE = 0.02;

/**
 * Leica SCN (OpenSlide 3.4.1, openslide-vendor-leica.c): the XML of the first description places scans on the glass. A level is the
 * whole glass, with the pages of all brightfield scans at their positions and nothing between them; earlier scans lie over
 * later ones. The picture of the whole glass (the macro) and focal planes other than 0 are left out.
 */
export async function openLeica(tiff: Tiff, ifds: readonly Ifd[]): Promise<Vendor> {
  const root = await readXml(tiff, ifds[0]!.entries.get(TAG.description)!);
  const collection = root.children.find(({ name }) => name === 'collection');
  if (collection === undefined) throw tiff.corrupt('its XML has no collection of scans');
  const glass = { width: number(tiff, collection, 'sizeX'), height: number(tiff, collection, 'sizeY') };
  const images = collection.children.filter(({ name }) => name === 'image');
  if (images.length > MOST_AREAS) throw tiff.limit(`${images.length} scans`);
  const areas: Area[] = [];
  for (const image of images) {
    const area = await readArea(tiff, ifds, image, glass);
    if (area !== null) areas.push(area);
  }
  const [first] = areas;
  if (first === undefined) {
    const fluorescent = findAll(root, 'illuminationSource').some(({ text }) => text === 'fluorescence');
    const what = fluorescent ? ': its scans are of fluorescence, and only 8-bit RGB can be read' : '';
    throw unsupported(tiff, `it has no brightfield scan${what}`);
  }
  if (areas.some(({ pages, objective }) => pages.length !== first.pages.length || objective !== first.objective)) {
    throw unsupported(tiff, 'its scans differ in levels or objective');
  }
  const levels = await Promise.all(first.pages.map((_, level) => glassLevel(tiff, glass, areas, level)));
  const finest = Math.min(...areas.map(({ pages }) => pages[0]!.nmPerPixelX));
  const base = areas.map(({ pages }) => pages[0]!).find(({ nmPerPixelX }) => nmPerPixelX === finest)!;
  if (Math.abs(base.nmPerPixelY / base.nmPerPixelX - 1) > SQUARE) {
    const sides = `${base.nmPerPixelX.toPrecision(4)} x ${base.nmPerPixelY.toPrecision(4)} nm`;
    throw unsupported(tiff, `its pixels of ${sides} are not square, and its scans are placed by one scale`);
  }
  return {
    name: 'leica',
    mpp: { x: mpp(base.nmPerPixelX / 1e3), y: mpp(base.nmPerPixelY / 1e3), source: 'vendor' },
    objectivePower: xmlNumber(first.objective),
    levels,
  };
}

/** Null for the macro and for fluorescence. */
async function readArea(
  tiff: Tiff,
  ifds: readonly Ifd[],
  image: XmlElement,
  glass: { readonly width: number; readonly height: number },
): Promise<Area | null> {
  const view = image.children.find(({ name }) => name === 'view');
  if (view === undefined) throw tiff.corrupt('a scan without a place on the glass');
  const [x, y] = [number(tiff, view, 'offsetX'), number(tiff, view, 'offsetY')];
  const [width, height] = [number(tiff, view, 'sizeX'), number(tiff, view, 'sizeY')];
  if (x === 0 && y === 0 && width === glass.width && height === glass.height) return null;
  if (findAll(image, 'illuminationSource')[0]?.text !== 'brightfield') return null;
  const pages: AreaPage[] = [];
  for (const dimension of findAll(image, 'dimension')) {
    if ((dimension.attributes.get('z') ?? '0') !== '0') continue;
    const at = number(tiff, dimension, 'ifd');
    const ifd = ifds[at];
    const page = ifd && (await readPage(tiff, ifd));
    if (!page) throw tiff.corrupt(`its XML names page ${at}, which is no tiled page of the file`);
    const [across, down] = [number(tiff, dimension, 'sizeX'), number(tiff, dimension, 'sizeY')];
    if (!(width > 0 && height > 0 && across > 0 && down > 0)) throw tiff.corrupt('a scan of no size');
    pages.push({ page, nmPerPixelX: width / across, nmPerPixelY: height / down });
    if (pages.length > LIMITS.ifds) throw tiff.limit('more levels of a scan than pages of a file');
  }
  if (pages.length === 0) throw tiff.corrupt('a scan without levels');
  pages.sort((a, b) => a.nmPerPixelX - b.nmPerPixelX);
  return { x, y, objective: findAll(image, 'objective')[0]?.text ?? '', pages };
}

/** The glass at one resolution, that of its finest scan. */
async function glassLevel(
  tiff: Tiff,
  glass: { readonly width: number; readonly height: number },
  areas: readonly Area[],
  index: number,
): Promise<StoredLevel> {
  const parts = areas.map(({ x, y, pages }) => ({ x, y, ...pages[index]! }));
  const [first] = parts;
  if (parts.some(({ nmPerPixelX }) => Math.abs(nmPerPixelX / first!.nmPerPixelX - 1) > 0.02)) {
    throw unsupported(tiff, `its scans differ in resolution at level ${index}`);
  }
  const nmPerPixel = Math.min(...parts.map(({ nmPerPixelX }) => nmPerPixelX));
  const width = Math.ceil(glass.width / nmPerPixel);
  const height = Math.ceil(glass.height / nmPerPixel);
  if (!(width >= 1 && height >= 1)) throw tiff.corrupt(`a glass of ${width} x ${height} px`);
  if (width > LIMITS.side || height > LIMITS.side) throw tiff.limit(`a glass of ${width} x ${height} px`);
  const levels = await Promise.all(parts.map(({ page }) => pageLevel(tiff, page)));
  const { codec, blockWidth, blockHeight } = levels[0]!;
  for (const other of levels) {
    // A level has one way to decode its blocks.
    const same = other.blockWidth === blockWidth && other.blockHeight === blockHeight;
    if (!same || !alike(other.codec, codec))
      throw unsupported(tiff, 'the tiles of its scans differ in size or compression');
  }
  let blocks = 0;
  const placed = parts.map(({ page, x, y }) => {
    const firstBlock = blocks;
    blocks += page.columns * page.rows;
    return { page, firstBlock, x: Math.trunc(x / nmPerPixel), y: Math.trunc(y / nmPerPixel) };
  });
  if (blocks > MOST_PIECES) throw tiff.limit(`${blocks} tiles of scans in a level`);
  return {
    width,
    height,
    blockWidth,
    blockHeight,
    codec,
    numbered: { columns: blocks, rows: 1 },
    async readIndex(signal) {
      const indexes = await Promise.all(placed.map(({ page }) => readBlockIndex(tiff, page, signal)));
      const areaOf = (block: number) => placed.findLastIndex(({ firstBlock }) => firstBlock <= block);
      const inPage = (block: number) => {
        const area = areaOf(block);
        const { page, firstBlock } = placed[area]!;
        const [column, row] = [(block - firstBlock) % page.columns, Math.floor((block - firstBlock) / page.columns)];
        return { area, column, row };
      };
      const used = (block: number) => {
        const { page, firstBlock } = placed[areaOf(block)]!;
        return tilePart(page, block - firstBlock);
      };
      function* pieces(): Iterable<Piece> {
        for (let block = blocks - 1; block >= 0; block--) {
          const { area, column, row } = inPage(block);
          const { x, y } = placed[area]!;
          yield { block, left: 0, top: 0, ...used(block), x: x + column * blockWidth, y: y + row * blockHeight };
        }
      }
      return {
        layout: placedLayout(tiff.uri, { width, height }, pieces(), used),
        range(block) {
          const { area, column, row } = inPage(block);
          return indexes[area]!.range(column, row);
        },
      };
    },
  };
}

const alike = (a: StoredLevel['codec'], b: StoredLevel['codec']): boolean =>
  a.kind === 'jpeg' && b.kind === 'jpeg'
    ? Buffer.compare(a.prefix, b.prefix) === 0
    : JSON.stringify(a) === JSON.stringify(b);

const unsupported = (tiff: Tiff, what: string) => new NightshiftError('slide-unsupported', `${tiff.uri}: ${what}`);

function number(tiff: Tiff, element: XmlElement, name: string): number {
  const value = xmlNumber(element.attributes.get(name));
  if (value === null || !Number.isSafeInteger(value))
    throw tiff.corrupt(`its XML gives no ${name} of a ${element.name}`);
  return value;
}
