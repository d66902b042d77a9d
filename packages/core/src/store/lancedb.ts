import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Connection, Table, VectorQuery } from '@lancedb/lancedb';
import {
  Table as ArrowTable,
  Field,
  FixedSizeList,
  Float16,
  Int32,
  makeData,
  RecordBatch,
  Schema,
  Struct,
  Utf8,
  type Vector,
  vectorFromArray,
} from 'apache-arrow';
import { NightshiftError } from '../errors.ts';
import { basePx } from '../units.ts';
import type { Hit, StoreRows, VectorStore } from './store.ts';

/**
 * Rows from which a vector index is kept. Measured on 2 cores, float16, 10 nearest, brute force against index, and its build:
 * 16,000 x 1536: 30 ms, 26 ms, 0.9 s; 40,000 x 1536: 60 ms, 26 ms, 3.3 s; 64,000 x 384: 73 ms, 15 ms, 1.3 s. Below this a person
 * does not notice the difference, and brute force is exact.
 */
const INDEX_ROWS = 50_000;
/**
 * Candidates that the index gives for exact ranking. Its one bit a dimension tells clusters apart, and not well the rows of one:
 * of 40 clusters of even noise, 60,000 x 384, recall of 10 was 0.35 with 100 candidates, 0.63 with 300, 0.93 with 1,000; 30,000 x
 * 1536: 0.47, 0.79, 1.00. On low-rank data 100 were enough.
 */
const CANDIDATES = 1000;
const PROBES = 40;
/**
 * Most float16 bytes of one commit. The library copies a commit several times on its way: a slide of 23,716 tiles of 3,072 (146 MB)
 * took 1.1 GB of memory in one commit, 0.8 GB in commits of 64 MiB, 0.5 GB in commits of 32 MiB. A slide of more than this (5,461
 * tiles of 3,072; 10,922 of 1,536) takes several commits.
 */
const COMMIT_BYTES = 32 * 1024 * 1024;
/** Every commit leaves a fragment and a version; this many are merged at a time. */
const COMMITS_PER_COMPACTION = 64;
/** Old versions are kept this long, for searches that are under way in other processes. */
const VERSION_LIFE_MS = 10 * 60_000;

export interface LanceOptions {
  /** Directory of the database, or its s3:// URI; one can hold the tables of many recipes. */
  readonly dir: string;
  /** How LanceDB reaches the bucket, in its own words: endpoint, region. Credentials it finds by itself. */
  readonly storage?: Readonly<Record<string, string>>;
  /** Recipe id. */
  readonly recipe: string;
  readonly dims: number;
  /** Rows from which a vector index is kept. */
  readonly indexRows?: number;
  readonly commitBytes?: number;
}

/**
 * LanceDB in a directory, one table a recipe: id, slide, uri, x, y (level-0 px) and the vector as float16 [dims], scaled to
 * length 1, so that no value overflows float16 and cosine is unchanged. A vector of zeros has no direction: it is held, and never
 * found. The id is declared as key and rows go in by `mergeInsert`, so that two writers of the same slide make no duplicates.
 * @throws `model-mismatch` when the table holds vectors of other dims; `store-failed` for whatever LanceDB reports
 */
