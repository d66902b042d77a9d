import { createHash, type Hash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, mkdir, open, rename, rm, stat, statfs } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { NightshiftError } from '../../errors.ts';
import { asOutError } from '../convert/write.ts';
import { Break, type Hub, type RemoteFile } from './hub.ts';

export interface DownloadOptions {
  readonly hub: Hub;
  readonly file: RemoteFile;
  /** Where it goes, under its own path. */
  readonly dir: string;
  readonly signal: AbortSignal;
  /** Bytes that are on the disk. */
  readonly onBytes: (done: number) => void;
  /** Base of the waits between attempts, ms. */
  readonly retry?: number;
}

/** Attempts in a row that bring nothing new. */
const ATTEMPTS = 5;
const CHUNK_BYTES = 4 << 20;

/**
 * Downloads a file, and goes on where an earlier download stopped. What is there of it lies in `<path>.<digest>.part`: bytes of
 * another version are never mixed with it. The whole is checked against the digest before it gets its name. Without a digest
 * nothing could tell a mixture, so such a file starts anew with each command. Two downloads at once write the same bytes to the same places.
 *
 * @throws NightshiftError `hub-*`, `download-incomplete`, `download-digest`, `disk-full`, `out-not-writable`
 */
export async function downloadFile(options: DownloadOptions): Promise<{ path: string; checked: boolean }> {
  const { file, dir } = options;
  const path = join(dir, file.path);
  try {
    await mkdir(dirname(path), { recursive: true });
    if (await isComplete(path, file)) {
      options.onBytes(file.bytes ?? 0);
      return { path, checked: true };
    }
    const part = `${path}.${file.digest?.hex.slice(0, 16) ?? 'unchecked'}.part`;
    if (file.digest === null) await rm(part, { force: true });
    await checkSpace(part, file);
    await fill(part, options);
    await rename(part, path);
    return { path, checked: file.digest !== null };
  } catch (error) {
    throw asOutError(error, path);
  }
}

/** A download that an earlier command finished. */
async function isComplete(path: string, file: RemoteFile): Promise<boolean> {
  const stats = await stat(path).catch(() => null);
  if (stats === null) return false;
  if (file.digest !== null && (file.bytes === null || file.bytes === stats.size)) {
    const handle = await open(path, 'r');
    try {
      const hash = hasher(file);
      await hashTo(handle, hash, stats.size);
      if (hash.digest('hex') === file.digest.hex) return true;
    } finally {
      await handle.close();
    }
  }
  await rm(path);
  return false;
}

async function checkSpace(part: string, { bytes, path }: RemoteFile): Promise<void> {
  const { bavail, bsize } = await statfs(dirname(part));
  const there = (await stat(part).catch(() => null))?.size ?? 0;
  if (bytes !== null && bavail * bsize < bytes - there) {
    const free = bavail * bsize;
    throw new NightshiftError('disk-full', `${dirname(part)} has ${free} bytes free, ${path} needs ${bytes - there}`);
  }
}

async function fill(part: string, { hub, file, signal, onBytes, retry = 1000 }: DownloadOptions): Promise<void> {
  const handle = await open(part, constants.O_RDWR | constants.O_CREAT, 0o644);
  try {
    let done = (await handle.stat()).size;
    let hash = hasher(file);
    await hashTo(handle, hash, done);
    const restart = async () => {
      await handle.truncate(0);
      done = 0;
      hash = hasher(file);
    };
    if (file.bytes !== null && done > file.bytes) await restart();
    onBytes(done);
    let most = done;
    for (let idle = 0; file.bytes === null || done < file.bytes; ) {
      const broken = await receive();
      if (broken === null && file.bytes === null) break;
      // More than ever: a server whose file is too short brings the same bytes again and again.
      idle = done > most ? 0 : idle + 1;
      most = Math.max(most, done);
      if (idle >= ATTEMPTS) {
        const what = `${file.path} stopped at ${done} of ${file.bytes ?? 'unknown'} bytes: ${broken?.message ?? 'the server sends no more'}`;
        throw new NightshiftError('download-incomplete', what, { cause: broken });
      }
      if (file.bytes === null || done < file.bytes)
        await wait(broken?.after ?? retry * 2 ** idle, undefined, { signal });
    }
    await handle.sync();
    if (file.digest !== null && hash.digest('hex') !== file.digest.hex) {
      await rm(part, { force: true });
      throw new NightshiftError(
        'download-digest',
        `${file.path} is not what the hub says it is: another ${file.digest.kind}`,
      );
    }

    /** Appends what one connection brings; tells why it ended early. */
    async function receive(): Promise<Break | null> {
      try {
        if (file.bytes === null && done > 0) await restart();
        const { offset, body } = await hub.read(file, done, signal);
        if (offset !== done) await restart();
        for await (const chunk of body) {
          if (file.bytes !== null && done + chunk.length > file.bytes) {
            await rm(part, { force: true });
            throw new NightshiftError(
              'download-digest',
              `${file.path} is longer than the ${file.bytes} bytes it should have`,
            );
          }
          await writeAt(handle, chunk, done);
          hash.update(chunk);
          done += chunk.length;
          onBytes(done);
        }
        return null;
      } catch (error) {
        if (error instanceof Break) return error;
        throw error;
      }
    }
  } finally {
    await handle.close();
  }
}

function hasher({ digest, bytes }: RemoteFile): Hash {
  // What git hashes of a file, and the hub gives as the ETag of a small one.
  if (digest?.kind === 'git-sha1') return createHash('sha1').update(`blob ${bytes}\0`);
  return createHash('sha256');
}

async function hashTo(handle: FileHandle, hash: Hash, end: number): Promise<void> {
  const buffer = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, end));
  for (let at = 0; at < end; ) {
    const { bytesRead } = await handle.read(buffer, 0, Math.min(buffer.length, end - at), at);
    if (bytesRead === 0) return;
    hash.update(buffer.subarray(0, bytesRead));
    at += bytesRead;
  }
}

async function writeAt(handle: FileHandle, chunk: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < chunk.length; ) {
    done += (await handle.write(chunk, done, chunk.length - done, position + done)).bytesWritten;
  }
}
