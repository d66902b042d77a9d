import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { RunReport } from '@nightshift/core';
import { afterAll, beforeAll, describe, expect, it, type TestContext } from 'vitest';
import { s3Blobs } from '../../packages/core/src/record/s3.ts';
import { connectS3 } from '../../packages/core/src/source/s3-client.ts';
import { s3ConfigFromEnv } from '../../packages/core/src/source/s3-config.ts';
import type { Reference } from '../fixtures/checker.ts';
import { type Cluster, undisturbed, type Yard, yard } from '../fixtures/faults/cluster.ts';
import { type Ended, succeeded } from '../fixtures/faults/program.ts';
import { type FaultRule, type FaultS3, startFaultS3 } from '../services/fault-s3.ts';

const SLIDES = 's3://bucket/slides/';

let y: Yard;
/** Of the slides in their bucket: a slide's file names where it lies. */
let reference: Reference;
beforeAll(async () => {
  y = await yard({ copies: 2 });
  const server = await stocked();
  reference = await undisturbed([SLIDES], y.model, y.path('undisturbed-s3'), { env: envOf(server) });
  await server.close();
});
afterAll(() => y?.close());

const envOf = ({ endpoint }: FaultS3) => ({ AWS_ENDPOINT_URL_S3: endpoint, NIGHTSHIFT_S3_NO_SIGN_REQUEST: '1' });

async function stocked(): Promise<FaultS3> {
  const server = await startFaultS3();
  for (const name of readdirSync(y.slides)) server.put(`slides/${name}`, readFileSync(join(y.slides, name)));
  return server;
}

interface Run {
  readonly cluster: Cluster;
  readonly server: FaultS3;
  readonly ended: Ended;
}

/** A whole run on a server of its own: slides and record on S3, a producer that plans and waits, a worker. */
async function runOn(rules: readonly FaultRule[], test: TestContext, expected = reference): Promise<Run> {
  const server = await stocked();
  test.onTestFinished(() => server.close());
  const env = envOf(server);
  const out = 's3://bucket/out';
  const blobs = await s3Blobs(out, connectS3(s3ConfigFromEnv(env)));
  const cluster = y.cluster({ sources: [SLIDES], record: { out, blobs }, reference: expected, lease: null, env });
  for (const rule of rules) server.fault(rule);
  const producer = cluster.producer();
  const worker = cluster.worker([], ['--roles', 'embed,index']);
  const ended = await producer.ended;
  worker.kill('SIGTERM');
  await succeeded(worker);
  expect(Math.min(...server.hits)).toBeGreaterThan(0);
  server.calm();
  return { cluster, server, ended };
}

const storm: readonly FaultRule[] = [
  { rate: 0.05, fault: { status: 503, code: 'SlowDown' } },
  { rate: 0.03, fault: { status: 500, code: 'InternalError' } },
  { rate: 0.03, fault: 'reset' },
];
const lost = (key: RegExp, times = 1): FaultRule => ({ operation: 'put', key, times, fault: 'execute-then-drop' });

describe.concurrent('a cluster on an S3', () => {
  it.for<readonly [string, readonly FaultRule[]]>([
    ['answers 503 and 500 and breaks connections, anywhere', storm],
    ['sends bodies that end early', [{ operation: 'get', rate: 0.1, fault: { truncate: 900, lie: true } }]],
    [
      'falls silent within an answer, or before it',
      [
        { operation: 'get', key: /many\.svs/, skip: 2, times: 1, fault: { stallAfter: 700 } },
        { operation: 'get', key: /one\.svs/, skip: 1, times: 1, fault: { delayMs: 15_000 } },
        { operation: 'put', key: /shards\/many-2/, times: 1, fault: { delayMs: 15_000 } },
      ],
    ],
    [
      'loses answers after the write landed',
      [
        lost(/runs\//),
        lost(/plans\//),
        lost(/shards\//, 3),
        lost(/slides\/one.*arrow/, 2),
        lost(/slides\/many-2.*arrow/),
      ],
    ],
  ])('that %s does all and nothing twice', async ([, rules], test) => {
    const { cluster, ended } = await runOn(rules, test);
    expect(ended, ended.stderr).toMatchObject({ code: 0 });
    expect(await cluster.problems()).toEqual([]);
  });

  it('that forbids a slide, lost one, and has one replaced half way, does the others', async (test) => {
    const whole = Object.fromEntries(Object.entries(reference).filter(([name]) => /^one-[0-9a-f]{8}\./.test(name)));
    const other = Buffer.concat([readFileSync(join(y.slides, 'many-2.svs')), Buffer.alloc(1)]);
    const replaced = {
      operation: 'get',
      key: /many-2\.svs/,
      // Planned from the one, and embedded from it until its second read.
      after: /plans\/many-2-.*\.json$/,
      skip: 1,
      times: 1,
      fault: { replace: other },
    } as const;
    const rules: readonly FaultRule[] = [
      { operation: 'get', key: /many\.svs/, fault: { status: 403, code: 'AccessDenied' } },
      { operation: 'get', key: /one-2\.svs/, fault: { status: 404, code: 'NoSuchKey' } },
      replaced,
    ];
    const { cluster, ended } = await runOn(rules, test, whole);
    expect(ended, ended.stderr).toMatchObject({ code: 3 });
    const planned = cluster.crossings().filter(({ at }) => at === 'after add embed');
    expect(planned.map(({ about }) => about).join()).toContain('many-2');
    const { failures } = JSON.parse(ended.stdout) as RunReport;
    expect(Object.fromEntries(failures.map(({ uri, error }) => [uri, error.code]))).toEqual({
      [`${SLIDES}many.svs`]: 'slide-forbidden',
      [`${SLIDES}one-2.svs`]: 'slide-changed',
      [`${SLIDES}many-2.svs`]: 'slide-changed',
    });
    await cluster.finish();
    // What was replaced stays replaced: no job of such a slide is tried a second time.
    const fails = cluster.crossings().filter(({ at, about }) => at.startsWith('after fail') && about.includes('-2-'));
    const jobs = fails.map(({ at, about }) => `${at} ${about}`);
    expect(jobs.length).toBeGreaterThanOrEqual(3);
    expect(new Set(jobs).size, jobs.join('\n')).toBe(jobs.length);
    expect(await cluster.problems()).toEqual([]);
  });
});
