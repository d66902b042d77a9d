import { afterAll, describe, expect, test } from 'vitest';
import { NightshiftError } from '../../../packages/core/src/errors.ts';
import { createDecodePool } from '../../../packages/core/src/slide/decode-pool.ts';
import { openSlide } from '../../../packages/core/src/slide/open.ts';
import { readRegion } from '../../../packages/core/src/slide/tiles.ts';
import { memorySource } from '../../fixtures/slides/write-tiff.ts';
import { type VentanaArea, type VentanaOptions, ventanaSlide } from '../../fixtures/slides/write-ventana.ts';

const pool = createDecodePool({ threads: 2 });
afterAll(() => pool.close());
const open = async (options?: VentanaOptions) => openSlide(memorySource(await ventanaSlide(options)));
const area = (more: Partial<VentanaArea> = {}): VentanaArea => ({
  ...{ x: 0, y: 0, column: 0, row: 0, across: 2, down: 2 },
  ...more,
});

describe('a Ventana slide', () => {
  test('has the facts of its iScan element, and nothing else of it', async () => {
    const slide = await open();
    expect(slide).toMatchObject({
      ...{ format: 'bigtiff', vendor: 'ventana', objectivePower: 20 },
      mpp: { x: 0.465, y: 0.465, source: 'vendor' },
      levels: [
        { width: 300, height: 156, downsample: 1 },
        { width: 150, height: 78, downsample: 2 },
        { width: 75, height: 39, downsample: 4 },
      ],
    });
    const { source: _, ...facts } = slide;
    expect(JSON.stringify([facts, slide.codec(0)])).not.toContain('CANARY');
  });

  test('overlaps by the mean of its pairs; areas stand as high as they are above the lowest', async () => {
    const { layout } = await (await open()).blocks(0);
    expect([0, 1, 5].map((block) => layout!.of(block)[0]!)).toMatchObject([
      { x: 12, y: 32 },
      { x: 12 + 56, y: 32 },
      { x: 12, y: 32 + 60 },
    ]);
    // Tile (3, 1) is the first one of the other area.
    expect(layout!.of(8)[0]).toMatchObject({ x: 180, y: 0 });
    expect(layout!.of(3)).toEqual([]);
  });

  test('of a coarser level shows each part of a tile where its level-0 tile lies', async () => {
    const { layout } = await (await open()).blocks(1);
    expect(layout!.of(0)).toEqual([
      { block: 0, left: 0, top: 0, width: 32, height: 32, x: 6, y: 16 },
      { block: 0, left: 32, top: 0, width: 32, height: 32, x: 34, y: 16 },
      { block: 0, left: 0, top: 32, width: 32, height: 32, x: 6, y: 46 },
      { block: 0, left: 32, top: 32, width: 32, height: 32, x: 34, y: 46 },
    ]);
  });

  test('whose tiles overlap by parts of a pixel leaves no gap between them', async () => {
    const overlap = { x: 7.3, y: 0.4 };
    const slide = await open({ areas: [area({ across: 5, down: 3 })], overlap });
    for (const [i, { width, height }] of slide.levels.entries()) {
      const { layout } = await slide.blocks(i);
      const covered = new Uint8Array(width * height);
      for (const piece of layout!.under(0, 0, width, height)) {
        for (let y = piece.y; y < piece.y + piece.height; y++) {
          covered.fill(1, y * width + piece.x, y * width + piece.x + piece.width);
        }
      }
      // The size is rounded up: the last column and row may lie beyond the last tile.
      const missing = [...covered.keys()].filter((at) => covered[at] === 0);
      expect(missing.filter((at) => at % width < width - 1 && at < width * (height - 1))).toEqual([]);
    }
  });

  test('is white where nobody scanned', async () => {
    const slide = await open();
    const rgb = await readRegion(slide, 0, 0, 60, 24, 1, pool);
    expect(rgb.subarray(0, 36).every((value) => value === 255)).toBe(true);
    await expect(readRegion(slide, 0, 0, 0, 10, 10, pool)).rejects.toMatchObject({ code: 'tile-missing' });
  });

  test('without stitching is a plain pyramid', async () => {
    const slide = await open({ stitching: null });
    expect(slide).toMatchObject({ vendor: 'ventana', levels: [{ width: 320, height: 192 }, { downsample: 2 }, {}] });
    expect((await slide.blocks(0)).layout).toBeUndefined();
  });
});

