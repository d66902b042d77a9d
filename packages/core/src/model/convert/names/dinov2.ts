import type { Naming } from './naming.ts';

/** facebookresearch/dinov2, also with its blocks in chunks, where `blocks.{chunk}.{i}` counts i over all of them. */
export const dinov2: Naming = {
  id: 'dinov2',
  signature: [/^patch_embed\.proj\.weight$/, /^(mask_token|register_tokens)$/],
  cls: 'cls_token',
  registers: ['register_tokens'],
  position: 'pos_embed',
  positioned: ['cls'],
  patch: 'patch_embed.proj',
  norm: 'norm',
  block: /^blocks\.(?:\d+\.)?(?<index>\d+)\./,
  norm1: 'norm1',
  norm2: 'norm2',
  qkv: 'attn.qkv',
  projection: 'attn.proj',
  scales: ['ls1.gamma', 'ls2.gamma'],
  mlpIn: ['mlp.w12', 'mlp.fc1'],
  mlpOut: ['mlp.w3', 'mlp.fc2'],
  unused: ['mask_token'],
  eps: 1e-6,
  posInterpolation: { plain: 'bicubic-offset', withRegisters: 'bicubic-antialias' },
};
