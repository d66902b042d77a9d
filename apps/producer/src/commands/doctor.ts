import { command, modelDirs, SHARED, text } from '@nightshift/cli';
import { type Check, doctor } from '@nightshift/core';

const MARKS: Readonly<Record<Check['state'], string>> = { good: '✓', missing: '·', broken: '✗' };

export const doctorCommand = command({
  name: 'doctor',
  about: 'Look at everything that a run needs, and say how to mend what is broken.',
  args: { usage: '', min: 0, max: 0 },
  examples: [
    ['nightshift doctor', 'this machine'],
    ['nightshift doctor --out out', 'and can this directory be written?'],
  ],
  flags: {
    out: text({ about: 'a directory that a run would write to', placeholder: 'DIR' }),
    models: SHARED.models,
  },
  async run({ flags, signal }) {
    const report = await doctor({ out: flags.out, modelDirs: modelDirs(flags.models) }, signal);
    const width = Math.max(...report.checks.map(({ name }) => name.length));
    return {
      exit: report.healthy ? 0 : 4,
      data: report.checks.flatMap(({ name, state, found, fix }) => [
        `${MARKS[state]} ${name.padEnd(width)}  ${found}`,
        ...(fix === null ? [] : [`  ${' '.repeat(width)}  → ${fix}`]),
      ]),
      notes: [],
      next: report.healthy ? ['nightshift demo'] : [],
      json: report,
    };
  },
});
