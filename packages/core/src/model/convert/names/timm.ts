import type { Naming } from './naming.ts';

/** timm `VisionTransformer`: UNI, UNI2-h, Virchow2, H-optimus-0, Prov-GigaPath, Kaiko, Lunit. A packed SwiGLU is `fc1` too. */
export const timm: Naming = {
  id: 'timm',
  signature: [/^patch_embed\.proj\.weight$/, /^blocks\.0\.attn\.qkv\.weight$/],
  cls: 'cls_token',
  registers: ['reg_token'],
  position: 'pos_embed',
  positioned: ['cls', 'none', 'all'],
  patch: 'patch_embed.proj',
  norm: 'norm',
  block: /^blocks\.(?<index>\d+)\./,
  norm1: 'norm1',
  norm2: 'norm2',
  qkv: 'attn.qkv',
  projection: 'attn.proj',
  scales: ['ls1.gamma', 'ls2.gamma'],
  mlpIn: ['mlp.fc1'],
  mlpOut: ['mlp.fc2'],
  unused: ['head.weight', 'head.bias'],
  eps: 1e-6,
  posInterpolation: { plain: 'bicubic-antialias', withRegisters: 'bicubic-antialias' },
};
