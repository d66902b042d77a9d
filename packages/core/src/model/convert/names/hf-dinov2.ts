import type { Naming } from './naming.ts';

/** Hugging Face transformers `Dinov2Model` and `Dinov2WithRegistersModel`: Midnight, DINOv2, Phikon-v2, Hibou. */
export const hfDinov2: Naming = {
  id: 'hf-dinov2',
  signature: [/^embeddings\.patch_embeddings\.projection\.weight$/, /^encoder\.layer\.0\.norm1\.weight$/],
  cls: 'embeddings.cls_token',
  registers: ['embeddings.register_tokens'],
  position: 'embeddings.position_embeddings',
  positioned: ['cls'],
  patch: 'embeddings.patch_embeddings.projection',
  norm: 'layernorm',
  block: /^encoder\.layer\.(?<index>\d+)\./,
  norm1: 'norm1',
  norm2: 'norm2',
  qkv: ['attention.attention.query', 'attention.attention.key', 'attention.attention.value'],
  projection: 'attention.output.dense',
  scales: ['layer_scale1.lambda1', 'layer_scale2.lambda1'],
  mlpIn: ['mlp.weights_in', 'mlp.fc1'],
  mlpOut: ['mlp.weights_out', 'mlp.fc2'],
  unused: ['embeddings.mask_token'],
  eps: 1e-6,
  posInterpolation: { plain: 'bicubic', withRegisters: 'bicubic-antialias' },
};
