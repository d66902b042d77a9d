import type { Dirent } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { NightshiftError } from '../errors.ts';
import { fileContentId } from './file.ts';
import { joinParts } from './parts.ts';
import type { FolderFile, SeriesIndex } from './series.ts';
import type { ByteSource } from './source.ts';

/** Files of a series have this extension; a folder of them is one slide. */
export const isDicom = (uri: string): boolean => /\.dcm$/i.test(uri);

/** A whole-slide image has some ten files, at most some hundred where its levels are split. */
const MOST_FILES = 1_000;
/** Files of many series may lie in one folder: names are held. */
export const MOST_FOLDER_FILES = 50_000;
const OPENED_AT_ONCE = 16;

/**
 * The DICOM files of a folder as one source, in the order of their names; with `only`, those of one series. `files` are what the
 * folder holds. Fails with `slide-not-found`, `slide-not-a-slide`, `slide-limits`, and what opening a file fails with.
 */
export async function openFolder(
  uri: string,
  files: Iterable<FolderFile> | AsyncIterable<FolderFile>,
  open: (file: string) => Promise<ByteSource>,
  only?: { readonly series: string; readonly index: SeriesIndex },
): Promise<ByteSource> {
  const most = only ? MOST_FOLDER_FILES : MOST_FILES;
  const listed: FolderFile[] = [];
  for await (const file of files) {
    if (!isDicom(file.uri)) continue;
    if (listed.length === most) throw tooMany(uri, most);
    listed.push(file);
  }
  if (listed.length === 0) throw new NightshiftError('slide-not-a-slide', `${uri} is a folder without DICOM files`);
  const heads = await only?.index.of(listed);
  const names = listed.filter((_, i) => !only || heads?.[i]?.series === only.series).map((file) => file.uri);
  if (only && names.length === 0) throw new NightshiftError('slide-not-found', `${uri}: no file is of this series`);
  if (names.length > MOST_FILES) throw tooMany(uri, MOST_FILES);
  return openAll(uri, names.sort(byName), open);
}

export const isMirax = (uri: string): boolean => /\.mrxs$/i.test(uri);

/** The folder beside a .mrxs file that holds its pixels. */
export const miraxFolder = (uri: string): string => uri.slice(0, -'.mrxs'.length);

/** A .mrxs file and the files of its folder as one source. `slide-not-found` where either is not there. */
export async function openMiraxFiles(
  uri: string,
  files: Iterable<FolderFile> | AsyncIterable<FolderFile>,
  open: (file: string) => Promise<ByteSource>,
): Promise<ByteSource> {
  const names: string[] = [];
  for await (const file of files) {
    if (!/\.(dat|ini)$/i.test(file.uri)) continue;
    if (names.length === MOST_FILES) {
      throw new NightshiftError('slide-limits', `${miraxFolder(uri)} holds more than ${MOST_FILES} files of a slide`);
    }
    names.push(file.uri);
  }
  if (names.length === 0) {
    throw new NightshiftError('slide-not-found', `${uri} lacks its folder of data files, ${miraxFolder(uri)}`, {
      next: 'Keep the .mrxs file and the folder of its name side by side.',
    });
  }
  return openAll(uri, [uri, ...names.sort(byName)], open);
}

const byName = (a: string, b: string): number => (a < b ? -1 : 1);

/** Files as one source, in the order given. */
async function openAll(
  uri: string,
  names: readonly string[],
  open: (file: string) => Promise<ByteSource>,
): Promise<ByteSource> {
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

const tooMany = (uri: string, most: number): NightshiftError =>
  new NightshiftError('slide-limits', `${uri} holds more than ${most} DICOM files: a slide is one series`);

/** The files of a directory; null where the path is none. */
export async function filesOf(path: string): Promise<FolderFile[] | null> {
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
  return asFolderFiles(files.map(({ name }) => join(folder, name)));
}

const STATS_AT_ONCE = 64;

/** Files of this machine with their content ids. What is not there has none: it fails when it is opened. */
export async function asFolderFiles(paths: readonly string[]): Promise<FolderFile[]> {
  const files: FolderFile[] = [];
  for (let i = 0; i < paths.length; i += STATS_AT_ONCE) {
    const batch = paths.slice(i, i + STATS_AT_ONCE).map(async (uri): Promise<FolderFile> => {
      const stats = await stat(uri, { bigint: true }).catch(() => null);
      return stats === null ? { uri } : { uri, contentId: fileContentId(stats) };
    });
    files.push(...(await Promise.all(batch)));
  }
  return files;
}
