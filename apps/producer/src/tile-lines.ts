import { count, table } from '@nightshift/cli';
import type { LeftOut, Percentiles, QcReport, QcSummary } from '@nightshift/core';

/** `1,234 left out as background, 56 by the filters (hsv 50, pen 10)`; a tile may fail several filters. */
export function leftOut({ rejectedByTissue, rejectedByFilter, filters }: LeftOut): string {
  const byFilter = filterCounts(filters);
  const filtered = byFilter === '' ? '' : `, ${count(rejectedByFilter)} by the filter (${byFilter})`;
  return `${count(rejectedByTissue)} left out as background${filtered}`;
}

/** `hsv 50, pen 10`; empty without a filter. */
export const filterCounts = (filters: LeftOut['filters']): string =>
  Object.entries(filters)
    .map(([name, tiles]) => `${name} ${count(tiles)}`)
    .join(', ');

/** What was measured, in a table of percentiles; nothing where nothing was. */
export function qcLines(qc: QcReport | null, kept = 'embedded'): string[] {
  const rows = [
    [kept, qc?.embedded ?? null],
    ['dropped', qc?.dropped ?? null],
  ] as const;
  const measured = rows.flatMap(([what, summary]) =>
    summary ? [[what, count(summary.tiles), ...spread(summary)]] : [],
  );
  return measured.length === 0 ? [] : table(measured, ['p5 / p50 / p95', 'tiles', ...QC_HEADER]);
}

export const QC_HEADER = ['hsv', 'blur', 'pen'];

/** Percentiles of each measure, in the order of the header. */
export const spread = ({ hsv, blur, pen }: QcSummary): string[] => [
  percentiles(hsv, (share) => share.toFixed(2)),
  percentiles(blur, (sharpness) => count(sharpness)),
  percentiles(pen, (share) => share.toFixed(2)),
];

const percentiles = ({ p5, p50, p95 }: Percentiles, text: (value: number) => string): string =>
  [p5, p50, p95].map(text).join(' / ');
