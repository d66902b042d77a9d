import { command, SHARED } from '@nightshift/cli';
import { embed } from '@nightshift/core';
import { DRY_RUN, dryOutcome } from './dry-run.ts';
import { RUN_FLAGS, runOptions } from './recipe-flags.ts';
import { reportOutcome, withProgress } from './run-report.ts';

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
    ...RUN_FLAGS,
    batch: SHARED.batch,
    device: SHARED.device,
    threads: SHARED.threads,
    decodeThreads: SHARED.decodeThreads,
    dryRun: DRY_RUN,
  },
  async run({ args, flags, terminal, signal }) {
    const given = runOptions(args, flags);
    if (flags.dryRun) return dryOutcome(given, 'embed', terminal, signal);
    const options = {
      ...given,
      batch: flags.batch,
      threads: flags.threads,
      decodeThreads: flags.decodeThreads,
      device: flags.device ?? 'auto',
    };
    const report = await withProgress(terminal, signal, (hooks) => embed(options, hooks));
    return reportOutcome(report, flags.store !== 'none', terminal);
  },
});
