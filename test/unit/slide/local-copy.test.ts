import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { localCopy } from '../../../packages/core/src/slide/openslide/local-copy.ts';
import { memorySource } from '../../fixtures/slides/write-tiff.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'nightshift-copies-'));
  vi.stubEnv('NIGHTSHIFT_OPENSLIDE_CACHE', dir);
  vi.stubEnv('NIGHTSHIFT_OPENSLIDE_CACHE_GIB', String(3_000 / 2 ** 30));
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(dir, { recursive: true, force: true });
});

const object = (name: string, length = 1_000) => memorySource(Buffer.alloc(length, name), `s3://bucket/${name}.svs`);
const kept = () => readdirSync(dir).filter((name) => name.endsWith('.svs'));
/** Copies an object, and says that this was some seconds ago. */
async function copied(name: string, secondsAgo: number): Promise<string> {
  const before = new Set(kept());
  await (await localCopy(object(name))).release();
  const [made] = kept().filter((one) => !before.has(one));
  const at = Date.now() / 1_000 - secondsAgo;
  utimesSync(join(dir, made!), at, at);
  return made!;
}

test('a file is read where it is', async () => {
  const { path, release } = await localCopy(memorySource(Buffer.alloc(10), '/slides/a.svs'));
  await release();
  expect(path).toBe('/slides/a.svs');
  expect(readdirSync(dir)).toEqual([]);
});

test('an object is copied whole, keeps its ending, and goes with who used it from their sight alone', async () => {
  const { path, release } = await localCopy(object('a'));
  expect(path).toMatch(/\.svs$/);
  expect(readFileSync(path, 'latin1')).toBe('a'.repeat(1_000));
  await release();
  expect(existsSync(path)).toBe(false);
  expect(kept()).toHaveLength(1);
});

test('another content under the same name is another copy', async () => {
  await copied('a', 0);
  await (await localCopy({ ...object('a'), contentId: 'changed' })).release();
  expect(kept()).toHaveLength(2);
});

test('what was used longest ago makes room, also while somebody reads it', async () => {
  const oldest = await copied('a', 300);
  const older = await copied('b', 200);
  const newest = await copied('c', 100);
  const reading = await localCopy(object('a'));
  const again = await localCopy(object('d'));
  expect(kept()).toHaveLength(3);
  expect(kept()).toEqual(expect.arrayContaining([oldest, newest]));
  expect(kept()).not.toContain(older);
  await (await localCopy(object('e', 2_900))).release();
  expect(kept()).toHaveLength(1);
  expect(readFileSync(reading.path, 'latin1')).toBe('a'.repeat(1_000));
  await Promise.all([reading.release(), again.release()]);
});

test('what a process left behind that is gone is swept', async () => {
  mkdirSync(join(dir, 'in-use'));
  // No process has a number beyond 2^22.
  writeFileSync(join(dir, 'in-use', `${2 ** 22 + 1}-left.svs`), 'left');
  await (await localCopy(object('a'))).release();
  expect(readdirSync(join(dir, 'in-use'))).toEqual([]);
});

test('one that is larger than the cache, or that needs others beside it, is refused with what to do', async () => {
  await expect(localCopy(object('a', 3_001))).rejects.toMatchObject({
    code: 'slide-unsupported',
    next: 'Set NIGHTSHIFT_OPENSLIDE_CACHE_GIB higher.',
  });
  await expect(localCopy(memorySource(Buffer.alloc(1), 's3://bucket/a.vms'))).rejects.toMatchObject({
    code: 'slide-unsupported',
    next: expect.stringContaining('to a disk'),
  });
});

test('a source that fails in the middle leaves nothing', async () => {
  const failing = { ...object('a'), read: () => Promise.reject(new Error('gone')) };
  await expect(localCopy(failing)).rejects.toMatchObject({ code: 'slide-unreadable' });
  expect(kept()).toEqual([]);
  expect(readdirSync(dir)).toEqual(['in-use']);
});
