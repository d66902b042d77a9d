import { describe, expect, test } from 'vitest';
import { between, type Piece, placedLayout } from '../../../packages/core/src/slide/layout.ts';

const level = { width: 1_000, height: 800 };
const used = () => ({ width: 100, height: 100 });
const piece = (block: number, x: number, y: number, more: Partial<Piece> = {}): Piece => ({
  ...{ block, left: 0, top: 0, width: 100, height: 100, x, y },
  ...more,
});
const place = (pieces: Iterable<Piece>, size = level) => placedLayout('a.slide', size, pieces, used);

test('a place within 1/512 px of a pixel is that pixel', () => {
  expect(between(7)).toEqual({ at: 7, shift: 0 });
  expect(between(7.0019)).toEqual({ at: 7, shift: 0 });
  expect(between(7.9981)).toEqual({ at: 8, shift: 0 });
  expect(between(-0.5)).toEqual({ at: -1, shift: 32_768 });
  expect(between(7.998)).toEqual({ at: 7, shift: 65_405 });
});

describe('blocks at positions of their own', () => {
  test('are found under a rectangle in the order in which they are drawn, those that only touch it not', () => {
    const layout = place([piece(3, 90, 0), piece(1, 0, 0), piece(2, 0, 90), piece(0, 200, 0)]);
    expect(layout.under(0, 0, 100, 100).map(({ block }) => block)).toEqual([3, 1, 2]);
    expect(layout.under(100, 0, 100, 100).map(({ block }) => block)).toEqual([3]);
    expect(layout.under(190, 100, 50, 50)).toEqual([]);
    expect(layout.under(0, 0, 1_000, 800)).toHaveLength(4);
  });

  test('are the same whatever their sizes: as looking at each of them finds', () => {
    const pieces = Array.from({ length: 500 }, (_, i) => {
      const random = (k: number) => (Math.imul(i + 1, k) >>> 8) % 1_000;
      const size = { width: 1 + (random(69_069) % 90), height: 1 + (random(1_664_525) % 200) };
      return piece(i, random(22_695_477), random(134_775_813) % 800, size);
    });
    const layout = place(pieces);
    for (let i = 0; i < 100; i++) {
      const [x, y, w, h] = [(i * 37) % 900, (i * 53) % 700, 1 + (i % 90), 1 + ((i * 7) % 95)];
      const expected = pieces.filter((p) => p.x < x + w && p.y < y + h && p.x + p.width > x && p.y + p.height > y);
      expect(layout.under(x, y, w, h).map(({ block }) => block)).toEqual(expected.map(({ block }) => block));
    }
  });

  test('are cut to the level', () => {
    const layout = place([piece(0, -30, 750), piece(1, -100, 0), piece(2, 1_000, 0), piece(3, 950, -20, { left: 5 })]);
    expect([0, 1, 2, 3].map((block) => layout.of(block))).toEqual([
      [{ block: 0, left: 30, top: 0, width: 70, height: 50, x: 0, y: 750 }],
      [],
      [],
      [{ block: 3, left: 5, top: 20, width: 50, height: 80, x: 950, y: 0 }],
    ]);
  });

  test('may be several pieces of one block', () => {
    const halves = [piece(7, 0, 0, { width: 50 }), piece(7, 300, 0, { width: 50, left: 50 })];
    expect(place(halves).of(7)).toEqual(halves);
    expect(place(halves).of(6)).toEqual([]);
    expect(place(halves).of(8)).toEqual([]);
  });

  test('between pixels are found under all they touch, and lie at the next pixels where whole ones are asked for', () => {
    const half = { x: 32_768, y: 0 };
    const beyond = piece(1, -1, 0, { shift: { x: 60_000, y: 60_000 } });
    const layout = place([piece(0, 100, 0, { shift: half }), beyond]);
    expect(layout.shifted).toBe(true);
    expect(layout.under(200, 0, 10, 10)).toEqual([piece(0, 100, 0, { shift: half })]);
    expect(layout.under(201, 0, 10, 10)).toEqual([]);
    expect(layout.under(0, 100, 10, 10)).toEqual([beyond]);
    expect(layout.of(0)).toEqual([piece(0, 101, 0)]);
    expect(layout.of(1)).toEqual([piece(1, 0, 1)]);
    expect(place([piece(0, 100, 0)]).shifted).toBe(false);
  });

  test('are limited in number, and over one spot', () => {
    const many = (count: number, at: (i: number) => Piece) => Array.from({ length: count }, (_, i) => at(i)).values();
    const limits = expect.objectContaining({ code: 'slide-limits' });
    const wide = { width: 2 ** 20, height: 2 ** 20 };
    expect(place(many(64, (i) => piece(i, 0, 0))).under(0, 0, 1, 1)).toHaveLength(64);
    expect(() => place(many(65, (i) => piece(i, 0, 0)))).toThrow(limits);
    // A grid of blocks much smaller than what is looked up at a time is no heap.
    const small = { width: 10, height: 10 };
    const grid = many(100 * 100, (i) => piece(i, 10 * (i % 100), 10 * Math.floor(i / 100), small));
    expect(place(grid, { width: 2 ** 17, height: 2 ** 17 }).under(0, 0, 20, 20)).toHaveLength(4);
    expect(() =>
      place(
        many(1_000_001, (i) => piece(i, 100 * (i % 10_000), i)),
        wide,
      ),
    ).toThrow(limits);
  });
});
