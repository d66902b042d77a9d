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
