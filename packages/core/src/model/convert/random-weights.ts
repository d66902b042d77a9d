import { mkdir, open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { safetensorsHeader } from './safetensors-header.ts';

export interface RandomDinov2Options {
  readonly depth: number;
  readonly width: number;
  /** Default: heads of 64. */
  readonly heads?: number;
  readonly seed?: number;
}

const PATCH = 14;
const STORED_GRID = 37;
const MLP_RATIO = 4;
const CHUNK_VALUES = 1 << 20;

/**
 * Writes `<dir>/model.safetensors` and `<dir>/config.json`: random weights in Midnight's own layout (HF Dinov2, SwiGLU, patch 14,
 * position grid 37), streamed, the same for the same seed. config.json says `"trained": false`, and a model converted from it
 * says so too. Vectors of such a model tell pictures apart, but mean nothing.
 */
export async function writeRandomDinov2(dir: string, options: RandomDinov2Options): Promise<{ bytes: number }> {
  const { depth, width, heads = width / 64, seed = 1 } = options;
  const tensors = dinov2Tensors(depth, width);
  const header = safetensorsHeader(tensors);
  const bytes = tensors.reduce((sum, { shape }) => sum + shape.reduce((product, n) => product * n, 4), header.length);

  await mkdir(dir, { recursive: true });
  const handle = await open(join(dir, 'model.safetensors'), 'w');
  try {
    await handle.writeFile(header);
    const random = uniform(seed);
    const chunk = new Float32Array(CHUNK_VALUES);
    for (const { shape, mean, deviation } of tensors) {
      const amplitude = deviation * Math.sqrt(3);
      let left = shape.reduce((product, n) => product * n, 1);
      while (left > 0) {
        const part = chunk.subarray(0, Math.min(left, CHUNK_VALUES));
        for (let i = 0; i < part.length; i++) part[i] = mean + amplitude * random();
        await handle.writeFile(new Uint8Array(part.buffer, 0, part.byteLength));
        left -= part.length;
      }
    }
  } finally {
    await handle.close();
  }
  const config = {
    architectures: ['Dinov2Model'],
    model_type: 'dinov2',
    trained: false,
    hidden_size: width,
    num_hidden_layers: depth,
    num_attention_heads: heads,
    mlp_ratio: MLP_RATIO,
    patch_size: PATCH,
    image_size: PATCH * STORED_GRID,
    layer_norm_eps: 1e-6,
    qkv_bias: true,
    use_swiglu_ffn: true,
    torch_dtype: 'float32',
  };
  await writeFile(join(dir, 'config.json'), `${JSON.stringify(config, null, 2)}\n`);
  return { bytes };
}

interface RandomTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly mean: number;
  readonly deviation: number;
}

/** Matrices keep the variance of what goes through them, so that activations stay finite at any depth. */
function dinov2Tensors(depth: number, width: number): RandomTensor[] {
  // The rule of the original DINOv2 and of transformers' Dinov2SwiGLUFFN.
  const hidden = Math.floor((Math.floor((Math.floor(width * MLP_RATIO) * 2) / 3) + 7) / 8) * 8;
  const tensor = (name: string, shape: number[], deviation: number, mean = 0) => ({ name, shape, mean, deviation });
  const linear = (name: string, out: number, inputs: number) => [
    tensor(`${name}.weight`, [out, inputs], 1 / Math.sqrt(inputs)),
    tensor(`${name}.bias`, [out], 0.02),
  ];
  const norm = (name: string) => [tensor(`${name}.weight`, [width], 0.1, 1), tensor(`${name}.bias`, [width], 0.02)];
  const block = (prefix: string) => [
    ...norm(`${prefix}.norm1`),
    ...['query', 'key', 'value'].flatMap((part) => linear(`${prefix}.attention.attention.${part}`, width, width)),
    ...linear(`${prefix}.attention.output.dense`, width, width),
    tensor(`${prefix}.layer_scale1.lambda1`, [width], 0.05, 0.3),
    ...norm(`${prefix}.norm2`),
    ...linear(`${prefix}.mlp.weights_in`, 2 * hidden, width),
    ...linear(`${prefix}.mlp.weights_out`, width, hidden),
    tensor(`${prefix}.layer_scale2.lambda1`, [width], 0.05, 0.3),
  ];
  const patch = 'embeddings.patch_embeddings.projection';
  return [
    tensor('embeddings.cls_token', [1, 1, width], 0.02),
    tensor('embeddings.mask_token', [1, width], 0.02),
    tensor('embeddings.position_embeddings', [1, 1 + STORED_GRID ** 2, width], 0.02),
    tensor(`${patch}.weight`, [width, 3, PATCH, PATCH], 1 / Math.sqrt(3 * PATCH * PATCH)),
    tensor(`${patch}.bias`, [width], 0.02),
    ...Array.from({ length: depth }, (_, i) => block(`encoder.layer.${i}`)).flat(),
    ...norm('layernorm'),
  ];
}

/** Uniform on [-1, 1): mulberry32. */
function uniform(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2147483648 - 1;
  };
}
