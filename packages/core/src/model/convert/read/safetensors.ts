import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { z } from 'zod';
import { NightshiftError } from '../../../errors.ts';
import type { Rows, TensorEntry, Weights } from './weights.ts';

/** Cap of the reference implementation. */
const MAX_HEADER_BYTES = 100_000_000;
const CHUNK_BYTES = 4 << 20;

const DTYPES_BY_BYTES: readonly (readonly [bytes: number, dtypes: readonly string[]])[] = [
  [1, ['BOOL', 'U8', 'I8', 'F8_E4M3', 'F8_E5M2']],
  [2, ['U16', 'I16', 'F16', 'BF16']],
  [4, ['U32', 'I32', 'F32']],
  [8, ['U64', 'I64', 'F64']],
];

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
export async function openSafetensors(file: string): Promise<Weights> {
  const handle = await open(file).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code !== 'ENOENT') throw new NightshiftError('weights-not-found', `${file}: ${cause.message}`, { cause });
    throw new NightshiftError('weights-not-found', `${file} does not exist`);
  });
  try {
    const { size } = await handle.stat();
    const { entries, start } = await readHeader(handle, file, size);
    return {
      file,
      size,
      tensors: entries,
      read: (name, rows) => readTensor(handle, file, start, name, entries.get(name), rows),
      digest: (onBytes) => sha256(handle, onBytes),
      close: () => handle.close(),
    };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

async function readHeader(handle: FileHandle, file: string, fileSize: number) {
  const invalid = (what: string) => new NightshiftError('weights-invalid', `${file}: ${what}`);
  if (fileSize < 8) throw invalid(`${fileSize} bytes are too few for a safetensors file`);
  const length = Number((await readExactly(handle, file, 0, 8)).readBigUInt64LE());
  if (length > MAX_HEADER_BYTES) {
    throw invalid(`the header claims ${length} bytes, more than the format allows (${MAX_HEADER_BYTES})`);
  }
  if (8 + length > fileSize) throw invalid(`the header claims ${length} bytes, but the file ends after ${fileSize}`);
  const text = (await readExactly(handle, file, 8, length)).toString('utf8');
  let header: Record<string, unknown>;
  try {
    header = z.record(z.string(), z.unknown()).parse(JSON.parse(text));
  } catch {
    throw invalid('the header is not a JSON object');
  }
  const entries = new Map<string, Entry>();
  for (const [name, value] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    const parsed = HeaderEntry.safeParse(value);
    if (!parsed.success) throw invalid(`tensor ${name}: malformed header entry`);
    const { dtype, shape } = parsed.data;
    const [begin, end] = parsed.data.data_offsets;
    const width = DTYPES_BY_BYTES.find(([, dtypes]) => dtypes.includes(dtype))?.[0];
    if (width === undefined) {
      throw new NightshiftError('weights-unsupported', `${file}: tensor ${name} has the unknown dtype ${dtype}`);
    }
    const bytes = shape.reduce((product, n) => product * n, width);
    if (end - begin !== bytes) {
      throw invalid(`tensor ${name}: ${dtype} [${shape}] takes ${bytes} bytes, the header gives it ${end - begin}`);
    }
    entries.set(name, { dtype, shape, begin, end });
  }
  checkLayout(entries, fileSize - 8 - length, invalid);
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
  handle: FileHandle,
  file: string,
  start: number,
  name: string,
  entry: Entry | undefined,
  rows: Rows | undefined,
): Promise<Float32Array> {
  if (entry === undefined) throw new NightshiftError('weights-unsupported', `${file}: there is no tensor ${name}`);
  const rowBytes = (entry.end - entry.begin) / Math.max(1, entry.shape[0] ?? 1);
  const from = entry.begin + (rows ? rows.from * rowBytes : 0);
  const to = rows ? entry.begin + rows.to * rowBytes : entry.end;
  const buffer = await readExactly(handle, file, start + from, to - from, name);
  switch (entry.dtype) {
    case 'F32':
      return new Float32Array(buffer.buffer);
    case 'BF16':
      return widenBf16(new Uint16Array(buffer.buffer));
    case 'F16':
      return widenF16(new Uint16Array(buffer.buffer));
    default:
      throw new NightshiftError(
        'weights-unsupported',
        `${file}: tensor ${name} is ${entry.dtype}, not F32, F16 or BF16`,
      );
  }
}

/** A Buffer over an ArrayBuffer of its own, so that it can be viewed as any element type. Little-endian hosts only. */
async function readExactly(handle: FileHandle, file: string, position: number, length: number, tensor?: string) {
  const buffer = Buffer.from(new ArrayBuffer(length));
  let done = 0;
  while (done < length) {
    const { bytesRead } = await handle.read(buffer, done, length - done, position + done);
    if (bytesRead === 0) {
      const what = tensor === undefined ? 'the header' : `tensor ${tensor}`;
      throw new NightshiftError('weights-invalid', `${file}: the file ended while ${what} was read`);
    }
    done += bytesRead;
  }
  return buffer;
}

function widenBf16(source: Uint16Array): Float32Array {
  const bits = new Uint32Array(source.length);
  for (let i = 0; i < source.length; i++) bits[i] = source[i]! << 16;
  return new Float32Array(bits.buffer);
}

function widenF16(source: Uint16Array): Float32Array {
  return Float32Array.from(source, (half) => {
    const sign = half & 0x8000 ? -1 : 1;
    const exponent = (half >> 10) & 31;
    const fraction = half & 1023;
    if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
    return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  });
}

async function sha256(handle: FileHandle, onBytes: (bytes: number) => void): Promise<string> {
  const hash = createHash('sha256');
  const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
  for (let position = 0; ; ) {
    const { bytesRead } = await handle.read(buffer, 0, CHUNK_BYTES, position);
    if (bytesRead === 0) return hash.digest('hex');
    hash.update(buffer.subarray(0, bytesRead));
    position += bytesRead;
    onBytes(bytesRead);
  }
}
