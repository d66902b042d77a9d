import { execFileSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type BullQueue, openBullQueue } from '@nightshift/core';
import { Redis } from 'ioredis';
import { afterEach, describe, expect, it } from 'vitest';
import { goodJob } from '../fixtures/hostile-jobs.ts';
import { freePort, onPath, type Service, startService } from '../services/process.ts';

const MODEL = goodJob('a').model;
const forever = new AbortController().signal;
const PROGRAM = onPath('redis-server') ?? onPath('valkey-server') ?? 'redis-server';

describe('a queue reaches its Redis', () => {
  const cleanups: (() => Promise<unknown> | unknown)[] = [];
  afterEach(async () => {
    for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
  });

  async function directory(): Promise<string> {
    const dir = await mkdtemp(join(tmpdir(), 'nightshift-topology-'));
    cleanups.push(() => rm(dir, { recursive: true, force: true }));
    return dir;
  }

  async function server(args: readonly string[]): Promise<Service> {
    const service = await startService(
      PROGRAM,
      ['--bind', '127.0.0.1', '--save', '', '--dir', await directory(), ...args],
      /Ready to accept connections|monitor master/,
    );
    cleanups.push(() => service.stop('SIGKILL'));
    return service;
  }

  async function open(url: string): Promise<BullQueue> {
    const queue = await openBullQueue({ url, model: MODEL, checkSeconds: 1, closeSeconds: 0.2 });
    cleanups.push(() => queue.close());
    return queue;
  }

  async function runJobs(queue: BullQueue, ids: readonly string[]): Promise<void> {
    await queue.add('embed', ids.map(goodJob));
    for (const id of ids) {
      const lease = (await queue.take('embed', forever))!;
      expect(lease.job.id).toBe(id);
      await lease.done();
    }
    await queue.idle();
    expect(await queue.counts('embed')).toEqual({ waiting: 0, active: 0, dead: 0 });
  }

  it('with TLS, by the certificate of an authority of its own, and refuses one that it does not know', async () => {
    const dir = await directory();
    const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: dir, stdio: 'ignore' });
    openssl(
      'req',
      '-x509',
      '-newkey',
      'rsa:2048',
      '-nodes',
      '-days',
      '2',
      '-subj',
      '/CN=test authority',
      '-keyout',
      'ca.key',
      '-out',
      'ca.pem',
    );
    openssl(
      'req',
      '-newkey',
      'rsa:2048',
      '-nodes',
      '-subj',
      '/CN=localhost',
      '-keyout',
      'redis.key',
      '-out',
      'redis.csr',
    );
    execFileSync(
      'bash',
      [
        '-c',
        'openssl x509 -req -in redis.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile <(echo subjectAltName=DNS:localhost,IP:127.0.0.1) -out redis.pem',
      ],
      { cwd: dir, stdio: 'ignore' },
    );
    const port = await freePort();
    const tls = [
      '--tls-port',
      `${port}`,
      '--port',
      '0',
      '--tls-cert-file',
      `${dir}/redis.pem`,
      '--tls-key-file',
      `${dir}/redis.key`,
    ];
    await server([
      ...tls,
      '--tls-ca-cert-file',
      `${dir}/ca.pem`,
      '--tls-auth-clients',
      'optional',
      '--requirepass',
      'p@ss word',
    ]);
    const url = (scheme: string, query: string) => `${scheme}://:p%40ss%20word@localhost:${port}${query}`;

    await runJobs(await open(url('rediss', `?ca=${dir}/ca.pem`)), ['one', 'two']);
    await runJobs(await open(url('rediss', `?ca=${dir}/ca.pem&cert=${dir}/redis.pem&key=${dir}/redis.key`)), ['three']);
    await expect(open(url('rediss', ''))).rejects.toMatchObject({
      code: 'queue-config',
      next: expect.stringContaining('?ca='),
    });
    // Without TLS the server hangs up.
    await expect(open(url('redis', ''))).rejects.toMatchObject({ exit: 5 });
  });

  it('through Sentinel, follows a failover, and tells that jobs may be lost', async () => {
    const dir = await directory();
    const [first, second, watch] = [await freePort(), await freePort(), await freePort()];
    const master = await server(['--port', `${first}`]);
    await server(['--port', `${second}`, '--replicaof', '127.0.0.1', `${first}`]);
    const config = join(dir, 'sentinel.conf');
    await writeFile(
      config,
      [
        `port ${watch}`,
        `dir ${dir}`,
        `sentinel monitor mymaster 127.0.0.1 ${first} 1`,
        'sentinel down-after-milliseconds mymaster 500',
        'sentinel failover-timeout mymaster 3000',
      ].join('\n'),
    );
    const sentinel = await startService(PROGRAM, [config, '--sentinel'], /\+slave/);
    cleanups.push(() => sentinel.stop('SIGKILL'));

    const queue = await open(`redis+sentinel://127.0.0.1:${watch}/mymaster`);
    await runJobs(queue, ['one']);
    await queue.add('embed', [goodJob('two')]);
    const replica = new Redis({ port: second, host: '127.0.0.1' });
    cleanups.push(() => replica.disconnect());
    while ((await replica.zcard(`{nightshift}:embed-${MODEL.slice(0, 12)}:prioritized`)) === 0);
    await master.stop('SIGKILL');
    const lease = (await queue.take('embed', forever))!;
    expect(lease.job.id).toBe('two');
    await lease.done();
    expect(await queue.jobsLost()).toBe(true);
    await runJobs(queue, ['three']);
  });

  it('in a Cluster, all keys of it in one slot', async () => {
    const ports = [await freePort(), await freePort(), await freePort()];
    for (const port of ports) {
      await server(['--port', `${port}`, '--cluster-enabled', 'yes', '--cluster-port', `${await freePort()}`]);
    }
    const [a, ...others] = ports.map((port) => new Redis({ port, host: '127.0.0.1' }));
    cleanups.push(() => [a!, ...others].map((node) => node.disconnect()));
    const range = (i: number) => [Math.floor((16_384 * i) / 3), Math.floor((16_384 * (i + 1)) / 3) - 1];
    for (const [i, node] of [a!, ...others].entries()) await node.call('CLUSTER', 'ADDSLOTSRANGE', ...range(i));
    for (const node of others) {
      const { port } = node.options;
      const bus = String(await node.call('CLUSTER', 'NODES')).match(/@(\d+)/)![1]!;
      await a!.call('CLUSTER', 'MEET', '127.0.0.1', port!, bus);
    }
    for (const node of [a!, ...others]) {
      while (!/cluster_state:ok/.test(String(await node.call('CLUSTER', 'INFO'))))
        await new Promise((resolve) => setTimeout(resolve, 50));
    }

    const queue = await open(`redis+cluster://127.0.0.1:${ports[0]},127.0.0.1:${ports[1]}`);
    await runJobs(queue, ['one', 'two', 'three']);
    const held: number[] = [];
    for (const node of [a!, ...others]) held.push((await node.keys('*')).length);
    expect(held.filter((keys) => keys > 0).length).toBe(1);
    // A second one, with another prefix, may lie on another node.
    const other = await openBullQueue({
      url: `redis+cluster://127.0.0.1:${ports[2]}`,
      model: MODEL,
      prefix: 'cohort-b',
      closeSeconds: 0.2,
    });
    cleanups.push(() => other.close());
    await runJobs(other, ['one']);
    expect(await queue.jobsLost()).toBe(false);
  });
});
