import type { Dirent } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { NightshiftError } from '../errors.ts';
import { joinParts } from './parts.ts';
import type { ByteSource } from './source.ts';

/** Files of a series have this extension; a folder of them is one slide. */
export const isDicom = (uri: string): boolean => /\.dcm$/i.test(uri);

/** A whole-slide image has some ten files, at most some hundred where its levels are split. */
const MOST_FILES = 1_000;
const OPENED_AT_ONCE = 16;

/**
 * The DICOM files of a folder as one source, in the order of their names. `files` are the URIs of what it holds.
 * Fails with `slide-not-a-slide`, `slide-limits`, and what opening a file fails with.
 */
export async function openFolder(
  uri: string,
  files: Iterable<string> | AsyncIterable<string>,
  open: (file: string) => Promise<ByteSource>,
): Promise<ByteSource> {
  const names: string[] = [];
  for await (const file of files) {
    if (!isDicom(file)) continue;
    if (names.length === MOST_FILES) {
      throw new NightshiftError(
        'slide-limits',
        `${uri} holds more than ${MOST_FILES} DICOM files: a slide is one series`,
      );
    }
    names.push(file);
  }
  if (names.length === 0) throw new NightshiftError('slide-not-a-slide', `${uri} is a folder without DICOM files`);
  names.sort((a, b) => (a < b ? -1 : 1));
  const opened: ByteSource[] = [];
  try {
    for (let i = 0; i < names.length; i += OPENED_AT_ONCE) {
      const batch = await Promise.allSettled(names.slice(i, i + OPENED_AT_ONCE).map((name) => open(name)));
      for (const result of batch) if (result.status === 'fulfilled') opened.push(result.value);
      const failed = batch.find((result) => result.status === 'rejected');
      if (failed !== undefined) throw failed.reason;
    }
  } catch (error) {
    await Promise.all(opened.map((source) => source.close()));
    throw error;
  }
  return joinParts(uri, opened);
}

/** The files of a directory, by their paths; null where the path is none. */
export async function filesOf(path: string): Promise<string[] | null> {
  const folder = resolve(path);
  let children: Dirent[];
  try {
    children = await readdir(folder, { withFileTypes: true });
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? '';
    if (code === 'ENOTDIR' || code === 'ENOENT') return null;
    throw new NightshiftError('slide-unreadable', `${folder} cannot be listed (${code})`, { cause });
  }
  const files = children.filter((child) => !child.isDirectory() && !child.name.startsWith('.'));
  return files.map(({ name }) => join(folder, name));
}
