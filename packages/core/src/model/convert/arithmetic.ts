import { NightshiftError } from '../../errors.ts';
import type { Precision } from '../encoder.ts';
import type { GraphBuilder } from './builder.ts';
import { balanced } from './fold.ts';
import { ELEMENT, type OnnxAttribute } from './onnx-proto.ts';
import type { Linear } from './transformer.ts';

/**
 * How the blocks compute: their matrix products, and what lies between two of them. Patch embedding, LayerNorm, residual stream,
 * final norm and pooling are float32 in every precision.
 */
export interface Arithmetic {
  /** A float32 tensor, [rows, columns], as the blocks compute with it. */
  enter(name: string, x: string): string;
  /** Back to float32. */
  leave(name: string, x: string): string;
  /** What `linear` multiplies, made once where several layers read the same tensor. */
  operand(name: string, x: string): Operand;
  /** `x` times the layer's weight plus its bias, [rows, out]. */
  linear(name: string, x: Operand, layer: Linear): string;
  /** A norm and the layers that it feeds, rewritten to suit; the product of both stays the same. */
  fit(norm: Linear, layers: readonly Linear[]): { readonly norm: Linear; readonly layers: readonly Linear[] };
  /** Attributes of the operator Attention. */
  readonly attention: Readonly<Record<string, OnnxAttribute>>;
}

export interface Operand {
  readonly values: string;
  /** Of `int8`: the value of one step in each row, [rows, 1]. */
  readonly step?: string;
}

export const ARITHMETIC: Readonly<Record<Precision, (graph: GraphBuilder) => Arithmetic>> = {
  fp32: float32,
  fp16: float16,
  int8: integer8,
};

const asItIs = {
  enter: (_: string, x: string) => x,
  leave: (_: string, x: string) => x,
  operand: (_: string, x: string): Operand => ({ values: x }),
  fit: (norm: Linear, layers: readonly Linear[]) => ({ norm, layers }),
};

function float32({ op, weight }: GraphBuilder): Arithmetic {
  return {
    ...asItIs,
    linear: (name, { values }, layer) =>
      op('Gemm', name, [values, weight(`${name}.weight`, layer.weight), weight(`${name}.bias`, layer.bias)], {
        transB: { int: 1 },
      }),
    attention: {},
  };
}

const FLOAT16_MAX = 65504;

/**
 * Products, activations and attention in float16 (softmax in float32), as PyTorch's autocast does it. Weights of float16 are half
 * the bytes for every device; where a device has no float16 arithmetic (a CPU) ONNX Runtime widens them when it loads the model.
 *
 * LayerScale stays folded: a row whose products fall below float16's normal range (6e-5) is off by 3e-8 a weight at most, of a sum
 * that goes into a residual stream of float32.
 */
function float16({ op, packed }: GraphBuilder): Arithmetic {
  const half = (name: string, { shape, read }: Linear['weight']) =>
    packed(name, 'float16', shape, async () => {
      const values = await read();
      const largest = values.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
      if (largest <= FLOAT16_MAX) return new Float16Array(values);
      throw new NightshiftError('weights-unsupported', `${name} holds ${largest}, float16 ends at ${FLOAT16_MAX}`, {
        next: 'Convert with --precision fp32.',
      });
    });
  return {
    ...asItIs,
    enter: (name, x) => op('Cast', `${name}.half`, [x], { to: { int: ELEMENT.float16 } }),
    leave: (name, x) => op('Cast', `${name}.full`, [x], { to: { int: ELEMENT.float32 } }),
    linear: (name, { values }, layer) =>
      op('Gemm', name, [values, half(`${name}.weight`, layer.weight), half(`${name}.bias`, layer.bias)], {
        transB: { int: 1 },
      }),
    attention: { softmax_precision: { int: ELEMENT.float32 } },
  };
}

/** Steps on each side of 0. */
const ACTIVATION_STEPS = 127;
/** Half of what fits: on a CPU without VNNI two products of uint8 x int8 are summed in 16 bits, which 255 x 64 x 2 fills and more overflows. */
const WEIGHT_STEPS = 64;

/**
 * Integer products: every row of the activations and every output of a layer has a step of its own, largest value / steps, so that
 * a vector does not depend on its batch (one step for a whole tensor would make it). Attention and activations are float32.
 *
 * Activations are unsigned around 128: MLAS has fast kernels for uint8 x int8 only. Its operator that gives float32 at once is a third
 * faster here than MatMulInteger, Cast and Mul.
 */
function integer8({ op, ints, weight, packed }: GraphBuilder): Arithmetic {
  const scalar = (name: string, value: number) => weight(name, { shape: [], read: async () => Float32Array.of(value) });
  const middle = (shape: readonly number[]) =>
    packed(`int8.middle[${shape}]`, 'uint8', shape, async () => Uint8Array.of(128));
  return {
    ...asItIs,
    fit: balanced,
    operand(name, x) {
      const largest = op('ReduceMax', `${name}.largest`, [op('Abs', `${name}.abs`, [x]), ints(1)], {
        keepdims: { int: 0 },
      });
      // A row of zeros has a step above 0.
      const step = op('Div', `${name}.step`, [
        op('Max', `${name}.bounded`, [largest, scalar('int8.least', 1e-30)]),
        scalar('int8.steps', ACTIVATION_STEPS),
      ]);
      const zero = op('Expand', `${name}.zero`, [middle([1]), op('Shape', `${name}.rows`, [step])]);
      const values = op('QuantizeLinear', `${name}.quantised`, [x, step, zero], { axis: { int: 0 } });
      return { values, step: op('Unsqueeze', `${name}.step.column`, [step, ints(1)]) };
    },
    linear(name, { values, step }, layer) {
      const [out, inputs] = layer.weight.shape as [number, number];
      const steps = async () => rowSteps(await layer.weight.read(), out);
      const quantised = async () => quantisedColumns(await layer.weight.read(), out);
      const matrix = packed(`${name}.weight`, 'int8', [inputs, out], quantised);
      const product = op('com.microsoft.MatMulIntegerToFloat', `${name}.product`, [
        values,
        matrix,
        scalar('int8.one', 1),
        weight(`${name}.step`, { shape: [out], read: steps }),
        middle([]),
      ]);
      const scaled = op('Mul', `${name}.scaled`, [product, step!]);
      return op('Add', name, [scaled, weight(`${name}.bias`, layer.bias)]);
    },
    attention: {},
  };
}

/** One step of each row. */
function rowSteps(values: Float32Array, rows: number): Float32Array {
  const columns = values.length / rows;
  return Float32Array.from({ length: rows }, (_, row) => {
    let largest = 0;
    for (let i = row * columns; i < (row + 1) * columns; i++) largest = Math.max(largest, Math.abs(values[i]!));
    return largest === 0 ? 1 : largest / WEIGHT_STEPS;
  });
}

/** float32 [rows, columns] -> int8 [columns, rows], in steps of each row. */
function quantisedColumns(values: Float32Array, rows: number): Int8Array {
  const columns = values.length / rows;
  const steps = rowSteps(values, rows);
  const out = new Int8Array(values.length);
  for (let row = 0; row < rows; row++) {
    const inverse = 1 / steps[row]!;
    for (let i = 0; i < columns; i++) out[i * rows + row] = Math.round(values[row * columns + i]! * inverse);
  }
  return out;
}
