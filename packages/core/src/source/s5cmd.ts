import { NightshiftError } from '../errors.ts';
import type { SourceEntry } from './manifest.ts';

/** Lines whose folders are listed at once. */
const AHEAD = 16;

/** What a line of a manifest names. */
export interface S5cmdItem {
  readonly line: number;
  /** An object, a folder (ending in a slash) or a glob. */
  readonly uri: string;
}

/** Whether a line copies from S3. */
export const isS5cmdLine = (line: string): boolean => /^\s*(cp|sync)\s.*s3:\/\//i.test(line);

/**
 * What an s5cmd manifest names, such as the Imaging Data Commons gives out: lines of `cp [options] s3://bucket/prefix/* target`,
 * with comments after `#`. The targets are of no interest.
 * @throws `manifest-invalid`, naming file and line
 */
export async function* readS5cmd(path: string, lines: AsyncIterable<string>): AsyncGenerator<S5cmdItem> {
  let line = 0;
  for await (const text of lines) {
    line++;
    if (/^\s*(#|$)/.test(text)) continue;
    const words = text.match(/"[^"]*"|'[^']*'|\S+/g) ?? [];
    const [command, ...rest] = words.map((word) => word.replace(/^(["'])(.*)\1$/, '$2'));
    const uri = rest.find((word) => /^s3:\/\//i.test(word));
    if (uri === undefined || !['cp', 'sync'].includes(command!)) {
      throw new NightshiftError(
        'manifest-invalid',
        `${path}:${line}: not a line of \`cp s3://bucket/prefix/* target\``,
        {
          data: { line },
          next: 'Fix the named line: an s5cmd manifest copies from s3:// URIs.',
        },
      );
    }
    // For s5cmd a star crosses slashes.
    yield { line, uri: uri.replace(/\/\*+$/, '/') };
  }
}

/** The slides of every item, in the order of the lines; the folders of several are listed at once. */
export async function* expandS5cmd(
  items: AsyncIterable<S5cmdItem>,
  expand: (item: S5cmdItem) => Promise<SourceEntry[]>,
): AsyncGenerator<SourceEntry> {
  const ahead: Promise<SourceEntry[]>[] = [];
  for await (const item of items) {
    const entries = expand(item);
    // Awaited in its turn; a failure until then is no bug.
    entries.catch(() => undefined);
    ahead.push(entries);
    if (ahead.length >= AHEAD) yield* await ahead.shift()!;
  }
  for (const entries of ahead) yield* await entries;
}
