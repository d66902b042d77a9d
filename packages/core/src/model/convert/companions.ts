import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { NightshiftError } from '../../errors.ts';
import type { Filter } from '../../plan/plan.ts';

/** What the JSON files beside a checkpoint add to its tensors; null where they say nothing. */
export interface Companions {
  readonly heads: number | null;
  readonly eps: number | null;
  /** Checked against the tensors. */
  readonly width: number | null;
  readonly depth: number | null;
  readonly patchPx: number | null;
  /** False for the demo's random weights, which say so themselves. */
  readonly trained: boolean;
  readonly mean: readonly [number, number, number] | null;
  readonly std: readonly [number, number, number] | null;
  readonly inputPx: number | null;
  readonly resize: { readonly shortEdge: number; readonly filter: Filter } | null;
}

const count = z.number().int().positive();
const rgb = z.tuple([z.number(), z.number(), z.number()]);

const Config = z.object({
  num_attention_heads: count.optional(),
  layer_norm_eps: z.number().positive().optional(),
  hidden_size: count.optional(),
  num_hidden_layers: count.optional(),
  patch_size: count.optional(),
  trained: z.boolean().optional(),
});

const Side = z.union([
  count.transform((side) => side),
  z.object({ shortest_edge: count }).transform((size) => size.shortest_edge),
  z.object({ height: count, width: count }).transform((size) => Math.min(size.height, size.width)),
]);

const Preprocessor = z.object({
  image_mean: rgb.optional(),
  image_std: rgb.optional(),
  resample: z.number().optional(),
  size: Side.optional(),
  crop_size: Side.optional(),
  do_center_crop: z.boolean().optional(),
});

/** PIL's filter numbers. */
const PIL_FILTERS: Readonly<Record<number, Filter>> = { 2: 'bilinear', 3: 'bicubic', 4: 'box' };

/**
 * Reads `config.json` and `preprocessor_config.json` (Hugging Face transformers) of a directory, where they are.
 *
 * @throws NightshiftError `weights-invalid` for a file that is there and cannot be understood
 */
export async function readCompanions(dir: string): Promise<Companions> {
  const config = await readJson(join(dir, 'config.json'), Config);
  const pre = await readJson(join(dir, 'preprocessor_config.json'), Preprocessor);
  const filter = PIL_FILTERS[pre.resample ?? -1];
  return {
    heads: config.num_attention_heads ?? null,
    eps: config.layer_norm_eps ?? null,
    width: config.hidden_size ?? null,
    depth: config.num_hidden_layers ?? null,
    patchPx: config.patch_size ?? null,
    trained: config.trained ?? true,
    mean: pre.image_mean ?? null,
    std: pre.image_std ?? null,
    inputPx: (pre.do_center_crop === false ? pre.size : (pre.crop_size ?? pre.size)) ?? null,
    resize: pre.size !== undefined && filter !== undefined ? { shortEdge: pre.size, filter } : null,
  };
}

async function readJson<T>(path: string, schema: z.ZodType<T>): Promise<T> {
  const text = await readFile(path, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ENOENT') return '{}';
    throw new NightshiftError('weights-invalid', `${path} cannot be read (${cause.code})`, { cause });
  });
  try {
    return schema.parse(JSON.parse(text));
  } catch (cause) {
    const what =
      cause instanceof z.ZodError ? `${cause.issues[0]?.path.join('.')}: ${cause.issues[0]?.message}` : 'not JSON';
    throw new NightshiftError('weights-invalid', `${path}: ${what}`, { cause });
  }
}
