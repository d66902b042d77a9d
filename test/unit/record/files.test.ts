import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { chmod, mkdir, readdir, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileBlobs } from '@nightshift/core';
import { describe, expect, it, onTestFinished, type TestContext } from 'vitest';
import { temporaryDirectory } from '../../fixtures/record.ts';

const some = (size: number): Uint8Array => new Uint8Array(size).fill(1);

/** A file system of its own, or the test is skipped where that takes rights that it has not. */
async function mounted(context: TestContext, options: string): Promise<string> {
  const dir = await temporaryDirectory();
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', dir], { stdio: 'pipe' });
  } catch {
    context.skip('mounting a tmpfs needs root');
  }
  onTestFinished(() => void execFileSync('umount', ['-l', dir]));
  return dir;
}

describe('a full disk', () => {
  it('is disk-full, leaves nothing half-written, and takes what fits afterwards', async (context) => {
    const dir = await mounted(context, 'size=2m');
    const blobs = fileBlobs(dir);
    async function* threeMegabytes() {
      for (let i = 0; i < 3; i++) yield some(1 << 20);
    }
    await expect(blobs.putIfAbsent('a/large', threeMegabytes())).rejects.toMatchObject({ code: 'disk-full' });
    await expect(blobs.put('a/large', some(3 << 20))).rejects.toMatchObject({
      code: 'disk-full',
      exit: 5,
      retry: true,
    });
    expect(await blobs.get('a/large')).toBeNull();
    expect(await readdir(join(dir, '.tmp'))).toEqual([]);
    expect(await blobs.putIfAbsent('a/small', some(1 << 20))).toBe('written');
  });
});

describe('a place that cannot be written', () => {
  it('is out-not-writable when it is read-only', async (context) => {
    const blobs = fileBlobs(await mounted(context, 'ro'));
    await expect(blobs.probe()).rejects.toMatchObject({ code: 'out-not-writable', message: /EROFS/ });
  });

  it('is out-not-writable when permission is missing', async (context) => {
    if (process.getuid?.() === 0) context.skip('root may write anywhere');
    const dir = await temporaryDirectory();
    await chmod(dir, 0o500);
    await expect(fileBlobs(dir).probe()).rejects.toMatchObject({ code: 'out-not-writable' });
  });

  it('is out-not-writable when it is a file', async () => {
    const path = join(await temporaryDirectory(), 'a-file');
    await writeFile(path, 'x');
    await expect(fileBlobs(path).probe()).rejects.toMatchObject({ code: 'out-not-writable' });
    await expect(fileBlobs(join(path, 'below')).put('a', some(1))).rejects.toMatchObject({ code: 'out-not-writable' });
  });

  it('is named in the error', async () => {
    const path = join(await temporaryDirectory(), 'a-file');
    await writeFile(path, 'x');
    await expect(fileBlobs(path).probe()).rejects.toThrow(path);
  });
});

describe('temporary files', () => {
  it('of writers that died more than a day ago are removed by the next write, younger ones are kept', async () => {
    const dir = await temporaryDirectory();
    const temp = join(dir, '.tmp');
    await mkdir(temp);
    await writeFile(join(temp, 'old'), 'x');
    await writeFile(join(temp, 'young'), 'x');
    const twoDaysAgo = new Date(Date.now() - 2 * 24 * 3600 * 1000);
    await utimes(join(temp, 'old'), twoDaysAgo, twoDaysAgo);
    await fileBlobs(dir).put('a', some(1));
    expect(await readdir(temp)).toEqual(['young']);
  });

  it('of a writer of this machine that was killed are removed by the next process that writes', async () => {
    const dir = await temporaryDirectory();
    const program = join(import.meta.dirname, '../../fixtures/blob-writer.ts');
    const child = spawn(process.execPath, [program, dir, 'key'], { stdio: ['ignore', 'pipe', 'inherit'] });
    const exited = once(child, 'exit');
    await once(child.stdout, 'data');
    const blobs = fileBlobs(dir);
    await blobs.put('while it lives', some(1));
    expect(await readdir(join(dir, '.tmp'))).toHaveLength(1);
    child.kill('SIGKILL');
    await exited;
    await fileBlobs(dir).put('after it died', some(1));
    expect(await readdir(join(dir, '.tmp'))).toEqual([]);
  });

  it('are no keys, unless they are asked for', async () => {
    const dir = await temporaryDirectory();
    await mkdir(join(dir, '.tmp'));
    await writeFile(join(dir, '.tmp', 'part'), 'x');
    const blobs = fileBlobs(dir);
    expect(await Array.fromAsync(blobs.list(''))).toEqual([]);
    expect(await Array.fromAsync(blobs.list('.tmp/'))).toEqual([{ key: '.tmp/part', size: 1 }]);
    await expect(blobs.put('.tmp/mine', some(1))).rejects.toMatchObject({ code: 'internal' });
  });
});

describe('without hard links', () => {
  it('a claim that a dead process left is taken over once it is a minute old', async () => {
    const dir = await temporaryDirectory();
    const blobs = fileBlobs(dir, { hardLinks: false });
    const claim = join(
      dir,
      '.tmp',
      `claim-${createHash('sha256').update(join(dir, 'key')).digest('hex').slice(0, 32)}`,
    );
    await mkdir(join(dir, '.tmp'));
    await writeFile(claim, '');
    const twoMinutesAgo = new Date(Date.now() - 120_000);
    await utimes(claim, twoMinutesAgo, twoMinutesAgo);
    expect(await blobs.putIfAbsent('key', some(1))).toBe('written');
    expect(await readdir(join(dir, '.tmp'))).toEqual([]);
  });
});

describe('names', () => {
  it('are readable as they are: files in folders', async () => {
    const dir = await temporaryDirectory();
    await fileBlobs(dir).put('recipe/slides/a.arrow', some(3));
    expect(await readdir(join(dir, 'recipe/slides'))).toEqual(['a.arrow']);
  });
});
