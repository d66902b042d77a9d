import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { type ContactSheetHit, contactSheet } from '../../../packages/core/src/picture/contact-sheet.ts';
import { tissueOverlay } from '../../../packages/core/src/picture/overlay.ts';
import { makePlan } from '../../../packages/core/src/plan/make-plan.ts';
import type { Plan } from '../../../packages/core/src/plan/plan.ts';
import { levels, recipe, ref, square } from '../plan/samples.ts';

type Colour = readonly [number, number, number];

async function decoded(jpeg: Uint8Array) {
  const { format } = await sharp(jpeg).metadata();
  const { data, info } = await sharp(jpeg).raw().toBuffer({ resolveWithObject: true });
  const at = (x: number, y: number): number[] => [
    ...data.subarray((y * info.width + x) * 3, (y * info.width + x) * 3 + 3),
  ];
  return { format, width: info.width, height: info.height, at };
}

/** Within the error of the JPEG. */
const near = (pixel: readonly number[], colour: Colour) => pixel.every((v, i) => Math.abs(v - colour[i]!) <= 6);

const plain = (colour: Colour, px: number) => {
  const rgb = new Uint8Array(px * px * 3);
  for (let i = 0; i < px * px; i++) rgb.set(colour, 3 * i);
  return { rgb, px };
};

describe('the contact sheet', () => {
  const query = { ...plain([200, 120, 170], 224), label: 'query.svs 10,20' };
  const hits = (count: number): ContactSheetHit[] =>
    Array.from({ length: count }, (_, i) => ({
      ...plain([20 * (i % 10), 120, 200 - 15 * (i % 10)], i % 2 ? 224 : 64),
      slide: 'TCGA-CR-7395-01A-01-TS1.b5f1c3e2-0c1d.svs',
      x: 123_456,
      y: 98_765,
      score: 1 - i / 10,
    }));

  it('shows the query, framed, and each hit in order, five a row', async () => {
    const sheet = await decoded(await contactSheet({ title: 'Ten', query, hits: hits(10) }));
    expect(sheet.format).toBe('jpeg');
    expect(near(sheet.at(216, 278), [200, 120, 170])).toBe(true);
    expect(near(sheet.at(58, 278), [213, 94, 0])).toBe(true);
    for (let i = 0; i < 10; i++) {
      const [x, y] = [436 + (i % 5) * 248 + 112, 118 + Math.floor(i / 5) * 314 + 112];
      expect(near(sheet.at(x, y), [20 * i, 120, 200 - 15 * i])).toBe(true);
    }
  });

  it('is the same picture each time', async () => {
    const make = () => contactSheet({ title: 'Ten', query, hits: hits(3) });
    expect(Buffer.compare(await make(), await make())).toBe(0);
  });

  it.each([[0], [1], [4], [37], [101]])('holds %i hits', async (count) => {
    const sheet = await decoded(await contactSheet({ title: 'A title '.repeat(40), query, hits: hits(count) }));
    expect(sheet.width).toBeGreaterThan(1000);
    expect(sheet.height).toBeGreaterThan(400);
    expect(sheet.height).toBeLessThan(4000);
    expect(near(sheet.at(sheet.width - 5, 40), [255, 255, 255])).toBe(true);
  });

  it('takes scores below zero', async () => {
    const below = { ...hits(1)[0]!, score: -0.5 };
    await expect(contactSheet({ title: 'Far', query, hits: [below] })).resolves.toBeInstanceOf(Uint8Array);
  });
});

describe('the tissue overlay', () => {
  /** Stain on the left half of a slide of `size` px square. */
  function stained(size: number, px: number, change: Parameters<typeof recipe>[0] = {}) {
    const rgb = new Uint8Array(px * px * 3).fill(243);
    for (let i = 0; i < px * px; i++) if (i % px < px / 2) rgb.set([214, 150, 190], 3 * i);
    const overview = { width: px, height: px, rgb, unreadable: null as Uint8Array | null };
    const plan: Plan = makePlan({
      slide: { levels: levels(size, size), vendor: 'aperio', objectivePower: 20 },
      ref,
      mpp: square(0.499),
      overview: { ...overview, downsampleX: size / px, downsampleY: size / px },
      recipe: recipe({ tissue: { method: 'auto', min: 0.6 }, ...change }),
      recipeId: 'r',
      shardTiles: 512,
    });
    return { overview, plan, name: 's3://bucket/folder/slide.svs' };
  }

  it('tints planned tiles, frames the tissue, and leaves the rest as it is', async () => {
    const input = stained(2240, 400);
    const picture = await decoded(await tissueOverlay(input));
    expect(picture).toMatchObject({ format: 'jpeg', width: 1456, height: 1400 + 28 + 118 });
    const tint = (colour: Colour): Colour =>
      colour.map((v, i) => Math.round(0.9 * v + 0.1 * [0, 114, 178][i]!)) as never;
    expect(input.plan.counts.planned).toBe(50);
    expect(near(picture.at(28 + 70, 28 + 70), tint([214, 150, 190]))).toBe(true);
    expect(near(picture.at(28 + 1330, 28 + 70), [243, 243, 243])).toBe(true);
    const acrossBorder = Array.from({ length: 30 }, (_, i) => picture.at(28 + 690 + i, 28 + 650));
    expect(acrossBorder.some(([r, , b]) => r! - b! > 120)).toBe(true);
  });

  it.each([
    [23_716, 34_560, 1000],
    [1, 224, 24],
    [0, 100, 32],
  ])('works for %i tiles', async (tiles, size, px) => {
    const input = stained(size, px, { tissue: { method: 'none', min: 0 } });
    expect(input.plan.counts.planned).toBe(tiles);
    const picture = await decoded(await tissueOverlay(input));
    expect(picture.width).toBe(1456);
  });

  it('stripes what could not be read', async () => {
    const input = stained(2240, 400);
    const unreadable = new Uint8Array(400 * 400);
    for (let i = 0; i < unreadable.length; i++) if (i % 400 > 350) unreadable[i] = 1;
    const picture = await decoded(await tissueOverlay({ ...input, overview: { ...input.overview, unreadable } }));
    const values = Array.from({ length: 60 }, (_, i) => picture.at(28 + 1300 + i, 28 + 700)[0]!);
    expect(Math.max(...values) - Math.min(...values)).toBeGreaterThan(20);
  });

  it('of a long strip has room for its words', async () => {
    const { plan } = stained(2240, 400);
    const overview = { width: 20, height: 900, rgb: new Uint8Array(20 * 900 * 3).fill(240), unreadable: null };
    const picture = await decoded(
      await tissueOverlay({ overview, plan: { ...plan, warnings: ['Something '.repeat(60)] } }),
    );
    expect(picture).toMatchObject({ width: 900, height: 1546 });
  });
});
