import { basename } from 'node:path';
import type { Terminal } from '@nightshift/cli';
import {
  byteSize,
  choice,
  command,
  count,
  counted,
  duration,
  integer,
  modelDirs,
  needed,
  type Outcome,
  percent,
  quoted,
  rate,
  SHARED,
  text,
} from '@nightshift/cli';
import { embed, type RunEvent, type RunReport } from '@nightshift/core';
import { showProgress } from '../progress.ts';
import { TILE_FLAGS } from './recipe-flags.ts';

export const embedCommand = command({
  name: 'embed',
  about: 'Cut slides into tiles, embed the tiles, and keep the vectors in a record and a vector store.',
  args: { usage: '<source...>', min: 1, max: Number.POSITIVE_INFINITY },
  examples: [
    ['nightshift embed slide.svs --model models/midnight --out out', 'one slide'],
    ['nightshift embed slides/ --model models/midnight --out out', 'every slide below a folder'],
    ["nightshift embed 'slides/**/*.svs' --model models/midnight --out out", 'a glob, quoted'],
    ['nightshift embed cohort.csv --model models/midnight --out out', 'a manifest: uri[,mpp][,id][,...]'],
    ['nightshift embed slide.svs --model models/midnight --out out --limit 100', 'a first look: 100 tiles a slide'],
  ],
  details: [
    'The same command again goes on where it was stopped, and does nothing when nothing is missing.\n' +
      'A slide that cannot be read is reported and the others go on; the exit code is then 3.',
  ],
  flags: {
    model: needed(SHARED.model),
    out: SHARED.out,
    ...TILE_FLAGS,
    filter: choice({
      values: ['none', 'hsv'],
      about: 'hsv: leave out tiles with less than 60 % of H&E-coloured pixels',
      fallback: 'none',
    }),
    embedding: choice({
      values: ['cls', 'mean', 'cls+mean', 'patch'],
      about: 'what of the model becomes the vector',
      fallback: null,
      defaultText: "the model's",
    }),
    limit: integer({
      unit: 'tiles',
      min: 1,
      max: Number.MAX_SAFE_INTEGER,
      about: 'at most so many tiles a slide, spread evenly',
      fallback: null,
      defaultText: 'all',
    }),
    models: SHARED.models,
    store: SHARED.store,
    shardTiles: integer({ unit: 'tiles', min: 16, max: 65_536, about: 'tiles committed at once', fallback: 1024 }),
    batch: integer({
      unit: 'tiles',
      min: 1,
      max: 1024,
      about: 'tiles a run of the model',
      fallback: null,
      defaultText: '4 on a CPU',
    }),
    device: text({ about: 'cpu, cuda:0, webgpu, or auto', placeholder: 'DEVICE', defaultText: 'auto' }),
    threads: SHARED.threads,
    decodeThreads: integer({
      unit: 'threads',
      min: 1,
      max: 1024,
      about: 'threads that decode tiles',
      fallback: null,
      defaultText: 'by the number of cores',
    }),
  },
  async run({ args, flags, terminal, signal }) {
    const report = await embedWithProgress(
      {
        sources: args,
        model: flags.model,
        modelDirs: modelDirs(flags.models),
        out: flags.out,
        tilePx: flags.tile,
        mpp: flags.mpp,
        overlapPx: flags.overlap,
        embedding: flags.embedding,
        tissue: { method: flags.tissue, min: flags.minTissue },
        filter: flags.filter,
        slideMpp: flags.slideMpp,
        limit: flags.limit,
        shardTiles: flags.shardTiles,
        batch: flags.batch,
        threads: flags.threads,
        decodeThreads: flags.decodeThreads,
        device: flags.device ?? 'auto',
        store: flags.store,
      },
      terminal,
      signal,
    );
    return outcome(report, flags.store !== 'none', terminal);
  },
});

