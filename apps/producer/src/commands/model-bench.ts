import { command, count, type Flag, modelDirs, number, percent, rate, SHARED, table, text } from '@nightshift/cli';
import { type BenchReport, benchModel, findModel } from '@nightshift/core';

/** `1,2,4` */
const counts = (about: string, defaultText: string): Flag<readonly number[] | null> => ({
  ...text({ about, placeholder: 'N,N', defaultText }),
  fallback: null,
  parse(given) {
    const values = given.split(',').map(Number);
    const good = values.every((value) => Number.isInteger(value) && value >= 1 && value <= 1024);
    return good ? { value: values } : { expected: 'whole numbers from 1 to 1024 with commas between, e.g. 1,4,16' };
  },
});

export const modelBenchCommand = command({
  name: 'model bench',
  about: 'Measure a model here over batch sizes and threads; workers use the best batch.',
  args: { usage: '<dir|name>', min: 1, max: 1 },
  examples: [
    ['nightshift model bench models/midnight', 'half of the cores and all of them'],
    ['nightshift model bench models/midnight --device cuda:0', 'a GPU'],
    ['nightshift model bench models/midnight --threads 8 --batches 2,4 --seconds 0.5', 'quickly'],
  ],
  details: [
    'The peak is what large matrix products reach here in the same runtime, precision and threads. Each figure is of the fastest of\n' +
      'several runs. Without --batch, embed and workers take the best batch from the file that is named at the end.',
  ],
  flags: {
    models: SHARED.models,
    device: text({ about: 'auto, cpu, cuda:0, webgpu', placeholder: 'DEVICE', defaultText: 'auto' }),
    batches: counts('tiles a batch', 'what suits the device'),
    threads: counts('threads of the model', 'half of the cores and all'),
    seconds: number({ about: 'least time of each figure', unit: 's', min: 0.01, max: 600, fallback: 2 }),
  },
  async run({ args, flags, terminal, signal }) {
    const { dir } = await findModel(args[0]!, modelDirs(flags.models));
    let report: BenchReport;
    try {
      report = await benchModel({
        dir,
        device: flags.device ?? 'auto',
        seconds: flags.seconds,
        signal,
        onStep: (step) => terminal.status(step),
        ...(flags.batches === null ? {} : { batches: flags.batches }),
        ...(flags.threads === null ? {} : { threads: flags.threads }),
      });
    } finally {
      terminal.status(null);
    }
    const { model, precision, device, processor, best, gpu, keptIn } = report;
    return {
      exit: 0,
      data: lines(report),
      notes: [
        `${model} in ${precision} on ${device}, ${gpu?.name ?? processor}`,
        `best: batches of ${best.batch} on ${best.threads} threads, ${rate(best.tilesPerSecond)} tiles/s (kept in ${keptIn})`,
        ...(gpu === null ? [] : [ceiling(report, gpu)]),
      ],
      next: [],
      json: report,
    };
  },
});

function lines({ peaks, points, best }: BenchReport): string[] {
  const rows = points.map((point) => [
    `${point === best || point.tilesPerSecond === best.tilesPerSecond ? '*' : ' '} ${point.threads}`,
    count(point.batch),
    rate(point.tilesPerSecond),
    rate(point.gflops),
    percent(point.shareOfPeak),
  ]);
  return [
    ...table(rows, ['  threads', 'batch', 'tiles/s', 'GFLOP/s', 'of peak']),
    ...peaks.map(({ threads, gflops }) => `peak of ${threads} threads: ${rate(gflops)} GFLOP/s`),
  ];
}

const ceiling = ({ best }: BenchReport, gpu: NonNullable<BenchReport['gpu']>): string =>
  `ceiling of ${gpu.name}: ${rate(gpu.ceilingTilesPerSecond)} tiles/s at its vendor’s ${count(gpu.peakTflops)} TFLOPS; ` +
  `this is ${percent(best.tilesPerSecond / gpu.ceilingTilesPerSecond)} of it`;
