import { afterAll, expect, test } from 'vitest';
import { NightshiftError } from '../../../packages/core/src/errors.ts';
import { createDecodePool } from '../../../packages/core/src/slide/decode-pool.ts';
import { openSlide } from '../../../packages/core/src/slide/open.ts';
import { readOverview } from '../../../packages/core/src/slide/overview.ts';
import { memorySource } from '../../fixtures/slides/write-tiff.ts';
import { type TrestleOptions, trestleSlide } from '../../fixtures/slides/write-trestle.ts';

const pool = createDecodePool({ threads: 2 });
afterAll(() => pool.close());
const open = async (options?: TrestleOptions) => openSlide(memorySource(await trestleSlide(options)));

test('tiles overlap as the description says; a level without overlaps is a plain one', async () => {
  const slide = await open();
  expect(slide).toMatchObject({ vendor: 'trestle', objectivePower: 20, mpp: { x: 0.25, y: 0.25, source: 'vendor' } });
  expect(slide.levels[0]).toMatchObject({ width: 176, height: 168, columns: 4, rows: 3 });
  const { layout } = await slide.blocks(0);
  expect(layout!.of(5)).toEqual([{ block: 5, left: 0, top: 0, width: 64, height: 64, x: 56, y: 58 }]);
  expect((await slide.blocks(1)).layout).toBeUndefined();
});

test('the overview of overlapping tiles has no gap', async () => {
  const { unreadable, blocksFailed } = await readOverview(await open(), { maxPixels: 1 << 20 }, pool);
  expect({ blocksFailed, marked: unreadable.includes(1) }).toEqual({ blocksFailed: 0, marked: false });
});

test('without resolution tags there is no mpp', async () => {
  expect((await open({ resolution: null })).mpp).toBeNull();
  expect((await open({ resolution: [1, 0] })).mpp).toBeNull();
});

test.each([
  ['no overlaps', 'Objective Power=20', 'opened'],
  ['overlaps of level 0 alone', 'OverlapsXY= 8 6', 'opened'],
  ['overlaps of a thousand levels', `OverlapsXY= ${'8 6 '.repeat(1_000)}`, 'opened'],
  ['an overlap below nothing', 'OverlapsXY= -8 6', 'slide-corrupt'],
  ['an overlap of a whole tile', 'OverlapsXY= 64 6', 'slide-corrupt'],
  ['an overlap of half a pixel', 'OverlapsXY= 8.5 6', 'slide-corrupt'],
  ['an overlap that is no number', 'OverlapsXY= 8 six', 'slide-corrupt'],
  ['an overlap of 1e300', 'OverlapsXY= 8 1e300', 'slide-corrupt'],
  ['a level that is larger than the one before', 'OverlapsXY= 60 60 0 0', 'slide-corrupt'],
])('%s', async (_, description, code) => {
  const result = await open({ description }).then(
    async (slide) => slide.blocks(0).then(() => 'opened'),
    (error) => {
      if (error instanceof NightshiftError) return error.code;
      throw error;
    },
  );
  expect(result).toBe(code);
});
