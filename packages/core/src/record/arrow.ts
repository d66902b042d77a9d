import { crc32 } from 'node:zlib';
import {
  Field,
  FixedSizeList,
  Float16,
  Float32,
  Int32,
  makeData,
  RecordBatch,
  RecordBatchFileWriter,
  RecordBatchReader,
  Schema,
  Struct,
} from 'apache-arrow';
import { Footer } from 'apache-arrow/ipc/metadata/file';
import { Message } from 'apache-arrow/ipc/metadata/message';
import { NightshiftError } from '../errors.ts';
import { byMeasure, type QcValues } from '../plan/qc.ts';
import { MEASURES } from '../slide/measure/measure.ts';
import type { ByteRange, ByteSource } from '../source/source.ts';

/** Tiles and their vectors, row by row: (x[i], y[i]) in level-0 px, vector i = `vectors[i * dims .. (i + 1) * dims]`. */
export interface TileRows {
  readonly x: Int32Array;
  readonly y: Int32Array;
  /** float32 [rows, dims], row-major. */
  readonly vectors: Float32Array;
  /** Patch grids, float16 [rows, patch], row-major, in a file that has them. */
  readonly patch?: Float16Array;
  /** What was measured of each tile, in a file that has it. */
  readonly qc?: QcValues;
}

interface Shape {
  readonly dims: number;
  /** Values of a row in the column `patch`; 0 without one. */
  readonly patch: number;
  /** Whether there are the columns `qc_hsv`, `qc_blur` and `qc_pen`. */
  readonly qc: boolean;
}

/** An open tile file. Nothing but its head and footer is in memory. */
export interface TileTable extends Shape {
  /** Schema metadata as stored. */
  readonly metadata: ReadonlyMap<string, string>;
  /** One record batch at a time, in file order. The arrays are the caller's. @throws `record-corrupt` */
  batches(): AsyncGenerator<TileRows>;
  close(): Promise<void>;
}

/**
 * An Arrow IPC file (https://arrow.apache.org/docs/format/Columnar.html#ipc-file-format) of columns `x` int32, `y` int32 and
 * `vector` FixedSizeList<float32>[dims], with `patch` above 0 also `patch` FixedSizeList<float16>[patch], with `qc` also `qc_hsv`, `qc_blur` and `qc_pen`
 * float32, none nullable; one record batch for each `TileRows`, whose memory is let go once the consumer asks for more. The same input gives the same bytes.
 *
 * Between the end of the stream and the footer, where no reader looks, lie checksums: CRC-32 of the head (all before the first
 * batch) and of each batch, padded to 8 bytes; CRC-32 of these and the footer; the count of the former; `NIGHTCRC`.
 */
export async function* encodeTiles(
  dims: number,
  metadata: ReadonlyMap<string, string>,
  batches: AsyncIterable<TileRows> | Iterable<TileRows>,
  patch = 0,
  qc = false,
): AsyncGenerator<Uint8Array> {
  const shape = { dims, patch, qc };
  const schema = schemaOf(shape, metadata);
  const writer = new TileWriter(schema);
  yield* writer.takeSection();
  for await (const rows of batches) {
    if (rows.x.length === 0) continue;
    writer.write(batchOf(schema, rows, shape));
    yield* writer.takeSection();
  }
  writer.close();
  yield* writer.takeSection();
}

/**
 * Opens what `encodeTiles` wrote. Bytes are handed to the Arrow library only after their checksum was found right: it trusts what
 * it parses, and one flipped bit can make it loop until memory is full.
 * @throws `record-corrupt` when this is not a whole tile file. The source is closed then, else by `close`.
 */
export async function openTiles(source: ByteSource): Promise<TileTable> {
  try {
    const { footer, checksums } = await readFooter(source);
    const shape = shapeOf(footer.schema, source);
    const blocks = Array.from(footer.recordBatches());
    return {
      ...shape,
      metadata: footer.schema.metadata,
      async *batches() {
        if (blocks.length === 0) return;
        const head = await readChecked(source, { offset: 0, length: blocks[0]!.offset }, checksums[0]);
        for (const [i, { offset, metaDataLength, bodyLength }] of blocks.entries()) {
          const range = { offset, length: metaDataLength + bodyLength };
          yield decodeBatch(head, await readChecked(source, range, checksums[i + 1]), shape);
        }
      },
      close: () => source.close(),
    };
  } catch (error) {
    await source.close();
    throw error;
  }
}

/** Row of the first NaN or infinity, or -1. */
export function firstNotFinite(vectors: Float32Array | Float16Array, dims: number): number {
  // v - v is 0 for every finite v and NaN for the others: one pass without a branch.
  let sum = 0;
  for (let i = 0; i < vectors.length; i++) sum += vectors[i]! - vectors[i]!;
  if (sum === 0) return -1;
  return Math.floor(vectors.findIndex((v) => !Number.isFinite(v)) / dims);
}

