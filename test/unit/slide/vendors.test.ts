import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { composeSource } from '../../../packages/core/src/compose.ts';
import { createDecodePool } from '../../../packages/core/src/slide/decode-pool.ts';
import { openSlide } from '../../../packages/core/src/slide/open.ts';
import { readRegion } from '../../../packages/core/src/slide/tiles.ts';

interface Expected {
  readonly vendor: string;
  readonly levels: readonly (readonly [number, number, number])[];
  readonly mpp: readonly [number | null, number | null];
  readonly objectivePower: number | null;
  readonly regions: readonly { level: number; x: number; y: number; width: number; height: number; sha256: string }[];
}

const folder = join(import.meta.dirname, '../../fixtures/slides');
/** What OpenSlide reads from slides that make-vendor-slides.ts wrote. */
const { vendors } = JSON.parse(readFileSync(join(folder, 'openslide.json'), 'utf8')) as {
  vendors: Record<string, Expected>;
};
const open = async (name: string) => openSlide(await composeSource(join(folder, 'vendors', name)));
const pool = createDecodePool({ threads: 2 });
afterAll(() => pool.close());

describe.each(Object.entries(vendors))('%s', (name, expected) => {
  test('metadata as OpenSlide has it', async () => {
    const slide = await open(name);
    const { vendor, objectivePower } = expected;
    expect(slide).toMatchObject({ vendor, objectivePower });
    expect(slide.levels.map(({ width, height, downsample }) => [width, height, downsample])).toEqual(expected.levels);
    if (expected.mpp[0] === null) expect(slide.mpp).toBeNull();
    else {
      expect(slide.mpp?.x).toBeCloseTo(expected.mpp[0], 9);
      expect(slide.mpp?.y).toBeCloseTo(expected.mpp[1]!, 9);
    }
    await slide.close();
  });

  test(`every pixel of ${expected.regions.length} regions is OpenSlide's`, async () => {
    const slide = await open(name);
    for (const { level, x, y, width, height, sha256 } of expected.regions) {
      const rgb = await readRegion(slide, level, x, y, width, height, pool);
      const digest = createHash('sha256').update(rgb).digest('hex');
      expect({ level, x, y, digest }).toEqual({ level, x, y, digest: sha256 });
    }
    await slide.close();
  });
});