export async function openLance(options: LanceOptions): Promise<VectorStore> {
  const { recipe, dims, storage = {}, indexRows = INDEX_ROWS, commitBytes = COMMIT_BYTES } = options;
  // Absolute, always: LanceDB takes a path that begins with "db" for a name in its cloud.
  const remote = options.dir.startsWith('s3://');
  const dir = remote ? options.dir : resolve(options.dir);
  const uri = `lancedb:${dir}`;
  // Read once by the native module when it loads; its warnings would tear the progress line.
  process.env.LANCE_LOG ??= 'error';
  const { connect, Index } = await import('@lancedb/lancedb');

  const schema = schemaOf(dims);
  const failing = <T>(doing: string, work: () => Promise<T>): Promise<T> =>
    work().catch((error) => {
      throw storeError(error, `${uri}: ${doing}`);
    });

  const name = `tiles_${recipe}`;
  let db: Connection | null = null;
  let table: Table | null = null;
  let keyed = false;
  let commits = 0;

  const connected = () => connect(dir, { readConsistencyInterval: 0, storageOptions: { ...storage } });

  /** The table, or null while there is none: reading a store makes nothing. */
  async function present(): Promise<Table | null> {
    if (table) return table;
    if (!db && !remote && !existsSync(dir)) return null;
    db ??= await connected();
    if (!(await db.tableNames()).includes(name)) return null;
    // Listed, but not to be opened: somebody makes it just now, or died while doing so. It is made again over what is left.
    const found = await db.openTable(name).catch((error) => {
      if (/was not found/i.test(String(error))) return null;
      throw error;
    });
    return found && open(found);
  }

  /** The table, made where there is none, with its key declared. Other processes may do the same just now. */
  async function made(): Promise<Table> {
    if (table && keyed) return table;
    let found = await present();
    if (!found) {
      db ??= await connected();
      const database = db;
      found = await open(await database.createEmptyTable(name, schema).catch(() => database.openTable(name)));
    }
    if (!(await hasKey(found))) {
      const opened = found;
      await opened.setUnenforcedPrimaryKey('id').catch(async (error) => {
        if (!(await hasKey(opened))) throw error;
      });
    }
    keyed = true;
    return found;
  }

  async function open(opened: Table): Promise<Table> {
    const { fields } = await opened.schema();
    const held = fields.find((field) => field.name === 'vector')?.type.listSize;
    if (held !== dims) {
      throw new NightshiftError('model-mismatch', `${uri}, table ${name}, holds vectors of ${held} dims, not ${dims}`);
    }
    table = opened;
    return opened;
  }

  async function count(slide: string): Promise<number> {
    return (await (await present())?.countRows(inSlides([slide]))) ?? 0;
  }

  /** Rows of the slide that are not in `batches` go, in the same commit. */
  async function replace(slide: string, batches: RecordBatch[]): Promise<void> {
    const table = await made();
    if (batches.length === 0) await table.delete(inSlides([slide]));
    else {
      const merge = table.mergeInsert('id').whenMatchedUpdateAll().whenNotMatchedInsertAll();
      await merge.whenNotMatchedBySourceDelete({ where: inSlides([slide]) }).execute(new ArrowTable(schema, batches));
    }
    commits += 1;
  }

  async function insert(batches: RecordBatch[]): Promise<void> {
    const table = await made();
    await table.mergeInsert('id').whenNotMatchedInsertAll().execute(new ArrowTable(schema, batches));
    commits += 1;
  }

  async function upsertSlide(slide: string, rows: AsyncIterable<StoreRows>): Promise<number> {
    const replaces = (await count(slide)) > 0;
    let batches: RecordBatch[] = [];
    let bytes = 0;
    let total = 0;
    let partial = false;
    try {
      for await (const batch of rows) {
        if (batch.x.length === 0) continue;
        if (bytes + batch.vectors.length * 2 > commitBytes && batches.length > 0) {
          if (!partial && replaces) await replace(slide, []);
          partial = true;
          await insert(batches);
          batches = [];
          bytes = 0;
        }
        batches.push(batchOf(schema, slide, batch, dims));
        bytes += batch.vectors.length * 2;
        total += batch.x.length;
      }
      if (replaces && !partial) await replace(slide, batches);
      else if (batches.length > 0) await insert(batches);
    } catch (error) {
      if (partial) await replace(slide, []);
      throw error;
    }
    if (commits >= COMMITS_PER_COMPACTION) await compact(await made());
    return total;
  }

  /** Other writers may commit meanwhile: compaction then gives way, and the next one does the work. */
  async function compact(table: Table): Promise<void> {
    commits = 0;
    const cleanupOlderThan = new Date(Date.now() - VERSION_LIFE_MS);
    await table.optimize({ cleanupOlderThan }).catch((error) => {
      if (!/conflict/i.test(String(error))) throw error;
    });
  }

  async function optimize(): Promise<{ rows: number; indexed: boolean }> {
    const table = await present();
    if (!table) return { rows: 0, indexed: false };
    await compact(table);
    const rows = await table.countRows();
    const indexed = (await table.listIndices()).some((index) => index.columns.includes('vector'));
    if (indexed || rows < indexRows) return { rows, indexed };
    await table.createIndex('slide', { config: Index.bitmap(), replace: true });
    // RaBitQ packs dims by eight.
    const config = dims % 8 === 0 ? Index.ivfRq({ distanceType: 'cosine' }) : Index.ivfFlat({ distanceType: 'cosine' });
    await table.createIndex('vector', { config, replace: true });
    return { rows, indexed: true };
  }

  async function search(vector: Float32Array, k: number, slides: readonly string[] | undefined): Promise<Hit[]> {
    if (vector.length !== dims) {
      throw new NightshiftError('model-mismatch', `the query has ${vector.length} dims, ${uri} holds ${dims}`);
    }
    const table = await present();
    if (!table || k < 1 || slides?.length === 0) return [];
    let query: VectorQuery = table
      .query()
      .nearestTo(normalise(vector, dims, new Float32Array(dims)))
      .distanceType('cosine')
      .limit(k);
    if (slides) query = query.where(inSlides(slides));
    // An index looks at a few partitions only, which may hold no row of the slides asked for.
    const exact = slides !== undefined && (await table.countRows(inSlides(slides))) < indexRows;
    query = exact
      ? query.bypassVectorIndex()
      : query.nprobes(PROBES).refineFactor(Math.max(10, Math.ceil(CANDIDATES / k)));
    const found = await query.select(['slide', 'uri', 'x', 'y', '_distance']).toArray();
    return found.map((row) => ({
      slide: row.slide,
      uri: row.uri,
      x: basePx(row.x),
      y: basePx(row.y),
      score: Math.min(1, Math.max(-1, 1 - row._distance)),
    }));
  }

  await failing('opening', present);
  return {
    uri,
    upsertSlide: (slide, rows) => failing(`writing ${slide}`, () => upsertSlide(slide, rows)),
    count: (slide) => failing('counting', () => count(slide)),
    slides: () => failing('counting', async () => countBySlide(await present())),
    search: (vector, { k, slides }) => failing('searching', () => search(vector, k, slides)),
    optimize: () => failing('optimizing', optimize),
    close: async () => {
      table?.close();
      db?.close();
    },
  };
}

