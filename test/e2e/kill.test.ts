import { fork } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { verify } from '@nightshift/core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Bench, bench, run } from '../fixtures/run.ts';
import type { KillAt } from '../fixtures/run-process.ts';

let b: Bench;
beforeAll(async () => {
  b = await bench();
});
afterAll(() => b.dispose());

/** A run in a process of its own that dies without warning. */
async function killed(options: Parameters<typeof run>[0], at: KillAt): Promise<void> {
  const child = fork(join(import.meta.dirname, '../fixtures/run-process.ts'), [JSON.stringify(options), at], {
    execArgv: [],
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  const [, signal] = await once(child, 'exit');
  expect(signal).toBe('SIGKILL');
}

/** Slide files by name and sha256. */
function slideFiles(out: string, recipe: string): Record<string, string> {
  const dir = join(out, recipe, 'slides');
  const digest = (name: string) =>
    createHash('sha256')
      .update(readFileSync(join(dir, name)))
      .digest('hex');
  return Object.fromEntries(readdirSync(dir).map((name) => [name, digest(name)]));
}

describe('kill -9', () => {
  it.each([
    ['right after planning', 'slide-planned'],
    ['after the first shard', 'shard-done'],
    ['after the last shard, before the slide file', 'last-shard-done'],
    ['after the first slide', 'slide-done'],
  ] as const)('%s loses nothing: the same command completes the run to the same bytes', async (name, at) => {
    const sources = [b.slide('a.svs'), b.slide('b.svs')];
    const undisturbed = await run({ sources, model: b.model, out: b.path(`whole ${name}`) });
    const options = { sources, model: b.model, out: b.path(`killed ${name}`) };
    await killed(options, at);
    const { report } = await run(options);
    expect(report).toMatchObject({ state: 'done', failures: [], slides: { total: 2, done: 2 } });
    expect(slideFiles(options.out, report.recipe)).toEqual(
      slideFiles(b.path(`whole ${name}`), undisturbed.report.recipe),
    );
    expect(await verify({ out: options.out, run: null, store: null })).toMatchObject({ ok: true, findings: [] });
  });
});
