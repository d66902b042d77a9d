import { z } from 'zod';
import { NightshiftError } from '../../../errors.ts';
import { DTYPE_BYTES, toFloat32 } from './dtypes.ts';
import { type CheckpointFile, openFile } from './file.ts';
import { checkTensorName, type Rows, type TensorEntry, type Weights } from './weights.ts';

/** The reference implementation takes 100 MB. A ViT-g has 100 kB; 10 MB of brackets take 700 MiB to parse. */
const MAX_HEADER_BYTES = 4_000_000;

const size = z.number().int().nonnegative();
const HeaderEntry = z.strictObject({ dtype: z.string(), shape: z.array(size), data_offsets: z.tuple([size, size]) });

interface Entry extends TensorEntry {
  readonly begin: number;
  readonly end: number;
}

/**
 * Reads a safetensors file by positional reads: 8 bytes of header length, JSON header, tensors back to back. The header is
 * believed only where it agrees with itself and with the length of the file. F32, F16 and BF16 tensors can be read.
 * Offsets need not be aligned: tensors are copied out. Format: github.com/huggingface/safetensors.
 *
 * @throws NightshiftError `weights-not-found`, `weights-invalid`, `weights-unsupported`
 */
export async function openSafetensors(path: string): Promise<Weights> {
  const file = await openFile(path);
  try {
    const { entries, start } = await readHeader(file);
    return {
      file: path,
      size: file.size,
      tensors: entries,
      read: (name, rows) => readTensor(file, start, name, entries.get(name), rows),
      digest: file.digest,
      close: file.close,
    };
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function readHeader(file: CheckpointFile) {
  const invalid = (what: string) => new NightshiftError('weights-invalid', `${file.path}: ${what}`);
  if (file.size < 8) throw invalid(`${file.size} bytes are too few for a safetensors file`);
  const length = Number((await file.read(0, 8, 'the header')).readBigUInt64LE());
  if (length > MAX_HEADER_BYTES) {
    throw invalid(`the header claims ${length} bytes, more than is allowed (${MAX_HEADER_BYTES})`);
  }
  if (8 + length > file.size) throw invalid(`the header claims ${length} bytes, but the file ends after ${file.size}`);
  const text = (await file.read(8, length, 'the header')).toString('utf8');
  let header: Record<string, unknown>;
  try {
    header = z.record(z.string(), z.unknown()).parse(JSON.parse(text));
  } catch {
    throw invalid('the header is not a JSON object');
  }
  const entries = new Map<string, Entry>();
  for (const [name, value] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    checkTensorName(file.path, name);
    const parsed = HeaderEntry.safeParse(value);
    if (!parsed.success) throw invalid(`tensor ${name}: malformed header entry`);
    const { dtype, shape } = parsed.data;
    const [begin, end] = parsed.data.data_offsets;
    const width = DTYPE_BYTES.get(dtype);
    if (width === undefined) {
      throw new NightshiftError('weights-unsupported', `${file.path}: tensor ${name} has the unknown dtype ${dtype}`);
    }
    const bytes = shape.reduce((product, n) => product * n, width);
    if (end - begin !== bytes) {
      throw invalid(`tensor ${name}: ${dtype} [${shape}] takes ${bytes} bytes, the header gives it ${end - begin}`);
    }
    entries.set(name, { dtype, shape, begin, end });
  }
  checkLayout(entries, file.size - 8 - length, invalid);
  return { entries, start: 8 + length };
}

/** Tensors must tile the data part: no overlap, no hole, nothing past the end, nothing after the last one. */
function checkLayout(entries: ReadonlyMap<string, Entry>, dataBytes: number, invalid: (what: string) => Error): void {
  let position = 0;
  let previous = 'the header';
  for (const [name, { begin, end }] of [...entries].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end)) {
    if (begin < position) throw invalid(`tensor ${name} overlaps ${previous}`);
    if (begin > position)
      throw invalid(`${begin - position} bytes between ${previous} and tensor ${name} are no tensor`);
    if (end > dataBytes) {
      throw invalid(`tensor ${name} ends ${end - dataBytes} bytes after the end of the file: it is truncated`);
    }
    position = end;
    previous = `tensor ${name}`;
  }
  if (position !== dataBytes) throw invalid(`${dataBytes - position} bytes after ${previous} are no tensor`);
}

async function readTensor(
  file: CheckpointFile,
  start: number,
  name: string,
  entry: Entry | undefined,
  rows: Rows | undefined,
): Promise<Float32Array> {
  if (entry === undefined) throw new NightshiftError('weights-unsupported', `${file.path}: there is no tensor ${name}`);
  const rowBytes = (entry.end - entry.begin) / Math.max(1, entry.shape[0] ?? 1);
  const from = entry.begin + (rows ? rows.from * rowBytes : 0);
  const to = rows ? entry.begin + rows.to * rowBytes : entry.end;
  return toFloat32(entry.dtype, await file.read(start + from, to - from, `tensor ${name}`), name);
}
