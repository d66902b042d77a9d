import { type PosInterpolation, resampleGrid } from './position.ts';
import type { Linear, Tensor, VisionTransformer } from './transformer.ts';

/** Exact rewritings of weights, each computed when it is written; sums in double, results rounded to float32 once. */

/** Row i (of a matrix or a vector) times scale[i]: LayerScale folded into the layer before it. */
export const scaledRows = (weight: Tensor, scale: Tensor): Tensor => ({
  shape: weight.shape,
  read: async () => {
    const [values, factors] = await Promise.all([weight.read(), scale.read()]);
    const columns = values.length / factors.length;
    for (let row = 0; row < factors.length; row++) {
      const factor = factors[row]!;
      for (let i = row * columns; i < (row + 1) * columns; i++) values[i]! *= factor;
    }
    return values;
  },
});

/**
 * A norm and the layers that it feeds, with a factor for each channel taken from the norm's gain and given to the layers' columns:
 * what they compute together is the same, but no channel is so much larger than the others that it takes the steps of an 8-bit
 * row for itself. The factor is SmoothQuant's with alpha 0.5 (arXiv 2211.10438), with the size of an activation taken from the norm
 * itself: three standard deviations and its shift.
 */
export function balanced(norm: Linear, layers: readonly Linear[]): { norm: Linear; layers: readonly Linear[] } {
  let made: Promise<Float32Array> | undefined;
  const factors = () => {
    made ??= channelFactors(norm, layers);
    return made;
  };
  const divided = ({ shape, read }: Tensor): Tensor => ({
    shape,
    read: async () => {
      const by = await factors();
      return (await read()).map((value, i) => value / by[i]!);
    },
  });
  const columnsTimes = ({ shape, read }: Tensor): Tensor => ({
    shape,
    read: async () => {
      const by = await factors();
      const values = await read();
      for (let i = 0; i < values.length; i++) values[i]! *= by[i % by.length]!;
      return values;
    },
  });
  return {
    norm: { weight: divided(norm.weight), bias: divided(norm.bias) },
    layers: layers.map(({ weight, bias }) => ({ weight: columnsTimes(weight), bias })),
  };
}

async function channelFactors(norm: Linear, layers: readonly Linear[]): Promise<Float32Array> {
  const [gain, shift] = [await norm.weight.read(), await norm.bias.read()];
  const largest = new Float32Array(gain.length);
  for (const { weight } of layers) {
    const values = await weight.read();
    for (let i = 0; i < values.length; i++) {
      const channel = i % largest.length;
      largest[channel] = Math.max(largest[channel]!, Math.abs(values[i]!));
    }
  }
  return largest.map((weight, i) => {
    const activation = 3 * Math.abs(gain[i]!) + Math.abs(shift[i]!);
    return weight > 0 && activation > 0 ? Math.sqrt(activation / weight) : 1;
  });
}

/**
 * The patch embedding for raw bytes: `(x / 255 - mean) / std` folded in. `weight` is [width, patch * patch * 3] in the order (dy,
 * dx, channel) of an NHWC picture. Valid because the convolution has no padding.
 */
export function foldNormalisation(
  patch: Linear,
  { mean, std }: { readonly mean: readonly number[]; readonly std: readonly number[] },
): Linear {
  const [width, channels, side] = patch.weight.shape as [number, number, number, number];
  const area = side * side;
  const weight = async (): Promise<Float32Array> => {
    const source = await patch.weight.read();
    const out = new Float32Array(source.length);
    for (let row = 0; row < width; row++) {
      for (let c = 0; c < channels; c++) {
        const from = (row * channels + c) * area;
        const to = row * area * channels + c;
        const factor = 1 / (255 * std[c]!);
        for (let i = 0; i < area; i++) out[to + i * channels] = source[from + i]! * factor;
      }
    }
    return out;
  };
  const bias = async (): Promise<Float32Array> => {
    const [kernel, own] = await Promise.all([patch.weight.read(), patch.bias.read()]);
    return own.map((value, row) => {
      let sum = value;
      for (let c = 0; c < channels; c++) {
        let total = 0;
        for (let i = 0; i < area; i++) total += kernel[(row * channels + c) * area + i]!;
        sum -= (mean[c]! / std[c]!) * total;
      }
      return sum;
    });
  };
  return {
    weight: { shape: [width, area * channels], read: weight },
    bias: { shape: [width], read: bias },
  };
}

/**
 * Everything that is added to the patch vectors before block 0, [1, tokens, width]: class token and registers (with their
 * positions where they have any), then patch bias plus position, resampled to `grid`.
 */
export function tokenConstant(
  model: VisionTransformer,
  patchBias: Tensor,
  grid: number,
  interpolation: PosInterpolation,
): Tensor {
  const { width, registerCount, positionPrefix, storedGrid } = model;
  const prefix = 1 + registerCount;
  const read = async (): Promise<Float32Array> => {
    const [cls, registers, position, bias] = await Promise.all([
      model.cls.read(),
      model.registers?.read() ?? new Float32Array(0),
      model.position.read(),
      patchBias.read(),
    ]);
    const out = new Float32Array((prefix + grid * grid) * width);
    out.set(cls);
    out.set(registers, width);
    for (let i = 0; i < positionPrefix * width; i++) out[i]! += position[i]!;
    const stored = position.subarray(positionPrefix * width);
    const placed = resampleGrid(stored, storedGrid, grid, width, interpolation);
    for (let i = 0; i < placed.length; i++) out[prefix * width + i] = placed[i]! + bias[i % width]!;
    return out;
  };
  return { shape: [1, prefix + grid * grid, width], read };
}
