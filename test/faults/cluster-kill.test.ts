import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Cluster, type Yard, yard } from '../fixtures/faults/cluster.ts';
import type { Stop } from '../fixtures/faults/points.ts';

let y: Yard;
beforeAll(async () => {
  y = await yard({ copies: 5 });
});
afterAll(() => y?.close());

type Point = Omit<Stop, 'signal'>;
const point = (at: string, more: Omit<Point, 'at'> = {}): Point => ({ at, ...more });

/**
 * A worker dies at the first point, the next one at the second, and so on, each started when the one before is dead: it takes other
 * shards while the leases of the dead run out. The last one does what is left.
 */
async function swept(cluster: Cluster, points: readonly Point[]): Promise<void> {
  await cluster.submit();
  for (const at of points) {
    const worker = cluster.worker([{ ...at, signal: 'SIGKILL' }], ['--exit-when-empty']);
    const { signal, stderr } = await worker.ended;
    expect(signal, `${JSON.stringify(at)}\n${stderr}`).toBe('SIGKILL');
  }
  await cluster.finish();
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

describe.concurrent('a run whose workers are killed with kill -9 one after the other loses nothing,', () => {
  it('before, in and after each step of planning', () =>
    swept(y.cluster({ only: 'one' }), [
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
    ]));

  it('before and after take, read, infer and, where it is a whole slide, put of a shard', () =>
    swept(y.cluster({ planned: true }), [
      point('after take embed', { nth: 2 }),
      point('before read'),
      point('after read'),
      point('before infer'),
      point('after infer'),
      point('before put slides', { about: '/one' }),
      point('during put slides', { about: '/one' }),
      point('after put slides', { about: '/one' }),
    ]));

  it('before, in and after put, hand on and ack of a shard', () =>
    swept(y.cluster({ planned: true }), [
      point('before put shards'),
      point('during put shards'),
      point('after put shards'),
      point('after put shards', { nth: 3 }),
      point('before add index'),
      point('after add index'),
      point('before ack embed'),
      point('after ack embed'),
    ]));

  it('before, in and after join, index and ack of a slide', () =>
    swept(y.cluster({ planned: true }), [
      point('after take index'),
      point('before put slides', { about: '/many' }),
      point('during put slides', { about: '/many' }),
      point('after put slides', { about: '/many' }),
      point('after delete shards'),
      point('after delete shards', { nth: 3 }),
      point('before upsert'),
      point('after upsert'),
      point('before ack index'),
      point('after ack index'),
    ]));
});
