import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { lstat, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { NightshiftError } from '../errors.ts';
import type { ModelFile, ModelInfo } from './encoder.ts';

export const MODEL_FILE = 'model.json';

const count = z.number().int().nonnegative();
const sha256 = z.string().regex(/^[0-9a-f]{64}$/, 'not a sha256');
const rgb = z.tuple([z.number(), z.number(), z.number()]);
const file = z.object({
  name: z.string().regex(/^[^/\\]+$/, 'not a plain file name'),
  bytes: count,
  sha256,
});

const ModelInfoSchema = z.object({
  version: z.literal(1),
  name: z.string().min(1),
  id: z.string().nullable(),
  family: z.string(),
  trained: z.boolean(),
  digest: sha256,
  files: z.object({ graph: file, data: file }),
  weights: z.object({
    file: z.string(),
    sha256,
    prefix: z.string().default(''),
    origin: z.object({ repository: z.string(), revision: z.string() }).nullable().default(null),
  }),
  precision: z.enum(['fp32', 'fp16', 'int8']),
  inputPx: count.positive(),
  mean: rgb,
  std: rgb,
  preprocessingFrom: z.string(),
  resize: z.object({ shortEdge: count.positive(), filter: z.enum(['box', 'bilinear', 'bicubic']) }),
  mpp: z.number().positive(),
  architecture: z.object({
    depth: count,
    width: count,
    heads: count,
    mlp: z.enum(['swiglu', 'gelu']),
    mlpHidden: count,
    patchPx: count,
    registers: count,
    layerScale: z.boolean(),
    eps: z.number(),
    storedGrid: count,
    parameters: count,
    gflopPerTile: z.number(),
  }),
  posInterpolation: z.string(),
  embedding: z.enum(['cls', 'mean', 'cls+mean', 'patch']),
  dims: count.positive(),
  patchGrid: count.positive().nullable(),
  probe: z
    .object({ file, tiles: z.literal(1), cosine: z.number(), maxError: z.number() })
    .nullable()
    // A model directory of before there were probes.
    .default(null),
  licence: z.string(),
  licenceNote: z.string().nullable(),
  madeBy: z.string(),
}) satisfies z.ZodType<ModelInfo>;

/**
 * What a model directory says of itself. The files are not looked at: see `verifyModelFiles`.
 *
 * @throws NightshiftError `model-not-found` without a model.json, `model-invalid` where it is not one
 */
export async function readModel(dir: string): Promise<ModelInfo> {
  const path = join(dir, MODEL_FILE);
  const text = await readFile(path, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    throw new NightshiftError('model-not-found', `${dir} holds no readable ${MODEL_FILE} (${cause.code})`, { cause });
  });
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new NightshiftError('model-invalid', `${path} is not JSON`, { cause });
  }
  const parsed = ModelInfoSchema.safeParse(json);
  if (parsed.success) return parsed.data;
  const { path: where, message } = parsed.error.issues[0]!;
  throw new NightshiftError('model-invalid', `${path}: ${where.join('.')}: ${message}`);
}

/** The digest that identifies a model's vectors: sha256 over the sha256 of graph and data. */
export const modelDigest = (graph: { readonly sha256: string }, data: { readonly sha256: string }): string =>
  createHash('sha256').update(`${graph.sha256}\n${data.sha256}\n`).digest('hex');

/**
 * Checks what can be checked without reading the files: they are plain files inside the directory (no links, which could point
 * anywhere), of the stated size. The probe is checked where it is used.
 *
 * @throws NightshiftError `model-not-found`, `model-invalid` for a missing file or a link, `model-digest` for another size
 */
export async function checkModelFiles(dir: string): Promise<ModelInfo> {
  const info = await readModel(dir);
  if (modelDigest(info.files.graph, info.files.data) !== info.digest) {
    throw new NightshiftError('model-digest', `${join(dir, MODEL_FILE)}: the digest is not that of its files`);
  }
  for (const { name, bytes } of [info.files.graph, info.files.data]) {
    const path = join(dir, name);
    const stats = await lstat(path).catch((cause: NodeJS.ErrnoException) => {
      throw new NightshiftError('model-invalid', `${path} cannot be opened (${cause.code})`, { cause });
    });
    if (!stats.isFile()) {
      throw new NightshiftError('model-invalid', `${path} is a link or no file: put the file itself there`);
    }
    if (stats.size !== bytes) {
      throw new NightshiftError('model-digest', `${path} has ${stats.size} bytes, ${MODEL_FILE} says ${bytes}`);
    }
  }
  return info;
}

/** Checks one file's contents; it reads all of it, and 4.5 GB take seconds. @throws NightshiftError `model-digest` */
export async function verifyModelFile(dir: string, { name, sha256 }: ModelFile): Promise<void> {
  const path = join(dir, name);
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk);
  const found = hash.digest('hex');
  if (found !== sha256) {
    throw new NightshiftError('model-digest', `${path} has the sha256 ${found}, ${MODEL_FILE} says ${sha256}`);
  }
}

/** Checks that graph and data are the very files that model.json speaks of. @throws as the two functions above */
export async function verifyModelFiles(dir: string): Promise<ModelInfo> {
  const info = await checkModelFiles(dir);
  await verifyModelFile(dir, info.files.graph);
  await verifyModelFile(dir, info.files.data);
  return info;
}
