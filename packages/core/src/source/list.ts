import { createReadStream, type Dirent, type Stats } from 'node:fs';
import { glob, readdir, realpath, stat } from 'node:fs/promises';
import { extname, join, posix, sep } from 'node:path';
import { isNightshiftError, NightshiftError } from '../errors.ts';
import { dicomFolders, slidesOfFolder } from './dicom-folders.ts';
import { asFolderFiles, isDicom, isMirax } from './folder.ts';
import { gdcDownload, readGdc } from './gdc.ts';
import { linesOf, readManifest, resolveUri, type SourceEntry } from './manifest.ts';
import { type ManifestKind, manifestKind, mayBeManifest } from './manifest-kind.ts';
import { expandS5cmd, readS5cmd, type S5cmdItem } from './s5cmd.ts';
import { parseSeriesUri, type SeriesIndex } from './series.ts';

/** What a directory or a glob is searched for. Those that no reader opens yet are listed too: they fail by name, not in silence. */
export const SLIDE_EXTENSIONS: readonly string[] = [
  ...[
    '.svs',
    '.tif',
    '.tiff',
    '.btf',
    '.ndpi',
    '.scn',
    '.bif',
    '.mrxs',
    '.svslide',
    '.vms',
    '.vmu',
    '.czi',
    '.vsi',
    '.dcm',
  ],
];
/** Fields of view: taken where they are named, alone or by a glob that ends so. Beside slides such files are pictures of them. */
const PICTURE = /\.(png|jpe?g)$/i;
const GLOB = /[*?[{]/;
/** Pictures of the label or the whole glass, which may show a patient's name. */
const LABEL = /[._-](label|macro|thumb|thumbnail)$/i;

/** By its name; a folder is DICOM, and a name without a known ending may be one. */
export const mayBeDicom = (uri: string): boolean =>
  isDicom(uri) || !SLIDE_EXTENSIONS.includes(extname(uri).toLowerCase());

export interface ListedObject {
  readonly uri: string;
  readonly contentId: string;
}

/** A store of objects as a listing needs it. URIs are whole, from the scheme on; a folder is what ends in a slash. */
export interface ObjectListing {
  /** null: there is no such object. */
  contentId(uri: string): Promise<string | null>;
  /** Every object whose URI begins so, in the order of the store, never all in memory. */
  under(prefix: string): AsyncIterable<ListedObject>;
  content(uri: string): AsyncIterable<Uint8Array>;
}

export interface ListOptions {
  /** The store that a URI is of, or null where none speaks its scheme. Without it sources are files of this machine. */
  readonly objects?: (uri: string) => Promise<ObjectListing | null>;
  /** Tells the series of DICOM files, where several may lie in one folder. Without it a folder of them is one slide. */
  readonly series?: SeriesIndex;
  /** Told what was left out and why: duplicates, label pictures. */
  readonly onWarning?: (message: string) => void;
  readonly signal?: AbortSignal;
}

/**
 * The slides that `sources` name, each once. A source is
 * - a file or an object: a slide whatever its name, or a manifest when it ends in .csv, .tsv, .jsonl, .ndjson or .s5cmd, and a
 *   .txt when it begins as a GDC or an s5cmd manifest does;
 * - a directory: every slide below it by extension, in the order of names; hidden files and label pictures are left out;
 *   links are followed, no directory is entered twice; in a store of objects, every slide whose key begins with the folder's;
 *   several .dcm files in one folder are one slide, named by the folder, or one for each series: `<folder>/#<series UID>`;
 * - a glob, quoted from the shell: its matches, by the rules of a directory; one that ends in .png, .jpg or .jpeg takes pictures.
 *
 * A slide that a manifest names and that is not there is listed: it fails by itself later and stops nothing.
 *
 * @throws `source-not-found`, `source-empty`, `manifest-invalid`.
 */
export async function* listSources(sources: readonly string[], options: ListOptions = {}): AsyncGenerator<SourceEntry> {
  const seen = new Map<string, string>();
  // A store lists no key twice: where that is all there is, nothing is kept of it.
  const alone = sources.length === 1 && !mayBeManifest(sources[0]!);
  for (const source of sources) {
    let found = 0;
    for await (const entry of entriesOf(source, options)) {
      options.signal?.throwIfAborted();
      found++;
      if (alone && entry.contentId !== undefined) {
        yield entry;
        continue;
      }
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
    const store = (await options.objects?.(uri)) ?? null;
    if (store === null) {
      throw new NightshiftError('source-not-found', `cannot read ${source}: there is no driver for its scheme`, {
        next: 'Give files of this machine, or s3:// URIs.',
      });
    }
    return yield* objects(uri, store, options);
  }
  const stats = await statOrNull(uri);
  if (stats?.isDirectory()) {
    yield* directory(uri, options, new Set());
  } else if (stats !== null) {
    const kind = await manifestKind(uri, () => createReadStream(uri));
    if (kind !== null) yield* manifest(uri, kind, createReadStream(uri), options);
    else yield { uri };
  } else if (GLOB.test(source)) {
    yield* matches(uri, options);
  } else if ((await statOrNull(parseSeriesUri(uri)?.folder ?? uri))?.isDirectory()) {
    yield { uri };
  } else {
    throw new NightshiftError('source-not-found', `there is no ${source}`);
  }
}

async function* manifest(
  uri: string,
  kind: ManifestKind,
  content: AsyncIterable<Uint8Array>,
  options: ListOptions,
): AsyncGenerator<SourceEntry> {
  if (kind === 'rows') return yield* readManifest(uri, options.onWarning, content);
  const lines = linesOf(uri, content);
  if (kind === 's5cmd') return yield* expandS5cmd(readS5cmd(uri, lines), (item) => entriesOfItem(uri, item, options));
  let others = 0;
  const download = gdcDownload(uri);
  for await (const entry of readGdc(uri, lines)) {
    if (!isSlide(entry.uri, options)) {
      others++;
      continue;
    }
    await download.check(entry);
    yield entry;
  }
  const incomplete = download.warning();
  if (incomplete !== null) options.onWarning?.(incomplete);
  if (others > 0) options.onWarning?.(`${uri}: left out as no slides by their names: ${others} of its files`);
}

async function entriesOfItem(path: string, { line, uri }: S5cmdItem, options: ListOptions): Promise<SourceEntry[]> {
  const entries = await Array.fromAsync(entriesOf(uri, options)).catch((error) => {
    if (isNightshiftError(error, 'source-not-found')) return [];
    throw error;
  });
  // What a line names and holds no slide that is known by its name, a DICOM series above all, fails by that name.
  if (entries.length === 0) options.onWarning?.(`${path}:${line}: ${uri} holds no file known as a slide by its name`);
  return entries.length === 0 ? [{ uri }] : entries;
}

async function* objects(uri: string, store: ObjectListing, options: ListOptions): AsyncGenerator<SourceEntry> {
  if (/^[^:]+:\/\/[^/]*[*?[{]/.test(uri)) {
    throw new NightshiftError('usage', `${uri}: a bucket is named whole`, { next: 'Write s3://bucket/keys*.' });
  }
  const bucketAlone = /^[^:]+:\/\/[^/]+$/.test(uri);
  // A star in a key is so rare that a glob is not looked for by name first.
  if (!uri.endsWith('/') && !bucketAlone && !uri.includes('*')) {
    const contentId = await store.contentId(uri);
    if (contentId !== null) {
      const kind = await manifestKind(uri, () => store.content(uri));
      if (kind !== null) return yield* manifest(uri, kind, store.content(uri), options);
      return yield isMirax(uri) ? { uri } : { uri, contentId };
    }
    if (parseSeriesUri(uri) !== null) return yield { uri };
  }
  const glob = GLOB.test(uri);
  const prefix = glob ? uri.slice(0, uri.search(GLOB)) : uri.replace(/\/*$/, '/');
  const matches = glob ? globMatcher(uri) : () => true;
  const folder = prefix.slice(0, prefix.lastIndexOf('/') + 1);
  let found = false;
  const dicom = dicomFolders(options);
  for await (const entry of store.under(prefix)) {
    options.signal?.throwIfAborted();
    found = true;
    yield* dicom.left(entry.uri);
    if (entry.uri.slice(folder.length).split('/').some(hidden) || !matches(entry.uri)) continue;
    if (isDicom(entry.uri)) dicom.add(entry);
    // Its content is that of its folder, which whoever opens it looks at.
    else if (isSlide(entry.uri, options, uri)) yield isMirax(entry.uri) ? { uri: entry.uri } : entry;
  }
  yield* dicom.left('');
  if (!found) throw new NightshiftError('source-not-found', `there is no ${uri}`);
}

/** Whether a URI matches, or lies in a folder that does. */
function globMatcher(pattern: string): (uri: string) => boolean {
  const bare = pattern.replace(/\/+$/, '');
  let folder = '';
  let folderMatches = false;
  const inside = (path: string): boolean =>
    path.length > bare.search(GLOB) && (posix.matchesGlob(path, bare) || inside(posix.dirname(path)));
  return (uri) => {
    const parent = posix.dirname(uri);
    // Keys come in order: most lie beside the one before.
    if (parent !== folder) {
      folder = parent;
      folderMatches = inside(parent);
    }
    return folderMatches || posix.matchesGlob(uri, bare);
  };
}

async function* matches(pattern: string, options: ListOptions): AsyncGenerator<SourceEntry> {
  const paths: string[] = [];
  for await (const path of glob(pattern)) paths.push(path);
  const entered = new Set<string>();
  for (const path of paths.sort(byName)) {
    if (hidden(path.slice(path.lastIndexOf(sep) + 1))) continue;
    const stats = await statOrNull(path);
    if (stats?.isDirectory()) yield* directory(path, options, entered);
    else if (isSlide(path, options, pattern)) yield { uri: path };
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
  children.sort((a, b) => byName(a.name, b.name));
  const isPart = (child: Dirent) => isDicom(child.name) && !hidden(child.name) && !child.isDirectory();
  const dicom = children.filter(isPart).map(({ name }) => join(path, name));
  if (dicom.length > 1) yield* slidesOfFolder(path, await asFolderFiles(dicom), options);
  for (const child of children) {
    if (hidden(child.name) || (dicom.length > 1 && isPart(child))) continue;
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

/** `named`: what the person wrote, where it may ask for pictures. */
function isSlide(path: string, options: ListOptions, named = ''): boolean {
  const extension = extname(path).toLowerCase();
  const isPicture = PICTURE.test(named) && PICTURE.test(path);
  if (!isPicture && !SLIDE_EXTENSIONS.includes(extension)) return false;
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
const identify = async (uri: string): Promise<string> => (uri.includes('://') ? uri : realpath(uri).catch(() => uri));

const empty = (source: string): NightshiftError =>
  mayBeManifest(source)
    ? new NightshiftError('source-empty', `${source} names no slide`)
    : new NightshiftError(
        'source-empty',
        `${source} holds no slide (looked for ${SLIDE_EXTENSIONS.join(', ')}; hidden files and label pictures are left out)`,
      );
