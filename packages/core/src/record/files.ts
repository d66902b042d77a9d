import { createHash, randomBytes } from 'node:crypto';
import { link, mkdir, open, readdir, readFile, rename, rmdir, stat, unlink } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { NightshiftError } from '../errors.ts';
import { type Blobs, type Body, checkKey } from './blobs.ts';
import {
  errnoOf,
  exists,
  HERE,
  inDirectory,
  isAbsent,
  openBlob,
  readError,
  sweep,
  syncDirectory,
  writeError,
} from './file-system.ts';

/** Where files are written before they get their name. Listed only when asked for by this prefix. */
const TEMP = '.tmp/';
const TEMP_LIFE_MS = 24 * 3600 * 1000;
/** A claim is held for two system calls; one this old belongs to a process that died in between. */
const CLAIM_LIFE_MS = 60_000;

export interface FileBlobsOptions {
  /** False: publish without hard links, as on exFAT. Found out by itself; tests set it. */
  readonly hardLinks?: boolean;
}

/**
 * Blobs in a directory. A file is written to `.tmp/` in the same file system, synced, and then given its name: by `link()`, which
 * fails where the name is taken, so that of any number of writers on any number of machines one wins.
 *
 * Where the file system has no hard links (exFAT, many FUSE mounts) a claim file made with O_EXCL guards a check and a
 * rename instead. That is as good while nobody is killed between the two system calls; a claim left so is taken over after a
 * minute, and two processes taking it over in the same instant could both publish.
 */
export function fileBlobs(dir: string, options: FileBlobsOptions = {}): Blobs {
  const root = resolve(dir);
  const pathOf = (key: string): string => join(root, checkKey(key, TEMP));
  let hardLinks = options.hardLinks ?? true;
  let swept: Promise<void> | null = null;

  /** Hands `publish` the path of a complete, synced temporary file; whatever happens, that file is gone afterwards. */
  async function withTemp<T>(body: Body, publish: (temp: string) => Promise<T>): Promise<T> {
    await mkdir(join(root, TEMP), { recursive: true });
    swept ??= sweep(join(root, TEMP), TEMP_LIFE_MS);
    await swept;
    const temp = join(root, TEMP, `${HERE}-${process.pid}-${randomBytes(8).toString('hex')}`);
    const file = await open(temp, 'wx');
    try {
      try {
        await file.writeFile(body);
        await file.sync();
      } finally {
        await file.close();
      }
      return await publish(temp);
    } finally {
      await unlink(temp).catch(() => undefined);
    }
  }

  async function linkIfAbsent(temp: string, path: string): Promise<'written' | 'exists'> {
    if (hardLinks) {
      try {
        await link(temp, path);
        return 'written';
      } catch (error) {
        const code = errnoOf(error);
        if (code === 'EEXIST') return 'exists';
        if (code !== 'EPERM' && code !== 'ENOTSUP' && code !== 'EOPNOTSUPP' && code !== 'ENOSYS') throw error;
        hardLinks = false;
      }
    }
    return renameIfAbsent(temp, path);
  }

  async function renameIfAbsent(temp: string, path: string): Promise<'written' | 'exists'> {
    const claim = join(root, TEMP, `claim-${createHash('sha256').update(path).digest('hex').slice(0, 32)}`);
    for (;;) {
      if (await exists(path)) return 'exists';
      try {
        await (await open(claim, 'wx')).close();
      } catch (error) {
        if (errnoOf(error) !== 'EEXIST') throw error;
        const held = await stat(claim).catch(() => null);
        if (held && Date.now() - held.mtimeMs > CLAIM_LIFE_MS) await unlink(claim).catch(() => undefined);
        await pause(5);
        continue;
      }
      try {
        if (await exists(path)) return 'exists';
        await rename(temp, path);
        return 'written';
      } finally {
        await unlink(claim).catch(() => undefined);
      }
    }
  }

  async function publish<T>(key: string, body: Body, give: (temp: string, path: string) => Promise<T>): Promise<T> {
    const path = pathOf(key);
    try {
      return await withTemp(body, (temp) =>
        inDirectory(dirname(path), async () => {
          const result = await give(temp, path);
          await syncDirectory(dirname(path));
          return result;
        }),
      );
    } catch (error) {
      throw writeError(error, path);
    }
  }

  const blobs: Blobs = {
    uri: pathToFileURL(root).href,

    async get(key) {
      try {
        return await readFile(pathOf(key));
      } catch (error) {
        if (isAbsent(error)) return null;
        throw readError(error, pathOf(key));
      }
    },

    async open(key) {
      try {
        return await openBlob(pathOf(key));
      } catch (error) {
        if (isAbsent(error)) return null;
        throw readError(error, pathOf(key));
      }
    },

    async putIfAbsent(key, body) {
      if (await exists(pathOf(key))) return 'exists';
      return publish(key, body, linkIfAbsent);
    },

    async put(key, body) {
      await publish(key, body, (temp, path) => rename(temp, path));
    },

    async *list(prefix) {
      const folder = prefix.slice(0, prefix.lastIndexOf('/') + 1);
      if (folder !== '') checkKey(folder.slice(0, -1));
      yield* listFolder(root, folder, prefix);
    },

    async delete(key) {
      const path = pathOf(key);
      try {
        await unlink(path);
      } catch (error) {
        if (isAbsent(error)) return;
        throw writeError(error, path);
      }
      // Folders that this empties go too; a writer that finds its folder gone makes it again (`inDirectory`).
      for (let folder = dirname(path); folder !== root; folder = dirname(folder)) {
        try {
          await rmdir(folder);
        } catch {
          break;
        }
      }
    },

    async probe() {
      const key = `probe-${randomBytes(8).toString('hex')}`;
      const content = new TextEncoder().encode(key);
      await blobs.putIfAbsent(key, content);
      const back = await blobs.get(key);
      await blobs.delete(key);
      if (!back || Buffer.compare(back, content) !== 0) {
        throw new NightshiftError('out-not-writable', `${root}: a file written there did not read back`);
      }
    },
  };
  return blobs;
}

/** Keys are ordered as in a bucket, by the whole key: a folder sorts as its name with the slash. */
async function* listFolder(root: string, folder: string, prefix: string): AsyncIterable<{ key: string; size: number }> {
  let entries: { name: string; folder: boolean }[];
  try {
    const found = await readdir(join(root, folder), { withFileTypes: true });
    entries = found.map((e) => ({ name: e.isDirectory() ? `${e.name}/` : e.name, folder: e.isDirectory() }));
  } catch (error) {
    if (isAbsent(error)) return;
    throw readError(error, join(root, folder));
  }
  entries.sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const entry of entries) {
    const key = folder + entry.name;
    if (key === TEMP && !prefix.startsWith(TEMP)) continue;
    if (entry.folder) {
      if (key.startsWith(prefix) || prefix.startsWith(key)) yield* listFolder(root, key, prefix);
    } else if (key.startsWith(prefix)) {
      const found = await stat(join(root, key)).catch(() => null);
      if (found) yield { key, size: found.size };
    }
  }
}
