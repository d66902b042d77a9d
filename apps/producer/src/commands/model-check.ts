import { command, duration, modelDirs, SHARED, table, text } from '@nightshift/cli';
import { type CheckReport, checkModel, driftMessage, findModel, NightshiftError, openEncoder } from '@nightshift/core';

export const modelCheckCommand = command({
  name: 'model check',
  about: 'Run a model’s probe here and compare its vectors with those of the float32 graph.',
  args: { usage: '<dir|name>', min: 1, max: 1 },
  examples: [
    ['nightshift model check models/midnight', 'on this machine’s usual device'],
    ['nightshift model check models/midnight --device cuda:0 --json', 'on a GPU, for a program'],
  ],
  details: [
    'A model directory holds a probe: the vectors that its float32 graph gave on a few tiles when it was converted. Files are checked\n' +
      'against their digests first. `embed` and workers run a part of the probe when they load a model, and refuse one that is outside.',
  ],
  flags: {
    models: SHARED.models,
    device: text({ about: 'auto, cpu, cuda:0, webgpu', placeholder: 'DEVICE', defaultText: 'auto' }),
    threads: SHARED.threads,
  },
  async run({ args, flags, terminal }) {
    const { dir } = await findModel(args[0]!, modelDirs(flags.models));
    terminal.status(`loading ${dir}`);
    let report: CheckReport | null;
    try {
      const encoder = await openEncoder({
        dir,
        device: flags.device ?? 'auto',
        ...(flags.threads === null ? {} : { threads: flags.threads }),
      });
      terminal.status('running the probe');
      report = await checkModel(encoder, dir).finally(() => encoder.close());
    } finally {
      terminal.status(null);
    }
    if (report === null) {
      throw new NightshiftError(
        'model-invalid',
        `${dir} was converted without a probe: there is nothing to compare with`,
      );
    }
    if (!report.ok && !terminal.json) throw new NightshiftError('model-drift', driftMessage(dir, report));
    return {
      exit: report.ok ? 0 : 4,
      data: lines(report),
      notes: [`${terminal.paint('green', '✓')} ${report.model} in ${report.precision} on ${report.device}`],
      next: [],
      json: report,
    };
  },
});

function lines({ cosine, maxError, tolerance, atConversion, tiles, seconds }: CheckReport): string[] {
  const rows = [
    ['least cosine', cosine.toFixed(7), `at least ${tolerance.cosine}`, atConversion.cosine.toFixed(7)],
    [
      'largest error',
      maxError.toExponential(1),
      `at most ${tolerance.maxError}`,
      atConversion.maxError.toExponential(1),
    ],
  ];
  return [
    ...table(rows, [`of ${tiles} tiles`, 'here', 'allowed', 'at conversion']),
    `errors are shares of a vector’s largest value; ${duration(seconds)}`,
  ];
}
