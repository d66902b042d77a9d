import { command, counted, integer, type Outcome, quoted, SHARED, toggle } from '@nightshift/cli';
import { createMetrics, NightshiftError, observeS3, startHttp, submit, versions } from '@nightshift/core';
import { DRY_RUN, dryOutcome } from './dry-run.ts';
import { RUN_FLAGS, runOptions } from './recipe-flags.ts';
import { failures, reportOutcome, withProgress } from './run-report.ts';

export const submitCommand = command({
  name: 'submit',
  about: 'Queue slides for workers to embed, plan them, and wait until all are done.',
  args: { usage: '<source...>', min: 1, max: Number.POSITIVE_INFINITY },
  examples: [
    [
      'nightshift submit s3://bucket/slides/ --model models/midnight --out s3://bucket/out --redis redis://queue',
      'a bucket',
    ],
    [
      "nightshift submit 's3://bucket/**/*.svs' --model models/midnight --out s3://bucket/out --dry-run",
      'what it would do',
    ],
    ['nightshift submit cohort.csv --model models/midnight --out s3://bucket/out --detach', 'add the jobs and leave'],
  ],
  details: [
    'The same command again goes on where anything stopped: a worker, the queue, this command. Two at once are one run.\n' +
      'The model directory is read for model.json only; the weights lie with the workers.',
  ],
  flags: {
    ...RUN_FLAGS,
    redis: SHARED.redis,
    detach: toggle({ about: 'add the jobs and leave; workers of the role plan do the rest' }),
    dryRun: DRY_RUN,
    priority: integer({ unit: '', min: 1, max: 1000, about: 'lower goes first', fallback: 100 }),
    decodeThreads: SHARED.decodeThreads,
    port: integer({
      unit: '',
      min: 0,
      max: 65_535,
      about: 'port of /metrics, with the queue and the run',
      fallback: null,
      defaultText: 'none',
    }),
    host: SHARED.metricsHost,
  },
  async run({ args, flags, terminal, signal }): Promise<Outcome> {
    const options = runOptions(args, flags);
    if (flags.dryRun) return dryOutcome(options, 'submit', terminal, signal);
    const redis = redisUrl(flags.redis);
    const metrics = flags.port === null ? null : createMetrics({ version: versions().nightshift, roles: ['producer'] });
    if (metrics) observeS3(metrics.s3);
    const http =
      metrics === null
        ? null
        : await startHttp({
            port: flags.port!,
            ...(flags.host === null ? {} : { host: flags.host }),
            token: process.env.NIGHTSHIFT_METRICS_TOKEN ?? null,
            metrics,
            alive: () => true,
            ready: () => ({ ready: true, reasons: [] }),
          });
    if (http) terminal.say(`metrics at http://${http.host}:${http.port}/metrics`);
    try {
      const { detach, priority, decodeThreads } = flags;
      const report = await withProgress(terminal, signal, (hooks) =>
        submit({ ...options, redis, detach, priority, decodeThreads }, { ...hooks, ...(metrics && { metrics }) }),
      );
      if (report.state !== 'submitted') return reportOutcome(report, flags.store !== 'none', terminal);
      return {
        exit: report.slides.failed > 0 ? 3 : 0,
        data: [],
        piped: [report.out],
        notes: [
          `${terminal.paint('green', '✓')} ${counted(report.slides.total - report.slides.failed, 'slide')} submitted as run ${report.run}`,
          ...failures(report, terminal.paint),
        ],
        next: [`nightshift status ${quoted(report.out)} --watch`],
        json: report,
      };
    } finally {
      await http?.close();
      metrics?.close();
    }
  },
});

function redisUrl(given: string | null): string {
  const url = given ?? process.env.REDIS_URL ?? null;
  if (url !== null) return url;
  throw new NightshiftError('usage', '--redis is missing', {
    next: 'Give --redis redis://host:6379, or set REDIS_URL.',
  });
}
