import { z } from 'zod';
import { type ErrorRecord, NightshiftError } from '../errors.ts';
import { parsePlan } from '../plan/make-plan.ts';
import { outlineDigest, parseOutline } from '../plan/outline-file.ts';
import type { Plan, Recipe, Shard, SlideRef, TissueOutline } from '../plan/plan.ts';
import { NO_READS, type ReadCost, type SlideReads, sumOfReads } from '../source/counted.ts';
import type { TileRows } from './arrow.ts';
import type { Blobs } from './blobs.ts';
import { decodeText, encodeJson, keys, LAYOUT } from './layout.ts';
import { type EmbeddedTiles, joinedFile, tileFile } from './publish.ts';
import { shardsToKeep } from './reopen.ts';
import { parse, parseMetadata, parseRun, parseSlideRef, type RunFile, type SlideMetadata } from './run.ts';
import { openTileFile, type TileFailure, type TileFile } from './tile-file.ts';

/** What went wrong with a slide: the slide as a whole, or single tiles of it. */
export interface SlideFailures {
  readonly slide: ErrorRecord | null;
  readonly tiles: readonly TileFailure[];
}

/**
 * The results of one or more runs, in a directory or a bucket: the truth. Names below are keys of the blobs; `recipe` is a
 * recipe id, `slide` a slide key.
 */
export interface Record {
  readonly blobs: Blobs;
  readonly uri: string;

  /** Writes down a dataset, once, and then the run file that names it. */
  putRun(run: RunFile, slides: Iterable<SlideRef> | AsyncIterable<SlideRef>): Promise<void>;
  getRun(id: string): Promise<RunFile | null>;
  listRuns(): Promise<RunFile[]>;
  /** The named run, or the only one. @throws `run-not-found`, `run-ambiguous` */
  pickRun(id?: string | null): Promise<RunFile>;
  /** The run's dataset, line by line. */
  runSlides(id: string): AsyncGenerator<SlideRef>;
  /** Writes down what the person says of the slides, instead of what an earlier command said. */
  putMetadata(id: string, slides: AsyncIterable<SlideMetadata>): Promise<void>;
  /** Of the slides that a manifest described; nothing where none did. */
  runMetadata(id: string): AsyncGenerator<SlideMetadata>;

  /** Keeps what the recipe's model says of itself, its model.json, unless it is there. */
  putModel(recipe: string, model: object): Promise<void>;

  /** Keeps a tissue outline that the person drew. @returns its digest */
  putOutline(outline: TissueOutline): Promise<string>;
  getOutline(digest: string): Promise<TissueOutline | null>;

  /** Stores a plan unless there is one; gives the one that counts. */
  putPlan(plan: Plan): Promise<Plan>;
  getPlan(recipe: string, slide: string): Promise<Plan | null>;

  /** Keys of the slides that have a plan, sorted. */
  listPlans(recipe: string): AsyncGenerator<string>;

  /**
   * Commits a shard: its rows in plan order, and the tiles that failed. Nothing is written when these are not exactly the
   * shard's tiles (`internal`) or a vector is not finite (`vector-not-finite`), and nothing stays where the slide was published
   * meanwhile: a worker that lost its lease may come late.
   */
  putShard(
    recipe: Recipe,
    plan: Plan,
    shard: Shard,
    rows: TileRows,
    failures: readonly TileFailure[],
    reads?: ReadCost,
  ): Promise<'written' | 'exists'>;
  /** Whether nobody needs to make the shard: it is in, or its slide is published. */
  hasShard(recipe: string, slide: string, index: number): Promise<boolean>;
  /** Shards that are in, by index. */
  listShards(recipe: string, slide: string): Promise<{ readonly index: number; readonly size: number }[]>;

  /** Shards that are in, of every slide, by slide and index. */
  listAllShards(recipe: string): AsyncGenerator<{ readonly slide: string; readonly index: number }>;

  /**
   * Publishes the slide file from its shards, or from `whole` where one process has all rows; then states its failures and drops
   * the shards. May be repeated: what an interrupted call left undone is done.
   * @throws `record-corrupt` when shards are missing, damaged or do not fit the plan
   */
  publishSlide(recipe: Recipe, plan: Plan, whole?: EmbeddedTiles): Promise<'written' | 'exists'>;
  hasSlide(recipe: string, slide: string): Promise<boolean>;
  /** Keys of the slides that have a slide file, sorted. */
  listSlides(recipe: string): AsyncGenerator<string>;
  /** What reading a published slide has cost, planning and all its shards together; null where nobody counted. */
  getReads(recipe: string, slide: string): Promise<SlideReads | null>;
  /** Close it after use. */
  readSlide(recipe: string, slide: string): Promise<TileFile | null>;

