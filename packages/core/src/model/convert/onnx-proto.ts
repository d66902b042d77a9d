import protobuf from 'protobufjs';

/** The part of ONNX that the converter writes. Plain data; field numbers are those of onnx.proto (onnx/onnx, IR version 11). */
export interface OnnxGraph {
  readonly name: string;
  readonly nodes: readonly OnnxNode[];
  /** Small int64 tensors (shapes, axes), kept in the graph file: shape inference reads them. */
  readonly constants: readonly OnnxConstant[];
  /** Kept in the external data file. */
  readonly weights: readonly OnnxWeight[];
  readonly inputs: readonly OnnxValue[];
  readonly outputs: readonly OnnxValue[];
}

export interface OnnxNode {
  /** Operator of ONNX, or of another domain: `com.microsoft.Name`. */
  readonly op: string;
  readonly name: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: Readonly<Record<string, OnnxAttribute>>;
}

export type OnnxAttribute =
  | { readonly int: number }
  | { readonly float: number }
  | { readonly ints: readonly number[] };

export interface OnnxConstant {
  readonly name: string;
  readonly values: readonly number[];
}

export interface OnnxWeight {
  readonly name: string;
  readonly type: WeightType;
  readonly shape: readonly number[];
  /** Values, row-major, of the stated type. Called once, when the tensor is written. */
  readonly read: () => Promise<Float32Array | Float16Array | Int8Array | Uint8Array>;
}

export type WeightType = 'float32' | 'float16' | 'int8' | 'uint8';

/** Bytes of one value. */
export const BYTES_PER_VALUE: Readonly<Record<WeightType, number>> = { float32: 4, float16: 2, int8: 1, uint8: 1 };

export interface OnnxValue {
  readonly name: string;
  readonly type: 'uint8' | 'float32';
  /** A string names a dimension that is known at run time only. */
  readonly shape: readonly (number | string)[];
}

/** Where a weight lies in the external data file. */
export interface DataRange {
  readonly offset: number;
  readonly length: number;
}

const OPSET = 23;
const IR_VERSION = 11;
/** TensorProto.DataType */
export const ELEMENT = { float32: 1, uint8: 2, int8: 3, int64: 7, float16: 10 } as const;
const ATTRIBUTE_TYPE = { float: 1, int: 2, ints: 7 } as const;
const EXTERNAL = 1;

const { root } = protobuf.parse(`
syntax = "proto2";
message Attribute { optional string name = 1; optional float f = 2; optional int64 i = 3; repeated int64 ints = 8; optional int32 type = 20; }
message Node { repeated string input = 1; repeated string output = 2; optional string name = 3; optional string opType = 4; repeated Attribute attribute = 5; optional string domain = 7; }
message Entry { optional string key = 1; optional string value = 2; }
message Tensor { repeated int64 dims = 1; optional int32 dataType = 2; optional string name = 8; optional bytes rawData = 9; repeated Entry externalData = 13; optional int32 dataLocation = 14; }
message Dim { oneof size { int64 dimValue = 1; string dimParam = 2; } }
message Shape { repeated Dim dim = 1; }
message TensorType { optional int32 elemType = 1; optional Shape shape = 2; }
message Type { optional TensorType tensorType = 1; }
message Value { optional string name = 1; optional Type type = 2; }
message Graph { repeated Node node = 1; optional string name = 2; repeated Tensor initializer = 5; repeated Value input = 11; repeated Value output = 12; }
message Opset { optional string domain = 1; optional int64 version = 2; }
message Model { optional int64 irVersion = 1; optional string producerName = 2; optional Graph graph = 7; repeated Opset opsetImport = 8; }
`);
const Model = root.lookupType('Model');

/** ModelProto bytes of a graph whose weights lie in `dataFile`, at `ranges` (one a weight, in their order). */
export function encodeModel(graph: OnnxGraph, dataFile: string, ranges: readonly DataRange[]): Uint8Array {
  const constants = graph.constants.map(({ name, values }) => ({
    name,
    dims: [values.length],
    dataType: ELEMENT.int64,
    rawData: new Uint8Array(BigInt64Array.from(values, BigInt).buffer),
  }));
  const weights = graph.weights.map(({ name, type, shape }, i) => ({
    name,
    dims: shape,
    dataType: ELEMENT[type],
    dataLocation: EXTERNAL,
    externalData: [
      { key: 'location', value: dataFile },
      { key: 'offset', value: String(ranges[i]!.offset) },
      { key: 'length', value: String(ranges[i]!.length) },
    ],
  }));
  const domains = new Set(graph.nodes.map(({ op }) => operatorOf(op).domain));
  return Model.encode(
    Model.create({
      irVersion: IR_VERSION,
      producerName: 'nightshift',
      opsetImport: [{ domain: '', version: OPSET }, ...(domains.has(CONTRIB) ? [{ domain: CONTRIB, version: 1 }] : [])],
      graph: {
        name: graph.name,
        node: graph.nodes.map(encodeNode),
        initializer: [...constants, ...weights],
        input: graph.inputs.map(encodeValue),
        output: graph.outputs.map(encodeValue),
      },
    }),
  ).finish();
}

/** Domain of ONNX Runtime's own operators. */
const CONTRIB = 'com.microsoft';

const operatorOf = (op: string): { opType: string; domain?: string } =>
  op.startsWith(`${CONTRIB}.`) ? { opType: op.slice(CONTRIB.length + 1), domain: CONTRIB } : { opType: op };

const encodeNode = ({ op, name, inputs, outputs, attributes }: OnnxNode) => ({
  name,
  ...operatorOf(op),
  input: inputs,
  output: outputs,
  attribute: Object.entries(attributes).map(([name, value]) => encodeAttribute(name, value)),
});

function encodeAttribute(name: string, value: OnnxAttribute) {
  if ('float' in value) return { name, type: ATTRIBUTE_TYPE.float, f: value.float };
  if ('int' in value) return { name, type: ATTRIBUTE_TYPE.int, i: value.int };
  return { name, type: ATTRIBUTE_TYPE.ints, ints: value.ints };
}

const encodeValue = ({ name, type, shape }: OnnxValue) => ({
  name,
  type: {
    tensorType: {
      elemType: ELEMENT[type],
      shape: { dim: shape.map((n) => (typeof n === 'number' ? { dimValue: n } : { dimParam: n })) },
    },
  },
});
