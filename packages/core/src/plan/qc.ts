import { z } from 'zod';
import { MEASURES, type Measure } from '../slide/measure/measure.ts';

/** What was measured of some tiles: a value each, in their order. */
export type QcValues = { readonly [measure in Measure]: Float32Array };

/** How many tiles have a value in each of `QC_BINS` bins, from the lowest on. */
export type QcHistograms = { readonly [measure in Measure]: readonly number[] };

/** Of the values of one measure, each to the width of its bin. */
export interface Percentiles {
  readonly p5: number;
  readonly p50: number;
  readonly p95: number;
}

export type QcSummary = { readonly tiles: number } & { readonly [measure in Measure]: Percentiles };

export const QC_BINS = 100;

/**
 * Bin `i` of a share is [i / 100, (i + 1) / 100), the last one with 1; of sharpness [2^(i / 5) - 1, 2^((i + 1) / 5) - 1), which reaches beyond the
 * largest variance of a Laplacian of 8-bit values, 1,040,400. The limits of the filters (0.6, 15 and 0.3) are edges.
 */
const SHARES = { binOf: (value: number) => 100 * value, edge: (bin: number) => bin / 100 };
const OCTAVES = { binOf: (value: number) => 5 * Math.log2(1 + value), edge: (bin: number) => 2 ** (bin / 5) - 1 };
const BINS: { readonly [measure in Measure]: typeof SHARES } = { hsv: SHARES, blur: OCTAVES, pen: SHARES };

/** A value for each measure. */
export const byMeasure = <T>(of: (measure: Measure) => T): { readonly [measure in Measure]: T } =>
  Object.fromEntries(MEASURES.map((measure) => [measure, of(measure)])) as { readonly [measure in Measure]: T };

/** Counts tiles as they go by. */
export interface QcCounter {
  readonly histograms: QcHistograms;
  add(measured: (measure: Measure) => number): void;
  addAll(histograms: QcHistograms): void;
}

export function qcCounter(): QcCounter {
  const histograms = byMeasure(() => new Array<number>(QC_BINS).fill(0));
  return {
    histograms,
    /** A value that is not finite is in no bin. */
    add(measured) {
      for (const measure of MEASURES) {
        const bin = Math.max(0, Math.min(QC_BINS - 1, Math.floor(BINS[measure].binOf(measured(measure)))));
        if (Number.isInteger(bin)) histograms[measure][bin] += 1;
      }
    },
    addAll(others) {
      for (const measure of MEASURES)
        for (const [bin, count] of others[measure].entries()) histograms[measure][bin] += count;
    },
  };
}

/** Null of no tiles. */
export function qcSummary(histograms: QcHistograms): QcSummary | null {
  const tiles = total(histograms[MEASURES[0]]);
  if (tiles === 0) return null;
  const at = (measure: Measure, share: number) => percentile(histograms[measure], share, BINS[measure].edge);
  return { tiles, ...byMeasure((m) => ({ p5: at(m, 0.05), p50: at(m, 0.5), p95: at(m, 0.95) })) };
}

/** As if the values of a bin were spread evenly over it. */
function percentile(counts: readonly number[], share: number, edge: (bin: number) => number): number {
  let left = share * total(counts);
  const bin = counts.findIndex((count) => {
    left -= count;
    return count > 0 && left <= 0;
  });
  return edge(bin) + (edge(bin + 1) - edge(bin)) * (1 + left / counts[bin]);
}

const total = (counts: readonly number[]): number => counts.reduce((sum, count) => sum + count, 0);

const counts = z.array(z.int().nonnegative()).length(QC_BINS);

/** Histograms as they stand in a file of the record. */
export const qcSchema = z.object({ hsv: counts, blur: counts, pen: counts });
