import type { Precision } from '../encoder.ts';
import { ARITHMETIC, type Operand } from './arithmetic.ts';
import { graphBuilder } from './builder.ts';
import { foldNormalisation, scaledRows, tokenConstant } from './fold.ts';
import { ELEMENT, type OnnxGraph } from './onnx-proto.ts';
import type { PosInterpolation } from './position.ts';
import type { Block, Linear, Mlp, Tensor, VisionTransformer } from './transformer.ts';

export interface GraphOptions {
  readonly inputPx: number;
  readonly heads: number;
  readonly eps: number;
  readonly mean: readonly number[];
  readonly std: readonly number[];
  readonly embedding: 'cls' | 'mean' | 'cls+mean';
  readonly patchGrid: boolean;
  readonly posInterpolation: PosInterpolation;
  readonly precision: Precision;
}

/**
 * The ONNX graph of a ViT. Input `tiles`, uint8 [N, px, px, 3] (RGB). Outputs `embedding`, float32 [N, width] or
 * [N, 2 * width] (class token, then mean of the patch tokens, both after the final norm), and with `patchGrid` `patch`, float32
 * [N, grid, grid, width].
 *
 * Standard operators only, opset 23: on the CPU the contrib ops are slower (SkipLayerNormalization ten times), and one graph
 * serves every execution provider. Normalisation is folded into the patch embedding, LayerScale into the layer before it;
 * class token, registers, positions and patch bias are one constant. Activations are flat, [N * tokens, width], but for attention.
 *
 * Pooling is a product with a constant on the right, over [N * width, tokens] rows: a vector must not depend on its batch or on the
 * number of threads. ReduceMean takes another path at batch 1; and with the constant on the left the product has two rows, which
 * MLAS cuts into column blocks by thread and then sums in another order.
 */
