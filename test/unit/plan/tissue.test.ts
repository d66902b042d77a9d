import { join } from 'node:path';
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { findTissue, type Overview, type TissueMask } from '../../../packages/core/src/plan/tissue.ts';
import { mpp } from '../../../packages/core/src/units.ts';
import { describeShared } from '../../fixtures/shared.ts';
import { thumbnails } from '../../fixtures/tissue/thumbnails.ts';

type Colour = readonly [number, number, number];
const GLASS: Colour = [243, 243, 242];
const EOSIN: Colour = [222, 150, 185];
const SIZE = 240;

/** A picture of 240 x 240 px with the noise of a scan, +-3 in each channel: `at` gives the colour of a pixel. */
function picture(at: (x: number, y: number) => Colour): Overview {
  const rgb = new Uint8Array(SIZE * SIZE * 3);
  let state = 1;
  for (let i = 0; i < rgb.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const pixel = Math.floor(i / 3);
    const value = at(pixel % SIZE, Math.floor(pixel / SIZE))[i % 3]!;
    rgb[i] = Math.min(255, Math.max(0, value + ((state >>> 16) % 7) - 3));
  }
  return { width: SIZE, height: SIZE, rgb };
}

const disc = (cx: number, cy: number, radius: number) => (x: number, y: number) => Math.hypot(x - cx, y - cy) < radius;
const at = ({ data }: TissueMask, x: number, y: number) => data[y * SIZE + x];
const piece = disc(120, 120, 60);

describe('finding tissue', () => {
  it('finds a stained piece to within a pixel of its border', () => {
    const mask = findTissue(picture((x, y) => (piece(x, y) ? EOSIN : GLASS)));
    let wrong = 0;
    for (let i = 0; i < mask.data.length; i++) {
      const [x, y] = [i % SIZE, Math.floor(i / SIZE)];
      const near = Math.abs(Math.hypot(x - 120, y - 120) - 60) < 2;
      if (!near && mask.data[i] !== Number(piece(x, y))) wrong++;
    }
    expect(wrong).toBe(0);
  });

  it.each<[string, Colour]>([
    ['white', [255, 255, 255]],
    ['grey glass', [214, 214, 216]],
    ['yellowed glass', [240, 236, 222]],
    ['dark tinted glass', [180, 178, 170]],
    ['black, as a fluorescence scan', [3, 3, 6]],
  ])('finds none on an empty slide: %s', (_, colour) => {
    expect(findTissue(picture(() => colour)).share).toBe(0);
  });

  it('finds a fragment of a thousandth of the slide', () => {
    const fragment = disc(60, 60, 4.5);
    const mask = findTissue(picture((x, y) => (fragment(x, y) ? [235, 205, 222] : GLASS)));
    expect(at(mask, 60, 60)).toBe(1);
    expect(mask.share).toBeLessThan(0.003);
  });

  it('takes a slide that is tissue from edge to edge whole', () => {
    const all = findTissue(picture((x) => (x % 40 < 20 ? EOSIN : [150, 90, 160])));
    expect(all.share).toBe(1);
    expect(findTissue(picture(() => EOSIN)).share).toBe(1);
  });

  it('keeps a faint stain, also beside a strong one', () => {
    const faint: Colour = [236, 216, 228];
    const beside = findTissue(picture((x, y) => (piece(x, y) ? (x < 120 ? faint : [120, 40, 130]) : GLASS)));
    expect([at(beside, 90, 120), at(beside, 150, 120), at(beside, 20, 20)]).toEqual([1, 1, 0]);
    const alone = findTissue(picture((x, y) => (piece(x, y) ? faint : GLASS)));
    expect(alone.share).toBeCloseTo((Math.PI * 60 * 60) / SIZE ** 2, 1);
  });

  it('sees a faint stain on yellowed glass: white is what the glass is', () => {
    const mask = findTissue(picture((x, y) => (piece(x, y) ? [228, 208, 204] : [240, 236, 222])));
    expect([at(mask, 120, 120), at(mask, 20, 20)]).toEqual([1, 0]);
  });

  it.each<[string, Colour]>([
    ['green pen', [40, 150, 90]],
    ['blue pen', [30, 80, 190]],
    ['red pen', [215, 35, 50]],
    ['black pen', [30, 30, 34]],
    ['grey pen', [95, 92, 100]],
  ])('leaves out a %s stroke beside the tissue', (_, ink) => {
    const stroke = (x: number, y: number) => x > 205 && x < 217 && y > 20;
    const mask = findTissue(picture((x, y) => (stroke(x, y) ? ink : piece(x, y) ? EOSIN : GLASS)));
    expect([at(mask, 120, 120), at(mask, 211, 120), at(mask, 211, 200)]).toEqual([1, 0, 0]);
  });

  it.each<[string, Colour]>([
    ['trichrome blue', [60, 85, 165]],
    ['light green', [95, 170, 150]],
  ])('keeps tissue that has the colour of ink when all of it has: %s', (_, stain) => {
    expect(at(findTissue(picture((x, y) => (piece(x, y) ? stain : GLASS))), 120, 120)).toBe(1);
  });

  it('keeps blue collagen inside red tissue', () => {
    const scar = disc(120, 120, 25);
    const mask = findTissue(picture((x, y) => (scar(x, y) ? [60, 85, 165] : piece(x, y) ? [190, 60, 80] : GLASS)));
    expect(at(mask, 120, 120)).toBe(1);
  });

  it('leaves out black blobs and bubbles', () => {
    const blob = disc(40, 40, 18);
    const bubble = (x: number, y: number) => Math.abs(Math.hypot(x - 200, y - 40) - 15) < 2;
    const mask = findTissue(
      picture((x, y) => (blob(x, y) ? [25, 18, 22] : bubble(x, y) ? [88, 86, 90] : piece(x, y) ? EOSIN : GLASS)),
    );
    expect([at(mask, 40, 40), at(mask, 200, 25), at(mask, 200, 40), at(mask, 120, 120)]).toEqual([0, 0, 0, 1]);
  });

  it('leaves out specks, fills pores, keeps lumina', () => {
    const speck = disc(20, 20, 1.5);
    const pore = disc(100, 120, 2);
    const lumen = disc(145, 120, 14);
    const mask = findTissue(
      picture((x, y) => (speck(x, y) || (piece(x, y) && !pore(x, y) && !lumen(x, y)) ? EOSIN : GLASS)),
    );
    expect([at(mask, 20, 20), at(mask, 100, 120), at(mask, 145, 120)]).toEqual([0, 1, 0]);
  });

  it('closes the gaps between cells where the overview is fine enough to show them', () => {
    const cell = (x: number, y: number) => Math.hypot((x % 16) - 8, (y % 16) - 8) < 4;
    const field = picture((x, y) => (x < 160 && cell(x, y) ? [150, 170, 215] : GLASS));
    const fine = findTissue(field, mpp(0.7));
    expect([at(fine, 80, 80), at(fine, 88, 80), at(fine, 200, 80)]).toEqual([1, 1, 0]);
    expect(fine.share).toBeGreaterThan(0.6);
    expect(findTissue(field, mpp(30)).share).toBeLessThan(0.4);
  });

  it('counts what could not be read as tissue', () => {
    const unreadable = new Uint8Array(SIZE * SIZE);
    unreadable.fill(1, 0, 10 * SIZE);
    expect(findTissue({ ...picture(() => GLASS), unreadable }).share).toBeCloseTo(10 / SIZE, 10);
  });
});

