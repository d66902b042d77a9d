import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { z } from 'zod';

/** What a benchmark on this machine found best. */
export interface Tuned {
  readonly batch: number;
  readonly threads: number;
  readonly tilesPerSecond: number;
}

const schema = z.object({
  version: z.literal(1),
  batch: z.int().positive(),
  threads: z.int().positive(),
  tilesPerSecond: z.number().positive(),
});

/** Where `nightshift model bench` keeps what it found of a model on a device of this machine. */
export function tunedFile(digest: string, device: string): string {
  const cache = process.env.XDG_CACHE_HOME || join(homedir(), '.cache');
  return join(cache, 'nightshift', 'bench', `${digest.slice(0, 16)}-${device.replace(':', '')}.json`);
}

/** Null where nobody measured, and where the file cannot be used: a cache decides no result. */
export async function readTuned(digest: string, device: string): Promise<Tuned | null> {
  try {
    return schema.parse(JSON.parse(await readFile(tunedFile(digest, device), 'utf8')));
  } catch {
    return null;
  }
}

/** @returns the file */
export async function writeTuned(digest: string, device: string, tuned: Tuned): Promise<string> {
  const file = tunedFile(digest, device);
  const partial = `${file}.${process.pid}`;
  await mkdir(dirname(file), { recursive: true });
  await writeFile(partial, `${JSON.stringify({ version: 1, ...tuned }, null, 2)}\n`);
  await rename(partial, file);
  return file;
}