  /**
   * Takes a slide file back whose ledger holds failures of the wanted kind, so that they are tried again: shards without one are put
   * back as they are, the slide file and its ledger go. Killed half way it has done nothing yet that counts, or all of it.
   * @returns how many such failures there were
   */
  reopenSlide(recipe: Recipe, plan: Plan, again: (failure: TileFailure) => boolean): Promise<number>;

  putFailures(recipe: string, slide: SlideRef, failures: SlideFailures): Promise<void>;
  getFailures(recipe: string, slide: string): Promise<SlideFailures | null>;
  /** Keys of the slides that have a ledger, sorted. */
  listFailures(recipe: string): AsyncGenerator<string>;

  /** Thumbnail with outline and grid, JPEG. */
  putQc(recipe: string, slide: string, jpeg: Uint8Array): Promise<void>;
  hasQc(recipe: string, slide: string): Promise<boolean>;
}

const errorSchema = z.object({
  code: z.string(),
  message: z.string(),
  next: z.string(),
  data: z.record(z.string(), z.unknown()),
});
const counted = z.int().nonnegative();
const readsSchema = z.object({ bytes: counted, requests: counted, objectBytes: counted });
const failuresSchema = z.object({
  slide: errorSchema.nullable(),
  tiles: z.array(z.object({ x: z.int(), y: z.int(), error: errorSchema })),
});

/**
 * Opens the record that the blobs hold; with `create`, starts one where there is none.
 * @throws `record-not-found`, `record-layout`, with `create` also `out-not-writable` and `disk-full`
 */
export async function openRecord(blobs: Blobs, options: { readonly create?: boolean } = {}): Promise<Record> {
  if (options.create) {
    await blobs.probe();
    await blobs.putIfAbsent(keys.layout, encodeJson({ layout: LAYOUT }));
  }
  const found = await blobs.get(keys.layout);
  if (!found) throw new NightshiftError('record-not-found', `${blobs.uri} holds no record (no ${keys.layout})`);
  const { layout } = parse(z.object({ layout: z.number() }), decodeText(found), keys.layout);
  if (layout !== LAYOUT) {
    throw new NightshiftError(
      'record-layout',
      `${blobs.uri} has layout ${layout}; this version knows layout ${LAYOUT}`,
    );
  }
  return recordOver(blobs);
}

