import { z } from 'zod';
import type { Filter } from '../../../plan/plan.ts';
import type { Companions } from './companions.ts';

const count = z.number().int().positive();
const rgb = z.tuple([z.number(), z.number(), z.number()]);

/** `config.json` of transformers. `image_size` is that of the training, which the use of a model does not follow. */
export const hfConfig = z
  .object({
    num_attention_heads: count.optional(),
    layer_norm_eps: z.number().positive().optional(),
    hidden_size: count.optional(),
    num_hidden_layers: count.optional(),
    patch_size: count.optional(),
    trained: z.boolean().optional(),
  })
  .transform(
    (config): Companions => ({
      heads: config.num_attention_heads,
      eps: config.layer_norm_eps,
      width: config.hidden_size,
      depth: config.num_hidden_layers,
      patchPx: config.patch_size,
      trained: config.trained,
    }),
  );

const side = z.union([
  count,
  z.object({ shortest_edge: count }).transform((size) => size.shortest_edge),
  z.object({ height: count, width: count }).transform((size) => Math.min(size.height, size.width)),
]);

/** PIL's filter numbers. */
const PIL_FILTERS: Readonly<Record<number, Filter>> = { 2: 'bilinear', 3: 'bicubic', 4: 'box' };

/** `preprocessor_config.json` of transformers. */
export const hfPreprocessor = z
  .object({
    image_mean: rgb.optional(),
    image_std: rgb.optional(),
    resample: z.number().optional(),
    size: side.optional(),
    crop_size: side.optional(),
    do_center_crop: z.boolean().optional(),
  })
  .transform(({ image_mean: mean, image_std: std, resample, size, crop_size, do_center_crop }): Companions => {
    const filter = PIL_FILTERS[resample ?? -1];
    return {
      normalisation: mean && std && { mean, std, from: 'preprocessor_config.json' },
      inputPx: do_center_crop === false ? size : (crop_size ?? size),
      resize: size && filter ? { shortEdge: size, filter } : undefined,
    };
  });
