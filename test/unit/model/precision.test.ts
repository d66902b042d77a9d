import { mkdirSync, statSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { ARITHMETIC } from '../../../packages/core/src/model/convert/arithmetic.ts';
import { graphBuilder } from '../../../packages/core/src/model/convert/builder.ts';
import { ELEMENT, type OnnxGraph } from '../../../packages/core/src/model/convert/onnx-proto.ts';
import { writeRandomDinov2 } from '../../../packages/core/src/model/convert/random-weights.ts';
import type { Tensor } from '../../../packages/core/src/model/convert/transformer.ts';
import { writeGraph } from '../../../packages/core/src/model/convert/write.ts';
import type { Precision } from '../../../packages/core/src/model/encoder.ts';
import { openEncoder } from '../../../packages/core/src/model/onnx.ts';
import { loadGraph } from '../../../packages/core/src/model/onnx-engine.ts';
import { compareVectors } from '../../../packages/core/src/model/probe.ts';
import { tempDir } from '../../fixtures/model/temp.ts';
import { readTensorFile } from '../../fixtures/model/tensors.ts';
import { convertModel } from '../../fixtures/model/without-probe.ts';
import { describeShared, shared } from '../../fixtures/shared.ts';

const temp = tempDir();

describe('an integer product', () => {
  const [ROWS, INPUTS, OUT] = [6, 192, 40];
  const weight = new Float32Array(OUT * INPUTS);
  const bias = new Float32Array(OUT);
  const tiles = new Uint8Array(ROWS * INPUTS);
  const tensor = (shape: number[], values: Float32Array): Tensor => ({ shape, read: async () => values.slice() });

  // Whole numbers with the ends of the ranges in every row, so that a step is 1 and the result is exact. The first row and outputs
  // are at the ends throughout: there the 16-bit sums of neighbours overflow that some processors have.
  beforeAll(() => {
    for (let i = 0; i < weight.length; i++) weight[i] = ((i * 29) % 129) - 64;
    for (let out = 0; out < OUT; out++) weight[out * INPUTS] = 64;
    weight.fill(64, 0, INPUTS);
    weight.fill(-64, INPUTS, 2 * INPUTS);
    for (let i = 0; i < OUT; i++) bias[i] = i / 8;
    for (let i = 0; i < tiles.length; i++) tiles[i] = (i * 37) % 128;
    for (let row = 0; row < ROWS; row++) tiles[row * INPUTS] = 127;
    tiles.fill(127, 0, INPUTS);
  });

  /** tiles [rows, inputs] -> int8 layer -> [rows, out] */
  function layerGraph(): OnnxGraph {
    const graph = graphBuilder();
    const { operand, linear } = ARITHMETIC.int8(graph);
    const flat = graph.op('Reshape', 'flat', ['tiles', graph.ints(-1, INPUTS)]);
    const real = graph.op('Cast', 'real', [flat], { to: { int: ELEMENT.float32 } });
    const layer = { weight: tensor([OUT, INPUTS], weight), bias: tensor([OUT], bias) };
    linear('embedding', operand('x', real), layer);
    return {
      name: 'layer',
      ...graph.parts(),
      inputs: [{ name: 'tiles', type: 'uint8', shape: ['N', 8, 8, 3] }],
      outputs: [{ name: 'embedding', type: 'float32', shape: ['N', OUT] }],
    };
  }

  it('is exact, on this processor too', async () => {
    mkdirSync(temp('layer'));
    await writeGraph(temp('layer'), layerGraph(), () => {});
    const loaded = await loadGraph({ graph: temp('layer/model.onnx'), device: 'cpu', threads: 1, inputPx: 8 }, 1);
    const [found] = await loaded.run({ tiles, count: ROWS, outputs: ['embedding'] });
    await loaded.close();

    for (let row = 0; row < ROWS; row++) {
      for (let out = 0; out < OUT; out++) {
        let sum = bias[out]!;
        for (let i = 0; i < INPUTS; i++) sum += tiles[row * INPUTS + i]! * weight[out * INPUTS + i]!;
        expect(found![row * OUT + out], `${row}, ${out}`).toBe(sum);
      }
    }
  });
});

describe('precision', () => {
  it('decides the size of the files', async () => {
    await writeRandomDinov2(temp('weights'), { depth: 2, width: 192 });
    const bytes = async (precision: Precision) => {
      await convertModel({ from: temp('weights'), to: temp(precision), precision });
      return statSync(temp(`${precision}/model.onnx.data`)).size;
    };
    const [fp32, fp16, int8] = [await bytes('fp32'), await bytes('fp16'), await bytes('int8')];
    expect(fp16 / fp32).toBeLessThan(0.65);
    expect(int8 / fp32).toBeLessThan(0.45);
  });

  it.each(['fp16', 'int8'] as const)(
    '%s: a vector does not depend on its batch nor on the threads',
    async (precision) => {
      const px = 224;
      const tiles = new Uint8Array(8 * px * px * 3).map((_, i) => (i * 7 + (i >> 9)) ^ (i >> 3));
      const vectors = async (threads: number, count: number) => {
        const encoder = await openEncoder({ dir: temp(precision), device: 'cpu', threads, maxBatch: 8 });
        const found: Float32Array[] = [];
        for (let from = 0; from < 8; from += count) {
          const part = tiles.subarray(from * px * px * 3, (from + count) * px * px * 3);
          found.push((await encoder.embed(part, count)).embedding);
        }
        await encoder.close();
        return found.flatMap((part) => [...part]);
      };
      const alone = await vectors(1, 1);
      for (const [threads, count] of [
        [1, 8],
        [1, 2],
        [3, 8],
        [2, 1],
      ] as const) {
        expect(await vectors(threads, count), `${count} on ${threads} threads`).toEqual(alone);
      }
    },
  );
});

/** Every family, with its own norms, activations and sizes; the golden weights are tiny, which 8 bits suffer from most. */
const LEAST = { fp16: 0.9999, int8: 0.985 } as const;

describeShared('golden models in other precisions', () => {
  it.each(
    ['midnight', 'dinov2-hf-gelu', 'phikon', 'hibou', 'timm-uni2-h', 'timm-virchow2', 'timm-prov-gigapath'].flatMap(
      (name) => (['fp16', 'int8'] as const).map((precision) => ({ name, precision })),
    ),
  )('$name in $precision is close to the reference', async ({ name, precision }) => {
    const dir = shared(`golden/${name}`);
    const expected = readTensorFile(`${dir}/expected.safetensors`);
    const tiles = readTensorFile(`${dir}/tiles.safetensors`).u8('tiles');
    const { dims } = await convertModel({ from: dir, to: temp('golden'), precision, embedding: 'cls' });
    const encoder = await openEncoder({ dir: temp('golden'), device: 'cpu', threads: 1 });
    const { embedding } = await encoder.embed(tiles, 4);
    await encoder.close();
    expect(compareVectors(embedding, expected.f32('cls'), dims).cosine).toBeGreaterThan(LEAST[precision]);
  });
});
