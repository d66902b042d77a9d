import { expect, test } from 'vitest';
import { NightshiftError } from '../../../packages/core/src/errors.ts';
import { openSlide } from '../../../packages/core/src/slide/open.ts';
import { type PhilipsOptions, philipsSlide } from '../../fixtures/slides/write-philips.ts';
import { memorySource } from '../../fixtures/slides/write-tiff.ts';

async function codeOf(options: PhilipsOptions): Promise<string> {
  try {
    const slide = await openSlide(memorySource(await philipsSlide(options)));
    for (const level of slide.levels.keys()) await slide.blocks(level);
    return 'opened';
  } catch (error) {
    if (error instanceof NightshiftError) return error.code;
    throw error;
  }
}

test('levels are as large as their pictures, not as their pages, which are padded to whole tiles', async () => {
  const slide = await openSlide(memorySource(await philipsSlide()));
  expect(slide).toMatchObject({
    format: 'bigtiff',
    mpp: { x: 0.25, y: 0.25, source: 'vendor' },
    levels: [
      { width: 256, height: 192, columns: 4, rows: 3 },
      { width: 128, height: 96, columns: 2, rows: 2 },
      { width: 64, height: 48, columns: 1, rows: 1 },
    ],
  });
});

test('a tile outside the regions of interest is not stored', async () => {
  const slide = await openSlide(memorySource(await philipsSlide()));
  const index = await slide.blocks(0);
  expect([index.range(2, 1) === null, index.range(3, 1) === null]).toEqual([false, true]);
});

test('the description may be long: it carries pictures, which are not looked at', async () => {
  expect(await codeOf({ labelLength: 1 << 20 })).toBe('opened');
});

test.each<[string, PhilipsOptions, string]>([
  ['a description of 9 MB', { labelLength: 9 << 20 }, 'slide-limits'],
  ['no scan', { scans: 0 }, 'slide-corrupt'],
  ['two scans', { scans: 2 }, 'slide-corrupt'],
  ['fewer levels in the XML than in the file', { spacings: ['0.00025', '0.0005'] }, 'slide-corrupt'],
  ['ten thousand levels in the XML', { spacings: Array(10_000).fill('0.00025') }, 'slide-corrupt'],
  ['more elements than slides have', { spacings: Array(20_000).fill('0.00025') }, 'slide-corrupt'],
  ['a level without a size of its pixels', { spacings: ['0.00025', null, '0.001'] }, 'slide-corrupt'],
  ['a size that is no number', { spacings: ['0.00025', 'half', '0.001'] }, 'slide-corrupt'],
  ['a negative size', { spacings: ['0.00025', '-0.0005', '0.001'] }, 'slide-corrupt'],
  ['a size of zero', { spacings: ['0', '0.0005', '0.001'] }, 'slide-corrupt'],
  ['a level larger than level 0', { spacings: ['0.00025', '0.0000001', '0.001'] }, 'slide-corrupt'],
  ['a level larger than its page', { spacings: ['0.00025', '0.00025', '0.001'] }, 'slide-corrupt'],
  ['a level smaller than a pixel', { spacings: ['0.00025', '0.5', '0.001'] }, 'slide-corrupt'],
  ['a level of 1e300 to 1', { spacings: ['0.00025', '1e300', '0.001'] }, 'slide-corrupt'],
  [
    'a second page that is no smaller version',
    { change: (pages) => pages.map((page) => ({ ...page, subfileType: 0 })) },
    'slide-corrupt',
  ],
  [
    'pages without tiles',
    { change: (pages) => pages.map((page) => ({ ...page, striped: true, tiles: page.tiles.slice(0, 1) })) },
    'slide-unsupported',
  ],
])('%s', async (_, options, code) => {
  expect(await codeOf(options)).toBe(code);
});
