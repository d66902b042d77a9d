import { extname } from 'node:path';
import { isNightshiftError } from '../errors.ts';
import { isGdcHeader } from './gdc.ts';
import { linesOf } from './manifest.ts';
import { isS5cmdLine } from './s5cmd.ts';

const EXTENSIONS = ['.csv', '.tsv', '.jsonl', '.ndjson', '.s5cmd'];

/** By the name alone. */
export const mayBeManifest = (uri: string): boolean => [...EXTENSIONS, '.txt'].includes(extname(uri).toLowerCase());

/** `rows`: CSV or JSON lines with a `uri` in each. */
export type ManifestKind = 'rows' | 's5cmd' | 'gdc';

/** What a file is as a manifest: by its name, and where that says little, by the first line that is no comment. Null: a slide. */
export async function manifestKind(
  uri: string,
  content: () => AsyncIterable<Uint8Array>,
): Promise<ManifestKind | null> {
  const extension = extname(uri).toLowerCase();
  if (extension === '.s5cmd') return 's5cmd';
  if (extension !== '.txt' && extension !== '.tsv') return EXTENSIONS.includes(extension) ? 'rows' : null;
  const other = extension === '.tsv' ? 'rows' : null;
  try {
    for await (const line of linesOf(uri, content())) {
      if (/^\s*(#|$)/.test(line)) continue;
      if (isGdcHeader(line)) return 'gdc';
      return isS5cmdLine(line) ? 's5cmd' : other;
    }
  } catch (error) {
    // No text: a slide, whatever its name.
    if (!isNightshiftError(error, 'manifest-invalid')) throw error;
  }
  return other;
}