function recordOver(blobs: Blobs): Record {
  async function text(key: string): Promise<string | null> {
    const found = await blobs.get(key);
    return found ? decodeText(found) : null;
  }

  /** What stands between a prefix and a suffix in the keys that have both. */
  async function* named(prefix: string, suffix: string): AsyncGenerator<string> {
    for await (const { key } of blobs.list(prefix)) {
      if (key.endsWith(suffix)) yield key.slice(prefix.length, -suffix.length);
    }
  }

  async function listShards(recipe: string, slide: string): Promise<{ index: number; key: string; size: number }[]> {
    const shards: { index: number; key: string; size: number }[] = [];
    for await (const { key, size } of blobs.list(keys.shards(recipe, slide))) {
      const name = /\/(\d+)\.arrow$/.exec(key);
      if (name) shards.push({ index: Number(name[1]), key, size });
    }
    return shards;
  }

  async function putFailures(recipe: string, slide: string, failures: SlideFailures): Promise<void> {
    const key = keys.failures(recipe, slide);
    if (!failures.slide && failures.tiles.length === 0) return blobs.delete(key);
    const body = encodeJson({ version: 1, ...failures });
    const present = await blobs.get(key);
    if (!present || Buffer.compare(present, body) !== 0) await blobs.put(key, body);
  }

  async function has(key: string): Promise<boolean> {
    const source = await blobs.open(key);
    await source?.close();
    return source !== null;
  }

  const writeShard = (recipe: Recipe, plan: Plan, shard: Shard, tiles: EmbeddedTiles): Promise<'written' | 'exists'> =>
    blobs.putIfAbsent(keys.shard(plan.recipe, plan.slide.key, shard.index), tileFile(recipe, plan, shard, tiles));

  async function publish(recipe: Recipe, plan: Plan, whole?: EmbeddedTiles): Promise<'written' | 'exists'> {
    const slide = plan.slide.key;
    const shards = whole ? [] : await listShards(plan.recipe, slide);
    const { body, reads = NO_READS } = whole
      ? { body: tileFile(recipe, plan, null, whole), reads: whole.reads }
      : await joinedFile(
          blobs,
          recipe,
          plan,
          shards.map(({ key }) => key),
        );
    // Before the slide file: what follows drops the shards, and with them what they say of it.
    if (plan.reads) {
      const { objectBytes } = plan.reads;
      await blobs.put(keys.reads(plan.recipe, slide), encodeJson({ ...sumOfReads([plan.reads, reads]), objectBytes }));
    }
    return blobs.putIfAbsent(keys.slide(plan.recipe, slide), body);
  }

  /** The ledger says what the published file says, and no shard is left: also after another process won, or died half way. */
  async function settle(recipe: string, slide: string): Promise<void> {
    const file = await openTileFile(blobs, keys.slide(recipe, slide));
    if (!file) throw new NightshiftError('record-corrupt', `${keys.slide(recipe, slide)} vanished`);
    await file.close();
    await putFailures(recipe, slide, { slide: null, tiles: file.info.failures });
    for (const { key } of await listShards(recipe, slide)) await blobs.delete(key);
  }

  const record: Record = {
    blobs,
    uri: blobs.uri,

    async putRun(run, slides) {
      await blobs.putIfAbsent(keys.runSlides(run.id), linesIn(slides));
      await blobs.put(keys.run(run.id), encodeJson(run));
    },

    async getRun(id) {
      const found = await text(keys.run(id));
      return found === null ? null : parseRun(found, keys.run(id));
    },

    async listRuns() {
      const runs: RunFile[] = [];
      for await (const { key } of blobs.list('runs/')) {
        if (key.endsWith('.json')) runs.push(parseRun((await text(key)) ?? '', key));
      }
      return runs;
    },

    async pickRun(id) {
      const runs = await record.listRuns();
      const named = id ? runs.filter((run) => run.id === id) : runs;
      if (named.length === 1) return named[0]!;
      const list = runs.map((run) => `${run.id} (${run.recipe.model.name}, ${run.dataset.slides} slides)`).join(', ');
      if (id) throw new NightshiftError('run-not-found', `${blobs.uri} has no run ${id}; it has ${list || 'none'}`);
      if (runs.length === 0) throw new NightshiftError('run-not-found', `${blobs.uri} has no run`);
      throw new NightshiftError('run-ambiguous', `${blobs.uri} has ${runs.length} runs: ${list}`);
    },

    async *runSlides(id) {
      const key = keys.runSlides(id);
      let line = 0;
      for await (const row of linesOf(blobs, key)) yield parseSlideRef(row, `${key}, line ${++line}`);
    },

    putMetadata: (id, slides) => blobs.put(keys.runMetadata(id), linesIn(slides)),

    async *runMetadata(id) {
      const key = keys.runMetadata(id);
      if (!(await has(key))) return;
      let line = 0;
      for await (const row of linesOf(blobs, key)) yield parseMetadata(row, `${key}, line ${++line}`);
    },

    async putModel(recipe, model) {
      const json = new TextEncoder().encode(`${JSON.stringify(model, null, 2)}\n`);
      await blobs.putIfAbsent(keys.model(recipe), json);
    },

    async putOutline(outline) {
      const digest = outlineDigest(outline);
      await blobs.putIfAbsent(keys.drawnOutline(digest), encodeJson(outline));
      return digest;
    },

    async getOutline(digest) {
      const found = await text(keys.drawnOutline(digest));
      return found === null ? null : parseOutline(found, keys.drawnOutline(digest));
    },

    async putPlan(plan) {
      const slide = plan.slide.key;
      const written = await blobs.putIfAbsent(keys.plan(plan.recipe, slide), encodeJson(plan));
      if (written === 'exists') return (await record.getPlan(plan.recipe, slide))!;
      await blobs.put(keys.outline(plan.recipe, slide), encodeJson(plan.outline));
      return plan;
    },

    async getPlan(recipe, slide) {
      const found = await blobs.get(keys.plan(recipe, slide));
      return found ? parsePlan(found, keys.plan(recipe, slide)) : null;
    },

    async putShard(recipe, plan, shard, rows, failures, reads = NO_READS) {
      const written = await writeShard(recipe, plan, shard, { rows, failures, reads });
      // Asked after the write: who publishes later than this answer drops the shard with the others.
      if (written === 'exists' || !(await record.hasSlide(plan.recipe, plan.slide.key))) return written;
      await blobs.delete(keys.shard(plan.recipe, plan.slide.key, shard.index));
      return 'exists';
    },

    hasShard: async (recipe, slide, index) =>
      (await has(keys.shard(recipe, slide, index))) || (await record.hasSlide(recipe, slide)),

    listShards,

    async publishSlide(recipe, plan, whole) {
      const slide = plan.slide.key;
      let published: 'written' | 'exists' = 'exists';
      if (!(await record.hasSlide(plan.recipe, slide))) {
        try {
          published = await publish(recipe, plan, whole);
        } catch (error) {
          // Another process may have published, and dropped the shards, while this one was joining them.
          if (!(await record.hasSlide(plan.recipe, slide))) throw error;
        }
      }
      await settle(plan.recipe, slide);
      return published;
    },

    hasSlide: (recipe, slide) => has(keys.slide(recipe, slide)),

    listPlans: (recipe) => named(keys.plans(recipe), '.json'),
    listSlides: (recipe) => named(keys.slides(recipe), '.arrow'),
    listFailures: (recipe) => named(keys.allFailures(recipe), '.json'),

    async *listAllShards(recipe) {
      const prefix = keys.allShards(recipe);
      for await (const { key } of blobs.list(prefix)) {
        const name = /^(.+)\/(\d+)\.arrow$/.exec(key.slice(prefix.length));
        if (name) yield { slide: name[1]!, index: Number(name[2]) };
      }
    },

    async getReads(recipe, slide) {
      const found = await text(keys.reads(recipe, slide));
      return found === null ? null : parse(readsSchema, found, keys.reads(recipe, slide));
    },

    readSlide: (recipe, slide) => openTileFile(blobs, keys.slide(recipe, slide)),

    async reopenSlide(recipe, plan, again) {
      const slide = plan.slide.key;
      const file = await openTileFile(blobs, keys.slide(plan.recipe, slide));
      if (!file) return 0;
      try {
        const count = file.info.failures.filter(again).length;
        if (count === 0) return 0;
        // What stays has cost what was read until now; the first shard says it for all.
        const cost = await record.getReads(plan.recipe, slide);
        let reads = {
          bytes: (cost?.bytes ?? 0) - (plan.reads?.bytes ?? 0),
          requests: (cost?.requests ?? 0) - (plan.reads?.requests ?? 0),
        };
        for await (const { shard, rows, failures } of shardsToKeep(file, plan, again)) {
          await writeShard(recipe, plan, shard, { rows, failures, reads });
          reads = NO_READS;
        }
        await blobs.delete(keys.slide(plan.recipe, slide));
        await blobs.delete(keys.failures(plan.recipe, slide));
        return count;
      } finally {
        await file.close();
      }
    },

    putFailures: (recipe, slide, failures) => putFailures(recipe, slide.key, failures),

    async getFailures(recipe, slide) {
      const found = await text(keys.failures(recipe, slide));
      return found === null
        ? null
        : (parse(failuresSchema, found, keys.failures(recipe, slide)) as unknown as SlideFailures);
    },

    putQc: (recipe, slide, jpeg) => blobs.put(keys.qc(recipe, slide), jpeg),
    hasQc: (recipe, slide) => has(keys.qc(recipe, slide)),
  };
  return record;
}

/** A JSON line each, in pieces worth a write. */
async function* linesIn(values: Iterable<unknown> | AsyncIterable<unknown>): AsyncGenerator<Uint8Array> {
  let lines: Uint8Array[] = [];
  for await (const value of values) {
    lines.push(encodeJson(value));
    if (lines.length === 1000) {
      yield Buffer.concat(lines);
      lines = [];
    }
  }
  yield Buffer.concat(lines);
}

const READ_BYTES = 1 << 20;

/** Lines of a text blob, without the last newline; a megabyte of it in memory. */
async function* linesOf(blobs: Blobs, key: string): AsyncGenerator<string> {
  const source = await blobs.open(key);
  if (!source) throw new NightshiftError('record-corrupt', `${key} is gone`);
  try {
    const decoder = new TextDecoder();
    let rest = '';
    for (let offset = 0; offset < source.size; offset += READ_BYTES) {
      const [chunk] = await source.read([{ offset, length: Math.min(READ_BYTES, source.size - offset) }]);
      const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
      rest = lines.pop() ?? '';
      yield* lines;
    }
    if (rest !== '') yield rest;
  } finally {
    await source.close();
  }
}
