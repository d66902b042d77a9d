import { hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { dirname, isAbsolute, posix, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { NightshiftError } from '../errors.ts';

/** A slide named by a source, before anybody looked at it. */
export interface SourceEntry {
  /** Absolute path, or a URI with a scheme. */
  readonly uri: string;
  /** What the listing of a store said of the content, as `ByteSource.contentId`: nobody has to ask again. */
  readonly contentId?: string;
  /** The person's own um/px for this slide (column `mpp`). */
  readonly mpp?: number;
  /** The person's own name for this slide (column `id`); unique in its manifest. */
  readonly id?: string;
  /** Every other column, as it was written. */
  readonly metadata?: Readonly<Record<string, string | number | boolean>>;
}

const MAX_LINE_CHARS = 1 << 20;
const MAX_METADATA_CHARS = 1 << 16;
const OWN_COLUMNS = ['uri', 'mpp', 'id'];

/**
 * Slides of a manifest, in its order: CSV (RFC 4180, header line with a `uri` column; `;` and tab are accepted as separators
 * when the header uses them) or JSON lines (one object with a `uri` a line), UTF-8. A relative uri counts from the manifest's
 * folder. `path` may be a URI when the `content` is given. A uri that comes twice is given once and reported to `onWarning`; when the two rows disagree, that is an error.
 *
 * @throws `manifest-invalid`, naming file and line.
 */
export async function* readManifest(
  path: string,
  onWarning: (message: string) => void = () => {},
  content: AsyncIterable<Uint8Array> = createReadStream(path),
): AsyncGenerator<SourceEntry> {
  const text = linesOf(path, content);
  const rows = /\.(jsonl|ndjson)$/i.test(path) ? jsonRows(path, text) : csvRows(path, text);
  // A manifest may have a million rows: of each its uri and some digits are kept.
  const seen = new Map<string, { line: number; facts: string }>();
  const ids = new Map<string, number>();
  for await (const { line, row } of rows) {
    const entry = toEntry(row, path, line);
    const facts = hash('sha256', JSON.stringify([entry.mpp, entry.id, entry.metadata]), 'base64').slice(0, 16);
    const first = seen.get(entry.uri);
    if (first !== undefined) {
      if (first.facts !== facts) {
        throw invalid(path, line, `${row.uri} was given in line ${first.line} already, with other values`);
      }
      onWarning(`${path}:${line}: ${row.uri} was given in line ${first.line} already; it is taken once`);
      continue;
    }
    seen.set(entry.uri, { line, facts });
    if (entry.id !== undefined) {
      const other = ids.get(entry.id);
      if (other !== undefined) throw invalid(path, line, `id "${entry.id}" names another slide in line ${other}`);
      ids.set(entry.id, line);
    }
    yield entry;
  }
}

type Row = Readonly<Record<string, unknown>>;

function toEntry(row: Row, path: string, line: number): SourceEntry {
  const { uri, mpp, id } = row;
  if (typeof uri !== 'string' || uri.trim() === '') throw invalid(path, line, 'the `uri` is empty');
  const metadata: Record<string, string | number | boolean> = {};
  for (const [key, value] of Object.entries(row)) {
    if (OWN_COLUMNS.includes(key) || value === null || value === '') continue;
    if (typeof value === 'object') throw invalid(path, line, `"${key}" must be a text, a number or a boolean`);
    metadata[key] = value as string | number | boolean;
  }
  const chars = JSON.stringify(metadata).length;
  if (chars > MAX_METADATA_CHARS) {
    throw invalid(path, line, `the other columns hold ${chars} characters, at most ${MAX_METADATA_CHARS} are kept`);
  }
  return {
    uri: resolveUri(uri.trim(), dirname(path)),
    ...(isBlank(mpp) ? {} : { mpp: toMpp(mpp, path, line) }),
    ...(isBlank(id) ? {} : { id: String(id).trim() }),
    ...(Object.keys(metadata).length === 0 ? {} : { metadata }),
  };
}

const isBlank = (value: unknown): boolean =>
  value === undefined || value === null || (typeof value === 'string' && value.trim() === '');

function toMpp(value: unknown, path: string, line: number): number {
  const number = typeof value === 'string' ? Number(value) : value;
  if (typeof number !== 'number' || !(number >= 0.05 && number <= 20)) {
    throw invalid(path, line, `mpp is ${JSON.stringify(value)}: give um/px from 0.05 to 20, e.g. 0.25`);
  }
  return number;
}

/** An absolute path, or the URI itself when it has a scheme other than `file:`. The base is a folder or the URI of one. */
export function resolveUri(uri: string, base: string): string {
  if (/^file:\/\//i.test(uri)) return fileURLToPath(uri);
  if (/^[a-z][a-z0-9+.-]+:\/\//i.test(uri)) return uri;
  const store = /^([a-z][a-z0-9+.-]+:\/\/[^/]+)(.*)$/i.exec(base);
  return store && !isAbsolute(uri) ? store[1] + posix.join('/', store[2]!, uri) : resolve(base, uri);
}

async function* jsonRows(path: string, lines: AsyncIterable<string>): AsyncGenerator<{ line: number; row: Row }> {
  let line = 0;
  for await (const text of lines) {
    line++;
    if (text.trim() === '') continue;
    let row: unknown;
    try {
      row = JSON.parse(text);
    } catch (cause) {
      throw invalid(path, line, 'not a JSON object', cause);
    }
    if (typeof row !== 'object' || row === null || Array.isArray(row)) throw invalid(path, line, 'not a JSON object');
    if (!('uri' in row)) throw invalid(path, line, `no "uri" among the keys ${listed(Object.keys(row))}`);
    yield { line, row: row as Row };
  }
}

async function* csvRows(path: string, lines: AsyncIterable<string>): AsyncGenerator<{ line: number; row: Row }> {
  let header: string[] | null = null;
  for await (const { line, fields } of csvRecords(path, lines)) {
    if (header === null) {
      header = fields.map((field) => field.trim());
      const columns = header.map((name) => name.toLowerCase());
      const seen = new Set<string>();
      if (!columns.includes('uri')) throw invalid(path, line, `no \`uri\` column among ${listed(header)}`);
      for (const [i, name] of columns.entries()) {
        if (name === '') throw invalid(path, line, `column ${i + 1} has no name`);
        if (seen.has(name)) throw invalid(path, line, `column "${name}" comes twice`);
        seen.add(name);
        if (OWN_COLUMNS.includes(name)) header[i] = name;
      }
      continue;
    }
    if (fields.length !== header.length) {
      throw invalid(path, line, `${fields.length} fields where the header has ${header.length}`);
    }
    yield { line, row: Object.fromEntries(header.map((name, i) => [name, fields[i]!])) };
  }
}

/** Records of a CSV file with the line each begins on; blank lines are left out. A quoted field may span lines. */
async function* csvRecords(
  path: string,
  lines: AsyncIterable<string>,
): AsyncGenerator<{ line: number; fields: string[] }> {
  let separator: string | null = null;
  let line = 0;
  let start = 0;
  let pending: string[] = [];
  let chars = 0;
  let open = false;
  for await (const text of lines) {
    line++;
    if (pending.length === 0) start = line;
    pending.push(text);
    chars += text.length + 1;
    if (chars > MAX_LINE_CHARS) throw invalid(path, start, 'a record is longer than 1 MiB: a quote is not closed');
    // A quoted field goes on where the number of quotes is odd, escaped ones counting two.
    open = open !== hasOddQuotes(text);
    if (open) continue;
    const record = pending.join('\n');
    pending = [];
    chars = 0;
    if (record.trim() === '') continue;
    separator ??= [',', ';', '\t'].find((candidate) => record.includes(candidate)) ?? ',';
    yield { line: start, fields: fieldsOf(record, separator, path, start) };
  }
  if (open) throw invalid(path, start, 'a quote is not closed');
}

function hasOddQuotes(line: string): boolean {
  let quotes = 0;
  for (let at = line.indexOf('"'); at !== -1; at = line.indexOf('"', at + 1)) quotes++;
  return quotes % 2 === 1;
}

function fieldsOf(record: string, separator: string, path: string, line: number): string[] {
  const fields: string[] = [];
  let at = 0;
  for (;;) {
    let field: string;
    if (record[at] === '"') {
      let end = at + 1;
      while (record[end] !== '"' || record[end + 1] === '"') end += record[end] === '"' ? 2 : 1;
      field = record.slice(at + 1, end).replaceAll('""', '"');
      at = end + 1;
      if (at < record.length && record[at] !== separator) throw invalid(path, line, 'text follows a closing quote');
    } else {
      const next = record.indexOf(separator, at);
      field = record.slice(at, next === -1 ? record.length : next);
      if (field.includes('"')) throw invalid(path, line, 'a quote stands inside an unquoted field');
      at += field.length;
    }
    fields.push(field);
    if (at >= record.length) return fields;
    at++;
  }
}

/** Lines of UTF-8 text without their LF or CRLF; the byte order mark is dropped. */
export async function* linesOf(path: string, content: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let rest = '';
  let count = 0;
  try {
    for await (const chunk of content) {
      rest += decoder.decode(chunk, { stream: true });
      let from = 0;
      for (let at = rest.indexOf('\n'); at !== -1; at = rest.indexOf('\n', from)) {
        count++;
        yield rest.slice(from, at).replace(/\r$/, '');
        from = at + 1;
      }
      rest = rest.slice(from);
      if (rest.length > MAX_LINE_CHARS) throw invalid(path, count + 1, 'a line is longer than 1 MiB');
    }
    rest += decoder.decode();
  } catch (cause) {
    if (cause instanceof NightshiftError) throw cause;
    const code = (cause as NodeJS.ErrnoException).code;
    if (code === 'ENOENT') throw new NightshiftError('source-not-found', `there is no ${path}`, { cause });
    if (cause instanceof TypeError) throw invalid(path, count + 1, 'not UTF-8 text: save it as "CSV UTF-8"', cause);
    throw new NightshiftError('source-not-found', `cannot read ${path}: ${(cause as Error).message}`, { cause });
  }
  if (rest !== '') yield rest.replace(/\r$/, '');
}

const listed = (names: readonly string[]): string => names.map((name) => `\`${name}\``).join(', ') || 'none';

const invalid = (path: string, line: number, message: string, cause?: unknown): NightshiftError =>
  new NightshiftError('manifest-invalid', `${path}:${line}: ${message}`, { data: { line }, cause });
