import { describe, expect, it } from 'vitest';
import { QC_BINS, type QcHistograms, qcCounter, qcSummary } from '../../../packages/core/src/plan/qc.ts';
import type { Measure } from '../../../packages/core/src/slide/measure/measure.ts';

function counted(tiles: readonly { readonly [measure in Measure]: number }[]): QcHistograms {
  const counter = qcCounter();
  for (const tile of tiles) counter.add((measure) => tile[measure]);
  return counter.histograms;
}

/** The bin that one value lies in. */
const binOf = (measure: Measure, value: number): number =>
  counted([{ hsv: 0, blur: 0, pen: 0, [measure]: value }])[measure].indexOf(1);

describe('a histogram', () => {
  it.each([
    ['hsv', 0, 0],
    ['hsv', 0.5999, 59],
    ['hsv', 0.6, 60],
    ['hsv', 1, 99],
    ['pen', 0.2999, 29],
    ['pen', 0.3, 30],
    // What rounding may make of a flat tile.
    ['blur', -1e-12, 0],
    ['blur', 14.99, 19],
    ['blur', 15, 20],
    ['blur', 1020 ** 2, 99],
  ] as const)('of %s has %f in bin %i: the limits of the filters are edges', (measure, value, bin) => {
    expect(binOf(measure, value)).toBe(bin);
  });

  it('adds up to the same whether tiles are counted together or apart', () => {
    const tiles = Array.from({ length: 50 }, (_, i) => ({ hsv: i / 50, blur: i * i, pen: i / 100 }));
    const sum = qcCounter();
    for (const part of [tiles.slice(0, 20), tiles.slice(20)]) sum.addAll(counted(part));
    expect(sum.histograms).toEqual(counted(tiles));
  });

  it('leaves out what is no number', () => {
    const { hsv, blur } = counted([{ hsv: Number.NaN, blur: 3, pen: 0 }]);
    expect([hsv, blur].map((counts) => counts.reduce((a, b) => a + b))).toEqual([0, 1]);
    expect(Object.keys(hsv)).toHaveLength(QC_BINS);
  });
});

describe('percentiles', () => {
  it('are those of the values, to the width of a bin', () => {
    // 1,001 values from 0 to 1, their order of no account.
    const tiles = Array.from({ length: 1001 }, (_, i) => (i * 37) % 1001).map((i) => ({
      hsv: i / 1000,
      blur: i,
      pen: i / 4000,
    }));
    const { tiles: count, hsv, blur, pen } = qcSummary(counted(tiles))!;
    expect(count).toBe(1001);
    for (const [p, share] of [
      ['p5', 0.05],
      ['p50', 0.5],
      ['p95', 0.95],
    ] as const) {
      expect(Math.abs(hsv[p] - share)).toBeLessThan(0.01);
      expect(Math.abs(pen[p] - share / 4)).toBeLessThan(0.01);
      const sharpness = 1000 * share;
      expect(Math.abs(blur[p] - sharpness)).toBeLessThan((1 + sharpness) * (2 ** 0.2 - 1));
    }
  });

  it('of one tile lie in its bin, of none there are none', () => {
    const { hsv, blur } = qcSummary(counted([{ hsv: 0.505, blur: 15.5, pen: 0 }]))!;
    for (const value of Object.values(hsv)) expect(Math.floor(100 * value)).toBe(50);
    for (const value of Object.values(blur)) expect(value).toBeGreaterThan(15);
    expect(qcSummary(counted([]))).toBeNull();
  });
});
