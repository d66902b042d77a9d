import { execFileSync } from 'node:child_process';
import { appendFile, mkdtemp, open, rename, rm, truncate, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openFile } from '../../../packages/core/src/source/file.ts';

let folder: string;
const content = Uint8Array.from({ length: 10_000 }, (_, i) => (i * 7) % 251);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'nightshift-file-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function file(name: string, bytes: Uint8Array = content): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, bytes);
  return path;
}

test('ranges come back in the order asked, each an array of its own', async () => {
  const source = await openFile(await file('order'));
  const parts = await source.read([
    { offset: 9_000, length: 1_000 },
    { offset: 0, length: 5 },
    { offset: 3, length: 5 },
    { offset: 10_000, length: 0 },
  ]);
  expect(parts.map((part) => Buffer.from(part))).toEqual([
    Buffer.from(content.subarray(9_000)),
    Buffer.from(content.subarray(0, 5)),
    Buffer.from(content.subarray(3, 8)),
    Buffer.alloc(0),
  ]);
  expect(new Set(parts.map((part) => part.buffer)).size).toBe(4);
  await source.close();
});

test('a range past the end is slide-truncated', async () => {
  const source = await openFile(await file('end'));
  await expect(source.read([{ offset: 9_999, length: 2 }])).rejects.toMatchObject({ code: 'slide-truncated' });
  await source.close();
});

test('a missing file, a directory and a pipe are told apart', async () => {
  execFileSync('mkfifo', [join(folder, 'pipe')]);
  await expect(openFile(join(folder, 'none.svs'))).rejects.toMatchObject({ code: 'slide-not-found' });
  await expect(openFile(join(await file('plain'), 'below.svs'))).rejects.toMatchObject({ code: 'slide-not-found' });
  await expect(openFile(folder)).rejects.toMatchObject({ code: 'slide-not-a-slide' });
  await expect(openFile(join(folder, 'pipe'))).rejects.toMatchObject({ code: 'slide-not-a-slide' });
});

test('the content id says when a file is another one', async () => {
  const path = await file('id');
  const first = await openFile(path);
  const again = await openFile(path);
  await utimes(path, new Date(), new Date(1_000));
  const touched = await openFile(path);
  expect(again.contentId).toBe(first.contentId);
  expect(touched.contentId).not.toBe(first.contentId);
  await Promise.all([first, again, touched].map((source) => source.close()));
});

test.each([
  ['appended to', (path: string) => appendFile(path, 'x')],
  ['cut short', (path: string) => truncate(path, 100)],
  [
    'overwritten in place',
    async (path: string) => {
      const handle = await open(path, 'r+');
      await handle.write(Buffer.from([9]), 0, 1, 0);
      await handle.utimes(new Date(), new Date(2_000));
      await handle.close();
    },
  ],
])('a file that is %s while it is open fails with slide-changed', async (name, change) => {
  const path = await file(name);
  const source = await openFile(path);
  await change(path);
  await expect(source.read([{ offset: 50, length: 5_000 }])).rejects.toMatchObject({
    code: 'slide-changed',
    retry: false,
  });
  await source.close();
});

test('a file renamed over it is not read: the one that was opened is', async () => {
  const path = await file('old');
  const source = await openFile(path);
  await rename(await file('new', new Uint8Array(10_000)), path);
  const [part] = await source.read([{ offset: 1, length: 3 }]);
  expect([...part!]).toEqual([7, 14, 21]);
  await source.close();
});

test('an aborted read rejects with the reason', async () => {
  const source = await openFile(await file('abort'));
  const reason = new Error('enough');
  await expect(source.read([{ offset: 0, length: 10 }], AbortSignal.abort(reason))).rejects.toBe(reason);
  await source.close();
});

test('a closed source is slide-unreadable', async () => {
  const source = await openFile(await file('closed'));
  await source.close();
  await expect(source.read([{ offset: 0, length: 10 }])).rejects.toMatchObject({ code: 'slide-unreadable' });
});
