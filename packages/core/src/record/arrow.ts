import type { FileHandle } from 'node:fs/promises';
import {
  AsyncRecordBatchFileReader,
  Field,
  FixedSizeList,
  Float32,
  Int32,
  makeData,
  RecordBatch,
  RecordBatchFileWriter,
  RecordBatchReader,
  Schema,
  Struct,
} from 'apache-arrow';
import { Message } from 'apache-arrow/ipc/metadata/message';
import { NightshiftError } from '../errors.ts';
import type { ByteSource } from '../source/source.ts';

/** Tiles and their vectors, row by row: (x[i], y[i]) in level-0 px, vector i = `vectors[i * dims .. (i + 1) * dims]`. */
export interface TileRows {
  readonly x: Int32Array;
  readonly y: Int32Array;
  /** float32 [rows, dims], row-major. */
  readonly vectors: Float32Array;
}

/** An open tile file. Nothing but its footer is in memory. */
export interface TileTable {
  readonly dims: number;
  /** Schema metadata as stored. */
  readonly metadata: ReadonlyMap<string, string>;
  /** One record batch at a time, in file order. The arrays are the caller's. */
  batches(): AsyncGenerator<TileRows>;
  close(): Promise<void>;
}

/**
 * An Arrow IPC file (https://arrow.apache.org/docs/format/Columnar.html#ipc-file-format) of columns `x` int32, `y` int32 and
 * `vector` FixedSizeList<float32>[dims], none nullable; one record batch for each `TileRows`, whose memory is let go once the
 * consumer asks for more. The same input gives the same bytes.
 */
export async function* encodeTiles(
  dims: number,
  metadata: ReadonlyMap<string, string>,
  batches: AsyncIterable<TileRows> | Iterable<TileRows>,
): AsyncGenerator<Uint8Array> {
  const schema = schemaOf(dims, metadata);
  const writer = new TileWriter(schema);
  for await (const rows of batches) {
    if (rows.x.length === 0) continue;
    writer.write(batchOf(schema, rows, dims));
    yield* writer.take();
  }
  writer.close();
  yield* writer.take();
}

/** @throws `record-corrupt` when this is not a whole tile file. Closes the source on an error, and with `close`. */
export async function openTiles(source: ByteSource): Promise<TileTable> {
  try {
    await checkEnds(source);
    const reader = await RecordBatchReader.from(asFileHandle(source));
    if (!(reader instanceof AsyncRecordBatchFileReader)) throw corrupt(source, 'not an Arrow file');
    await reader.open();
    const dims = dimsOf(reader.schema, source);
    return {
      dims,
      metadata: reader.schema.metadata,
      async *batches() {
        for (let i = 0; i < reader.numRecordBatches; i++) yield await readBatch(reader, i, dims, source);
      },
      close: () => source.close(),
    };
  } catch (error) {
    await source.close();
    throw asCorrupt(error, source);
  }
}

/** Row of the first NaN or infinity, or -1. */
export function firstNotFinite(vectors: Float32Array, dims: number): number {
  // v - v is 0 for every finite v and NaN for the others: one pass without a branch.
  let sum = 0;
  for (let i = 0; i < vectors.length; i++) sum += vectors[i]! - vectors[i]!;
  if (sum === 0) return -1;
  return Math.floor(vectors.findIndex((v) => !Number.isFinite(v)) / dims);
}

/**
 * The library's file writer, with two differences: what is written is taken by the caller batch by batch instead of piling up
 * in a queue, and the file begins with the schema message, as the format asks and the library leaves out (readers that go
 * through a file from the front, DuckDB's among them, need it).
 */
class TileWriter extends RecordBatchFileWriter {
  #chunks: Uint8Array[] = [];

  constructor(schema: Schema) {
    super();
    this.reset(undefined, schema);
  }

  take(): Uint8Array[] {
    const chunks = this.#chunks;
    this.#chunks = [];
    return chunks;
  }

  protected override _write(chunk: ArrayBufferView): this {
    const view = new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    if (view.length > 0) this.#chunks.push(view);
    this._position += view.length;
    return this;
  }

  protected override _writeSchema(schema: Schema): this {
    super._writeSchema(schema);
    return this._writeMessage(Message.from(schema));
  }
}

