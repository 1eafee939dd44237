/**
 * Writes ONNX models from a JavaScript description: the few messages of onnx.proto a test graph needs, by protobufjs reflection.
 *
 * Called by `onnx.ts`, whose recipes most tests want; tests of odd or broken graphs use it directly. Owns the schema. Must not
 * check what it writes: bad graphs are wanted too.
 */
import protobuf from 'protobufjs';
import type { Datatype } from '../../src/base/datatype.js';

/** A typed tensor of a graph: number = fixed, string = symbolic (equal names are equal sizes). */
export interface OnnxValue {
  readonly name: string;
  readonly datatype: Datatype;
  readonly shape: readonly (number | string)[];
}

/** A constant tensor. A view is taken as its raw little-endian bytes; FP16 and BF16 can only be given so. */
export interface OnnxTensor {
  readonly name: string;
  readonly datatype: Datatype;
  readonly shape: readonly number[];
  readonly data?: ArrayBufferView | readonly (number | bigint | boolean | string)[];
  /** Bytes in another file; `data` is not written then. */
  readonly external?: { readonly location: string; readonly offset?: number; readonly length?: number };
}

/** number = INT, number[] = INTS, string = STRING; the others name their kind. */
export type OnnxAttribute =
  | number
  | string
  | readonly number[]
  | { readonly float: number }
  | { readonly floats: readonly number[] }
  | { readonly tensor: OnnxTensor }
  | { readonly graph: OnnxGraph };

export interface OnnxNode {
  readonly op: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly name?: string;
  readonly domain?: string;
  readonly attributes?: Readonly<Record<string, OnnxAttribute>>;
}

export interface OnnxGraph {
  readonly name: string;
  readonly inputs: readonly OnnxValue[];
  readonly outputs: readonly OnnxValue[];
  readonly nodes: readonly OnnxNode[];
  readonly initializers?: readonly OnnxTensor[];
  /** Types of values between nodes. */
  readonly valueInfo?: readonly OnnxValue[];
}

/** A function of the model, callable as a node of its domain. */
export interface OnnxFunction {
  readonly name: string;
  readonly domain: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly nodes: readonly OnnxNode[];
}

export interface OnnxModel extends OnnxGraph {
  /** Of the default operator set; 17 when not given. */
  readonly opset?: number;
  readonly functions?: readonly OnnxFunction[];
}

const ELEMENT_TYPES: Readonly<Record<Datatype, number>> = {
  FP32: 1,
  UINT8: 2,
  INT8: 3,
  UINT16: 4,
  INT16: 5,
  INT32: 6,
  INT64: 7,
  BYTES: 8,
  BOOL: 9,
  FP16: 10,
  FP64: 11,
  UINT32: 12,
  UINT64: 13,
  BF16: 16,
};

const IR_VERSION = 8;
const DEFAULT_OPSET = 17;

const root = protobuf.parse(
  `
  syntax = "proto2";
  message Entry { optional string key = 1; optional string value = 2; }
  message Dim { optional int64 dim_value = 1; optional string dim_param = 2; }
  message Shape { repeated Dim dim = 1; }
  message TensorType { optional int32 elem_type = 1; optional Shape shape = 2; }
  message Type { optional TensorType tensor_type = 1; }
  message Value { optional string name = 1; optional Type type = 2; }
  message Tensor {
    repeated int64 dims = 1; optional int32 data_type = 2; repeated bytes string_data = 6; optional string name = 8;
    optional bytes raw_data = 9; repeated Entry external_data = 13; optional int32 data_location = 14;
  }
  message Attribute {
    optional string name = 1; optional float f = 2; optional int64 i = 3; optional bytes s = 4; optional Tensor t = 5;
    optional Graph g = 6; repeated float floats = 7; repeated int64 ints = 8; optional int32 type = 20;
  }
  message Node {
    repeated string input = 1; repeated string output = 2; optional string name = 3; optional string op_type = 4;
    repeated Attribute attribute = 5; optional string domain = 7;
  }
  message Graph {
    repeated Node node = 1; optional string name = 2; repeated Tensor initializer = 5; repeated Value input = 11;
    repeated Value output = 12; repeated Value value_info = 13;
  }
  message OperatorSet { optional string domain = 1; optional int64 version = 2; }
  message Function {
    optional string name = 1; repeated string input = 4; repeated string output = 5; repeated Node node = 7;
    repeated OperatorSet opset_import = 9; optional string domain = 10;
  }
  message Model {
    optional int64 ir_version = 1; optional string producer_name = 2; optional Graph graph = 7;
    repeated OperatorSet opset_import = 8; repeated Function functions = 25;
  }`,
  { keepCase: true },
).root;

const Model = root.lookupType('Model');

