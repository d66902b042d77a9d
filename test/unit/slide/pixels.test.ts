import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, expect, test } from 'vitest';
import { createDecodePool } from '../../../packages/core/src/slide/decode-pool.ts';
import { resolveMpp } from '../../../packages/core/src/slide/mpp.ts';
import { openSlide } from '../../../packages/core/src/slide/open.ts';
import { readRegion, readTiles } from '../../../packages/core/src/slide/tiles.ts';
import { openFile } from '../../../packages/core/src/source/file.ts';
import { levelPx, mpp, tilePx } from '../../../packages/core/src/units.ts';
import { describeShared, shared } from '../../fixtures/shared.ts';

interface Expected {
  readonly oracle: string;
  readonly vendor?: string;
  readonly levels: readonly (readonly [number, number, number])[];
  readonly mpp?: readonly [number | null, number | null];
  readonly objectivePower?: number | null;
  readonly regions: readonly { level: number; x: number; y: number; width: number; height: number; sha256: string }[];
}

/** Made by make-openslide-fixtures.py. */
const fixtures = JSON.parse(
  readFileSync(join(import.meta.dirname, '../../fixtures/slides/openslide.json'), 'utf8'),
) as { slides: Record<string, Expected> };

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const native = createDecodePool({ threads: 2, jpeg: 'native' });
const wasm = createDecodePool({ threads: 2, jpeg: 'wasm' });
afterAll(() => Promise.all([native.close(), wasm.close()]));

