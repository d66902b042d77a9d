import { afterAll, expect, it } from 'vitest';
import { composeSource } from '../../../packages/core/src/compose.ts';
import { createDecodePool } from '../../../packages/core/src/slide/decode-pool.ts';
import { layoutOf } from '../../../packages/core/src/slide/layout.ts';
import { openSlide } from '../../../packages/core/src/slide/open.ts';
import { resize } from '../../../packages/core/src/slide/resample.ts';
import type { Slide } from '../../../packages/core/src/slide/slide.ts';
import { readRegion, readTiles, type TileChunk, type TileRequest } from '../../../packages/core/src/slide/tiles.ts';
import { levelPx, tilePx } from '../../../packages/core/src/units.ts';
import { describeShared, shared } from '../../fixtures/shared.ts';

const pool = createDecodePool({ threads: 2 });
afterAll(() => pool.close());

const PX = 96;

describeShared('tiles decoded at a part of their size', async () => {
  const slide = await openSlide(await composeSource(shared('slides/CMU-1-Small-Region.svs')));
  const request = (dct: 1 | 2 | 4 | 8, readPx: number, x: number[], y: number[]): TileRequest => ({
    ...{ level: 0, readPx: levelPx(readPx), tilePx: tilePx(PX), filter: 'box', fit: null, dct },
    ...{ x: Int32Array.from(x), y: Int32Array.from(y) },
  });
  const read = async (of: TileRequest, from = slide): Promise<Uint8Array[]> => {
    const tiles: Uint8Array[] = [];
    for await (const { pixels, count, failures } of readTiles(from, of, pool)) {
      expect(failures).toEqual([]);
      const bytes = pixels.length / count;
      for (let i = 0; i < count; i++) tiles.push(pixels.slice(i * bytes, (i + 1) * bytes));
    }
    return tiles;
  };
  const meanDifference = (a: Uint8Array, b: Uint8Array) =>
    a.reduce((sum, v, i) => sum + Math.abs(v - b[i]!), 0) / a.length;

  it.each([2, 4, 8] as const)('at 1/%i are what the exact pixels come to when they are averaged', async (dct) => {
    const side = PX * dct;
    // Across the corners of blocks of 240 px.
    const [x, y] = [
      [8 * 87, 8 * 110],
      [8 * 140, 8 * 171],
    ];
    const tiles = await read(request(dct, side, x, y));
    for (const [i, tile] of tiles.entries()) {
      const exact = await readRegion(slide, 0, x[i]!, y[i]!, side, side, pool);
      const averaged = resize({ width: side, height: side, data: exact }, PX, PX, 'box').data;
      // Measured 0.4 to 0.9; a shift by a pixel of the level is 2 and more.
      expect(meanDifference(tile, averaged)).toBeLessThan(1.2);
    }
  });

  it('and then resampled are as large as was asked', async () => {
    const [tile] = await read(request(2, 384, [704], [1120]));
    const exact = await readRegion(slide, 0, 704, 1120, 384, 384, pool);
    const averaged = resize({ width: 384, height: 384, data: exact }, PX, PX, 'box').data;
    expect(meanDifference(tile!, averaged)).toBeLessThan(1.2);
  });

  it('are decoded whole where blocks do not lie side by side, to the pixels of the exact way', async () => {
    const index = await slide.blocks(0);
    const layout = { ...layoutOf(slide.levels[0]!, index), regular: false };
    const apart: Slide = { ...slide, blocks: async () => ({ range: index.range.bind(index), layout }) };
    const exact = await read(request(1, 288, [704], [1120]));
    expect(await read(request(2, 288, [704], [1120]), apart)).toEqual(exact);
  });

  it('must lie at multiples', async () => {
    const chunks: TileChunk[] = [];
    const reading = async () => {
      for await (const chunk of readTiles(slide, request(2, 288, [705], [1120]), pool)) chunks.push(chunk);
    };
    await expect(reading()).rejects.toMatchObject({ code: 'internal' });
  });
});
