import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { nightshift } from '../fixtures/cli.ts';

let cwd: string;
beforeAll(async () => {
  cwd = await mkdtemp(join(tmpdir(), 'nightshift-demo-'));
});
afterAll(() => rm(cwd, { recursive: true }));

it('makes slides, model, record, pictures and a search, and says where; the second run keeps all of it', async () => {
  const first = await nightshift(['demo'], { cwd });
  expect(first.code, first.stderr).toBe(0);
  expect(first.stdout).toBe('nightshift-demo\n');
  expect(first.stderr).toContain('random weights');
  expect(first.stderr).toMatch(/next: nightshift embed slide\.svs --model nightshift-demo\/models\/demo-random/);

  const made = await readdir(join(cwd, 'nightshift-demo'), { recursive: true });
  expect(made.filter((name) => /qc\/demo-[12].*\.jpg$/.test(name))).toHaveLength(2);
  expect(made.filter((name) => /slides\/demo-[12].*\.arrow$/.test(name))).toHaveLength(2);
  expect(made.filter((name) => name.includes('shards/') || name.endsWith('.part'))).toEqual([]);
  const sheet = await readFile(join(cwd, 'nightshift-demo/search.jpg'));
  expect(sheet.subarray(0, 2)).toEqual(Buffer.from([0xff, 0xd8]));

  const { embed, verify, search } = (await nightshift(['demo', '--json'], { cwd })).json();
  expect(embed.slides).toMatchObject({ total: 2, done: 2, skipped: 2 });
  expect(verify).toMatchObject({ ok: true, tiles: { failed: 0 } });
  expect(verify.tiles.rows).toBeGreaterThan(300);
  expect(search.hits).toHaveLength(15);
});
