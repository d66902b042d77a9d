import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { RunReport } from '@nightshift/core';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Cluster, undisturbed, type Yard, yard } from '../fixtures/faults/cluster.ts';
import { type Ended, succeeded } from '../fixtures/faults/program.ts';

let y: Yard;
beforeAll(async () => {
  y = await yard({ copies: 3 });
});
afterAll(() => y?.close());

/** The command to its end, with a worker beside it. */
async function completed(cluster: Cluster, submits = [cluster.producer()]): Promise<Ended[]> {
  const worker = cluster.worker([], ['--roles', 'embed,index']);
  const ended = await Promise.all(submits.map((submit) => submit.ended));
  worker.kill('SIGTERM');
  await succeeded(worker);
  return ended;
}

const reportOf = ({ stdout }: Ended) => JSON.parse(stdout) as RunReport;

describe.concurrent('nightshift submit', () => {
  it('that is killed before, in and after each step, again and again, is completed by the same command', async () => {
    const cluster = y.cluster({ only: 'one' });
    for (const at of [
      'before put dataset',
      'during put dataset',
      'after put dataset',
      'after put run',
      'before add plan',
      'after add plan',
      'after take plan',
      'before put plans',
      'during put plans',
      'after put plans',
      'after add embed',
      'during put qc',
      'after ack plan',
    ]) {
      const { signal, stderr } = await cluster.producer([{ at, signal: 'SIGKILL' }]).ended;
      expect(signal, `${at}\n${stderr}`).toBe('SIGKILL');
    }
    const [killed] = await completed(cluster, [cluster.producer([{ at: 'before optimize', signal: 'SIGKILL' }])]);
    expect(killed!.signal).toBe('SIGKILL');
    const ended = await cluster.producer().ended;
    expect(ended, ended.stderr).toMatchObject({ code: 0 });
    expect(reportOf(ended)).toMatchObject({ state: 'done', slides: { total: 3, done: 3, failed: 0 } });
    // The tiles are all in: a plan job of a killed producer, which has only its picture to draw, holds up nobody.
    await cluster.finish();
    expect(await cluster.problems()).toEqual([]);
  });

  it('that is killed after each chunk of its slides leaves none of them out', async () => {
    const junk = y.path('junk');
    mkdirSync(junk);
    for (let i = 0; i < 510; i++) writeFileSync(join(junk, `${i}.svs`), `page ${i} of the minutes`);
    const slides = ['many', 'many-2', 'many-3'].map((name) => join(y.slides, `${name}.svs`));
    const cluster = y.cluster({ sources: [...slides, junk], only: 'many' });
    for (const nth of [1, 2]) {
      const killed = cluster.producer([{ at: 'after add plan', nth, signal: 'SIGKILL' }], ['--detach']);
      expect((await killed.ended).signal).toBe('SIGKILL');
    }
    const [ended] = await completed(cluster);
    expect(ended, ended!.stderr).toMatchObject({ code: 3 });
    expect(reportOf(ended!).slides).toMatchObject({ total: 513, done: 3, failed: 510 });
    expect(await cluster.problems()).toEqual([]);
  });

  it('twice at the same time is one run, and both end well', async () => {
    const cluster = y.cluster({ lease: null });
    const pair = [1, 2].map(() => cluster.producer([{ at: 'before put dataset', signal: 'SIGSTOP' }]));
    await Promise.all(pair.map((one) => one.frozen()));
    for (const one of pair) one.kill('SIGCONT');
    const ended = await completed(cluster, pair);
    expect(ended.map(({ code }) => code)).toEqual([0, 0]);
    expect(new Set(ended.map((one) => reportOf(one).run)).size).toBe(1);
    expect(await cluster.problems()).toEqual([]);
    expect(cluster.inferred()).toBe(cluster.tiles);
  });

  it('--qc is kept by the plan: a worker that dies and a submit without the flag leave the files of one machine', async () => {
    const sources = [join(y.slides, 'many.svs')];
    const reference = await undisturbed(sources, y.model, y.path('undisturbed-qc'), { flags: ['--qc'] });
    expect(reference).not.toEqual(
      Object.fromEntries(Object.entries(y.reference).filter(([name]) => name in reference)),
    );
    const cluster = y.cluster({ sources, only: 'many', reference });
    const submitted = await cluster.producer([], ['--qc', '--detach']).ended;
    expect(submitted, submitted.stderr).toMatchObject({ code: 0 });
    const killed = cluster.worker([{ at: 'after put shards', nth: 2, signal: 'SIGKILL' }]);
    expect((await killed.ended).signal).toBe('SIGKILL');
    await cluster.submit();
    await cluster.finish();
    expect(await cluster.problems()).toEqual([]);
  });

  it('indexes what was published by a worker that died before indexing, and Redis lost the job', async () => {
    const cluster = y.cluster({ planned: true });
    await cluster.submit();
    const killed = cluster.worker([{ at: 'before upsert', signal: 'SIGKILL' }]);
    expect((await killed.ended).signal).toBe('SIGKILL');
    const redis = new Redis(cluster.redis);
    await redis.flushdb();
    redis.disconnect();
    const [ended] = await completed(cluster);
    expect(ended, ended!.stderr).toMatchObject({ code: 0 });
    expect(await cluster.problems()).toEqual([]);
  });
});