describeShared('finding tissue on real slides', () => {
  const load = async (name: string) => {
    const file = join(import.meta.dirname, '../../fixtures/tissue', `${name}.png`);
    const { data, info } = await sharp(file).toColourspace('b-w').raw().toBuffer({ resolveWithObject: true });
    return { data, ...info };
  };

  // Bounds: measured 0.956, 0.968 and 0.887 (fat, which darkness sees less of), less 0.01.
  it.each([
    ['cmu-skin', 0.946],
    ['tcga-frozen', 0.958],
    ['camelyon-lymph-node', 0.877],
  ] as const)('agrees on %s with a mask made by darkness: IoU at least %f', async (name, bound) => {
    const mask = findTissue(await thumbnails[name]());
    const reference = await load(name);
    const small = await sharp(
      mask.data.map((v) => v * 255),
      { raw: { width: mask.width, height: mask.height, channels: 1 } },
    )
      .resize(reference.width, reference.height, { kernel: 'linear', fit: 'fill' })
      .extractChannel(0)
      .raw()
      .toBuffer();
    let both = 0;
    let either = 0;
    for (let i = 0; i < small.length; i++) {
      const [a, b] = [small[i]! >= 128, reference.data[i]! >= 128];
      if (a && b) both++;
      if (a || b) either++;
    }
    expect(both / either).toBeGreaterThanOrEqual(bound);
  });

  it('keeps pale keratin and loose stroma of the CMU skin', async () => {
    const mask = findTissue(await thumbnails['cmu-skin']());
    const tissueAt = (x: number, y: number) => mask.data[y * mask.width + x];
    expect([tissueAt(345, 440), tissueAt(365, 300), tissueAt(300, 745), tissueAt(470, 340)]).toEqual([1, 1, 1, 1]);
    expect([tissueAt(100, 100), tissueAt(345, 120), tissueAt(500, 600)]).toEqual([0, 0, 0]);
  });
});
