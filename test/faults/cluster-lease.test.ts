import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileBlobs } from '@nightshift/core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Cluster, undisturbed, type Yard, yard } from '../fixtures/faults/cluster.ts';
import { costOf, tell } from '../fixtures/faults/measured.ts';
import { type Program, succeeded } from '../fixtures/faults/program.ts';

let y: Yard;
beforeAll(async () => {
  y = await yard({ copies: 4 });
});
afterAll(() => y?.close());

/** Everything in a record, by key and sha256, but for files that a living process still writes. */
async function contents(out: string): Promise<Record<string, string>> {
  const blobs = fileBlobs(out);
  const found: Record<string, string> = {};
  for await (const { key } of blobs.list('')) {
    found[key] = createHash('sha256')
      .update((await blobs.get(key))!)
      .digest('hex');
  }
  return found;
}

/** Processes that were started for this cluster, and what they started. */
const processesOf = (cluster: Cluster): string[] =>
  readdirSync('/proc').filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/environ`, 'utf8').includes(`"log":"${cluster.log}"`);
    } catch {
      return false;
    }
  });

describe.concurrent('workers that are frozen past their leases', () => {
  it('before and after each commit of a shard and a slide commit late, and that changes nothing', async () => {
    const cluster = y.cluster({ planned: true });
    await cluster.submit();
    const frozen: Program[] = [];
    for (const [at, about] of [
      ['before add embed', ''],
      ['before put shards', ''],
      ['after put shards', ''],
      ['before ack embed', ''],
      ['before put slides', '/one'],
      ['before put slides', '/many'],
      ['after delete shards', ''],
      ['before upsert', ''],
    ] as const) {
      const worker = cluster.worker([{ at, about, signal: 'SIGSTOP' }], ['--exit-when-empty']);
      await worker.frozen();
      frozen.push(worker);
    }
    await cluster.finish();
    const before = await contents(cluster.out);
    for (const worker of frozen) worker.kill('SIGCONT');
    await Promise.all(frozen.map(succeeded));
    expect(await contents(cluster.out)).toEqual(before);
    expect(await cluster.problems()).toEqual([]);
  });
});

describe.concurrent('a shard', () => {
  it('that was killed with its worker five times completes with the sixth', async () => {
    const cluster = y.cluster({ planned: true });
    await cluster.submit();
    const slide = Object.keys(y.reference)
      .find((name) => /^many-[0-9a-f]{8}\./.test(name))!
      .replace('.arrow', '');
    for (let kill = 0; kill < 5; kill++) {
      const stop = { at: 'before put shards', about: `${slide}/00001.arrow`, signal: 'SIGKILL' } as const;
      expect((await cluster.worker([stop]).ended).signal).toBe('SIGKILL');
    }
    await cluster.finish();
    expect(await cluster.problems()).toEqual([]);
    const takes = cluster
      .crossings()
      .filter(({ at, about }) => at === 'after take embed' && about.includes(`${slide}-1 `));
    expect(takes.at(-1)!.about).toMatch(/ attempt ([5-9]|\d\d)$/);
  });

  it('starts elsewhere within 35 s at the standard lease', async () => {
    const cluster = y.cluster({ planned: true, lease: null });
    await cluster.submit();
    const killed = cluster.worker([], [], { latencyMs: 600_000 });
    await cluster.crossed(({ at, pid }) => at === 'before infer' && pid === killed.pid);
    const survivor = cluster.worker([], ['--exit-when-empty']);
    await survivor.said('ready: ');
    killed.kill('SIGKILL');
    const end = Date.now();
    await succeeded(survivor);
    expect(await cluster.problems()).toEqual([]);
    const cost = costOf(cluster, killed.pid, end);
    expect(cost.recoverySeconds).toBeGreaterThan(0);
    expect(cost.recoverySeconds).toBeLessThan(35);
    tell('kill -9 of a worker, standard lease of 20 s, check of 2 s', cost);
  });

  it('is embedded by the real model to the same vectors, and a killed worker leaves no process behind', async () => {
    const reference = await undisturbed([y.slides], y.model, y.path('undisturbed-model'), { encoder: null });
    const cluster = y.cluster({ planned: true, encoder: null, reference });
    await cluster.submit();
    const { signal } = await cluster.worker([{ at: 'after infer', nth: 2, signal: 'SIGKILL' }]).ended;
    expect(signal).toBe('SIGKILL');
    while (processesOf(cluster).length > 0) await sleep(20);
    await cluster.finish();
    expect(await cluster.problems()).toEqual([]);
  });
});
