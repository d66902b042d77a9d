import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Cluster, type Yard, yard } from '../fixtures/faults/cluster.ts';
import { type Cost, costOf, tell } from '../fixtures/faults/measured.ts';
import type { Stop } from '../fixtures/faults/points.ts';

let y: Yard;
beforeAll(async () => {
  y = await yard();
});
afterAll(async () => {
  await y?.close();
  tell(`kill -9 of a worker at each of ${costs.length} points, lease 4 s, check 1 s`, costs);
});

type Point = Omit<Stop, 'signal'> & { readonly name: string };
const point = (at: string, more: { about?: string; nth?: number } = {}): Point => ({
  at,
  ...more,
  name: [at, more.about && `of ${more.about}`, more.nth && `number ${more.nth}`].filter(Boolean).join(' '),
});

const costs: Cost[] = [];

/** A worker dies at the point; another one comes and does what is left. */
async function killedAt(cluster: Cluster, { name: _, ...stop }: Point): Promise<void> {
  await cluster.submit();
  const worker = cluster.worker([{ ...stop, signal: 'SIGKILL' }]);
  const { signal, stderr } = await worker.ended;
  expect(signal, stderr).toBe('SIGKILL');
  await cluster.finish();
  costs.push(costOf(cluster, worker.pid));
  expect(await cluster.problems()).toEqual([]);
  expect(putTwice(cluster)).toEqual([]);
}

/** What was in the record before another worker put it again: wasted work. */
function putTwice(cluster: Cluster): string[] {
  const puts = (when: 'before' | 'after') =>
    cluster.crossings().filter(({ at }) => at === `${when} put shards` || at === `${when} put slides`);
  return puts('after')
    .filter((done) =>
      puts('before').some(({ time, pid, about }) => about === done.about && pid !== done.pid && time > done.time),
    )
    .map(({ about }) => about);
}

describe.concurrent('a worker is killed with kill -9 and loses nothing,', () => {
  it.for([
    point('after take plan'),
    point('before read'),
    point('before put plans'),
    point('during put plans'),
    point('after put plans', { about: '.json' }),
    point('before add embed'),
    point('after add embed'),
    point('during put qc'),
    point('before ack plan'),
    point('after ack plan'),
  ])('planning: $name', (at) => killedAt(y.cluster({ only: 'one' }), at));

  it.for([
    point('after take embed', { nth: 2 }),
    point('before read'),
    point('after read'),
    point('before infer'),
    point('after infer'),
    point('before put shards'),
    point('during put shards'),
    point('after put shards'),
    point('after put shards', { nth: 3 }),
    point('before add index'),
    point('after add index'),
    point('before ack embed'),
    point('after ack embed'),
    point('before put slides', { about: 'one' }),
    point('during put slides', { about: 'one' }),
    point('after put slides', { about: 'one' }),
  ])('embedding: $name', (at) => killedAt(y.cluster({ planned: true }), at));

  it.for([
    point('after take index'),
    point('before put slides', { about: 'many' }),
    point('during put slides', { about: 'many' }),
    point('after put slides', { about: 'many' }),
    point('after delete shards'),
    point('after delete shards', { nth: 3 }),
    point('before upsert'),
    point('after upsert'),
    point('before ack index'),
    point('after ack index'),
  ])('indexing: $name', (at) => killedAt(y.cluster({ planned: true }), at));
});