/**
 * The library's file writer, with three differences: what is written is taken by the caller section by section (head, each batch,
 * end) instead of piling up in a queue; the file begins with the schema message, as the format asks and the library leaves out
 * (readers that go through a file from the front need it); and checksums go before the footer.
 */
class TileWriter extends RecordBatchFileWriter {
  #section: Uint8Array[] = [];
  #checksums: number[] = [];

  constructor(schema: Schema) {
    super();
    this.reset(undefined, schema);
  }

  takeSection(): Uint8Array[] {
    const section = this.#section;
    this.#section = [];
    this.#checksums.push(section.reduce((sum, bytes) => crc32(bytes, sum), 0));
    return section;
  }

  protected override _write(chunk: ArrayBufferView): this {
    if (chunk.byteLength > 0) this.#section.push(bytesOf(chunk));
    this._position += chunk.byteLength;
    return this;
  }

  protected override _writeSchema(schema: Schema): this {
    super._writeSchema(schema);
    return this._writeMessage(Message.from(schema));
  }

  protected override _writeFooter(schema: Schema): this {
    super._writeFooter(schema);
    const [endOfStream, footer, ...rest] = this.#section;
    this.#section = [endOfStream!, ...trailer(this.#checksums, footer!), footer!, ...rest];
    return this;
  }
}

const MAGIC = 'ARROW1';
const TRAILER_MAGIC = 'NIGHTCRC';
/** After the footer: its length and the magic. */
const END_BYTES = 10;
/** After the checksums: that of checksums and footer, their count, and the magic. */
const TRAILER_END_BYTES = 16;
/** One read of this size finds the footer of most files. */
const TAIL_BYTES = 64 * 1024;

function trailer(checksums: readonly number[], footer: Uint8Array): Uint8Array[] {
  const table = bytesOf(Uint32Array.from(checksums.length % 2 === 0 ? checksums : [...checksums, 0]));
  const all = crc32(footer, crc32(table));
  return [table, bytesOf(Uint32Array.of(all, checksums.length)), new TextEncoder().encode(TRAILER_MAGIC)];
}

interface CheckedFooter {
  readonly footer: Footer;
  /** Of the head and of each batch. */
  readonly checksums: readonly number[];
}

async function readFooter(source: ByteSource): Promise<CheckedFooter> {
  let tail = new Uint8Array(0);
  async function fromEnd(distance: number, length: number): Promise<Uint8Array> {
    if (distance > source.size) throw corrupt(source, `it has ${source.size} bytes and should have more`);
    if (distance > tail.length) tail = await readTail(source, Math.max(distance, TAIL_BYTES));
    return tail.subarray(tail.length - distance, tail.length - distance + length);
  }

  const end = await fromEnd(END_BYTES, END_BYTES);
  const size = viewOf(end).getInt32(0, true);
  if (text(end.subarray(4)) !== MAGIC || size <= 0) throw corrupt(source, 'it does not end as an Arrow file');
  const toFooter = END_BYTES + size;
  const footer = await fromEnd(toFooter, size);
  const trailerEnd = await fromEnd(toFooter + TRAILER_END_BYTES, TRAILER_END_BYTES);
  if (text(trailerEnd.subarray(8)) !== TRAILER_MAGIC) throw corrupt(source, 'it has no checksums before its footer');
  const [sum, count] = [viewOf(trailerEnd).getUint32(0, true), viewOf(trailerEnd).getUint32(4, true)];
  const tableBytes = 4 * (count + (count % 2));
  const table = await fromEnd(toFooter + TRAILER_END_BYTES + tableBytes, tableBytes);
  if (crc32(footer, crc32(table)) !== sum) throw corrupt(source, 'the checksum of its footer is wrong');
  const checksums = Array.from({ length: count }, (_, i) => viewOf(table).getUint32(4 * i, true));
  return { footer: Footer.decode(footer), checksums };
}

async function readTail(source: ByteSource, length: number): Promise<Uint8Array<ArrayBuffer>> {
  const size = Math.min(length, source.size);
  const [tail] = await source.read([{ offset: source.size - size, length: size }]);
  return tail as Uint8Array<ArrayBuffer>;
}

async function readChecked(source: ByteSource, range: ByteRange, checksum: number | undefined): Promise<Uint8Array> {
  const [found] = await source.read([range]);
  if (crc32(found!) !== checksum) {
    const where = `bytes ${range.offset} to ${range.offset + range.length}`;
    throw corrupt(source, `the checksum of ${where} is wrong`);
  }
  return found!;
}

