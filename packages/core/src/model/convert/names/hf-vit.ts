import type { Naming } from './naming.ts';

/** Hugging Face transformers `ViTModel`: Phikon. Its embedding is token 0; the pooler is not used. */
export const hfVit: Naming = {
  id: 'hf-vit',
  signature: [/^embeddings\.patch_embeddings\.projection\.weight$/, /^encoder\.layer\.0\.layernorm_before\.weight$/],
  cls: 'embeddings.cls_token',
  registers: [],
  position: 'embeddings.position_embeddings',
  positioned: ['cls'],
  patch: 'embeddings.patch_embeddings.projection',
  norm: 'layernorm',
  block: /^encoder\.layer\.(?<index>\d+)\./,
  norm1: 'layernorm_before',
  norm2: 'layernorm_after',
  qkv: ['attention.attention.query', 'attention.attention.key', 'attention.attention.value'],
  projection: 'attention.output.dense',
  scales: null,
  mlpIn: ['intermediate.dense'],
  mlpOut: ['output.dense'],
  unused: ['embeddings.mask_token', 'pooler.dense.weight', 'pooler.dense.bias'],
  eps: 1e-12,
  posInterpolation: { plain: 'bicubic', withRegisters: 'bicubic' },
};
