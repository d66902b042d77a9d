import { stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { NightshiftError } from '../errors.ts';
import { resolveUri, type SourceEntry } from './manifest.ts';

const COLUMNS = ['id', 'filename', 'md5', 'size'];

/** Whether a line is the header of a manifest of the Genomic Data Commons: `id filename md5 size state`, tabs between. */
export const isGdcHeader = (line: string): boolean =>
  COLUMNS.every((column, i) => line.replace(/^\uFEFF/, '').split('\t')[i] === column);

/**
 * The files of a GDC manifest, where `gdc-client download` puts them beside it: `<id>/<filename>`. Not only slides: a cohort's
 * manifest names its sequences too. What is not downloaded is named all the same.
 * @throws `manifest-invalid`, naming file and line
 */
export async function* readGdc(path: string, lines: AsyncIterable<string>): AsyncGenerator<SourceEntry> {
  const folder = dirname(path);
  let line = 0;
  for await (const text of lines) {
    line++;
    if (line === 1 || text.trim() === '') continue;
    const [id = '', filename = '', md5 = '', size = ''] = text.split('\t').map((field) => field.trim());
    // Both become a path.
    const isName = (name: string) => name !== '' && !/[/\\]|^\.\.?$/.test(name);
    if (!isName(id) || !isName(filename)) {
      throw new NightshiftError('manifest-invalid', `${path}:${line}: no id and file name of a GDC manifest`, {
        data: { line },
        next: 'Fix the named line, or download the manifest again.',
      });
    }
    yield { uri: resolveUri(`${id}/${filename}`, folder), id, metadata: { md5, size } };
  }
}

/** Compares what was downloaded to this machine with the sizes that a manifest states; what lies in a store is not asked for. */
export function gdcDownload(manifest: string) {
  let missing = 0;
  let partial = 0;
  let first = '';
  return {
    async check({ uri, metadata }: SourceEntry): Promise<void> {
      if (/^[a-z][a-z0-9+.-]+:\/\//i.test(uri)) return;
      const size = await stat(uri).then(
        (found) => found.size,
        () => null,
      );
      if (size === Number(metadata?.size)) return;
      if (size === null) missing++;
      else partial++;
      first ||= size === null ? uri : `${uri}, which has ${size} of ${metadata?.size} bytes`;
    },
    /** For a person; null: nothing is to be said. */
    warning(): string | null {
      if (first === '') return null;
      const counts = [missing > 0 && `${missing} not downloaded`, partial > 0 && `${partial} of another size`];
      return `${manifest}: of its slides ${counts.filter(Boolean).join(', ')} (first: ${first}); type: gdc-client download -m ${manifest}`;
    },
  };
}