async function hasKey(table: Table): Promise<boolean> {
  const id = (await table.schema()).fields.find((field) => field.name === 'id');
  return id?.metadata.has('lance-schema:unenforced-primary-key:position') ?? false;
}

function schemaOf(dims: number): Schema {
  const vector = new FixedSizeList(dims, new Field('item', new Float16(), false));
  return new Schema([
    new Field('id', new Utf8(), false),
    new Field('slide', new Utf8(), false),
    new Field('uri', new Utf8(), false),
    new Field('x', new Int32(), false),
    new Field('y', new Int32(), false),
    new Field('vector', vector, false),
  ]);
}

function batchOf(schema: Schema, slide: string, rows: StoreRows, dims: number): RecordBatch {
  const { x, y, uri, vectors } = rows;
  const length = x.length;
  if (y.length !== length || vectors.length !== length * dims) {
    const counts = `${length} x, ${y.length} y, ${vectors.length} values`;
    throw new NightshiftError('model-mismatch', `rows of ${slide} are not of ${dims} dims: ${counts}`);
  }
  const utf8 = (values: string[]) => vectorFromArray(values, new Utf8()).data[0]!;
  const int32 = (data: Int32Array) => makeData({ type: new Int32(), length, nullCount: 0, data });
  // Arrow's JavaScript holds float16 as its bits.
  const data = new Uint16Array(length * dims);
  normalise(vectors, dims, new Float16Array(data.buffer));
  const child = makeData({ type: new Float16(), length: length * dims, nullCount: 0, data });
  const list = schema.fields[5]!.type as FixedSizeList<Float16>;
  const children = [
    utf8(Array.from(x, (at, i) => `${slide}@${at},${y[i]}`)),
    utf8(new Array<string>(length).fill(slide)),
    utf8(new Array<string>(length).fill(uri)),
    int32(x),
    int32(y),
    makeData({ type: list, length, nullCount: 0, child }),
  ];
  return new RecordBatch(schema, makeData({ type: new Struct(schema.fields), length, nullCount: 0, children }));
}

/** Each vector of `dims` scaled to length 1; zeros stay zeros. */
function normalise<T extends Float32Array | Float16Array>(vectors: Float32Array, dims: number, into: T): T {
  for (let start = 0; start < vectors.length; start += dims) {
    let sum = 0;
    for (let i = start; i < start + dims; i++) sum += vectors[i]! * vectors[i]!;
    const scale = sum > 0 ? 1 / Math.sqrt(sum) : 0;
    for (let i = start; i < start + dims; i++) into[i] = vectors[i]! * scale;
  }
  return into;
}

/** Rows a slide, counted from the rows themselves. */
async function countBySlide(table: Table | null): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  if (!table) return counts;
  for await (const batch of table.query().select(['slide'])) {
    const slides: Vector<Utf8> = batch.getChild('slide')!;
    for (let i = 0; i < slides.length; i++) {
      const slide = slides.get(i)!;
      counts.set(slide, (counts.get(slide) ?? 0) + 1);
    }
  }
  return counts;
}

const inSlides = (slides: readonly string[]): string =>
  `slide IN (${slides.map((slide) => `'${slide.replaceAll("'", "''")}'`).join(', ')})`;

function storeError(error: unknown, doing: string): NightshiftError {
  if (error instanceof NightshiftError) return error;
  const message = error instanceof Error ? error.message : String(error);
  const code = /no space left|disk quota|os error 28\b/i.test(message) ? 'disk-full' : 'store-failed';
  return new NightshiftError(code, `${doing}: ${message.split('\n')[0]}`, { cause: error });
}
