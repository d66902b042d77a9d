import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import { parse } from 'yaml';
import { path, text } from '../fixtures/infra.ts';
import { type Bench, bench } from '../fixtures/run.ts';
import { composePrograms } from '../services/compose.ts';
import { freePort } from '../services/process.ts';
import { type RedisService, startRedis } from '../services/redis.ts';
import { type S3Service, startS3 } from '../services/s3.ts';

const { services } = parse(text('docker-compose.yml'), { merge: true }) as {
  services: Record<string, { command: string[]; environment: Record<string, string> }>;
};
const MAINS: Readonly<Record<string, string>> = {
  nightshift: path('apps/producer/src/main.ts'),
  'nightshift-worker': path('apps/worker/src/main.ts'),
};

describe('docker compose config', () => {
  it('passes, with every service in it, and is no check that passes anything', (context) => {
    const programs = composePrograms();
    const none =
      'needs `docker compose` 2 or later (no engine), or Go: apt-get install docker-compose-v2, brew install go';
    if (programs.length === 0 && !process.env.CI) context.skip(none);
    expect(programs, none).not.toEqual([]);
    const dir = mkdtempSync(join(tmpdir(), 'nightshift-compose-'));
    onTestFinished(() => rmSync(dir, { recursive: true }));
    const wrong = join(dir, 'docker-compose.yml');
    writeFileSync(wrong, text('docker-compose.yml').replace('healthcheck:', 'healthchecks:'));
    for (const compose of programs) {
      const config = compose.config(path('docker-compose.yml'));
      expect(Object.keys(config.services).sort(), compose.name).toEqual(Object.keys(services).sort());
      expect(() => compose.config(wrong), compose.name).toThrow(/healthchecks/);
    }
  });
});

/** The services of the compose file that are Nightshift's own, as processes: only addresses, ports and the model are others. */
describe('the cluster of docker-compose.yml, without Docker', () => {
  let at: Bench;
  let redis: RedisService;
  let s3: S3Service;
  let slides: string;
  let results: string;
  const running: ChildProcess[] = [];

  beforeAll(async () => {
    at = await bench();
    redis = await startRedis({ args: services.redis.command.slice(1) });
    s3 = await startS3();
    slides = await s3.bucket();
    results = await s3.bucket();
  });

  afterAll(async () => {
    for (const child of running) {
      child.kill('SIGKILL');
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    }
    await redis?.stop();
    await s3?.stop();
    at?.dispose();
  });

  /** Starts a service of the file. `output` grows while it runs. */
  async function start(name: string): Promise<{ child: ChildProcess; port: number; output: () => string }> {
    const { command, environment } = services[name];
    const port = await freePort();
    const words = command.map((word) =>
      word
        .replace('s3://slides/', `s3://${slides}/`)
        .replace('s3://results/', `s3://${results}/`)
        // biome-ignore lint/suspicious/noTemplateCurlyInString: as Compose writes it
        .replace('${MODEL:-midnight-12k}', 'model')
        .replace('0.0.0.0', '127.0.0.1')
        .replace(/^9400$/, `${port}`),
    );
    const credentials = Object.entries(process.env).filter(([key]) => key.startsWith('AWS_'));
    const child = spawn(process.execPath, [MAINS[words[0]], ...words.slice(1)], {
      cwd: at.dir,
      env: {
        ...{ PATH: process.env.PATH, HOME: process.env.HOME, TMPDIR: process.env.TMPDIR },
        ...{ ...environment, ...Object.fromEntries(credentials), ...s3.env },
        ...{ REDIS_URL: redis.url, NIGHTSHIFT_MODELS: at.dir },
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    running.push(child);
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk) => {
        output += chunk;
      });
    }
    return { child, port, output: () => output };
  }

  it('embeds a bucket into a bucket, and each worker says what it did', async () => {
    const file = readFileSync(at.slide('a.svs'));
    for (const name of ['a.svs', 'deep/b.svs']) await s3.put(slides, name, file);
    const planner = await start('planner');
    const workers = [await start('worker'), await start('worker')];
    const metricsOf = async (port: number) => (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
    await Promise.race([
      vi.waitFor(
        async () => {
          for (const { port, output } of [planner, ...workers]) {
            const ready = await fetch(`http://127.0.0.1:${port}/readyz`).catch(() => null);
            expect(ready?.status, output()).toBe(200);
          }
        },
        { timeout: 200_000, interval: 200 },
      ),
      ...[planner, ...workers].map(async ({ child, output }) => {
        await once(child, 'exit');
        throw new Error(output());
      }),
    ]);

    const producer = await start('producer');
    const [code] = await once(producer.child, 'exit');
    expect(code, producer.output()).toBe(0);

    const told = await Promise.all([planner, ...workers].map(({ port }) => metricsOf(port)));
    const sum = (series: string) =>
      told
        .flatMap((exposed) => exposed.split('\n').filter((line) => line.startsWith(`${series} `)))
        .reduce((total, line) => total + Number(line.split(' ')[1]), 0);
    expect(sum('nightshift_slides_total{outcome="ok"}')).toBe(2);
    expect(sum('nightshift_tiles_total{outcome="ok"}')).toBeGreaterThan(60);
    expect(sum('nightshift_tiles_total{outcome="failed"}')).toBe(0);
    expect(told.map((exposed) => exposed.includes('nightshift_queue_jobs{'))).toEqual([true, false, false]);

    for (const { child, output } of [planner, ...workers]) {
      child.kill('SIGTERM');
      const [status] = await once(child, 'exit');
      expect(status, output()).toBe(0);
    }
  });
});
