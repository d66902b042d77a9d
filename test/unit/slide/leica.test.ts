import sharp from 'sharp';
import { afterAll, describe, expect, test } from 'vitest';
import { NightshiftError } from '../../../packages/core/src/errors.ts';
import { createDecodePool } from '../../../packages/core/src/slide/decode-pool.ts';
import { openSlide } from '../../../packages/core/src/slide/open.ts';
import { readOverview } from '../../../packages/core/src/slide/overview.ts';
import { readRegion, readTiles } from '../../../packages/core/src/slide/tiles.ts';
import { levelPx, tilePx } from '../../../packages/core/src/units.ts';
import { type LeicaArea, type LeicaOptions, leicaSlide } from '../../fixtures/slides/write-leica.ts';
import { memorySource } from '../../fixtures/slides/write-tiff.ts';

const pool = createDecodePool({ threads: 2 });
afterAll(() => pool.close());
const bytes = await leicaSlide();
const slide = await openSlide(memorySource(bytes, 'slide.scn'));

describe('a glass with two scans', () => {
  test('has a level for each of their levels, and the mpp of the XML', () => {
    expect(slide).toMatchObject({
      format: 'bigtiff',
      vendor: 'leica',
      mpp: { x: 0.5, y: 0.5, source: 'vendor' },
      objectivePower: 20,
    });
    expect(slide.levels[0]).toMatchObject({ width: 400, height: 300, columns: 9 + 6, rows: 1 });
  });

  test('is white in a tile where nobody scanned; a tile that lies there wholly is tile-missing', async () => {
    const at = { x: Int32Array.of(20, 0, 190), y: Int32Array.of(40, 0, 100) };
    const size = { readPx: levelPx(30), tilePx: tilePx(30), filter: 'bilinear', fit: null } as const;
    for await (const { pixels, failures } of readTiles(slide, { level: 0, ...size, ...at }, pool)) {
      expect(failures.map(({ index, error }) => [index, error.code])).toEqual([
        [1, 'tile-missing'],
        [2, 'tile-missing'],
      ]);
      // The scan begins at (37, 51): 17 columns and 11 rows into the tile.
      const white = Array.from({ length: 900 }, (_, i) => pixels.subarray(3 * i, 3 * i + 3).every((v) => v === 255));
      expect(white.every((is, i) => is === (i % 30 < 17 || i < 330))).toBe(true);
    }
  });

  test('is white in the overview between the scans, and there is nothing unreadable in that', async () => {
    const overview = await readOverview(slide, { maxPixels: 400 * 300 }, pool);
    expect(overview).toMatchObject({ width: 400, height: 300, blocksFailed: 0 });
    expect(overview.unreadable.includes(1)).toBe(false);
    const scan = await readRegion(slide, 0, 37, 51, 150, 130, pool);
    const raw = { raw: { width: 400, height: 300, channels: 3 as const } };
    const cut = await sharp(overview.rgb, raw).extract({ left: 37, top: 51, width: 150, height: 130 }).raw().toBuffer();
    expect(cut.equals(scan)).toBe(true);
    const between = await sharp(overview.rgb, raw)
      .extract({ left: 187, top: 0, width: 46, height: 300 })
      .raw()
      .toBuffer();
    expect(between.every((value) => value === 255)).toBe(true);
  });

  test('a block that cannot be decoded fails the tiles on it, and is marked in the overview', async () => {
    const damaged = Buffer.from(bytes);
    const { offset, length } = (await slide.blocks(0)).range(4, 0)!;
    damaged.fill(0, offset, offset + length);
    const broken = await openSlide(memorySource(damaged));
    await expect(readRegion(broken, 0, 110, 120, 20, 20, pool)).rejects.toMatchObject({ code: 'tile-corrupt' });
    const overview = await readOverview(broken, { maxPixels: 400 * 300 }, pool);
    expect(overview.blocksFailed).toBe(1);
    const marked = overview.unreadable.reduce((sum, value) => sum + value, 0);
    expect(marked).toBe(64 * 64);
    expect(overview.unreadable[(51 + 64) * 400 + 37 + 64]).toBe(1);
  });

  test('nothing of its description is passed on', () => {
    const { source: _, ...facts } = slide;
    expect(JSON.stringify([facts, slide.codec(0)])).not.toContain('CANARY');
  });
});

