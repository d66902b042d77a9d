import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from '@nightshift/core';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DEMO_MPP, type DemoSlide, makeDemoSlide } from '../../../apps/producer/src/demo/slide.ts';

const SMALL: DemoSlide = {
  name: 'small',
  width: 1500,
  height: 1100,
  pieces: [{ x: 0.5, y: 0.5, rx: 0.3, ry: 0.3 }],
  seed: 3,
};

let folder: string;
let path: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'nightshift-demo-slide-'));
  path = join(folder, 'small.svs');
  await makeDemoSlide(path, SMALL);
});
afterAll(() => rm(folder, { recursive: true }));

describe('a slide of the demo', () => {
  it('opens as an Aperio pyramid of three levels with its mpp', async () => {
    const tissue = { method: 'auto', min: 0.4 } as const;
    const slide = await inspect({ slide: path, tilePx: 224, mpp: DEMO_MPP, overlapPx: 0, tissue, slideMpp: null });
    expect(slide).toMatchObject({ vendor: 'aperio', objectivePower: 20, mpp: { x: DEMO_MPP, source: 'aperio' } });
    expect(slide.levels.map(({ width, height, codec }) => [width, height, codec])).toEqual([
      [1500, 1100, 'jpeg'],
      [375, 275, 'jpeg'],
      [93, 68, 'jpeg'],
    ]);
    expect(slide.plan).toMatchObject({ level: 0, readPx: 224 });
  });

  it('is tissue in the middle and white at the margins', async () => {
    const { data, info } = await sharp(path, { page: 2 }).raw().toBuffer({ resolveWithObject: true });
    const at = (x: number, y: number): number[] => [
      ...data.subarray(3 * (y * info.width + x), 3 * (y * info.width + x) + 3),
    ];
    for (const corner of [at(2, 2), at(info.width - 3, 2), at(2, info.height - 3)]) {
      for (const value of corner) expect(value).toBeGreaterThan(235);
    }
    const [r, g, b] = at(info.width >> 1, info.height >> 1) as [number, number, number];
    expect(g).toBeLessThan(Math.min(r, b) - 15);
  });

  it('is the same picture each time it is made, and is left alone when it is there', async () => {
    const digest = async (file: string) =>
      createHash('sha256')
        .update(await readFile(file))
        .digest('hex');
    const again = join(folder, 'again.svs');
    expect(await makeDemoSlide(again, SMALL)).toBe('made');
    expect(await digest(again)).toBe(await digest(path));
    expect(await makeDemoSlide(again, SMALL)).toBe('kept');
  });
});
