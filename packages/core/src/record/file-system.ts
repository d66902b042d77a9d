import { createHash } from 'node:crypto';
import { readFileSync, readlinkSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { mkdir, open, readdir, stat, unlink } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { NightshiftError } from '../errors.ts';
import type { ByteRange, ByteSource } from '../source/source.ts';
import { bytes } from '../units.ts';

/** A published file for reading by ranges. */
export async function openBlob(path: string): Promise<ByteSource> {
  const file = await open(path, 'r');
  const { size, mtimeMs } = await file.stat();
  return {
    uri: pathToFileURL(path).href,
    size: bytes(size),
    contentId: `${size}-${Math.round(mtimeMs)}`,
    read: (ranges) => Promise.all(ranges.map((range) => readRange(file, range, path, size))),
    close: () => file.close(),
  };
}

/** A published file is never changed under its readers: it is unlinked or replaced, and the open one stays as it was. */
async function readRange(file: FileHandle, range: ByteRange, path: string, size: number): Promise<Uint8Array> {
  const { offset, length } = range;
  if (offset < 0 || length < 0 || offset + length > size) {
    throw new NightshiftError('record-corrupt', `${path}: ends at byte ${size}, before ${offset + length}`);
  }
  const buffer = new Uint8Array(length);
  let done = 0;
  try {
    while (done < length) {
      const { bytesRead } = await file.read(buffer, done, length - done, offset + done);
      if (bytesRead === 0) break;
      done += bytesRead;
    }
  } catch (error) {
    throw readError(error, path);
  }
  if (done < length) throw new NightshiftError('record-corrupt', `${path}: ends at byte ${offset + done}`);
  return buffer;
}

export async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (isAbsent(error)) return false;
    throw readError(error, path);
  }
}

/** Runs `give` with the folder there, also when a `delete` elsewhere removes it as empty in between. */
export async function inDirectory<T>(folder: string, give: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    const made = await mkdir(folder, { recursive: true });
    if (made !== undefined) await syncDirectory(dirname(made));
    try {
      return await give();
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT' || attempt === 10) throw error;
    }
  }
}

/** Makes names durable. Some file systems cannot sync a directory and say so; they keep names in their own way. */
export async function syncDirectory(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } catch (error) {
    const code = errnoOf(error);
    if (code !== 'EINVAL' && code !== 'ENOTSUP' && code !== 'EPERM' && code !== 'EISDIR') throw error;
  } finally {
    await handle.close();
  }
}

/**
 * Where this process's number means something: a host, since its last boot, in one process namespace. Begins the names of
 * temporary files.
 */
export const HERE: string = createHash('sha256')
  .update([hostname(), readOr('/proc/sys/kernel/random/boot_id'), linkOr('/proc/self/ns/pid')].join('\n'))
  .digest('hex')
  .slice(0, 8);

function readOr(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function linkOr(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}

/**
 * Removes what processes left that died while writing: those of this host by their number, those of others once they are older
 * than `lifeMs`.
 */
export async function sweep(folder: string, lifeMs: number): Promise<void> {
  for (const name of await readdir(folder)) {
    const path = join(folder, name);
    const found = await stat(path).catch(() => null);
    if (!found?.isFile()) continue;
    const [here, pid] = name.split('-');
    const dead = here === HERE && isDead(Number(pid));
    if (dead || Date.now() - found.mtimeMs > lifeMs) await unlink(path).catch(() => undefined);
  }
}

function isDead(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return errnoOf(error) === 'ESRCH';
  }
}

export function errnoOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

export function isAbsent(error: unknown): boolean {
  const code = errnoOf(error);
  return code === 'ENOENT' || code === 'ENOTDIR';
}

export function writeError(error: unknown, path: string): unknown {
  if (error instanceof NightshiftError) return error;
  const code = errnoOf(error);
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new NightshiftError('disk-full', `no room to write ${path} (${code})`, { cause: error });
  }
  if (code && /^E[A-Z0-9]+$/.test(code)) {
    return new NightshiftError('out-not-writable', `cannot write ${path} (${code})`, { cause: error });
  }
  return error;
}

export function readError(error: unknown, path: string): unknown {
  const code = errnoOf(error);
  if (error instanceof NightshiftError || !code) return error;
  return new NightshiftError('record-unreadable', `cannot read ${path} (${code})`, { cause: error });
}
