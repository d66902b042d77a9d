import { writeFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { composeBlobs, composeEncoder, composeSource, composeStore } from '../compose.ts';
import { NightshiftError } from '../errors.ts';
import { findModel } from '../model/find.ts';
import { contactSheet } from '../picture/contact-sheet.ts';
import { readPicture } from '../picture/read.ts';
import type { SlideCache } from '../pipeline/context.ts';
import { slideCache } from '../pipeline/slide-cache.ts';
import type { Plan, Recipe, SlideRef } from '../plan/plan.ts';
import { openRecord, type Record } from '../record/record.ts';
import type { SlideMetadata } from '../record/run.ts';
import { createDecodePool, type DecodePool } from '../slide/decode-pool.ts';
import { fitTile } from '../slide/resample.ts';
import { readTiles } from '../slide/tiles.ts';
import type { Hit } from '../store/store.ts';
import { levelPx } from '../units.ts';
import { slideNamed } from './slide-names.ts';

export interface SearchOptions {
  readonly out: string;
  /** Null: the only one. */
  readonly run: string | null;
  /** A picture file, or a tile of the record: the one that holds this level-0 pixel. */
  readonly query: { readonly image: string } | { readonly slide: string; readonly x: number; readonly y: number };
  readonly k: number;
  /** Restricts the hits to slides, by key, file name or stem; empty: all. */
  readonly slides: readonly string[];
  /** For a picture: where the run's model lies. Null: looked for by its name in `modelDirs`. */
  readonly model: string | null;
  readonly modelDirs: readonly string[];
  readonly store: string | null;
  /** Where to write the contact sheet (JPEG), or null. */
  readonly contactSheet: string | null;
  /** Whether the report says what a manifest says of the hits' slides, patients' names included if it holds some. */
  readonly metadata?: boolean;
}

export interface SearchReport {
  readonly version: 1;
  readonly run: string;
  readonly recipe: string;
  readonly query: { readonly image: string } | { readonly slide: string; readonly x: number; readonly y: number };
  readonly hits: readonly Hit[];
  readonly contactSheet: string | null;
  /** Of the hits' slides that a manifest described; only where it was asked for. */
  readonly metadata?: readonly SlideMetadata[];
}

/** What a query looks like and its vector. */
interface Query {
  readonly vector: Float32Array;
  readonly label: string;
  /** Uint8 RGB, or null where the slide cannot be read any more. */
  readonly picture: () => Promise<{ readonly rgb: Uint8Array; readonly px: number } | null>;
  readonly stated: SearchReport['query'];
}

/**
 * Tiles most like a picture or a tile by cosine, best first; the query tile itself is left out.
 * @throws `record-not-found`, `run-ambiguous`, `tile-not-in-record`, `model-mismatch`, ...
 */
export async function search(options: SearchOptions): Promise<SearchReport> {
  const record = await openRecord(await composeBlobs(options.out));
  const run = await record.pickRun(options.run);
  const { recipe, recipeId } = run;
  const slides = await Array.fromAsync(record.runSlides(run.id));
  const store = await composeStore(options.store, { out: options.out, recipeId, dims: recipe.model.dims });
  if (!store) throw new NightshiftError('usage', 'a search needs a vector store: --store none has none');
  const pool = createDecodePool({ threads: 1 });
  const cache = slideCache(composeSource);
  const reader = tileReader(record, recipe, recipeId, slides, cache, pool);
  try {
    const query =
      'image' in options.query
        ? await pictureQuery(options, options.query.image, recipe)
        : await tileQuery(record, recipeId, slideNamed(options.query.slide, slides), options.query, reader);
    const restrict = options.slides.map((name) => slideNamed(name, slides).key);
    const { stated } = query;
    const isQuery = (hit: Hit) =>
      'slide' in stated && hit.slide === stated.slide && hit.x === stated.x && hit.y === stated.y;
    const found = await store.search(query.vector, {
      k: options.k + 1,
      ...(restrict.length > 0 && { slides: restrict }),
    });
    const hits = found.filter((hit) => !isQuery(hit)).slice(0, options.k);
    if (options.contactSheet) {
      const sheet = await contactSheet({
        title: `${hits.length} tiles most like ${query.label}`,
        query: { ...((await query.picture()) ?? blank(recipe.tile.px)), label: query.label },
        hits: await Promise.all(
          hits.map(async (hit) => ({
            ...((await reader(hit.slide, hit.x, hit.y)) ?? blank(recipe.tile.px)),
            slide: basename(hit.uri),
            x: hit.x,
            y: hit.y,
            score: hit.score,
          })),
        ),
      });
      await writeFile(options.contactSheet, sheet);
    }
    const report = { version: 1, run: run.id, recipe: recipeId, query: stated, hits } as const;
    const metadata = options.metadata ? { metadata: await describedSlides(record, run.id, hits) } : {};
    return { ...report, contactSheet: options.contactSheet, ...metadata };
  } finally {
    await Promise.all([store.close(), pool.close(), cache.close()]);
  }
}

async function describedSlides(record: Record, run: string, hits: readonly Hit[]): Promise<SlideMetadata[]> {
  const wanted = new Set(hits.map(({ slide }) => slide));
  const found: SlideMetadata[] = [];
  for await (const one of record.runMetadata(run)) if (wanted.has(one.key)) found.push(one);
  return found;
}

const blank = (px: number) => ({ rgb: new Uint8Array(px * px * 3).fill(0xe8), px });

async function pictureQuery(options: SearchOptions, image: string, recipe: Recipe): Promise<Query> {
  const model = await findModel(options.model ?? recipe.model.name, options.modelDirs);
  if (model.info.digest !== recipe.model.digest) {
    throw new NightshiftError(
      'model-mismatch',
      `${model.dir} is not the model that made this record (${recipe.model.name})`,
    );
  }
  const { shortEdge, filter } = model.info.resize;
  const picture = await readPicture(image);
  const { data: tile } = fitTile(picture, { shortEdge, filter, crop: model.info.inputPx });
  const encoder = await composeEncoder({ dir: model.dir, device: 'cpu', threads: null, batch: 1 });
  try {
    const { embedding } = await encoder.embed(tile, 1);
    const { dims } = recipe.model;
    const from = recipe.model.embedding === 'mean' && model.info.embedding === 'cls+mean' ? dims : 0;
    return {
      vector: embedding.slice(from, from + dims),
      label: basename(image),
      picture: async () => ({ rgb: tile, px: model.info.inputPx }),
      stated: { image },
    };
  } finally {
    await encoder.close();
  }
}

async function tileQuery(
  record: Record,
  recipeId: string,
  slide: SlideRef,
  at: { readonly x: number; readonly y: number },
  reader: TileReader,
): Promise<Query> {
  const file = await record.readSlide(recipeId, slide.key);
  const where = `${basename(slide.uri)} at ${at.x},${at.y}`;
  if (!file) throw new NightshiftError('tile-not-in-record', `${where}: the slide is not embedded yet`);
  try {
    const { tileSize: width, tileHeight: height = width } = file.info;
    const covers = (left: number, top: number) =>
      at.x >= left && at.x < left + width && at.y >= top && at.y < top + height;
    for await (const { x, y, vectors } of file.batches()) {
      const row = x.findIndex((left, i) => covers(left, y[i]));
      if (row < 0) continue;
      const corner = { slide: slide.key, x: x[row], y: y[row] };
      return {
        vector: vectors.slice(row * file.dims, (row + 1) * file.dims),
        label: `${basename(slide.uri)} ${corner.x},${corner.y}`,
        picture: () => reader(slide.key, corner.x, corner.y),
        stated: corner,
      };
    }
  } finally {
    await file.close();
  }
  throw new NightshiftError('tile-not-in-record', `${where}: no embedded tile covers this pixel`, {
    next: 'Give a level-0 pixel on tissue: `nightshift inspect` and the overlay in <out>/<recipe>/qc show where tiles are.',
  });
}

/** Pixels of a tile of the record, as it was cut; null where the slide is gone or was replaced. */
type TileReader = (
  slide: string,
  x: number,
  y: number,
) => Promise<{ readonly rgb: Uint8Array; readonly px: number } | null>;

function tileReader(
  record: Record,
  recipe: Recipe,
  recipeId: string,
  slides: readonly SlideRef[],
  cache: SlideCache,
  pool: DecodePool,
): TileReader {
  const refs = new Map(slides.map((slide) => [slide.key, slide]));
  const plans = new Map<string, Promise<Plan | null>>();
  return async (key, x, y) => {
    if (!plans.has(key)) plans.set(key, record.getPlan(recipeId, key));
    const plan = await plans.get(key);
    const ref = refs.get(key);
    if (!plan || !ref) return null;
    const borrowed = await cache.borrow(ref).catch(() => null);
    if (!borrowed) return null;
    try {
      const at = (base: number) => Int32Array.of(Math.round(base / plan.geometry.downsample));
      const request = { ...plan.geometry, filter: recipe.tile.resampling, fit: null, x: at(x), y: at(y) };
      for await (const chunk of readTiles(borrowed.slide, request, pool, {})) {
        return chunk.failures.length > 0 ? null : { rgb: chunk.pixels.slice(), px: levelPx(plan.geometry.tilePx) };
      }
      return null;
    } finally {
      borrowed.giveBack();
    }
  };
}
