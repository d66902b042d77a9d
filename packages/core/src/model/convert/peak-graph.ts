import type { Precision } from '../encoder.ts';
import { ARITHMETIC } from './arithmetic.ts';
import { graphBuilder } from './builder.ts';
import { ELEMENT, type OnnxGraph } from './onnx-proto.ts';
import type { Tensor } from './transformer.ts';

/** Side of the pictures that feed the products: their 3,072 bytes are the columns. */
export const PEAK_INPUT_PX = 32;
const COLUMNS = 3 * PEAK_INPUT_PX ** 2;

/** 10^9 operations that `rows` rows take through `layers` products. */
export const peakGflop = (rows: number, layers: number): number => (2 * rows * COLUMNS * COLUMNS * layers) / 1e9;

/**
 * `layers` matrix products as large as they are fast, in the arithmetic of a model's blocks: what a machine's peak is measured with. Input
 * `tiles`, uint8 [N, 32, 32, 3]; output `embedding`, float32 [N, 1].
 */
export function peakGraph(precision: Precision, layers: number): OnnxGraph {
  const graph = graphBuilder();
  const { op, ints } = graph;
  const { enter, leave, operand, linear } = ARITHMETIC[precision](graph);
  const flat = op('Reshape', 'flat', ['tiles', ints(-1, COLUMNS)]);
  let x = enter('x', op('Cast', 'real', [flat], { to: { int: ELEMENT.float32 } }));
  for (let i = 0; i < layers; i++) {
    x = linear(`product.${i}`, operand(`x.${i}`, x), { weight: noise([COLUMNS, COLUMNS]), bias: noise([COLUMNS]) });
  }
  op('Slice', 'embedding', [leave('y', x), ints(0), ints(1), ints(1)]);
  return {
    name: 'peak',
    ...graph.parts(),
    inputs: [{ name: 'tiles', type: 'uint8', shape: ['N', PEAK_INPUT_PX, PEAK_INPUT_PX, 3] }],
    outputs: [{ name: 'embedding', type: 'float32', shape: ['N', 1] }],
  };
}

/** Small enough that nothing overflows through the layers, not zero: some processors multiply zeros faster. */
function noise(shape: readonly number[]): Tensor {
  const read = async (): Promise<Float32Array> => {
    const values = new Float32Array(shape.reduce((product, n) => product * n, 1));
    for (let i = 0; i < values.length; i++) values[i] = (((i * 2654435761) >>> 16) % 1000) / 2e6 - 2.5e-4;
    return values;
  };
  return { shape, read };
}