/** Embeds and shows how it goes. */
export async function embedWithProgress(
  options: Parameters<typeof embed>[0],
  terminal: Terminal,
  signal: AbortSignal,
): Promise<RunReport> {
  const progress = showProgress(terminal);
  try {
    return await embed(options, {
      signal,
      onProgress: progress.update,
      onEvent: (event) => {
        for (const line of eventLines(event, terminal)) terminal.say(line);
      },
    });
  } finally {
    progress.end();
  }
}

function eventLines(event: RunEvent, { paint }: Terminal): string[] {
  switch (event.type) {
    case 'slide-failed':
      return [`${paint('red', '✗')} ${basename(event.slide.uri)} ${paint('dim', `[${event.error.code}]`)}`];
    case 'slide-planned':
      return event.warnings.map((warning) => `${paint('yellow', '!')} ${basename(event.slide.uri)}: ${warning}`);
    case 'notice':
      return [`${paint('yellow', '!')} ${event.message}`];
    default:
      return [];
  }
}

function outcome(report: RunReport, indexed: boolean, { paint }: Terminal): Outcome {
  const failed = report.failures.length > 0 || report.slides.failed > 0;
  const exit = report.state === 'interrupted' ? 130 : failed ? 3 : 0;
  return {
    exit,
    data: [],
    piped: report.state === 'done' ? [report.out] : [],
    notes: [...summary(report, paint), ...failures(report, paint)],
    next: nextSteps(report, indexed),
    json: report,
  };
}

export function summary(
  { state, slides, tiles, seconds, tilesPerSecond, ...report }: RunReport,
  paint: Terminal['paint'],
): string[] {
  const rejected = tiles.rejectedByTissue + tiles.rejectedByFilter;
  const mark =
    state === 'interrupted'
      ? paint('yellow', '■ interrupted:')
      : slides.failed > 0
        ? paint('yellow', '!')
        : paint('green', '✓');
  const details = [
    slides.skipped > 0 ? `${count(slides.skipped)} done by an earlier run` : '',
    slides.empty > 0 ? `${count(slides.empty)} without tissue` : '',
    slides.failed > 0 ? `${count(slides.failed)} failed` : '',
  ].filter((part) => part !== '');
  const busy = report.deviceBusy === null ? '' : `, model busy ${percent(report.deviceBusy)}`;
  const speed = tilesPerSecond > 0 ? `, ${rate(tilesPerSecond)} tiles/s${busy}` : '';
  return [
    `${mark} ${count(slides.done)} of ${counted(slides.total, 'slide')}${details.length > 0 ? ` (${details.join(', ')})` : ''}: ` +
      `${count(tiles.embedded)} of ${counted(tiles.planned, 'tile')} embedded` +
      `${tiles.failed > 0 ? `, ${count(tiles.failed)} failed` : ''}; ${count(rejected)} left out as background`,
    `  ${duration(seconds)}${speed}, ${byteSize(report.bytesRead)} read; run ${report.run}, recipe ${report.recipe}`,
  ];
}

function failures({ failures }: RunReport, paint: Terminal['paint']): string[] {
  const shown = 10;
  const lines = failures.slice(0, shown).flatMap(({ uri, scope, tiles, error }) => {
    const subject = error.message.includes(basename(uri)) ? '' : `${basename(uri)}: `;
    const share = scope === 'tile' ? `${counted(tiles, 'tile')}: ` : '';
    return [
      `${paint('red', `error[${error.code}]`)}: ${subject}${share}${error.message}`,
      `  ${paint('cyan', 'next')}: ${error.next}`,
    ];
  });
  if (failures.length > shown) lines.push(`… and ${count(failures.length - shown)} more: --json lists them all`);
  return lines;
}

function nextSteps({ state, out, overlays, tiles }: RunReport, indexed: boolean): string[] {
  if (state === 'interrupted') return ['the same command again: it goes on where it stopped'];
  const steps = [`nightshift verify ${quoted(out)}`];
  if (tiles.embedded > 0) {
    if (indexed) steps.push(`nightshift search ${quoted(out)} --image tile.png --contact-sheet hits.jpg`);
    steps.push(`look at the pictures in ${overlays}: tissue and tiles of each slide`);
  }
  return steps;
}
