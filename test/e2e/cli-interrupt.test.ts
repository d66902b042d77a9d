import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { DemoSlide } from '../../apps/producer/src/demo/slide.ts';
import { nightshift } from '../fixtures/cli.ts';
import { type Ended, startProgram } from '../fixtures/faults/program.ts';
import { makeTinyModel, paintSmall, SMALL } from '../fixtures/painted.ts';

let cwd: string;
const LARGER: DemoSlide = { ...SMALL, width: 4000, height: 3000 };

beforeAll(async () => {
  cwd = await mkdtemp(join(tmpdir(), 'nightshift-interrupt-'));
  await makeTinyModel(join(cwd, 'models/tiny'));
  await paintSmall(join(cwd, 'slides'), 'one.svs', LARGER);
  await paintSmall(join(cwd, 'slides'), 'two.svs', { ...LARGER, seed: 4 });
});
afterAll(() => rm(cwd, { recursive: true }));

const command = (out: string): string[] => [
  ...['embed', 'slides', '--model', 'tiny', '--out', out, '--shard-tiles', '16', '--batch', '1', '--threads', '1'],
];

/** The command with a signal that it gets when its first shard is in the record: there is something to keep and something to do. */
async function interrupted(args: readonly string[], signal: NodeJS.Signals): Promise<Ended> {
  const stops = [{ at: 'after put shards', signal: 'SIGSTOP' }] as const;
  const program = startProgram('producer', args, {
    script: { log: '/dev/null', lease: null, encoder: null, stops },
    cwd,
  });
  await program.frozen();
  program.kill(signal);
  program.kill('SIGCONT');
  return program.ended;
}

/** The vectors of a record: content of its slide files by name. */
async function slideFiles(out: string): Promise<Map<string, string>> {
  const names = await readdir(join(cwd, out), { recursive: true });
  const files = new Map<string, string>();
  for (const name of names.filter((path) => /slides\/.*\.arrow$/.test(path)).sort()) {
    files.set(name, (await readFile(join(cwd, out, name))).toString('base64'));
  }
  return files;
}

describe.each(['SIGINT', 'SIGTERM'] as const)('%s', (signal) => {
  it('drains with exit 130; the same command completes it to what an undisturbed run makes', async () => {
    const out = `stopped-${signal}`;
    const stopped = await interrupted(command(out), signal);
    expect(stopped.stderr).toContain('Stopping');
    expect(stopped.stderr).toContain('next: the same command again');
    expect(stopped.code).toBe(130);
    expect(stopped.stdout).toBe('');

    const completed = await nightshift(command(out), { cwd });
    expect(completed.code, completed.stderr).toBe(0);
    const undisturbed = await nightshift(command('undisturbed'), { cwd });
    expect(undisturbed.code).toBe(0);

    const files = await slideFiles(out);
    expect(files.size).toBe(2);
    expect(files).toEqual(await slideFiles('undisturbed'));
    const verified = await nightshift(['verify', out, '--json'], { cwd });
    expect(verified.json()).toMatchObject({ ok: true, findings: [] });
  });
});

it('with --json an interrupted run is an object that says so', async () => {
  const stopped = await interrupted([...command('json'), '--json'], 'SIGINT');
  expect(JSON.parse(stopped.stdout)).toMatchObject({ version: 1, command: 'embed', state: 'interrupted' });
  expect(stopped.code).toBe(130);
});
