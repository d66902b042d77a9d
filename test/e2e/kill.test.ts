import { type ChildProcess, fork } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { RunEvent } from '@nightshift/core';
import { verify } from '@nightshift/core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Bench, bench, run } from '../fixtures/run.ts';

let b: Bench;
beforeAll(async () => {
  b = await bench();
});
afterAll(() => b.dispose());

/** A run in a process of its own, killed without warning when `when` says so. */
async function killed(options: Parameters<typeof run>[0], when: (event: RunEvent) => boolean): Promise<void> {
  const child: ChildProcess = fork(join(import.meta.dirname, '../fixtures/run-process.ts'), [JSON.stringify(options)], {
    execArgv: [],
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  child.on('message', (event: RunEvent) => {
    if (when(event)) child.kill('SIGKILL');
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
    ['right after planning', (event: RunEvent) => event.type === 'slide-planned'],
    ['after the first shard', (event: RunEvent) => event.type === 'shard-done'],
    [
      'after the last shard, before the slide file',
      (event: RunEvent) => event.type === 'shard-done' && event.shard === event.of - 1,
    ],
    ['after the first slide', (event: RunEvent) => event.type === 'slide-done'],
  ])('%s loses nothing: the same command completes the run to the same bytes', async (name, when) => {
    const sources = [b.slide('a.svs'), b.slide('b.svs')];
    const undisturbed = await run({ sources, model: b.model, out: b.path(`whole ${name}`) });
    const options = { sources, model: b.model, out: b.path(`killed ${name}`) };
    await killed(options, when);
    const { report } = await run(options);
    expect(report).toMatchObject({ state: 'done', failures: [], slides: { total: 2, done: 2 } });
    expect(slideFiles(options.out, report.recipe)).toEqual(
      slideFiles(b.path(`whole ${name}`), undisturbed.report.recipe),
    );
    expect(await verify({ out: options.out, run: null, store: null })).toMatchObject({ ok: true, findings: [] });
  });
});