describeShared('real slides', () => {
  for (const [name, expected] of Object.entries(fixtures.slides)) {
    test(`${name}: metadata as ${expected.oracle} has it`, async () => {
      const slide = await openSlide(await openFile(shared(`slides/${name}`)));
      expect(slide.levels.map(({ width, height, downsample }) => [width, height, downsample])).toEqual(expected.levels);
      if (expected.oracle === 'openslide') {
        expect(slide.vendor).toBe(expected.vendor);
        expect(slide.objectivePower).toBe(expected.objectivePower);
        if (expected.mpp![0] === null) expect(slide.mpp).toBeNull();
        else {
          expect(slide.mpp?.x).toBeCloseTo(expected.mpp![0]!, 3);
          expect(slide.mpp?.y).toBeCloseTo(expected.mpp![1]!, 3);
        }
      }
      await slide.close();
    });

    test(`${name}: every pixel of ${expected.regions.length} regions is ${expected.oracle}'s`, async () => {
      const slide = await openSlide(await openFile(shared(`slides/${name}`)));
      for (const { level, x, y, width, height, sha256: digest } of expected.regions) {
        const rgb = await readRegion(slide, level, x, y, width, height, native);
        expect({ level, x, y, digest: sha256(rgb) }).toEqual({ level, x, y, digest });
      }
      await slide.close();
    });

    if (name.startsWith('TCGA')) continue;
    test(`${name}: the wasm decoder gives the same pixels`, async () => {
      const slide = await openSlide(await openFile(shared(`slides/${name}`)));
      const small = expected.regions.filter(({ width, height }) => width * height <= 1_500_000);
      for (const { level, x, y, width, height, sha256: digest } of small) {
        const rgb = await readRegion(slide, level, x, y, width, height, wasm);
        expect({ level, x, y, digest: sha256(rgb) }).toEqual({ level, x, y, digest });
      }
      await slide.close();
    });
  }

  test.each([
    ['OS-1-detail.ome.tif', [0.2270972430394695, 0.22710240047237298]],
    ['OS-2-vsi.ome.tif', [0.34605325860336383, 0.3460559834973875]],
  ])('%s: mpp as its OME-XML states it', async (name, [x, y]) => {
    const slide = await openSlide(await openFile(shared(`slides/${name}`)));
    expect(slide).toMatchObject({ vendor: 'ome', mpp: { x, y, source: 'ome' } });
    await slide.close();
  });

  test('TCGA-CR-7395-01A-01-TS1.svs does not say its mpp; the person may', async () => {
    const slide = await openSlide(await openFile(shared('slides/TCGA-CR-7395-01A-01-TS1.svs')));
    expect(slide.objectivePower).toBeNull();
    expect(() => resolveMpp(slide, null)).toThrow(
      expect.objectContaining({ code: 'mpp-missing', next: expect.stringContaining('--slide-mpp') }),
    );
    expect(resolveMpp(slide, mpp(0.25))).toEqual({ x: 0.25, y: 0.25, source: 'override' });
    await slide.close();
  });

  // OpenSlide resamples levels whose downsample is no whole number; the reader here gives what is stored.
  test('derived/cmu-420-pyr.tif: every pixel of its fractional levels, whose tiles lie out of order, is libvips’', async () => {
    const path = shared('slides/derived/cmu-420-pyr.tif');
    const slide = await openSlide(await openFile(path));
    expect(slide.levels.map(({ downsample }) => Number.isInteger(downsample))).toEqual([
      true,
      false,
      false,
      false,
      false,
    ]);
    for (const [page, { width, height }] of slide.levels.entries()) {
      const stored = await sharp(path, { page }).removeAlpha().raw().toBuffer();
      const read = await readRegion(slide, page, 0, 0, width, height, native);
      expect({ page, digest: sha256(read) }).toEqual({ page, digest: sha256(stored) });
    }
    const index = await slide.blocks(0);
    const offsets = Array.from({ length: 9 * 12 }, (_, i) => index.range(i % 9, Math.floor(i / 9))!.offset);
    expect(offsets).not.toEqual(offsets.toSorted((a, b) => a - b));
    await slide.close();
  });

  test('tiles of a whole slide, by many chunks, are the regions that they cover', async () => {
    const slide = await openSlide(await openFile(shared('slides/CMU-1-Small-Region.svs')));
    const whole = await readRegion(slide, 0, 0, 0, 2220, 2967, native);
    const x: number[] = [];
    const y: number[] = [];
    for (let top = 0; top + 224 <= 2967; top += 224) {
      for (let left = 0; left + 224 <= 2220; left += 224) {
        x.push(left);
        y.push(top);
      }
    }
    const request = {
      level: 0,
      readPx: levelPx(224),
      tilePx: tilePx(224),
      filter: 'bilinear' as const,
      fit: null,
      x: Int32Array.from(x),
      y: Int32Array.from(y),
    };
    let next = 0;
    let wrong = 0;
    let blocks = 0;
    const onStats = ({ blocksDecoded }: { blocksDecoded: number }) => {
      blocks += blocksDecoded;
    };
    for await (const chunk of readTiles(slide, request, native, { onStats })) {
      expect(chunk.first).toBe(next);
      expect(chunk.failures).toEqual([]);
      for (let i = 0; i < chunk.count; i++) {
        const tile = chunk.pixels.subarray(i * 224 * 224 * 3, (i + 1) * 224 * 224 * 3);
        for (let row = 0; row < 224; row++) {
          const from = 3 * ((y[next + i]! + row) * 2220 + x[next + i]!);
          const same =
            Buffer.compare(tile.subarray(row * 672, (row + 1) * 672), whole.subarray(from, from + 672)) === 0;
          if (!same) wrong++;
        }
      }
      next += chunk.count;
    }
    expect({ next, wrong }).toEqual({ next: 117, wrong: 0 });
    expect(blocks).toBe(9 * 13);
    await slide.close();
  });

  test.each([['minerva-2048-subifd.ome.tif', /1 channel of 16 bits/]])(
    '%s is refused, with the reason',
    async (name, reason) => {
      const opening = openSlide(await openFile(shared(`slides/${name}`)));
      await expect(opening).rejects.toMatchObject({
        code: 'slide-unsupported',
        message: expect.stringMatching(reason),
      });
    },
  );

  test.each(['README.md'])('%s is not a slide', async (name) => {
    const opening = openSlide(await openFile(shared(`slides/${name}`)));
    await expect(opening).rejects.toMatchObject({ code: 'slide-not-a-slide' });
  });
});
