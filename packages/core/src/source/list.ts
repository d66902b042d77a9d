import type { Dirent, Stats } from 'node:fs';
import { glob, readdir, realpath, stat } from 'node:fs/promises';
import { extname, join, sep } from 'node:path';
import { NightshiftError } from '../errors.ts';
import { readManifest, resolveUri, type SourceEntry } from './manifest.ts';

/** What a directory or a glob is searched for. Those that no reader opens yet are listed too: they fail by name, not in silence. */
export const SLIDE_EXTENSIONS: readonly string[] = [
  ...['.svs', '.tif', '.tiff', '.btf', '.ndpi', '.scn', '.bif', '.mrxs', '.svslide', '.vms', '.vmu', '.czi', '.vsi'],
];
const MANIFEST_EXTENSIONS = ['.csv', '.jsonl', '.ndjson'];
/** Pictures of the label or the whole glass, which may show a patient's name. */
const LABEL = /[._-](label|macro|thumb|thumbnail)$/i;

export interface ListOptions {
  /** Told what was left out and why: duplicates, label pictures. */
  readonly onWarning?: (message: string) => void;
  readonly signal?: AbortSignal;
}

/**
 * The slides that `sources` name, each once. A source is
 * - a file: a slide whatever its name, or a manifest when it ends in .csv, .jsonl or .ndjson;
 * - a directory: every slide below it by extension, in the order of names; hidden files and label pictures are left out;
 *   links are followed, no directory is entered twice;
 * - a glob, quoted from the shell: its matches, by the rules of a directory.
 *
 * A slide that a manifest names and that is not there is listed: it fails by itself later and stops nothing.
 *
 * @throws `source-not-found`, `source-empty`, `manifest-invalid`.
 */
export async function* listSources(sources: readonly string[], options: ListOptions = {}): AsyncGenerator<SourceEntry> {
  const seen = new Map<string, string>();
  for (const source of sources) {
    let found = 0;
    for await (const entry of entriesOf(source, options)) {
      options.signal?.throwIfAborted();
      found++;
      const identity = await identify(entry.uri);
      const first = seen.get(identity);
      if (first === undefined) {
        seen.set(identity, entry.uri);
        yield entry;
      } else {
        const other = first === entry.uri ? 'was given already' : `is the same file as ${first}`;
        options.onWarning?.(`${entry.uri} ${other}; it is taken once`);
      }
    }
    if (found === 0) throw empty(source);
  }
}

async function* entriesOf(source: string, options: ListOptions): AsyncGenerator<SourceEntry> {
  const uri = resolveUri(source, process.cwd());
  if (uri.includes('://')) {
    throw new NightshiftError('source-not-found', `cannot read ${source}: sources are files on this machine`, {
      next: 'Copy the slides to a disk, or mount the bucket.',
    });
  }
  const stats = await statOrNull(uri);
  if (stats?.isDirectory()) {
    yield* directory(uri, options, new Set());
  } else if (stats !== null) {
    if (MANIFEST_EXTENSIONS.includes(extname(uri).toLowerCase())) yield* readManifest(uri, options.onWarning);
    else yield { uri };
  } else if (/[*?[{]/.test(source)) {
    yield* matches(uri, options);
  } else {
    throw new NightshiftError('source-not-found', `there is no ${source}`);
  }
}

async function* matches(pattern: string, options: ListOptions): AsyncGenerator<SourceEntry> {
  const paths: string[] = [];
  for await (const path of glob(pattern)) paths.push(path);
  const entered = new Set<string>();
  for (const path of paths.sort(byName)) {
    if (hidden(path.slice(path.lastIndexOf(sep) + 1))) continue;
    const stats = await statOrNull(path);
    if (stats?.isDirectory()) yield* directory(path, options, entered);
    else if (isSlide(path, options)) yield { uri: path };
  }
}

async function* directory(path: string, options: ListOptions, entered: Set<string>): AsyncGenerator<SourceEntry> {
  const real = await realpath(path);
  if (entered.has(real)) return;
  entered.add(real);
  options.signal?.throwIfAborted();
  let children: Dirent[];
  try {
    children = await readdir(path, { withFileTypes: true });
  } catch (cause) {
    throw new NightshiftError('source-not-found', `cannot list ${path}: ${(cause as Error).message}`, {
      cause,
      next: 'Check the permissions of the folder.',
    });
  }
  for (const child of children.sort((a, b) => byName(a.name, b.name))) {
    if (hidden(child.name)) continue;
    const below = join(path, child.name);
    const kind = child.isSymbolicLink() ? await statOrNull(below) : child;
    if (kind === null) {
      // A dangling link to a slide fails by name; any other is nobody's business.
      if (isSlide(below, options)) yield { uri: below };
    } else if (kind.isDirectory()) {
      yield* directory(below, options, entered);
    } else if (kind.isFile() && isSlide(below, options)) {
      yield { uri: below };
    }
  }
}

function isSlide(path: string, options: ListOptions): boolean {
  const extension = extname(path).toLowerCase();
  if (!SLIDE_EXTENSIONS.includes(extension)) return false;
  if (!LABEL.test(path.slice(0, -extension.length).replace(/\.ome$/i, ''))) return true;
  options.onWarning?.(`${path} was left out: by its name it is a label or a macro picture`);
  return false;
}

const hidden = (name: string): boolean => name.startsWith('.');

/** Code point order: the same on every machine, whatever its language. */
const byName = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

async function statOrNull(path: string): Promise<Stats | null> {
  try {
    return await stat(path);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ELOOP') return null;
    throw new NightshiftError('source-not-found', `cannot read ${path}: ${(cause as Error).message}`, {
      cause,
      next: 'Check the permissions.',
    });
  }
}

/** Two names of one file are one slide. */
const identify = (uri: string): Promise<string> => realpath(uri).catch(() => uri);

const empty = (source: string): NightshiftError =>
  MANIFEST_EXTENSIONS.includes(extname(source).toLowerCase())
    ? new NightshiftError('source-empty', `${source} names no slide`)
    : new NightshiftError(
        'source-empty',
        `${source} holds no slide (looked for ${SLIDE_EXTENSIONS.join(', ')}; hidden files and label pictures are left out)`,
      );
