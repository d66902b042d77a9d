import type { Recipe, SlideRef } from '../../../packages/core/src/plan/plan.ts';
import type { Level, MppReading } from '../../../packages/core/src/slide/slide.ts';
import { levelPx, mpp, tilePx } from '../../../packages/core/src/units.ts';

export function recipe(change: Partial<Recipe> = {}): Recipe {
  return {
    version: 1,
    model: { name: 'demo', digest: 'abc', precision: 'fp32', embedding: 'cls+mean', dims: 128 },
    tile: { px: tilePx(224), mpp: mpp(0.5), overlap: tilePx(0), resampling: 'bilinear' },
    tissue: { method: 'none', min: 0.4 },
    filter: 'none',
    slideMpp: null,
    limit: null,
    ...change,
  };
}

export const ref: SlideRef = { key: 'slide-00000000', uri: '/data/slide.svs', contentId: '1-2', mpp: null };

export const square = (value: number): MppReading => ({ x: mpp(value), y: mpp(value), source: 'aperio' });

/** Levels of a slide; the sizes of the coarser ones are floored, as most writers do. */
export function levels(width: number, height: number, ...downsamples: number[]): Level[] {
  return [1, ...downsamples].map((downsample) => ({
    width: levelPx(Math.floor(width / downsample)),
    height: levelPx(Math.floor(height / downsample)),
    downsample,
    blockWidth: levelPx(240),
    blockHeight: levelPx(240),
    columns: Math.ceil(width / downsample / 240),
    rows: Math.ceil(height / downsample / 240),
  }));
}
