import sharp from 'sharp';
import { afterAll, describe, expect, test } from 'vitest';
import { createDecodePool } from '../../../packages/core/src/slide/decode-pool.ts';
import { openSlide } from '../../../packages/core/src/slide/open.ts';
import { readRegion } from '../../../packages/core/src/slide/tiles.ts';
import { cog } from '../../fixtures/slides/write-cog.ts';
import { drawPicture, jpegTiles, memorySource, type TiffOptions } from '../../fixtures/slides/write-tiff.ts';

const pool = createDecodePool({ threads: 2 });
afterAll(() => pool.close());

describe('a cloud optimized GeoTIFF', () => {
  test.each<[string, TiffOptions, boolean]>([
    ['with its promises behind the header and its tiles behind its pages, the coarsest first', {}, false],
    ['of more than 4 GB (BigTIFF)', { big: true }, false],
    ['with a mask behind each page, which is no level', {}, true],
    ['without the layout: tiles in front of their pages', { cog: false }, false],
    ['without the layout: pages first', { cog: false, ifdsFirst: true }, true],
  ])('%s', async (_, options, masks) => {
    const bytes = await cog(options, masks);
    expect(bytes.includes('GDAL_STRUCTURAL_METADATA_SIZE=')).toBe(options.cog !== false);
    const slide = await openSlide(memorySource(bytes));
    expect(slide.levels.map(({ width, height }) => [width, height])).toEqual([
      [200, 150],
      [100, 75],
      [50, 38],
    ]);
    for (const [i, { width, height }] of slide.levels.entries()) {
      const tile = (await jpegTiles(drawPicture(width, height), 64))[0]!;
      const expected = await sharp(tile).extract({ left: 0, top: 0, width: 40, height: 38 }).raw().toBuffer();
      expect(expected.equals(await readRegion(slide, i, 0, 0, 40, 38, pool))).toBe(true);
    }
  });
});