/** The bytes of a `model.onnx` (IR version 8, producer `tensorwire-test`). */
export function buildModel(model: OnnxModel): Buffer {
  const opset = { domain: '', version: model.opset ?? DEFAULT_OPSET };
  const named = [...(model.functions ?? []), ...model.nodes].map(({ domain }) => domain ?? '');
  const domains = [...new Set(named)].filter((domain) => domain !== '');
  const message = {
    ir_version: IR_VERSION,
    producer_name: 'tensorwire-test',
    graph: graphMessage(model),
    opset_import: [opset, ...domains.map((domain) => ({ domain, version: 1 }))],
    functions: (model.functions ?? []).map((f) => ({
      name: f.name,
      input: f.inputs,
      output: f.outputs,
      node: f.nodes.map(nodeMessage),
      opset_import: [opset],
      domain: f.domain,
    })),
  };
  return Buffer.from(Model.encode(message).finish());
}

/** A length-delimited protobuf field, for what this schema cannot write: odd fields, depth, garbage. Up to 16 KB. */
export function field(number: number, content: Uint8Array | string): Buffer {
  const bytes = Buffer.from(content as string);
  const varint = (n: number) => (n < 128 ? [n] : [(n & 127) | 128, n >> 7]);
  return Buffer.concat([Buffer.from([...varint((number << 3) | 2), ...varint(bytes.length)]), bytes]);
}

function graphMessage(graph: OnnxGraph): object {
  return {
    node: graph.nodes.map(nodeMessage),
    name: graph.name,
    initializer: (graph.initializers ?? []).map(tensorMessage),
    input: graph.inputs.map(valueMessage),
    output: graph.outputs.map(valueMessage),
    value_info: (graph.valueInfo ?? []).map(valueMessage),
  };
}

function nodeMessage(node: OnnxNode): object {
  const message: Record<string, unknown> = {
    input: node.inputs,
    output: node.outputs,
    op_type: node.op,
    attribute: Object.entries(node.attributes ?? {}).map(([name, value]) => ({ name, ...attributeMessage(value) })),
  };
  if (node.name !== undefined) message.name = node.name;
  if (node.domain !== undefined) message.domain = node.domain;
  return message;
}

function attributeMessage(value: OnnxAttribute): object {
  if (typeof value === 'number') return { i: value, type: 2 };
  if (typeof value === 'string') return { s: Buffer.from(value), type: 3 };
  if ('float' in value) return { f: value.float, type: 1 };
  if ('floats' in value) return { floats: value.floats, type: 6 };
  if ('tensor' in value) return { t: tensorMessage(value.tensor), type: 4 };
  if ('graph' in value) return { g: graphMessage(value.graph), type: 5 };
  return { ints: value, type: 7 };
}

function valueMessage(value: OnnxValue): object {
  const dim = value.shape.map((size) => (typeof size === 'number' ? { dim_value: size } : { dim_param: size }));
  return { name: value.name, type: { tensor_type: { elem_type: ELEMENT_TYPES[value.datatype], shape: { dim } } } };
}

function tensorMessage(tensor: OnnxTensor): object {
  const head = { dims: tensor.shape, data_type: ELEMENT_TYPES[tensor.datatype], name: tensor.name };
  if (tensor.external !== undefined) {
    const external_data = Object.entries(tensor.external).map(([key, value]) => ({ key, value: String(value) }));
    return { ...head, external_data, data_location: 1 };
  }
  const data = tensor.data ?? [];
  if (ArrayBuffer.isView(data))
    return { ...head, raw_data: Buffer.from(data.buffer, data.byteOffset, data.byteLength) };
  if (tensor.datatype === 'BYTES') return { ...head, string_data: data.map((element) => Buffer.from(String(element))) };
  return { ...head, raw_data: rawBytes(tensor.datatype, data) };
}

const ARRAYS = {
  BOOL: Uint8Array,
  UINT8: Uint8Array,
  INT8: Int8Array,
  UINT16: Uint16Array,
  INT16: Int16Array,
  UINT32: Uint32Array,
  INT32: Int32Array,
  FP32: Float32Array,
  FP64: Float64Array,
} as const;

function rawBytes(datatype: Datatype, data: readonly (number | bigint | boolean | string)[]): Buffer {
  if (datatype === 'INT64') return Buffer.from(BigInt64Array.from(data, BigInt).buffer);
  if (datatype === 'UINT64') return Buffer.from(BigUint64Array.from(data, BigInt).buffer);
  if (datatype === 'FP16' || datatype === 'BF16' || datatype === 'BYTES') {
    throw new TypeError(`elements of a ${datatype} tensor are given as bytes`);
  }
  return Buffer.from(ARRAYS[datatype].from(data.map(Number)).buffer);
}
