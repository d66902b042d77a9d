import { basename } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { command, count, counted, integer, type Outcome, quoted, SHARED, table, toggle } from '@nightshift/cli';
import { openStatus, type SlidesReport, type StatusReport } from '@nightshift/core';
import { filterCounts, leftOut, QC_HEADER, qcLines, spread } from '../tile-lines.ts';

export const statusCommand = command({
  name: 'status',
  about: 'Say how far a run is, by its record alone.',
  args: { usage: '<out>', min: 1, max: 1 },
  examples: [
    ['nightshift status s3://bucket/out', 'once'],
    ['nightshift status out --watch', 'until it is done'],
    ['nightshift status out --slides', 'slide by slide: tiles, what was left out and why, what --qc measured'],
    ['nightshift status out --json | jq .tiles', 'for a program; with --watch one object a line'],
  ],
  flags: {
    run: SHARED.run,
    slides: toggle({ about: 'also every slide by itself' }),
    watch: toggle({ about: 'go on until the run is done' }),
    every: integer({ unit: 'seconds', min: 1, max: 3600, about: 'how often to look', fallback: 2 }),
  },
  async run({ args, flags, terminal, signal }): Promise<Outcome> {
    const [out] = args as [string];
    const status = await openStatus({ out, run: flags.run });
    let report = await status.read();
    while (flags.watch && report.state !== 'done' && report.state !== 'failed' && !signal.aborted) {
      if (terminal.json) terminal.data(JSON.stringify({ ...report, version: 1, command: 'status' }));
      else terminal.status(line(report));
      await setTimeout(flags.every * 1000, undefined, { signal }).catch(() => {});
      report = await status.read();
    }
    terminal.status(null);
    const slides = flags.slides ? await status.slides() : null;
    return {
      exit: signal.aborted ? 130 : report.state === 'failed' ? 3 : 0,
      data: [line(report), ...(slides ? ['', ...slideTable(slides)] : [])],
      notes: [
        ...(report.slides.planned > 0 ? [leftOut(report.tiles)] : []),
        ...qcLines(slides?.qc ?? null),
        `run ${report.run}, recipe ${report.recipe}, model ${report.model}`,
      ],
      next: nextSteps(report, out),
      json: { ...report, ...slides },
    };
  },
});

function line({ state, slides, shards, tiles }: StatusReport): string {
  const failed = slides.failed > 0 ? `, ${count(slides.failed)} failed` : '';
  return (
    `${state}: ${count(slides.done)} of ${counted(slides.total, 'slide')}${failed}; ${count(shards.done)} of ` +
    `${counted(shards.total, 'shard')}; ${count(tiles.embedded)} of ${counted(tiles.planned, 'tile')}` +
    `${slides.planned < slides.total ? ` of ${count(slides.planned)} planned slides` : ''}` +
    `${tiles.failed > 0 ? `, ${count(tiles.failed)} failed` : ''}`
  );
}

function slideTable({ bySlide, qc }: SlidesReport): string[] {
  const filtered = bySlide.some(({ tiles }) => Object.keys(tiles.filters).length > 0);
  const rows = bySlide.map(({ uri, state, tiles, qc: own }) => [
    ...[basename(uri), state, tiles.planned, tiles.embedded, tiles.failed, tiles.rejectedByTissue],
    ...(filtered ? [tiles.rejectedByFilter, filterCounts(tiles.filters)] : []),
    ...(qc ? (own?.embedded ? spread(own.embedded) : QC_HEADER.map(() => '-')) : []),
  ]);
  return table(rows, [
    ...['slide', 'state', 'tiles', 'embedded', 'failed', 'background'],
    ...(filtered ? ['filtered', 'by'] : []),
    ...(qc ? QC_HEADER.map((name) => `${name} p5 / p50 / p95`) : []),
  ]);
}

function nextSteps({ state, slides, tiles }: StatusReport, out: string): string[] {
  if (state === 'running' || state === 'submitting') return [`nightshift status ${quoted(out)} --watch`];
  const retry = slides.failed > 0 || tiles.failed > 0 ? [`nightshift retry ${quoted(out)}`] : [];
  return [...retry, `nightshift verify ${quoted(out)}`];
}
