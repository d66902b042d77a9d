import { createHash } from 'node:crypto';
import { z } from 'zod';
import { NightshiftError } from '../errors.ts';
import type { Recipe, SlideRef } from '../plan/plan.ts';
import { canonicalJson, firstIssue, recipeSchema } from '../plan/recipe.ts';

/** A dataset x a recipe, as `runs/<id>.json`. Holds no path of a machine and no secret: a record can be moved and shared. */
export interface RunFile {
  readonly version: 1;
  /** See `runId`. */
  readonly id: string;
  readonly recipeId: string;
  readonly recipe: Recipe;
  readonly dataset: { readonly digest: string; readonly slides: number };
  /** False while the dataset is still being written down. */
  readonly sealed: boolean;
  /** What the command was told that decides no vector, and that whoever works for the run needs. */
  readonly options: {
    /** Tiles a shard, at most. */
    readonly shardTiles: number;
    /** Tiles are measured for QC. Of the plans that are still to be cut, like `shardTiles`; absent: they are not. */
    readonly qc?: true;
    /** Where the vectors are indexed: `lancedb:<dir>`, `none`, or null for the record's own `store`. */
    readonly store: string | null;
  };
  /** Of nightshift, Node and ONNX Runtime at the run's first start. */
  readonly versions: { readonly [name: string]: string };
}

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

/** What a person's manifest says of a slide and no vector depends on. It may name a patient: it stays in one file of the record. */
export interface SlideMetadata {
  /** Of the slide. */
  readonly key: string;
  /** The person's own name for it. */
  readonly id: string | null;
  /** Every other column, as it was written. */
  readonly columns: Readonly<{ [column: string]: string | number | boolean }>;
}

/** The digest of a dataset while its slides go by. */
export interface DatasetHash {
  readonly count: number;
  add(slide: SlideRef): void;
  digest(): string;
}

const MODULUS = 1n << 256n;

/**
 * A digest (sha256, hex) of the slides' identities whatever order they come in, in constant memory: the sum of the slides' own digests
 * modulo 2^256, hashed with their count. What a manifest says beside the mpp is no part of it.
 */
export function datasetHash(): DatasetHash {
  let sum = 0n;
  let count = 0;
  return {
    get count() {
      return count;
    },
    add({ key, uri, contentId, mpp, outline }) {
      sum = (sum + BigInt(`0x${sha256(canonicalJson({ key, uri, contentId, mpp, outline }))}`)) % MODULUS;
      count += 1;
    },
    digest: () => sha256(`${count}\n${sum.toString(16)}`),
  };
}

export function datasetDigest(slides: Iterable<SlideRef>): string {
  const hash = datasetHash();
  for (const slide of slides) hash.add(slide);
  return hash.digest();
}

/** 12 hex digits over dataset and recipe: the same command is the same run. */
export function runId(digest: string, recipeId: string): string {
  return sha256(`${digest}\n${recipeId}`).slice(0, 12);
}

const runSchema = z.object({
  version: z.literal(1),
  id: z.string().min(1),
  recipeId: z.string().min(1),
  recipe: recipeSchema,
  dataset: z.object({ digest: z.string().min(1), slides: z.int().nonnegative() }),
  sealed: z.boolean(),
  options: z.object({
    shardTiles: z.int().positive(),
    qc: z.literal(true).optional(),
    store: z.string().nullable(),
  }),
  versions: z.record(z.string(), z.string()),
});

const slideSchema = z.object({
  key: z.string().min(1),
  uri: z.string().min(1),
  contentId: z.string(),
  mpp: z.number().positive().nullable(),
  outline: z.string().optional(),
});

/** @throws `record-corrupt` naming the file and the first thing wrong. */
export const parseRun = (json: string, name: string): RunFile => parse(runSchema, json, name) as RunFile;

const metadataSchema = z.object({
  key: z.string().min(1),
  id: z.string().nullable(),
  columns: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])),
});

/** One line of `runs/<run>.metadata.jsonl`. @throws `record-corrupt` */
export const parseMetadata = (json: string, name: string): SlideMetadata => parse(metadataSchema, json, name);

/** One line of `runs/<run>.slides.jsonl`. @throws `record-corrupt` */
export const parseSlideRef = (json: string, name: string): SlideRef => parse(slideSchema, json, name) as SlideRef;

/** JSON of the record under a schema. @throws `record-corrupt` */
export function parse<T>(schema: z.ZodType<T>, json: string, name: string): T {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (cause) {
    throw new NightshiftError('record-corrupt', `${name} is not JSON`, { cause });
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new NightshiftError('record-corrupt', `${name}: ${firstIssue(parsed.error)}`);
}
