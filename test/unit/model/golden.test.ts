import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import type { ConvertOptions } from '../../../packages/core/src/model/convert/convert.ts';
import type { ModelInfo } from '../../../packages/core/src/model/encoder.ts';
import { openEncoder } from '../../../packages/core/src/model/onnx.ts';
import { tempDir } from '../../fixtures/model/temp.ts';
import { maxDifference, readTensorFile } from '../../fixtures/model/tensors.ts';
import { convertModel } from '../../fixtures/model/without-probe.ts';
import { describeShared, shared } from '../../fixtures/shared.ts';

/**
 * Vectors against those of the reference libraries in float64 (`../shared/golden`). Every deliberate mistake that the golden
 * data lists (`mutants_max_abs`) moves a vector by more than the tolerance used here.
 */
interface Case {
  readonly name: string;
  readonly suffix?: string;
  readonly weights?: string;
  readonly expected?: string;
  /** What the files do not say. */
  readonly options?: Partial<ConvertOptions>;
  readonly family: string;
}

const HALF = { mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] } as const;

const CASES: readonly Case[] = [
  { name: 'midnight', family: 'hf-dinov2' },
  { name: 'midnight-392', family: 'hf-dinov2', options: { inputPx: 392 } },
  { name: 'dinov2-hf-gelu', family: 'hf-dinov2' },
  { name: 'phikon-v2', family: 'hf-dinov2' },
  { name: 'hibou', family: 'hf-dinov2' },
  { name: 'phikon', family: 'hf-vit' },
  { name: 'timm-uni', family: 'timm' },
  { name: 'timm-uni2-h', family: 'timm' },
  { name: 'timm-virchow2', family: 'timm' },
  { name: 'timm-h-optimus-0', family: 'timm' },
  { name: 'timm-prov-gigapath', family: 'timm' },
  { name: 'timm-kaiko-b8', family: 'timm' },
  {
    name: 'timm-kaiko-b8',
    family: 'timm',
    suffix: ' (float16)',
    weights: 'model_f16.safetensors',
    expected: 'expected_f16.safetensors',
  },
  ...['timm-uni', 'timm-uni2-h', 'timm-h-optimus-0'].map((name) => ({
    name,
    family: 'timm',
    suffix: ' (PyTorch zip)',
    weights: 'pytorch_model.bin',
  })),
  {
    name: 'timm-prov-gigapath',
    family: 'timm',
    suffix: ' (PyTorch zip, bfloat16)',
    weights: 'pytorch_model_bf16.bin',
    expected: 'expected_bf16.safetensors',
  },
  {
    name: 'timm-kaiko-b8',
    family: 'timm',
    suffix: ' (PyTorch zip, float16)',
    weights: 'pytorch_model_f16.bin',
    expected: 'expected_f16.safetensors',
  },
  { name: 'timm-lunit-s16', family: 'timm' },
  { name: 'timm-lunit-s16', family: 'timm', suffix: ' (PyTorch before 1.6)', weights: 'model_legacy.pth' },
  { name: 'dinov2-orig', family: 'dinov2', options: { heads: 2 } },
  {
    name: 'dinov2-orig',
    suffix: ' (interpolated as transformers does)',
    family: 'dinov2',
    options: { heads: 2, posInterpolation: 'bicubic' },
    expected: 'expected_hf_interp.safetensors',
  },
  { name: 'dinov2-orig-train', family: 'dinov2', options: { heads: 2, ...HALF } },
  {
    name: 'dinov2-orig-train',
    family: 'dinov2',
    suffix: ' (Lightning checkpoint, teacher of two)',
    weights: 'lightning.ckpt',
    options: { heads: 2, ...HALF },
  },
];

const temp = tempDir();

