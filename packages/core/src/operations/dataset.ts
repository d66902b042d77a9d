import { type FileHandle, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, posix } from 'node:path';
import { ahead } from '../ahead.ts';
import { composeListing, composeSeries, composeSource } from '../compose.ts';
import { isNightshiftError, NightshiftError } from '../errors.ts';
import { parseOutline } from '../plan/outline-file.ts';
import type { SlideRef, TissueOutline } from '../plan/plan.ts';
import { slideKey } from '../plan/recipe.ts';
import { datasetHash, type SlideMetadata } from '../record/run.ts';
import { listSources } from '../source/list.ts';
import { linesOf, type SourceEntry } from '../source/manifest.ts';
import { type OutlineFolder, outlineNames } from '../source/outlines.ts';
import { mpp } from '../units.ts';

/** Slides opened at once while their identities are read. */
const WIDTH = 16;
/** Of lines, written at once. */
const WRITE_CHARS = 1 << 18;

/** The slides that sources name, in a file without a name: their number is bounded by the disk, not by memory. */
export interface Dataset {
  readonly slides: number;
  /** See `datasetHash`. */
  readonly digest: string;
  /** Slides of which a manifest says more than their mpp. */
  readonly described: number;
  refs(): AsyncGenerator<SlideRef>;
  metadata(): AsyncGenerator<SlideMetadata>;
  close(): Promise<void>;
}

/** um/px of the slides whose uri fits a glob; one without a slash is about the file name. */
export interface MppRule {
  readonly pattern: string;
  readonly mpp: number;
}

/** The first that fits, or null. */
export function ruleFor(uri: string, rules: readonly MppRule[]): MppRule | null {
  const name = uri
    .replace(/[/\\]+$/, '')
    .split(/[/\\]/)
    .at(-1)!;
  const fits = ({ pattern }: MppRule) =>
    pattern.includes('/')
      ? posix.matchesGlob(uri, pattern) || posix.matchesGlob(uri, `**/${pattern}`)
      : posix.matchesGlob(name, pattern);
  return rules.find(fits) ?? null;
}

export interface OutlineSource {
  readonly folder: OutlineFolder;
  /** @returns the digest */
  keep(outline: TissueOutline): Promise<string>;
}

interface Line {
  readonly ref: SlideRef;
  readonly metadata: SlideMetadata | null;
}

/**
 * The slides that the sources name, with their identity, in the order of the sources. A slide that cannot be opened is listed with an
 * empty content id: it fails by name later, and the others go on. Close it after use.
 * @throws what `listSources` throws, `disk-full`
 */
export async function listDataset(
  sources: readonly string[],
  options: {
    readonly signal: AbortSignal;
    readonly onWarning: (message: string) => void;
    /** Where the outlines of the slides lie, and who keeps them (their digest is what is listed); null: tissue is not drawn. */
    readonly outlines?: OutlineSource | null;
    /** The mpp of the slides that fit a pattern; a manifest's own goes before. */
    readonly slideMpps?: readonly MppRule[];
    /** For tests: what the sources name, in place of listing them. */
    readonly entries?: AsyncIterable<SourceEntry>;
  },
): Promise<Dataset> {
  const file = await spool();
  try {
    const hash = datasetHash();
    let described = 0;
    const listed =
      options.entries ?? listSources(sources, { ...options, objects: composeListing, series: await composeSeries() });
    const unused = new Set(options.slideMpps);
    const { signal, outlines = null, onWarning } = options;
    const entries = withMpp(listed, options.slideMpps ?? [], unused);
    const lines = ahead(entries, WIDTH, async (entry) => {
      signal.throwIfAborted();
      return identify(entry, outlines, onWarning);
    });
    for await (const line of lines) {
      hash.add(line.ref);
      if (line.metadata) described++;
      await file.add(line);
    }
    await file.end();
    for (const { pattern } of unused)
      options.onWarning(`--slide-mpp: no slide without an mpp of its own fits ${pattern}`);
    return {
      slides: hash.count,
      digest: hash.digest(),
      described,
      async *refs() {
        for await (const { ref } of file.lines()) yield ref;
      },
      async *metadata() {
        for await (const { metadata } of file.lines()) if (metadata) yield metadata;
      },
      close: file.close,
    };
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function* withMpp(
  entries: AsyncIterable<SourceEntry>,
  rules: readonly MppRule[],
  unused: Set<MppRule>,
): AsyncGenerator<SourceEntry> {
  for await (const entry of entries) {
    const rule = entry.mpp === undefined ? ruleFor(entry.uri, rules) : null;
    if (rule) unused.delete(rule);
    yield rule ? { ...entry, mpp: rule.mpp } : entry;
  }
}

async function identify(
  { uri, mpp: own, id, metadata, ...entry }: SourceEntry,
  outlines: OutlineSource | null,
  onWarning: (message: string) => void,
): Promise<Line> {
  const contentId = entry.contentId ?? (await contentIdOf(uri));
  const undrawn = slideKey(uri, contentId, own ?? null);
  const drawn = outlines ? { outline: await digestOf(outlines, uri, undrawn, onWarning) } : {};
  const key = outlines ? slideKey(uri, contentId, own ?? null, drawn.outline) : undrawn;
  const described = id !== undefined || metadata !== undefined;
  return {
    ref: { key, uri, contentId, mpp: own === undefined ? null : mpp(own), ...drawn },
    metadata: described ? { key, id: id ?? null, columns: metadata ?? {} } : null,
  };
}

/** Empty where there is none that can be read: the slide fails by that, and the others go on. */
async function digestOf(
  { folder, keep }: OutlineSource,
  uri: string,
  key: string,
  onWarning: (message: string) => void,
): Promise<string> {
  const found = await folder.read(outlineNames(uri, key));
  if (found === null) return '';
  try {
    return await keep(parseOutline(found.text, found.uri));
  } catch (error) {
    if (!isNightshiftError(error, 'outline-invalid')) throw error;
    onWarning(error.message);
    return '';
  }
}

async function contentIdOf(uri: string): Promise<string> {
  try {
    const source = await composeSource(uri);
    await source.close();
    return source.contentId;
  } catch (error) {
    if (isNightshiftError(error) && error.scope === 'slide') return '';
    throw error;
  }
}

/** Lines in a temporary file whose name is gone at once, so that a killed process leaves nothing of a manifest behind. */
async function spool() {
  const dir = await mkdtemp(join(tmpdir(), 'nightshift-dataset-'));
  const remove = () => rm(dir, { recursive: true, force: true });
  let file: FileHandle;
  try {
    file = await open(join(dir, 'slides.jsonl'), 'wx+', 0o600);
  } catch (error) {
    await remove();
    throw error;
  }
  // Windows keeps the name of an open file.
  await remove().catch(() => {});
  let pending = '';

  async function flush(): Promise<void> {
    try {
      await file.appendFile(pending);
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== 'ENOSPC') throw cause;
      throw new NightshiftError('disk-full', `no room for the list of slides in ${tmpdir()}`, {
        cause,
        next: 'Free some space there, or set TMPDIR to another folder; then run the same command.',
      });
    }
    pending = '';
  }

  return {
    async add(line: Line): Promise<void> {
      pending += `${JSON.stringify(line)}\n`;
      if (pending.length >= WRITE_CHARS) await flush();
    },
    end: flush,
    async *lines(): AsyncGenerator<Line> {
      const content = file.createReadStream({ start: 0, autoClose: false });
      for await (const line of linesOf('the list of slides', content)) yield JSON.parse(line) as Line;
    },
    async close(): Promise<void> {
      await file.close();
      await remove();
    },
  };
}