describe('an XML that lies', () => {
  const edit = (from: string | RegExp, to: string): VentanaOptions => ({ stitching: (xml) => xml.replace(from, to) });
  const described = (...texts: string[]): VentanaOptions => ({ describe: (level) => texts[level] ?? 'Thumbnail' });

  test.each<[string, VentanaOptions, string]>([
    ['no EncodeInfo', { stitching: () => '<Nothing/>' }, 'slide-unsupported'],
    ['no XML', { stitching: () => 'level 0' }, 'slide-corrupt'],
    ['an XML that ends early', { stitching: (xml) => xml.slice(0, 400) }, 'slide-corrupt'],
    ['no area scanned', { areas: [area({ scanned: false })] }, 'slide-unsupported'],
    ['an area without an origin', edit(/<AOI2[^>]*>/, ''), 'slide-corrupt'],
    ['an origin between tiles', edit('OriginX="192"', 'OriginX="200"'), 'slide-unsupported'],
    ['a negative origin', edit('OriginX="192"', 'OriginX="-64"'), 'slide-corrupt'],
    ['an area beyond the page', { areas: [area({ column: 4 })] }, 'slide-corrupt'],
    ['an area below the page', { areas: [area({ row: 900 })] }, 'slide-corrupt'],
    ['an area of no tile', { areas: [area({ down: 0 })] }, 'slide-corrupt'],
    ['an area of a billion tiles', edit('NumCols="3"', 'NumCols="1000000000"'), 'slide-limits'],
    ['two thousand areas', { areas: Array(2_000).fill(area({ across: 1, down: 1 })) }, 'slide-limits'],
    ['an area nowhere', edit('Pos-X="12"', 'Pos-X="NaN"'), 'slide-corrupt'],
    ['an area at 1e300', edit('Pos-X="12"', 'Pos-X="1e300"'), 'slide-limits'],
    ['areas beside the slide', { areas: [area({ x: -10_000 })] }, 'slide-corrupt'],
    ['tiles of another size', edit('Width="64"', 'Width="32"'), 'slide-corrupt'],
    ['a pair with a tile that is not there', edit('Tile2="2"', 'Tile2="99"'), 'slide-corrupt'],
    ['a pair of tile 0', edit('Tile1="1"', 'Tile1="0"'), 'slide-corrupt'],
    ['a pair that are no neighbours', edit('Tile2="2"', 'Tile2="3"'), 'slide-unsupported'],
    ['a pair to the left', edit('"RIGHT"', '"LEFT"'), 'slide-unsupported'],
    ['an overlap that is no number', edit(/OverlapX="9"/, 'OverlapX="nine"'), 'slide-corrupt'],
    ['an overlap of all', { overlap: { x: 64, y: 4 } }, 'slide-corrupt'],
    ['an overlap below all', { overlap: { x: -1e9, y: 4 } }, 'slide-limits'],
    ['no confidence in any pair', edit(/Confidence="98"/g, 'Confidence="0"'), 'opened'],
    ['more elements than slides have', edit('</AoiOrigin>', `${'<a/>'.repeat(100_000)}</AoiOrigin>`), 'slide-corrupt'],
    ['no iScan element', { scan: () => '<x a="<iScan "/>' }, 'slide-corrupt'],
    ['no levels', described(), 'slide-unsupported'],
    ['levels out of order', described('level=1 mag=20', 'level=0 mag=10'), 'slide-corrupt'],
    ['levels that grow', described('level=0 mag=20', 'level=1 mag=40'), 'slide-corrupt'],
    ['a level of no magnification', described('level=0 mag=zero'), 'slide-corrupt'],
    ['a level of a third and a half', described('level=0 mag=20', 'level=1 mag=6'), 'slide-unsupported'],
  ])('%s', async (_, options, code) => {
    const result = await open(options)
      .then(async (slide) => {
        for (const level of slide.levels.keys()) await slide.blocks(level);
        return 'opened';
      })
      .catch((error) => {
        if (error instanceof NightshiftError) return error.code;
        throw error;
      });
    expect(result).toBe(code);
  });
});