describe('an XML that lies', () => {
  const area = (more: Partial<LeicaArea>): LeicaArea => ({ x: 10, y: 10, width: 128, height: 128, ...more });
  const edited = (from: string | RegExp, to: string): LeicaOptions => ({ edit: (xml) => xml.replace(from, to) });

  async function codeOf(options: LeicaOptions): Promise<string> {
    try {
      const opened = await openSlide(memorySource(await leicaSlide(options)));
      for (const level of opened.levels.keys()) await opened.blocks(level);
      return 'opened';
    } catch (error) {
      if (error instanceof NightshiftError) return error.code;
      throw error;
    }
  }

  test.each<[string, LeicaOptions, string]>([
    ['no collection', edited(/<collection.*<\/collection>/, ''), 'slide-corrupt'],
    ['a collection without a size', edited('sizeX="200000"', ''), 'slide-corrupt'],
    ['no scan but the macro', { areas: [] }, 'slide-unsupported'],
    ['fluorescence', { areas: [area({ light: 'fluorescence' })] }, 'slide-unsupported'],
    [
      'pixels that are not square',
      edited('sizeX="75000" sizeY="65000"', 'sizeX="75000" sizeY="130000"'),
      'slide-unsupported',
    ],
    ['a scan without a place', { edit: (xml) => xml.replace(/<view[^>]*offsetX="18500"[^>]*>/, '') }, 'slide-corrupt'],
    ['a place that is no number', edited('offsetX="18500"', 'offsetX="x"'), 'slide-corrupt'],
    ['a page that is not there', { areas: [area({ ifd: () => 99 })] }, 'slide-corrupt'],
    ['a page below the first', { areas: [area({ ifd: () => -1 })] }, 'slide-corrupt'],
    ['a page of 2^53', edited(/ifd="2"/g, `ifd="${2 ** 53}"`), 'slide-corrupt'],
    ['a scan of no size', edited('sizeX="75000" sizeY="65000"', 'sizeX="0" sizeY="0"'), 'slide-corrupt'],
    ['a page of no size', edited('<dimension sizeX="150"', '<dimension sizeX="0"'), 'slide-corrupt'],
    [
      'a glass of kilometres',
      { macro: false, ...edited('sizeX="200000"', 'sizeX="2000000000000000"') },
      'slide-limits',
    ],
    ['a glass of no width', { macro: false, ...edited('sizeX="200000"', 'sizeX="0"') }, 'slide-corrupt'],
    ['scans beside the glass', { macro: false, ...edited(/offsetX="\d+"/g, 'offsetX="-99999999999"') }, 'opened'],
    ['scans of different objectives', { areas: [area({}), area({ x: 200, objective: '40' })] }, 'slide-unsupported'],
    ['scans of different levels', { areas: [area({}), area({ x: 200, levels: 1 })] }, 'slide-unsupported'],
    ['scans of different resolution', { areas: [area({}), area({ x: 200, nm: 550 })] }, 'slide-unsupported'],
    ['scans of different tiles', { areas: [area({}), area({ x: 200, tile: 32 })] }, 'slide-unsupported'],
    [
      'five thousand scans',
      { edit: (xml) => xml.replace('</collection>', `${'<image><view/></image>'.repeat(5_000)}</collection>`) },
      'slide-limits',
    ],
    [
      'elements without end',
      { edit: (xml) => xml.replace('</collection>', `${'<a>'.repeat(30_000)}</collection>`) },
      'slide-corrupt',
    ],
    ['an XML that ends early', { edit: (xml) => xml.slice(0, xml.indexOf('<image')) }, 'slide-unsupported'],
  ])('%s', async (_, options, code) => {
    expect(await codeOf(options)).toBe(code);
  });

  test('fluorescence is refused with the reason and what to do', async () => {
    const bytes = await leicaSlide({ areas: [area({ light: 'fluorescence' })] });
    await expect(openSlide(memorySource(bytes))).rejects.toMatchObject({
      message: expect.stringMatching(/scans are of fluorescence, and only 8-bit RGB can be read/),
      next: expect.stringContaining('Convert it to'),
    });
  });

  test('one scan five hundred times over in one place is slide-limits', async () => {
    const xml = (text: string) => {
      const image = /<image(?:(?!<image).)*<\/image>(?=<\/collection>)/s.exec(text)![0];
      return text.replace('</collection>', `${image.repeat(500)}</collection>`);
    };
    expect(await codeOf({ edit: xml })).toBe('slide-limits');
  });
});
