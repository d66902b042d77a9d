import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import type { ConvertOptions } from '../../../packages/core/src/model/convert/convert.ts';
import { writeRandomDinov2 } from '../../../packages/core/src/model/convert/random-weights.ts';
import { tempDir } from '../../fixtures/model/temp.ts';
import { f32, rewriteTensorFile, type TensorSpec } from '../../fixtures/model/tensors.ts';
import { convertModel } from '../../fixtures/model/without-probe.ts';

const temp = tempDir();
const source = temp('weights/model.safetensors');

beforeAll(() => writeRandomDinov2(temp('weights'), { depth: 1, width: 64 }));

let cases = 0;

/** A directory with the random weights, changed, and a config.json of its own. */
function checkpoint(change: (tensors: Map<string, TensorSpec>) => void, config?: object): string {
  const dir = temp(`case-${cases++}`);
  mkdirSync(dir);
  rewriteTensorFile(source, join(dir, 'model.safetensors'), change);
  if (config) writeFileSync(join(dir, 'config.json'), JSON.stringify(config));
  return dir;
}

const convert = (from: string, options: Partial<ConvertOptions> = {}) =>
  convertModel({ from, to: temp('out'), name: 'model', ...options });

const renamed = (rename: (name: string) => string) => (tensors: Map<string, TensorSpec>) => {
  const all = [...tensors.values()];
  tensors.clear();
  for (const tensor of all) tensors.set(rename(tensor.name), { ...tensor, name: rename(tensor.name) });
};

/** The names of timm for those of HF Dinov2, with a fused qkv layer. */
function asTimm(tensors: Map<string, TensorSpec>): void {
  const attention = 'encoder.layer.0.attention.attention';
  for (const kind of ['weight', 'bias']) {
    const parts = ['query', 'key', 'value'].map((part) => tensors.get(`${attention}.${part}.${kind}`)!);
    for (const { name } of parts) tensors.delete(name);
    const shape = [192, ...parts[0]!.shape.slice(1)];
    const name = `encoder.layer.0.attn.qkv.${kind}`;
    tensors.set(name, { name, dtype: 'F32', shape, data: Buffer.concat(parts.map(({ data }) => data)) });
  }
  tensors.delete('embeddings.mask_token');
  const names: readonly (readonly [RegExp, string])[] = [
    [/^embeddings\.cls_token/, 'cls_token'],
    [/^embeddings\.position_embeddings/, 'pos_embed'],
    [/^embeddings\.patch_embeddings\.projection/, 'patch_embed.proj'],
    [/^layernorm/, 'norm'],
    [/^encoder\.layer/, 'blocks'],
    [/attention\.output\.dense/, 'attn.proj'],
    [/layer_scale(\d)\.lambda1/, 'ls$1.gamma'],
    [/mlp\.weights_in/, 'mlp.fc1'],
    [/mlp\.weights_out/, 'mlp.fc2'],
  ];
  renamed((name) => names.reduce((all, [from, to]) => all.replace(from, to), name))(tensors);
}

const timmConfig = (architecture: string, args: object = {}) => ({ architecture, model_args: args });