function schemaOf(dims: number, metadata: ReadonlyMap<string, string>): Schema {
  const vector = new FixedSizeList(dims, new Field('item', new Float32(), false));
  const fields = [
    new Field('x', new Int32(), false),
    new Field('y', new Int32(), false),
    new Field('vector', vector, false),
  ];
  return new Schema(fields, new Map(metadata));
}

function batchOf(schema: Schema, rows: TileRows, dims: number): RecordBatch {
  const length = rows.x.length;
  if (rows.y.length !== length || rows.vectors.length !== length * dims) {
    const counts = `${length} x, ${rows.y.length} y, ${rows.vectors.length} values of ${dims} dims`;
    throw new NightshiftError('internal', `rows do not fit together: ${counts}`);
  }
  const [, , vector] = schema.fields;
  const values = makeData({ type: new Float32(), length: length * dims, nullCount: 0, data: rows.vectors });
  const children = [
    makeData({ type: new Int32(), length, nullCount: 0, data: rows.x }),
    makeData({ type: new Int32(), length, nullCount: 0, data: rows.y }),
    makeData({ type: vector!.type as FixedSizeList<Float32>, length, nullCount: 0, child: values }),
  ];
  return new RecordBatch(schema, makeData({ type: new Struct(schema.fields), length, nullCount: 0, children }));
}

async function readBatch(
  reader: AsyncRecordBatchFileReader,
  index: number,
  dims: number,
  source: ByteSource,
): Promise<TileRows> {
  let batch: RecordBatch | null;
  try {
    batch = await reader.readRecordBatch(index);
  } catch (error) {
    throw asCorrupt(error, source);
  }
  const [x, y, vector] = batch?.data.children ?? [];
  const length = batch?.numRows ?? -1;
  // Buffers are padded to 8 bytes, and the library's views take the padding in.
  const rows = {
    x: x?.values?.subarray(0, length),
    y: y?.values?.subarray(0, length),
    vectors: vector?.children[0]?.values?.subarray(0, length * dims),
  };
  if (rows.x?.length !== length || rows.y?.length !== length || rows.vectors?.length !== length * dims) {
    throw corrupt(source, `record batch ${index} is not whole`);
  }
  return rows;
}

function dimsOf(schema: Schema, source: ByteSource): number {
  const vector = schema.fields.find((f) => f.name === 'vector')?.type;
  const names = schema.fields.map((f) => `${f.name}: ${f.type}`).join(', ');
  if (!/^x: Int32, y: Int32, vector: FixedSizeList\[\d+\]<Float32>$/.test(names)) {
    throw corrupt(source, `its columns are ${names}`);
  }
  return (vector as FixedSizeList).listSize;
}

const MAGIC = 'ARROW1';

/** The reader takes a cut file for an empty one or asks for absurd lengths: the ends are looked at before. */
async function checkEnds(source: ByteSource): Promise<void> {
  if (source.size < 26) throw corrupt(source, `it has ${source.size} bytes`);
  const [head, tail] = await source.read([
    { offset: 0, length: 6 },
    { offset: source.size - 10, length: 10 },
  ]);
  const footer = new DataView(tail!.buffer, tail!.byteOffset).getInt32(0, true);
  if (text(head!) !== MAGIC || text(tail!.subarray(4)) !== MAGIC || footer <= 0 || footer > source.size - 24) {
    throw corrupt(source, 'it does not begin and end as an Arrow file');
  }
}

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');

/** What the library reads of a `FileHandle` when it reads a file by ranges. */
function asFileHandle(source: ByteSource): FileHandle {
  const handle = {
    fd: -1,
    stat: async () => ({ size: source.size as number }),
    read: async (buffer: Uint8Array, offset: number, length: number, position: number) => {
      const [found] = await source.read([{ offset: position, length }]);
      buffer.set(found!, offset);
      return { bytesRead: length, buffer };
    },
    close: () => source.close(),
  };
  return handle as unknown as FileHandle;
}

function corrupt(source: ByteSource, why: string, cause?: unknown): NightshiftError {
  return new NightshiftError('record-corrupt', `${source.uri}: ${why}`, { cause });
}

function asCorrupt(error: unknown, source: ByteSource): NightshiftError {
  if (error instanceof NightshiftError) return error;
  return corrupt(source, `damaged: ${error instanceof Error ? error.message : String(error)}`, error);
}
