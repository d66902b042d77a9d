import { basename } from 'node:path';
import {
  byteSize,
  count,
  counted,
  duration,
  type Outcome,
  percent,
  quoted,
  rate,
  type Terminal,
} from '@nightshift/cli';
import type { RunEvent, RunHooks, RunReport } from '@nightshift/core';
import { showProgress } from '../progress.ts';
import { leftOut, qcLines } from '../tile-lines.ts';

/** Runs something that embeds, and shows how it goes. */
export async function withProgress(
  terminal: Terminal,
  signal: AbortSignal,
  run: (hooks: RunHooks) => Promise<RunReport>,
): Promise<RunReport> {
  const progress = showProgress(terminal);
  try {
    return await run({
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
    case 'slide-failed': {
      const { slide, error } = event;
      const reason = error.message.replace(new RegExp(`^${RegExp.escape(slide.uri)}:? `), '');
      return [`${paint('red', '✗')} ${basename(slide.uri)} ${paint('dim', `[${error.code}]`)} ${reason}`];
    }
    case 'slide-planned':
      return event.warnings.map((warning) => `${paint('yellow', '!')} ${basename(event.slide.uri)}: ${warning}`);
    case 'notice':
      return [`${paint('yellow', '!')} ${event.message}`];
    default:
      return [];
  }
}

/** What a run's report looks like to a person and to a program, and the exit code. */
export function reportOutcome(report: RunReport, indexed: boolean, { paint }: Terminal): Outcome {
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
  // A process that only planned from stored plans, or waited, has read nothing.
  const read = report.bytesRead > 0 ? `, ${byteSize(report.bytesRead)} read` : '';
  const speed = tilesPerSecond > 0 ? `, ${rate(tilesPerSecond)} tiles/s${busy}` : '';
  return [
    `${mark} ${count(slides.done)} of ${counted(slides.total, 'slide')}${details.length > 0 ? ` (${details.join(', ')})` : ''}: ` +
      `${count(tiles.embedded)} of ${counted(tiles.planned, 'tile')} embedded` +
      `${tiles.failed > 0 ? `, ${count(tiles.failed)} failed` : ''}; ${leftOut(tiles)}`,
    `  ${duration(seconds)}${speed}${read}; run ${report.run}, recipe ${report.recipe}`,
    ...qcLines(report.qc).map((line) => `  ${line}`),
  ];
}

export function failures({ failures }: RunReport, paint: Terminal['paint']): string[] {
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
