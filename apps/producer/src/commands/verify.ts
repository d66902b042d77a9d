import { byteSize, command, count, counted, quoted, SHARED } from '@nightshift/cli';
import { type VerifyReport, verify } from '@nightshift/core';
import { SLIDES, showTransfer } from '../transfer.ts';

const SHOWN = 20;

export const verifyCommand = command({
  name: 'verify',
  about: 'Recount a record: plans against vectors, failures and the vector store. Changes nothing.',
  args: { usage: '<out>', min: 1, max: 1 },
  examples: [
    ['nightshift verify out', 'the only run of the record'],
    ['nightshift verify out --json | jq .findings', 'every finding, for a program'],
  ],
  details: [
    'Every planned tile must be a vector or a failure, once; every vector finite and of the right length; the vector store\n' +
      'must hold the same rows. Exit code 0 when all of that holds, 3 when something does not.',
  ],
  flags: { run: SHARED.run, store: SHARED.store },
  async run({ args, flags, terminal }) {
    const [out] = args as [string];
    const progress = showTransfer(terminal, undefined, SLIDES);
    const report = await verify({
      ...{ out, run: flags.run, store: flags.store },
      onSlide: (done, total) => progress.update('checking', done, total),
    }).finally(progress.end);
    return {
      exit: report.ok ? 0 : 3,
      data: describe(report),
      notes: [],
      next: report.ok && report.tiles.rows > 0 ? [`nightshift search ${quoted(out)} --image tile.png`] : [],
      json: report,
    };
  },
});

/** The recount in two lines, then what was found, worst first. */
export function describe({ ok, run, recipe, slides, tiles, reads, storeRows, findings }: VerifyReport): string[] {
  const others = (['failed', 'unfinished', 'missing'] as const)
    .filter((state) => slides[state] > 0)
    .map((state) => `${count(slides[state])} ${state}`);
  const stored = storeRows === null ? 'no vector store' : `${count(storeRows)} in the vector store`;
  const sorted = [...findings].sort((a, b) => Number(a.severity === 'warning') - Number(b.severity === 'warning'));
  const read =
    reads.objectBytes > 0
      ? `; ${byteSize(reads.bytes)} of ${byteSize(reads.objectBytes)} read in ${counted(reads.requests, 'request')}`
      : '';
  return [
    `${ok ? '✓' : '✗'} ${count(slides.done)} of ${counted(slides.total, 'slide')} done` +
      `${others.length > 0 ? ` (${others.join(', ')})` : ''}: ${count(tiles.planned)} tiles planned = ` +
      `${count(tiles.rows)} vectors + ${count(tiles.failed)} failed; ${stored}`,
    `  run ${run}, recipe ${recipe}${read}`,
    ...sorted
      .slice(0, SHOWN)
      .flatMap(({ severity, code, slide, message, next }) => [
        `${severity}[${code}]${slide === null ? '' : ` ${slide}`}: ${message}`,
        `  next: ${next}`,
      ]),
    ...(sorted.length > SHOWN ? [`… and ${count(sorted.length - SHOWN)} more: --json lists them all`] : []),
  ];
}