describe('naming schemes', () => {
  it('are prefixed by training frameworks: the same graph without the prefix', async () => {
    const plain = await convert(checkpoint(() => {}));
    for (const prefix of ['teacher.backbone.', 'model.', 'module.', 'dinov2.']) {
      const info = await convert(checkpoint(renamed((name) => prefix + name)));
      expect(info.digest, prefix).toBe(plain.digest);
    }
  });

  it('take the teacher of a checkpoint that also holds a student and a head', async () => {
    const plain = await convert(checkpoint(() => {}));
    const from = checkpoint((tensors) => {
      renamed((name) => `teacher.backbone.${name}`)(tensors);
      for (const tensor of [...tensors.values()]) {
        const name = tensor.name.replace('teacher', 'student');
        tensors.set(name, { ...tensor, name, data: new Uint8Array(tensor.data.length) });
      }
      tensors.set('teacher.head.weight', { name: 'teacher.head.weight', dtype: 'F32', shape: [1], data: f32(1) });
    });
    expect((await convert(from)).digest).toBe(plain.digest);
  });

  it('take a plain model before a student, an average of the weights before both', async () => {
    const plain = await convert(checkpoint(() => {}));
    const beside = (prefix: string, own: string) =>
      checkpoint((tensors) => {
        renamed((name) => own + name)(tensors);
        for (const tensor of [...tensors.values()]) {
          const name = prefix + tensor.name.slice(own.length);
          tensors.set(name, { ...tensor, name, data: new Uint8Array(tensor.data.length) });
        }
      });
    for (const [other, own] of [
      ['student.backbone.', 'backbone.'],
      ['state_dict.model.', 'state_dict.model_ema.'],
      ['model.student.', 'model.teacher.backbone.'],
    ] as const) {
      expect((await convert(beside(other, own))).digest, own).toBe(plain.digest);
    }
    await expect(convert(beside('left.', 'right.'))).rejects.toMatchObject({
      code: 'weights-unsupported',
      message: expect.stringMatching(/holds several models, (left\. and right\.|right\. and left\.)/),
    });
  });

  it('give the same graph for the same values, whether query, key and value are one layer or three', async () => {
    const options = { posInterpolation: 'bicubic', embedding: 'cls', mean: [0, 0, 0], std: [1, 1, 1] } as const;
    const plain = checkpoint(() => {});
    const three = await convert(plain, options);
    const fused = await convert(checkpoint(asTimm), options);
    expect(fused.family).toBe('timm');
    expect(fused.digest).toBe(three.digest);
  });

  it('have their own way to resample positions, and model.json names it', async () => {
    expect(await convert(checkpoint(asTimm))).toMatchObject({
      posInterpolation: expect.stringContaining('bicubic-antialias'),
    });
    const native = await convert(checkpoint(asTimm), { inputPx: 518 });
    expect(native.posInterpolation).toContain('none');
    const unknown = { posInterpolation: 'nearest' } as unknown as Partial<ConvertOptions>;
    await expect(convert(checkpoint(asTimm), unknown)).rejects.toMatchObject({
      code: 'usage',
      message: expect.stringContaining('bicubic-antialias'),
    });
  });
});

describe('config.json of timm', () => {
  it('tells the heads, by number or by the name of the architecture', async () => {
    const heads = async (config: object) => (await convert(checkpoint(asTimm, config))).architecture.heads;
    expect(await heads(timmConfig('vit_huge_patch14_224'))).toBe(16);
    expect(await heads(timmConfig('vit_huge_patch14_224', { num_heads: 2 }))).toBe(2);
    expect(await heads(timmConfig('something_else'))).toBe(1);
  });

  it('is checked against the tensors', async () => {
    const from = checkpoint(asTimm, timmConfig('vit_huge_patch14_224', { embed_dim: 96 }));
    await expect(convert(from)).rejects.toMatchObject({
      code: 'weights-unsupported',
      message: expect.stringContaining('width 64, config.json says 96'),
    });
    const wrong = checkpoint(asTimm, timmConfig('vit_huge_patch14_224', { num_heads: 'many' }));
    await expect(convert(wrong)).rejects.toMatchObject({
      code: 'weights-invalid',
      message: expect.stringContaining('num_heads'),
    });
  });

  it('gives the preprocessing where it states one', async () => {
    const pretrained_cfg = { input_size: [3, 224, 224], mean: [0.1, 0.2, 0.3], std: [0.4, 0.5, 0.6] };
    const resize = { interpolation: 'bicubic', crop_pct: 0.875 };
    const config = { ...timmConfig('vit_small'), pretrained_cfg: { ...pretrained_cfg, ...resize } };
    const args = { model_args: { num_heads: 1 } };
    expect(await convert(checkpoint(asTimm, { ...config, ...args }))).toMatchObject({
      mean: [0.1, 0.2, 0.3],
      std: [0.4, 0.5, 0.6],
      preprocessingFrom: 'config.json',
      resize: { shortEdge: 256, filter: 'bicubic' },
    });
    expect(await convert(checkpoint(asTimm, { ...config, ...args, pretrained_cfg }))).toMatchObject({
      resize: { shortEdge: 224, filter: 'bilinear' },
    });
  });
});
