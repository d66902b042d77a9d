import type { QcSummary } from '@nightshift/core';
import { describe, expect, it } from 'vitest';
import { leftOut, qcLines } from '../../../apps/producer/src/tile-lines.ts';

describe('tiles that were left out', () => {
  it('are told apart: background, and by filter', () => {
    const counts = { rejectedByTissue: 1234, rejectedByFilter: 56 };
    expect(leftOut({ ...counts, filters: { hsv: 50, pen: 10 } })).toBe(
      '1,234 left out as background, 56 by the filter (hsv 50, pen 10)',
    );
    expect(leftOut({ ...counts, rejectedByFilter: 0, filters: {} })).toBe('1,234 left out as background');
    expect(leftOut({ ...counts, rejectedByFilter: 0, filters: { hsv: 0 } })).toContain('0 by the filter (hsv 0)');
  });
});

describe('what was measured', () => {
  const of = (tiles: number): QcSummary => ({
    tiles,
    hsv: { p5: 0.614, p50: 0.8, p95: 0.99 },
    blur: { p5: 31.4, p50: 240, p95: 1234 },
    pen: { p5: 0, p50: 0.004, p95: 0.1 },
  });

  it('is a line for the tiles with a vector, and one for those dropped where there are some', () => {
    expect(qcLines({ embedded: of(1200), dropped: of(9) })).toEqual([
      'p5 / p50 / p95  tiles  hsv                 blur              pen',
      'embedded        1,200  0.61 / 0.80 / 0.99  31 / 240 / 1,234  0.00 / 0.00 / 0.10',
      'dropped         9      0.61 / 0.80 / 0.99  31 / 240 / 1,234  0.00 / 0.00 / 0.10',
    ]);
    expect(qcLines({ embedded: of(1), dropped: null })).toHaveLength(2);
    expect(qcLines({ embedded: null, dropped: null })).toEqual([]);
    expect(qcLines(null)).toEqual([]);
  });
});
