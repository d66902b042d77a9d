import { z } from 'zod';
import type { Companions } from './companions.ts';

const count = z.number().int().positive();
const rgb = z.tuple([z.number(), z.number(), z.number()]);

/**
 * Heads by timm's architecture name, longest match first: the published configs of most pathology models state no `num_heads`,
 * and heads of 64 would be wrong for `vit_huge` (Virchow2). Source: timm/models/vision_transformer.py.
 */
const HEADS_BY_ARCHITECTURE: readonly (readonly [prefix: string, heads: number])[] = [
  ['vit_giant_patch14_dinov2', 24],
  ['vit_giant_patch14_reg4_dinov2', 24],
  ['vit_giant', 16],
  ['vit_gigantic', 16],
  ['vit_huge', 16],
  ['vit_large', 16],
  ['vit_base', 12],
  ['vit_small', 6],
  ['vit_tiny', 3],
];

/** `config.json` of timm on the hub: an architecture name, what differs from it, and the preprocessing. */
export const timmConfig = z
  .object({
    architecture: z.string(),
    model_args: z
      .object({
        num_heads: count.optional(),
        embed_dim: count.optional(),
        depth: count.optional(),
        patch_size: count.optional(),
      })
      .optional(),
    pretrained_cfg: z
      .object({
        input_size: z.tuple([count, count, count]).optional(),
        mean: rgb.optional(),
        std: rgb.optional(),
        interpolation: z.string().optional(),
        crop_pct: z.number().positive().optional(),
      })
      .optional(),
  })
  .transform(({ architecture, model_args: args, pretrained_cfg: pretrained }): Companions => {
    const known = HEADS_BY_ARCHITECTURE.find(([prefix]) => architecture.startsWith(prefix));
    const { mean, std, interpolation, crop_pct: cropPct } = pretrained ?? {};
    const inputPx = pretrained?.input_size?.[1];
    const filter = interpolation === 'bilinear' || interpolation === 'bicubic' ? interpolation : undefined;
    return {
      heads: args?.num_heads ?? known?.[1],
      width: args?.embed_dim,
      depth: args?.depth,
      patchPx: args?.patch_size,
      normalisation: mean && std && { mean, std, from: 'config.json' },
      inputPx,
      // Where a config states neither, timm silently resizes to input / 0.875, which is not what the authors do.
      resize: inputPx && cropPct && filter ? { shortEdge: Math.floor(inputPx / cropPct), filter } : undefined,
    };
  });
