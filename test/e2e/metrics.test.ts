import { createMetrics, type Metrics, memoryQueue, type Queue, type Role, startHttp } from '@nightshift/core';
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import { composeEncoder, composeSource } from '../../packages/core/src/compose.ts';
import { asRun } from '../../packages/core/src/operations/open-run.ts';
import { sealRun } from '../../packages/core/src/operations/seal-run.ts';
import { planJob } from '../../packages/core/src/pipeline/context.ts';
import { runRoles } from '../../packages/core/src/pipeline/run-roles.ts';
import { slideCache } from '../../packages/core/src/pipeline/slide-cache.ts';
import { createDecodePool } from '../../packages/core/src/slide/decode-pool.ts';
import { embedOptions } from '../fixtures/embed-options.ts';
import { text } from '../fixtures/infra.ts';
import { type Bench, bench } from '../fixtures/run.ts';
import { promtool, startPrometheus } from '../services/prometheus.ts';

/** A scrape that takes longer than its timeout makes every series stale. */
const config = (port: number) => `
global: { scrape_interval: 1s, scrape_timeout: 1s }
scrape_configs:
  - job_name: nightshift
    static_configs: [{ targets: ['127.0.0.1:${port}'] }]
`;

describe('a run that Prometheus watches', () => {
  let at: Bench;
  beforeAll(async () => {
    at = await bench();
  });
  afterAll(() => at.dispose());

  /** Embeds all slides of the bench, telling these metrics what happens; answers the tiles planned. */
  async function runWith(metrics: Metrics, queue: Queue): Promise<number> {
    const options = embedOptions({ sources: [at.path('slides')], model: at.model, out: at.path('out') });
    const { signal } = new AbortController();
    const { run, record, model } = await sealRun(options, { signal, onNotice: () => {} });
    const only = asRun(options.out, record, run, model.info);
    let planned = 0;
    let committed = 0;
    metrics.attachRun(run.id, () => ({ expected: planned, committed }));
    const { meter } = metrics;
    const counting = {
      ...meter,
      slidePlanned(...args: Parameters<typeof meter.slidePlanned>) {
        planned += args[1];
        meter.slidePlanned(...args);
      },
      shardDone(...args: Parameters<typeof meter.shardDone>) {
        committed += args[2].ok;
        meter.shardDone(...args);
      },
    };
    const pool = createDecodePool({ threads: 1 });
    const cache = slideCache(composeSource);
    onTestFinished(async () => {
      await Promise.all([pool.close(), cache.close()]);
    });
    await queue.add('plan', await Array.fromAsync(record.runSlides(run.id), (slide) => planJob(only, slide)));
    const roles: ReadonlySet<Role> = new Set(['plan', 'embed', 'index']);
    const openEncoder = async () => {
      const encoder = await composeEncoder({ dir: model.dir, device: 'cpu', threads: 1, batch: 4 });
      // Not spread: `busySeconds` is read anew at each scrape.
      metrics.attachEncoder({
        get busySeconds() {
          return encoder.busySeconds;
        },
        device: encoder.device,
        model: encoder.model.name,
      });
      return encoder;
    };
    await runRoles(
      { queue, pool, slides: cache, meter: counting, runOf: async () => only },
      { roles, openEncoder, readers: 2, untilIdle: true },
      signal,
    ).finished;
    return planned;
  }

  it('answers how many tiles a second the cluster embeds, and every tile is counted once', async () => {
    for (const name of ['a.svs', 'b.svs', 'c.svs']) at.slide(name);
    const metrics = createMetrics({ version: '0', roles: ['plan', 'embed', 'index'] });
    const queue = memoryQueue();
    metrics.attachQueue(queue);
    const ready = () => ({ ready: true, reasons: [] });
    const http = await startHttp({ port: 0, metrics, ready, alive: () => true });
    onTestFinished(() => http.close());
    onTestFinished(() => metrics.close());
    const prometheus = await startPrometheus({ config: config(http.port) });
    onTestFinished(() => prometheus.stop());
    const one = async (expression: string) => (await prometheus.query(expression))[0]?.[1];
    /** A scrape may lie just before what happened last. */
    const eventually = (check: () => Promise<void>) => vi.waitFor(check, { timeout: 200_000, interval: 100 });
    const becomes = (expression: string, value: number) =>
      eventually(async () => expect(await one(expression), expression).toBe(value));
    const becomesPositive = (expression: string) =>
      eventually(async () => expect(await one(expression), expression).toBeGreaterThan(0));

    await becomes('nightshift_tiles_total{outcome="ok"}', 0);
    const planned = await runWith(metrics, queue);
    expect(planned).toBeGreaterThan(100);
    await becomesPositive('sum(rate(nightshift_tiles_total{outcome="ok"}[1m]))');
    await becomes('sum(nightshift_tiles_total)', planned);
    await becomes('nightshift_run_tiles_expected - nightshift_run_tiles_committed', 0);
    await becomes('nightshift_slides_total{outcome="ok"}', 3);
    await becomes('nightshift_batch_tiles_sum - nightshift_tiles_inferred_total', 0);
    await becomes('sum(nightshift_queue_jobs{state=~"waiting|active"})', 0);
    await becomesPositive('nightshift_device_busy_seconds_total');
    for (const stage of ['plan', 'decode', 'infer', 'write', 'index']) {
      await becomesPositive(`nightshift_stage_seconds_count{stage="${stage}"}`);
    }

    const dashboard = JSON.parse(text('infra/grafana/dashboards/nightshift.json')) as {
      panels: { title: string; targets?: { expr: string }[] }[];
    };
    /** Titles of the panels whose query answers nothing, once for each such query. */
    const emptyPanels = async () => {
      const empty: string[] = [];
      for (const { title, targets = [] } of dashboard.panels) {
        for (const { expr } of targets) {
          const asked = expr.replaceAll('$__rate_interval', '1m').replaceAll('$run', '.*');
          if ((await prometheus.query(asked)).length === 0) empty.push(title);
        }
      }
      return empty;
    };
    // What this run has not: errors, a queue that tells ages, a GPU, S3, a Redis.
    const absent = [
      'Errors per minute',
      'Errors by code, and tiles that fail',
      'Oldest waiting',
      'GPU utilisation and tensor cores',
      'GPU utilisation and tensor cores',
      'GPU memory used',
      'Last Xid',
      'S3 requests per second',
      'S3 retries per minute',
      'Redis memory',
    ];
    await eventually(async () => expect(await emptyPanels()).toEqual(absent));

    const scraped = await (await fetch(`http://127.0.0.1:${http.port}/metrics`)).text();
    expect(promtool(['check', 'metrics'], scraped)).toEqual({ ok: true, output: '' });
  });
});
