import type { OnnxAttribute, OnnxConstant, OnnxNode, OnnxWeight, WeightType } from './onnx-proto.ts';
import type { Tensor } from './transformer.ts';

/** Collects the parts of a graph; every function gives back the name of what it added. */
export interface GraphBuilder {
  op(
    type: string,
    name: string,
    inputs: readonly string[],
    attributes?: Readonly<Record<string, OnnxAttribute>>,
  ): string;
  /** A small int64 vector: a shape, axes. */
  ints(...values: number[]): string;
  weight(name: string, tensor: Tensor): string;
  /** A weight that is not float32. The same name again is the same weight. */
  packed(name: string, type: WeightType, shape: readonly number[], read: OnnxWeight['read']): string;
  parts(): { readonly nodes: OnnxNode[]; readonly weights: OnnxWeight[]; readonly constants: OnnxConstant[] };
}

export function graphBuilder(): GraphBuilder {
  const nodes: OnnxNode[] = [];
  const constants = new Map<string, OnnxConstant>();
  const weights = new Map<string, OnnxWeight>();
  const packed: GraphBuilder['packed'] = (name, type, shape, read) => {
    if (!weights.has(name)) weights.set(name, { name, type, shape, read });
    return name;
  };
  return {
    op(type, name, inputs, attributes = {}) {
      nodes.push({ op: type, name, inputs, outputs: [name], attributes });
      return name;
    },
    ints(...values) {
      const name = `int64[${values.join()}]`;
      constants.set(name, { name, values });
      return name;
    },
    weight: (name, { shape, read }) => packed(name, 'float32', shape, read),
    packed,
    parts: () => ({ nodes, weights: [...weights.values()], constants: [...constants.values()] }),
  };
}
