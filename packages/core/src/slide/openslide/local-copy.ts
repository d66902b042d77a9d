import { createHash, randomUUID } from 'node:crypto';
import { link, mkdir, open, readdir, rename, rm, stat, utimes } from 'node:fs/promises';
import { homedir } from 'node:os';
import { basename, extname, join, resolve } from 'node:path';
import { NightshiftError } from '../../errors.ts';
import type { ByteSource } from '../../source/source.ts';

/** A slide under a path of this machine. */
export interface LocalCopy {
  readonly path: string;
  release(): Promise<void>;
}

/** Formats of several files: the others are not beside a copy of the one that is named. */
const OF_SEVERAL_FILES = ['.vms', '.vmu', '.mrxs', '.vsi'];
const PIECE_BYTES = 8 << 20;
const GIB = 2 ** 30;
const DEFAULT_GIB = 20;
/** A copy that is being written is left alone for so long. */
const STALE_MS = 24 * 3_600_000;

/**
 * A path for what only reads paths: that of a file, or of a copy of an object. Copies lie under NIGHTSHIFT_OPENSLIDE_CACHE
 * (`~/.cache/nightshift/openslide`), named by what they are a copy of and its content id, at most NIGHTSHIFT_OPENSLIDE_CACHE_GIB (20) of
 * them together; what was used longest ago makes room. Who uses one has a hard link of its own, so that nobody's eviction takes it away.
 */
export async function localCopy(source: ByteSource): Promise<LocalCopy> {
  const { uri, size, contentId } = source;
  if (!/^[a-z][a-z0-9+.-]+:\/\//i.test(uri)) return { path: resolve(uri), release: async () => {} };
  if (OF_SEVERAL_FILES.includes(extname(uri).toLowerCase())) {
    throw new NightshiftError(
      'slide-unsupported',
      `${uri} is one file of several, which OpenSlide reads from a disk only`,
      {
        next: 'Copy the slide with all of its files to a disk.',
      },
    );
  }
  const { dir, maxBytes } = settings();
  if (size > maxBytes) {
    const message = `${uri} has ${size} bytes; the cache for slides that OpenSlide reads may hold ${maxBytes}`;
    throw new NightshiftError('slide-unsupported', message, { next: 'Set NIGHTSHIFT_OPENSLIDE_CACHE_GIB higher.' });
  }
  const name = createHash('sha256').update(`${uri}\n${contentId}`).digest('hex').slice(0, 32) + extname(uri);
  const users = join(dir, 'in-use');
  const own = join(users, `${process.pid}-${randomUUID()}${extname(uri)}`);
  try {
    await mkdir(users, { recursive: true });
    await sweep(users);
    const kept = join(dir, name);
    if ((await stat(kept).catch(() => null))?.size !== size) await write(source, dir, kept, maxBytes);
    await link(kept, own);
    const now = new Date();
    await utimes(kept, now, now);
  } catch (cause) {
    if (cause instanceof NightshiftError) throw cause;
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOSPC' || code === 'EDQUOT')
      throw new NightshiftError('disk-full', `no room for a copy of ${basename(uri)} in ${dir}`);
    throw new NightshiftError('slide-unreadable', `no copy of ${uri} can be made in ${dir} (${code ?? cause})`, {
      cause,
    });
  }
  return { path: own, release: () => rm(own, { force: true }) };
}

function settings(): { readonly dir: string; readonly maxBytes: number } {
  const { NIGHTSHIFT_OPENSLIDE_CACHE: dir, NIGHTSHIFT_OPENSLIDE_CACHE_GIB: gib, XDG_CACHE_HOME } = process.env;
  const most = gib ? Number(gib) : DEFAULT_GIB;
  if (!(most > 0))
    throw new NightshiftError('setting-invalid', `NIGHTSHIFT_OPENSLIDE_CACHE_GIB is "${gib}": give a number`);
  const usual = join(XDG_CACHE_HOME || join(homedir(), '.cache'), 'nightshift', 'openslide');
  return { dir: dir || usual, maxBytes: most * GIB };
}

/** Copies the source piece by piece, under a name of its own until it is whole. */
async function write(source: ByteSource, dir: string, kept: string, maxBytes: number): Promise<void> {
  await makeRoom(dir, maxBytes - source.size);
  const part = join(dir, `${randomUUID()}.part`);
  try {
    const file = await open(part, 'wx');
    try {
      for (let offset = 0; offset < source.size; offset += PIECE_BYTES) {
        const [piece] = await source.read([{ offset, length: Math.min(PIECE_BYTES, source.size - offset) }]);
        await file.writeFile(piece!);
      }
    } finally {
      await file.close();
    }
    await rename(part, kept);
  } finally {
    await rm(part, { force: true });
  }
}

/** Removes the copies that were used longest ago until all of them take at most `maxBytes`. */
async function makeRoom(dir: string, maxBytes: number): Promise<void> {
  const copies: { path: string; size: number; used: number }[] = [];
  for (const name of await readdir(dir)) {
    const path = join(dir, name);
    const facts = await stat(path).catch(() => null);
    if (!facts?.isFile()) continue;
    if (name.endsWith('.part') && Date.now() - facts.mtimeMs < STALE_MS) continue;
    copies.push({ path, size: facts.size, used: name.endsWith('.part') ? 0 : facts.mtimeMs });
  }
  copies.sort((a, b) => a.used - b.used);
  let total = copies.reduce((sum, { size }) => sum + size, 0);
  for (const { path, size } of copies) {
    if (total <= maxBytes) return;
    await rm(path, { force: true });
    total -= size;
  }
}

/** Removes the links of processes that are gone. */
async function sweep(users: string): Promise<void> {
  for (const name of await readdir(users)) {
    try {
      process.kill(Number.parseInt(name, 10), 0);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ESRCH') await rm(join(users, name), { force: true });
    }
  }
}
