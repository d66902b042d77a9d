import {
  type CountedQueue,
  combineMeters,
  createMetrics,
  type Meter,
  type Metrics,
  type SlideRef,
} from '@nightshift/core';
import { afterEach, describe, expect, it, vi } from 'vitest';

const slide = { key: 'case-17-abc', uri: 's3://hospital/case-17.svs', contentId: '"e1"-9' } as SlideRef;
const counts = { waiting: 3, active: 2, dead: 1 };
const queue: CountedQueue = {
  counts: async () => counts,
  oldestWaitingSeconds: async (role) => (role === 'embed' ? 40 : null),
};

describe('metrics', () => {
  const opened: Metrics[] = [];
  afterEach(() => {
    for (const metrics of opened.splice(0)) metrics.close();
  });

  function open(options: Partial<Parameters<typeof createMetrics>[0]> = {}): Metrics {
    const metrics = createMetrics({ version: '1.2.3', roles: ['plan', 'embed'], ...options });
    opened.push(metrics);
    return metrics;
  }

  /** The value of one series as it is scraped, e.g. `tiles_total{outcome="ok"}`; undefined where there is none. */
  async function value(metrics: Metrics, series: string): Promise<number | undefined> {
    const line = (await metrics.text()).split('\n').find((text) => text.startsWith(`nightshift_${series} `));
    return line === undefined ? undefined : Number(line.split(' ').at(-1));
  }

  /** Tells every function of the meter something, so that every series is there. */
  function tellAll(meter: Meter): void {
    meter.slidePlanned(slide, 100, []);
    meter.slideFound(slide);
    meter.tilesFound(7);
    meter.tilesEmbedded(90);
    meter.shardDone(slide, { index: 0, of: 1 }, { ok: 90, failed: 3 });
    meter.batch({ tiles: 24, capacity: 32, seconds: 0.2 });
    meter.read({ bytesRead: 4096, requests: 2, blocksDecoded: 5, decodeSeconds: 0.02 });
    meter.stage('plan', 2);
    meter.leaseLost('embed');
    meter.error('tile-corrupt');
    meter.slideDone(slide, { tiles: 97, failed: 3 });
    meter.slideFailed(slide, { code: 'slide-corrupt', message: 'case-17', next: '', data: {} });
  }

  it('are all named with the prefix, but for the ones that every process has', async () => {
    const text = await open().text();
    const names = [...text.matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name);
    expect(names.filter((name) => !/^(nightshift|process|nodejs)_/.test(name))).toEqual([]);
  });

  it('name no slide, whatever the pipeline tells', async () => {
    const metrics = open();
    tellAll(metrics.meter);
    expect(await metrics.text()).not.toMatch(/case-17|hospital/);
  });

  it('count tiles as ok when the record holds them, not when they are inferred', async () => {
    const metrics = open();
    metrics.meter.tilesEmbedded(64);
    expect(await value(metrics, 'tiles_total{outcome="ok"}')).toBe(0);
    metrics.meter.shardDone(slide, { index: 0, of: 2 }, { ok: 60, failed: 0 });
    expect(await value(metrics, 'tiles_total{outcome="ok"}')).toBe(60);
    expect(await value(metrics, 'tiles_inferred_total')).toBe(64);
  });

  it('put a batch into the buckets of its fill and of its time', async () => {
    const metrics = open();
    metrics.meter.batch({ tiles: 24, capacity: 32, seconds: 0.2 });
    expect(await value(metrics, 'batch_tiles_bucket{le="16"}')).toBe(0);
    expect(await value(metrics, 'batch_tiles_bucket{le="32"}')).toBe(1);
    expect(await value(metrics, 'batch_capacity_tiles')).toBe(32);
    expect(await value(metrics, 'stage_seconds_bucket{le="0.1",stage="infer"}')).toBe(0);
    expect(await value(metrics, 'stage_seconds_bucket{le="0.25",stage="infer"}')).toBe(1);
  });

  it('say what is built and, once a model is loaded, what runs', async () => {
    const metrics = open();
    expect(await value(metrics, 'build_info{version="1.2.3",roles="plan,embed"}')).toBe(1);
    metrics.attachEncoder({ busySeconds: 0, device: 'cuda:0', model: 'midnight-12k' });
    const infos = (await metrics.text()).match(/^nightshift_build_info.*$/gm);
    expect(infos).toEqual([
      'nightshift_build_info{version="1.2.3",roles="plan,embed",model="midnight-12k",device="cuda:0"} 1',
    ]);
  });

  describe('of the device', () => {
    const busy = 'device_busy_seconds_total{device="cpu"}';
    const wait = 'device_wait_seconds_total{device="cpu"}';

    it('add up busy and waiting seconds to the time since it was loaded', async () => {
      let now = 0;
      const metrics = open({ now: () => now });
      const encoder = { busySeconds: 7, device: 'cpu', model: 'm' };
      metrics.attachEncoder(encoder);
      now = 10_000;
      encoder.busySeconds = 13;
      expect([await value(metrics, busy), await value(metrics, wait)]).toEqual([6, 4]);
    });

    it('make up for a scrape in the middle of a run, and never fall', async () => {
      let now = 0;
      const metrics = open({ now: () => now });
      const encoder = { busySeconds: 0, device: 'cpu', model: 'm' };
      metrics.attachEncoder(encoder);
      now = 10_000;
      expect(await value(metrics, wait)).toBe(10);
      now = 20_000;
      encoder.busySeconds = 20;
      expect([await value(metrics, busy), await value(metrics, wait)]).toEqual([20, 10]);
      now = 45_000;
      expect([await value(metrics, busy), await value(metrics, wait)]).toEqual([20, 25]);
    });

    it('go on counting when another encoder takes its place', async () => {
      let now = 0;
      const metrics = open({ now: () => now });
      const first = { busySeconds: 0, device: 'cpu', model: 'm' };
      metrics.attachEncoder(first);
      now = 10_000;
      first.busySeconds = 8;
      const second = { busySeconds: 1, device: 'cpu', model: 'm' };
      metrics.attachEncoder(second);
      now = 20_000;
      second.busySeconds = 6;
      expect([await value(metrics, busy), await value(metrics, wait)]).toEqual([13, 7]);
    });
  });

  describe('of the queue', () => {
    it('are there only where one process was told to export them', async () => {
      expect(await open().text()).not.toContain('nightshift_queue');
      const metrics = open();
      metrics.attachQueue(queue);
      expect(await value(metrics, 'queue_jobs{queue="embed",state="waiting"}')).toBe(3);
      expect(await value(metrics, 'queue_jobs{queue="index",state="dead"}')).toBe(1);
      expect(await value(metrics, 'oldest_waiting_seconds{queue="embed"}')).toBe(40);
      expect(await value(metrics, 'oldest_waiting_seconds{queue="plan"}')).toBeUndefined();
      expect(await value(metrics, 'queue_up')).toBe(1);
    });

    it('are left out, not zero, while the queue does not answer: nothing scales down', async () => {
      let answers = async () => counts;
      const metrics = open({ patience: 50 });
      metrics.attachQueue({ ...queue, counts: () => answers() });
      expect(await value(metrics, 'queue_up')).toBe(1);
      answers = () => Promise.reject(new Error('ECONNREFUSED'));
      expect(await value(metrics, 'queue_up')).toBe(0);
      expect(await metrics.text()).not.toContain('nightshift_queue_jobs{');
      answers = () => new Promise(() => {});
      expect(await value(metrics, 'queue_up')).toBe(0);
      expect(await value(metrics, 'tiles_total{outcome="ok"}')).toBe(0);
    });
  });

  it('show runs while they are attached', async () => {
    const metrics = open();
    let committed = 1;
    const detach = metrics.attachRun('abc', () => ({ expected: 10, committed }));
    expect(await value(metrics, 'run_tiles_expected{run="abc"}')).toBe(10);
    committed = 4;
    expect(await value(metrics, 'run_tiles_committed{run="abc"}')).toBe(4);
    detach();
    expect(await metrics.text()).not.toContain('run="abc"');
  });

  it('measure how late timers fire', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    let now = 0;
    const metrics = open({ now: () => now });
    now = 500 + 700;
    vi.advanceTimersByTime(500);
    vi.useRealTimers();
    expect(await value(metrics, 'event_loop_lag_seconds_bucket{le="0.5"}')).toBe(0);
    expect(await value(metrics, 'event_loop_lag_seconds_bucket{le="1"}')).toBe(1);
  });

  it('count requests, bytes and retries of S3', async () => {
    const metrics = open();
    const { request, bytes, retry } = metrics.s3;
    request('get', '5xx');
    bytes(1 << 20);
    retry('slow-down');
    expect(await value(metrics, 's3_requests_total{op="get",status_class="5xx"}')).toBe(1);
    expect(await value(metrics, 's3_read_bytes_total')).toBe(1 << 20);
    expect(await value(metrics, 's3_retries_total{reason="slow-down"}')).toBe(1);
  });

  it('can be counted beside another meter, each told all', async () => {
    const [one, two] = [open(), open()];
    const both = combineMeters(one.meter, two.meter);
    tellAll(both);
    const told = async (metrics: Metrics) =>
      (await metrics.text()).split('\n').filter((line) => /^nightshift_.*_(total|count)\b/.test(line));
    const alone = open();
    tellAll(alone.meter);
    expect(await told(one)).toEqual(await told(alone));
    expect(await told(two)).toEqual(await told(alone));
  });
});
