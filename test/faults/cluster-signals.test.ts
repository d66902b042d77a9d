import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it, type TestContext } from 'vitest';
import { type Cluster, type Yard, yard } from '../fixtures/faults/cluster.ts';
import { costOf } from '../fixtures/faults/measured.ts';
import { type Program, within10s } from '../fixtures/faults/program.ts';

let y: Yard;
beforeAll(async () => {
  y = await yard();
});
afterAll(() => y?.close());

/** At the standard lease of 20 s: what was not handed back would be missed. */
const slow = (only: 'one' | 'many', latencyMs: number): Cluster =>
  y.cluster({ only, planned: true, lease: null, encoder: { latencyMs } });

async function completed(cluster: Cluster, left: Program): Promise<void> {
  expect(costOf(cluster, left.pid).recoverySeconds).toBe(null);
  await cluster.finish();
  expect(await cluster.problems()).toEqual([]);
}

/** EC2's metadata service, which gives notice once it is told to. */
async function metadata({ onTestFinished }: TestContext): Promise<{ url: string; giveNotice(): void }> {
  let noticed = false;
  const server = createServer((request, response) => {
    if (request.method === 'PUT' && request.url === '/latest/api/token') return void response.end('token-1');
    const asked = request.url === '/latest/meta-data/spot/instance-action';
    if (!noticed || !asked || request.headers['x-aws-ec2-metadata-token'] !== 'token-1') {
      response.statusCode = 404;
      return void response.end();
    }
    response.end(JSON.stringify({ action: 'terminate', time: '2026-11-23T22:00:00Z' }));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    giveNotice() {
      noticed = true;
    },
  };
}

describe.concurrent('a worker', () => {
  it.for(['SIGTERM', 'SIGINT'] as const)('that gets %s hands all its jobs back within 10 s', async (signal) => {
    const cluster = slow('many', 1000);
    await cluster.submit();
    const worker = cluster.worker();
    await cluster.crossed(({ at }) => at === 'after put shards');
    worker.kill(signal);
    expect(await within10s(worker)).toMatchObject({ code: 0 });
    await completed(cluster, worker);
  });

  it('that gets a second signal leaves at once', async () => {
    const cluster = slow('one', 0);
    await cluster.submit();
    const worker = cluster.worker([], [], { latencyMs: 600_000 });
    await cluster.crossed(({ at }) => at === 'before infer');
    worker.kill('SIGTERM');
    await worker.said('Stopping');
    await cluster.crossed(({ at }) => at === 'after release embed');
    // Two that come together are one.
    await sleep(400);
    worker.kill('SIGTERM');
    expect(await within10s(worker)).toMatchObject({ code: 130 });
    await completed(cluster, worker);
  });

  it('whose Spot instance is taken back hands all its jobs back within 10 s of the notice', async (test) => {
    const { url, giveNotice } = await metadata(test);
    const cluster = slow('many', 3000);
    await cluster.submit();
    const worker = cluster.worker([], ['--spot-notice', url]);
    await cluster.crossed(({ at }) => at === 'after infer');
    giveNotice();
    const ended = await within10s(worker);
    expect(ended).toMatchObject({ code: 0 });
    expect(ended.stderr).toContain('taken back (terminate)');
    await completed(cluster, worker);
  });
});