export function buildGraph(model: VisionTransformer, options: GraphOptions): OnnxGraph {
  const { width, patchPx: patch, registerCount } = model;
  const grid = options.inputPx / patch;
  const prefix = 1 + registerCount;
  const tokens = prefix + grid * grid;
  const graph = graphBuilder();
  const { op, ints, weight } = graph;
  const arithmetic = ARITHMETIC[options.precision](graph);
  const { linear, operand } = arithmetic;

  const norm = (name: string, x: string, { weight: gamma, bias }: Linear) =>
    op('LayerNormalization', name, [x, weight(`${name}.weight`, gamma), weight(`${name}.bias`, bias)], {
      axis: { int: -1 },
      epsilon: { float: options.eps },
    });

  /** Norm, some layers in between, and the result added to `x`. */
  const branch = (
    name: string,
    n: 1 | 2,
    x: string,
    before: { readonly norm: Linear; readonly layers: readonly Linear[] },
    inner: (x: Operand, layers: readonly Linear[]) => string,
  ): string => {
    const fitted = arithmetic.fit(before.norm, before.layers);
    const normed = arithmetic.enter(`${name}.norm${n}`, norm(`${name}.norm${n}`, x, fitted.norm));
    const result = inner(operand(`${name}.norm${n}`, normed), fitted.layers);
    return op('Add', `${name}.residual${n}`, [x, arithmetic.leave(result, result)]);
  };

  const attention = (name: string, x: Operand, [query, key, value]: readonly Linear[], block: Block): string => {
    const part = (kind: string, layer: Linear) =>
      op('Reshape', `${name}.${kind}.3d`, [linear(`${name}.${kind}`, x, layer), ints(-1, tokens, width)]);
    const mixed = op('Attention', name, [part('query', query!), part('key', key!), part('value', value!)], {
      q_num_heads: { int: options.heads },
      kv_num_heads: { int: options.heads },
      ...arithmetic.attention,
    });
    const flat = op('Reshape', `${name}.flat`, [mixed, ints(-1, width)]);
    return linear(`${name}.projection`, operand(name, flat), scaled(block.projection, block.scale1));
  };

  const feedForward = (name: string, x: Operand, layers: readonly Linear[], mlp: Mlp, scale: Tensor | null): string => {
    const up = linear(`${name}.up`, x, layers[0]!);
    const down = (hidden: string) => linear(`${name}.down`, operand(name, hidden), scaled(mlp.down, scale));
    if (mlp.kind === 'gelu') return down(op('Gelu', `${name}.gelu`, [up]));
    const gate = linear(`${name}.gate`, x, layers[1]!);
    const silu = op('Mul', `${name}.silu`, [gate, op('Sigmoid', `${name}.sigmoid`, [gate])]);
    return down(op('Mul', `${name}.gated`, [silu, up]));
  };

  const patches = op('Reshape', 'patches.split', ['tiles', ints(-1, grid, patch, grid, patch, 3)]);
  const ordered = op('Transpose', 'patches.order', [patches], { perm: { ints: [0, 1, 3, 2, 4, 5] } });
  const pixels = op('Cast', 'patches.float', [op('Reshape', 'patches', [ordered, ints(-1, patch * patch * 3)])], {
    to: { int: ELEMENT.float32 },
  });
  const { weight: kernel, bias } = foldNormalisation(model.patch, options);
  const embedded = op('Gemm', 'embed', [pixels, weight('embed.weight', kernel)], { transB: { int: 1 } });
  const placed = op('Reshape', 'embed.3d', [embedded, ints(-1, grid * grid, width)]);
  const padded = op('Pad', 'tokens.pad', [placed, ints(0, prefix, 0, 0, 0, 0)]);
  const constant = tokenConstant(model, bias, grid, options.posInterpolation);
  let x = op('Add', 'tokens', [padded, weight('tokens.constant', constant)]);
  x = op('Reshape', 'tokens.flat', [x, ints(-1, width)]);

  model.blocks.forEach((block, i) => {
    const name = `block.${i}`;
    const { norm1, norm2, query, key, value, mlp, scale2 } = block;
    x = branch(name, 1, x, { norm: norm1, layers: [query, key, value] }, (normed, layers) =>
      attention(`${name}.attention`, normed, layers, block),
    );
    const layers = mlp.kind === 'swiglu' ? [mlp.up, mlp.gate] : [mlp.up];
    x = branch(name, 2, x, { norm: norm2, layers }, (normed, fitted) =>
      feedForward(`${name}.mlp`, normed, fitted, mlp, scale2),
    );
  });

  const normed = op('Reshape', 'normed', [norm('norm', x, model.norm), ints(-1, tokens, width)]);
  const byFeature = op('Transpose', 'normed.byFeature', [normed], { perm: { ints: [0, 2, 1] } });
  const pooled = op('MatMul', 'pooled', [byFeature, weight('pool', poolMatrix(prefix, tokens))]);
  const byRow = op('Transpose', 'pooled.byRow', [pooled], { perm: { ints: [0, 2, 1] } });
  const [from, to] = POOLED_COLUMNS[options.embedding];
  const chosen = to - from === 2 ? byRow : op('Slice', 'pooled.chosen', [byRow, ints(from), ints(to), ints(1)]);
  op('Reshape', 'embedding', [chosen, ints(-1, (to - from) * width)]);
  if (options.patchGrid) {
    const patchTokens = op('Slice', 'patch.tokens', [normed, ints(prefix), ints(tokens), ints(1)]);
    op('Reshape', 'patch', [patchTokens, ints(-1, grid, grid, width)]);
  }

  return {
    name: 'encoder',
    ...graph.parts(),
    inputs: [{ name: 'tiles', type: 'uint8', shape: ['N', options.inputPx, options.inputPx, 3] }],
    outputs: [
      { name: 'embedding', type: 'float32', shape: ['N', (to - from) * width] },
      ...(options.patchGrid ? [{ name: 'patch', type: 'float32' as const, shape: ['N', grid, grid, width] }] : []),
    ],
  };
}

/** Columns of the pool matrix, [from, to). Both are computed, whatever is asked for: one alone would be summed in another order. */
const POOLED_COLUMNS = { cls: [0, 1], mean: [1, 2], 'cls+mean': [0, 2] } as const;

/** [tokens, 2]: a column that picks the class token (times 1, plus exact zeros), a column that averages the patch tokens. */
function poolMatrix(prefix: number, tokens: number): Tensor {
  const read = async (): Promise<Float32Array> => {
    const matrix = new Float32Array(tokens * 2);
    matrix[0] = 1;
    for (let i = prefix; i < tokens; i++) matrix[i * 2 + 1] = 1 / (tokens - prefix);
    return matrix;
  };
  return { shape: [tokens, 2], read };
}

function scaled({ weight, bias }: Linear, scale: Tensor | null): Linear {
  return scale === null ? { weight, bias } : { weight: scaledRows(weight, scale), bias: scaledRows(bias, scale) };
}
