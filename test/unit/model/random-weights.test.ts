import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { writeRandomDinov2 } from '../../../packages/core/src/model/convert/random-weights.ts';
import { tempDir } from '../../fixtures/model/temp.ts';
import { readTensorFile } from '../../fixtures/model/tensors.ts';

const temp = tempDir();
const bytesOf = (dir: string) => readFileSync(`${dir}/model.safetensors`);

describe('random weights', () => {
  it('are the same for the same seed, and others for another', async () => {
    const [a, b, c] = [temp('a'), temp('b'), temp('c')];
    expect(await writeRandomDinov2(a, { depth: 1, width: 64 })).toEqual({ bytes: bytesOf(a).length });
    await writeRandomDinov2(b, { depth: 1, width: 64 });
    await writeRandomDinov2(c, { depth: 1, width: 64, seed: 2 });
    expect(bytesOf(a).equals(bytesOf(b))).toBe(true);
    expect(bytesOf(a).equals(bytesOf(c))).toBe(false);
  });

  it('have the names and the hidden size of HF Dinov2 with SwiGLU, and say that nobody trained them', async () => {
    await writeRandomDinov2(temp('named'), { depth: 2, width: 192, heads: 3 });
    const tensors = readTensorFile(temp('named/model.safetensors'));
    expect(tensors.names).toHaveLength(7 + 2 * 18);
    expect(tensors.shape('encoder.layer.1.mlp.weights_in.weight')).toEqual([1024, 192]);
    expect(tensors.shape('embeddings.position_embeddings')).toEqual([1, 1370, 192]);
    const config = JSON.parse(readFileSync(temp('named/config.json'), 'utf8'));
    expect(config).toMatchObject({ trained: false, num_attention_heads: 3, model_type: 'dinov2' });
  });

  it('are spread as they should be', async () => {
    await writeRandomDinov2(temp('spread'), { depth: 1, width: 256 });
    const values = readTensorFile(temp('spread/model.safetensors')).f32(
      'encoder.layer.0.attention.output.dense.weight',
    );
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const deviation = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);
    expect(Math.abs(mean)).toBeLessThan(0.001);
    expect(deviation).toBeCloseTo(1 / 16, 3);
  });
});