describeShared('golden models', () => {
  it.each(CASES.map((golden) => ({ ...golden, title: golden.name + (golden.suffix ?? '') })))(
    '$title: class token, patch mean, embedding and patch grid are those of the reference',
    async (golden) => {
      const dir = shared(`golden/${golden.name}`);
      const meta = JSON.parse(readFileSync(`${dir}/meta.json`, 'utf8'));
      const tolerance: number = meta.tolerance.suggested_f32_max_abs;
      const expected = readTensorFile(`${dir}/${golden.expected ?? 'expected.safetensors'}`);
      const tiles = readTensorFile(`${dir}/tiles.safetensors`).u8('tiles');

      const to = temp('golden');
      const from = golden.weights ? `${dir}/${golden.weights}` : dir;
      const model = await convertModel({ from, to, embedding: 'cls+mean', patchGrid: true, ...golden.options });
      expect(model).toMatchObject(factsOf(meta, golden.family));

      const encoder = await openEncoder({ dir: to, device: 'cpu' });
      const { embedding, patch } = await encoder.embed(tiles, 4, { patch: true });
      await encoder.close();
      const width: number = meta.width;
      const [cls, mean] = [half(embedding, width, 0), half(embedding, width, 1)];
      const found: Record<string, Float32Array> = {
        cls,
        mean_patch: mean,
        embedding: expected.shape('embedding')[1] === width ? cls : embedding,
        patch_grid: patch!,
      };
      for (const [name, values] of Object.entries(found)) {
        if (!expected.names.includes(name)) continue;
        expect(maxDifference(values, expected.f32(name)), name).toBeLessThan(tolerance);
      }
      if (expected.names.includes('tokens')) {
        expect(maxDifference(patch!, patchTokens(expected.f32('tokens'), meta))).toBeLessThan(tolerance);
      }
    },
  );

  it('gives the halves of cls+mean, bit for bit, as embeddings of their own', async () => {
    const from = shared('golden/midnight');
    const tiles = readTensorFile(`${from}/tiles.safetensors`).u8('tiles');
    const vectors = async (embedding: 'cls' | 'mean' | 'cls+mean') => {
      const to = temp(`midnight-${embedding}`);
      await convertModel({ from, to, embedding });
      const encoder = await openEncoder({ dir: to, device: 'cpu' });
      const result = await encoder.embed(tiles, 4);
      await encoder.close();
      expect(result.patch).toBeUndefined();
      return result.embedding;
    };
    const [cls, mean, both] = [await vectors('cls'), await vectors('mean'), await vectors('cls+mean')];
    expect(half(both, 112, 0)).toEqual(cls);
    expect(half(both, 112, 1)).toEqual(mean);
  });
});

/** Column block `part` of [count, 2 * width]. */
function half(embedding: Float32Array, width: number, part: number): Float32Array {
  const count = embedding.length / (2 * width);
  const out = new Float32Array(count * width);
  for (let i = 0; i < count; i++) {
    const from = (2 * i + part) * width;
    out.set(embedding.subarray(from, from + width), i * width);
  }
  return out;
}

/** The patch tokens of [count, tokens, width]. */
function patchTokens(tokens: Float32Array, meta: { tokens: number; first_patch_token: number; width: number }) {
  const rows = meta.tokens - meta.first_patch_token;
  const count = tokens.length / (meta.tokens * meta.width);
  const out = new Float32Array(count * rows * meta.width);
  for (let i = 0; i < count; i++) {
    const from = (i * meta.tokens + meta.first_patch_token) * meta.width;
    out.set(tokens.subarray(from, from + rows * meta.width), i * rows * meta.width);
  }
  return out;
}

// biome-ignore lint/suspicious/noExplicitAny: meta.json is read as it is
function factsOf(meta: any, family: string): object {
  return {
    family,
    inputPx: meta.input,
    mean: meta.mean,
    std: meta.std,
    dims: 2 * meta.width,
    patchGrid: meta.patch_grid[0],
    architecture: {
      depth: meta.layers,
      width: meta.width,
      heads: meta.heads,
      mlp: meta.mlp.split(' ')[0],
      mlpHidden: meta.mlp_hidden,
      patchPx: meta.patch,
      registers: meta.registers,
      layerScale: meta.layerscale,
      eps: meta.layer_norm_eps,
      storedGrid: meta.pos_embed.stored_grid,
    },
  } satisfies Partial<Record<keyof ModelInfo, unknown>>;
}
