import { basename } from 'node:path';
import { byteSize, count, counted, type Outcome, quoted, type Terminal, toggle } from '@nightshift/cli';
import { dryRun, type SealOptions } from '@nightshift/core';
import { leftOut, qcLines } from '../tile-lines.ts';
import { SLIDES, showTransfer } from '../transfer.ts';

export const DRY_RUN = toggle({
  about: 'say what would be done, and do nothing; with --filter or --qc some tiles are read',
});

/** What a run would do, and the exit code: 3 where slides would be refused. */
export async function dryOutcome(
  options: SealOptions,
  command: 'embed' | 'submit',
  terminal: Terminal,
  signal: AbortSignal,
): Promise<Outcome> {
  const { paint } = terminal;
  const progress = showTransfer(terminal, undefined, SLIDES);
  const report = await dryRun(options, {
    signal,
    onNotice: (message) => terminal.say(message),
    onSlide: (done, total) => progress.update('looking', done, total),
  }).finally(progress.end);
  const { slides, sampled, tiles, shards, judged, bytesToRead, bytesTotal, refused } = report;
  const about = sampled < slides.accepted ? `about ` : '';
  const share =
    bytesTotal > 0 ? ` (${((100 * bytesToRead) / bytesTotal).toFixed(1)} % of ${byteSize(bytesTotal)})` : '';
  const based = sampled < slides.accepted ? `, judged by the tissue of ${counted(sampled, 'slide')}` : '';
  const read = judged > 0 ? `; ${counted(judged, 'tile')} read to tell` : '';
  return {
    exit: refused.length > 0 ? 3 : 0,
    data: [
      `${counted(slides.accepted, 'slide')} of ${count(slides.total)}; ${about}${counted(tiles, 'tile')} in ${counted(shards, 'shard')}${based}`,
      `${about}${leftOut(report.leftOut)}${read}`,
      `${about}${byteSize(bytesToRead)} to read${share}`,
      ...qcLines(report.qc, 'kept'),
    ],
    notes: refused.flatMap(({ uri, error }) => [
      `${paint('red', `refused[${error.code}]`)}: ${error.message.includes(basename(uri)) ? '' : `${basename(uri)}: `}${error.message}`,
      `  ${paint('cyan', 'next')}: ${error.next}`,
    ]),
    next: [`nightshift ${command} ${options.sources.map(quoted).join(' ')} ... without --dry-run`],
    json: report,
  };
}