/** `head` is the file up to the first batch: magic, padding and the schema message, which a stream begins with. */
function decodeBatch(head: Uint8Array, block: Uint8Array, { dims, patch, qc }: Shape): TileRows {
  const [batch] = RecordBatchReader.from([head.subarray(8), block]);
  const [x, y, vector, ...rest] = batch!.data.children;
  const length = batch!.numRows;
  // Buffers are padded to 8 bytes, and the library's views take the padding in.
  const rows = {
    x: x!.values.subarray(0, length),
    y: y!.values.subarray(0, length),
    vectors: vector!.children[0]!.values.subarray(0, length * dims),
  };
  const measured = qc && rest.slice(-MEASURES.length);
  return {
    ...rows,
    ...(patch > 0 && { patch: gridsOf(rest[0]!.children[0]!.values, length * patch) }),
    ...(measured && { qc: byMeasure((m) => measured[MEASURES.indexOf(m)]!.values.subarray(0, length)) }),
  };
}

const gridsOf = ({ buffer, byteOffset }: Uint16Array<ArrayBuffer>, length: number): Float16Array =>
  new Float16Array(buffer, byteOffset, length);

function schemaOf({ dims, patch, qc }: Shape, metadata: ReadonlyMap<string, string>): Schema {
  const vector = new FixedSizeList(dims, new Field('item', new Float32(), false));
  const grids = new FixedSizeList(patch, new Field('item', new Float16(), false));
  const fields = [
    new Field('x', new Int32(), false),
    new Field('y', new Int32(), false),
    new Field('vector', vector, false),
    ...(patch === 0 ? [] : [new Field('patch', grids, false)]),
    ...(qc ? MEASURES.map((measure) => new Field(`qc_${measure}`, new Float32(), false)) : []),
  ];
  return new Schema(fields, new Map(metadata));
}

const COLUMNS =
  /^x: Int32, y: Int32, vector: FixedSizeList\[(\d+)\]<Float32>(?:, patch: FixedSizeList\[(\d+)\]<Float16>)?(, qc_hsv: Float32, qc_blur: Float32, qc_pen: Float32)?$/;

function shapeOf(schema: Schema, source: ByteSource): Shape {
  const columns = schema.fields.map((field) => `${field.name}: ${field.type}`).join(', ');
  const lists = COLUMNS.exec(columns);
  if (!lists) throw corrupt(source, `its columns are ${columns}`);
  return { dims: Number(lists[1]), patch: Number(lists[2] ?? 0), qc: lists[3] !== undefined };
}

function batchOf(schema: Schema, rows: TileRows, { dims, patch, qc }: Shape): RecordBatch {
  const length = rows.x.length;
  const values = rows.patch?.length ?? 0;
  if (rows.y.length !== length || rows.vectors.length !== length * dims || values !== length * patch) {
    const counts = `${length} x, ${rows.y.length} y, ${rows.vectors.length} values of ${dims} dims, ${values} of ${patch} in patch`;
    throw new NightshiftError('internal', `rows do not fit together: ${counts}`);
  }
  if ((rows.qc !== undefined) !== qc || (rows.qc && MEASURES.some((m) => rows.qc![m].length !== length))) {
    throw new NightshiftError('internal', `${length} rows and their QC columns do not fit together`);
  }
  const list = schema.fields[2]!.type as FixedSizeList<Float32>;
  const child = makeData({ type: new Float32(), length: length * dims, nullCount: 0, data: rows.vectors });
  const children = [
    makeData({ type: new Int32(), length, nullCount: 0, data: rows.x }),
    makeData({ type: new Int32(), length, nullCount: 0, data: rows.y }),
    makeData({ type: list, length, nullCount: 0, child }),
    ...(rows.patch ? [gridData(schema, rows.patch, length)] : []),
    ...(rows.qc ? MEASURES.map((m) => makeData({ type: new Float32(), length, nullCount: 0, data: rows.qc![m] })) : []),
  ];
  return new RecordBatch(schema, makeData({ type: new Struct(schema.fields), length, nullCount: 0, children }));
}

/** The library takes float16 as its bits. */
function gridData(schema: Schema, { buffer, byteOffset, length }: Float16Array, rows: number) {
  const list = schema.fields[3]!.type as FixedSizeList<Float16>;
  const data = new Uint16Array(buffer, byteOffset, length);
  const child = makeData({ type: new Float16(), length, nullCount: 0, data });
  return makeData({ type: list, length: rows, nullCount: 0, child });
}

const bytesOf = (view: ArrayBufferView): Uint8Array => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');

function corrupt(source: ByteSource, why: string): NightshiftError {
  return new NightshiftError('record-corrupt', `${source.uri} is damaged: ${why}`);
}
