import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Cluster, type Yard, yard } from '../fixtures/faults/cluster.ts';
import type { Stop } from '../fixtures/faults/points.ts';

let y: Yard;
beforeAll(async () => {
  y = await yard();
});
afterAll(() => y?.close());

/** Tiles that went through the encoder, of whatever process. */
const inferred = (cluster: Cluster): number =>
  cluster.crossings().reduce((sum, { at, about }) => sum + (at === 'before infer' ? Number(about) : 0), 0);
const TILES = 12 + 44;

/** A worker dies at the point; another one comes and does what is left. */
async function killedAt(cluster: Cluster, stop: Omit<Stop, 'signal'>): Promise<void> {
  const { signal, stderr } = await cluster.worker([{ ...stop, signal: 'SIGKILL' }]).ended;
  expect(signal, stderr).toBe('SIGKILL');
  await cluster.finish();
}

describe.concurrent('kill -9 of a worker', () => {
  it.for<Omit<Stop, 'signal'>>([
    { at: 'after take plan' },
    { at: 'before read' },
    { at: 'before put plans' },
    { at: 'during put plans' },
    { at: 'after put plans', about: '.json' },
    { at: 'before add embed' },
    { at: 'after add embed' },
    { at: 'during put qc' },
    { at: 'before ack plan' },
    { at: 'after ack plan' },
  ])('in planning, $at: another plans the slide', async (stop) => {
    const cluster = y.cluster();
    await cluster.submit();
    await killedAt(cluster, stop);
    expect(await cluster.problems()).toEqual([]);
  });

  it.for<Omit<Stop, 'signal'>>([
    { at: 'after take embed', nth: 2 },
    { at: 'before read' },
    { at: 'after read' },
    { at: 'before infer' },
    { at: 'after infer' },
    { at: 'before put shards' },
    { at: 'during put shards' },
    { at: 'after put shards' },
    { at: 'after put shards', nth: 3 },
    { at: 'before add index' },
    { at: 'after add index' },
    { at: 'before ack embed' },
    { at: 'after ack embed' },
    { at: 'before put slides', about: 'one' },
    { at: 'during put slides', about: 'one' },
    { at: 'after put slides', about: 'one' },
  ])('in embedding, $at ($nth, $about): another embeds the shard', async (stop) => {
    const cluster = y.cluster({ planned: true });
    await cluster.submit();
    await killedAt(cluster, stop);
    expect(await cluster.problems()).toEqual([]);
    expect(inferred(cluster)).toBeLessThanOrEqual(TILES + 2 * 16);
  });

  it.for<Omit<Stop, 'signal'>>([
    { at: 'after take index' },
    { at: 'before put slides', about: 'many' },
    { at: 'during put slides', about: 'many' },
    { at: 'after put slides', about: 'many' },
    { at: 'after delete shards' },
    { at: 'after delete shards', nth: 3 },
    { at: 'before upsert' },
    { at: 'after upsert' },
    { at: 'before ack index' },
    { at: 'after ack index' },
  ])('in indexing, $at ($nth, $about): another publishes the slide', async (stop) => {
    const cluster = y.cluster({ planned: true });
    await cluster.submit();
    await killedAt(cluster, stop);
    expect(await cluster.problems()).toEqual([]);
  });
});
