/**
 * The skeleton of an ONNX file: nodes, names, element types, where external data lies. Weights are views on the file, never read.
 *
 * Called by `onnx-scan.ts`. Field numbers are those of onnx.proto. A message that stands where one is expected twice is merged,
 * as protobuf does, so that nothing can be hidden from the scan behind a second copy.
 */
import { badModel, LENGTH_DELIMITED, VARINT, WireReader } from './wire-reader.js';

/** Values of `TensorProto.DataType` that the scan tells apart. */
export const ELEMENT = { FLOAT: 1, UINT8: 2, INT32: 6, INT64: 7, STRING: 8, BOOL: 9 } as const;

/** A constant. Its elements lie in `raw` (little-endian) or in `packed` (varints); neither for external data and non-integers. */
export interface TensorSkeleton {
  name: string;
  /** 0 = not given. */
  elementType: number;
  raw: Buffer | undefined;
  packed: Buffer[];
  external: boolean;
}

/** A graph input, output or value info; elementType 0 = not given or no tensor. */
export interface ValueSkeleton {
  name: string;
  elementType: number;
}

export interface AttributeSkeleton {
  name: string;
  int: number | undefined;
  ints: number[];
  tensor: TensorSkeleton | undefined;
  graphs: GraphSkeleton[];
}

export interface NodeSkeleton {
  name: string;
  op: string;
  /** '' for the default operator set, however the file spells that. */
  domain: string;
  /** Tells functions of the same name apart. */
  overload: string;
  inputs: string[];
  outputs: string[];
  attributes: AttributeSkeleton[];
}

export interface GraphSkeleton {
  nodes: NodeSkeleton[];
  initializers: TensorSkeleton[];
  inputs: ValueSkeleton[];
  outputs: ValueSkeleton[];
  valueInfo: ValueSkeleton[];
}

export interface FunctionSkeleton {
  name: string;
  domain: string;
  overload: string;
  inputs: string[];
  outputs: string[];
  nodes: NodeSkeleton[];
}

export interface ModelSkeleton {
  producer: string;
  /** Version of the default operator set; 0 = not given. */
  opset: number;
  graph: GraphSkeleton;
  functions: FunctionSkeleton[];
  /** Locations of external data as the file gives them, each once. */
  externalData: string[];
}

/** Graphs in attributes of nodes of graphs ... beyond this are refused; real models have three or so. */
const MAX_DEPTH = 64;

/** How a file begins that was cloned without what Git keeps elsewhere. */
const LFS_POINTER = Buffer.from('version https://git-lfs');

/** Reads the skeleton. Throws ServeError INVALID_ARGUMENT for bytes that are no ONNX model. */
export function readOnnx(bytes: Uint8Array): ModelSkeleton {
  if (bytes.byteLength === 0) throw badModel('it is empty');
  if (Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.byteLength, LFS_POINTER.length)).equals(LFS_POINTER))
    throw badModel("it is a pointer of Git LFS, fetch the file itself with 'git lfs pull'");
  const graph: GraphSkeleton = { nodes: [], initializers: [], inputs: [], outputs: [], valueInfo: [] };
  const model: ModelSkeleton = { producer: '', opset: 0, graph, functions: [], externalData: [] };
  const locations = new Set<string>();
  const reader = new WireReader(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  let hasGraph = false;
  while (reader.next()) {
    if (reader.field === 2) model.producer = reader.string();
    else if (reader.field === 7) {
      readGraph(reader.message(), graph, { locations, depth: 0 });
      hasGraph = true;
    } else if (reader.field === 8) {
      const { domain, version } = readOperatorSet(reader.message());
      if (domain === '') model.opset = version;
    } else if (reader.field === 25) model.functions.push(readFunction(reader.message(), { locations, depth: 0 }));
    else reader.skip();
  }
  if (!hasGraph) throw badModel('it has no graph');
  model.externalData = [...locations];
  return model;
}

interface Context {
  readonly locations: Set<string>;
  readonly depth: number;
}

function readGraph(reader: WireReader, graph: GraphSkeleton, context: Context): void {
  if (context.depth > MAX_DEPTH) throw badModel(`its graphs nest deeper than ${MAX_DEPTH}`);
  while (reader.next()) {
    if (reader.field === 1) graph.nodes.push(readNode(reader.message(), context));
    else if (reader.field === 5) graph.initializers.push(readTensor(reader.message(), context));
    else if (reader.field === 11) graph.inputs.push(readValue(reader.message()));
    else if (reader.field === 12) graph.outputs.push(readValue(reader.message()));
    else if (reader.field === 13) graph.valueInfo.push(readValue(reader.message()));
    else if (reader.field === 15) readSparseTensor(reader.message(), context);
    else reader.skip();
  }
}

function readFunction(reader: WireReader, context: Context): FunctionSkeleton {
  const result: FunctionSkeleton = { name: '', domain: '', overload: '', inputs: [], outputs: [], nodes: [] };
  while (reader.next()) {
    if (reader.field === 1) result.name = reader.string();
    else if (reader.field === 4) result.inputs.push(reader.string());
    else if (reader.field === 5) result.outputs.push(reader.string());
    else if (reader.field === 7) result.nodes.push(readNode(reader.message(), context));
    else if (reader.field === 10) result.domain = domainOf(reader.string());
    else if (reader.field === 13) result.overload = reader.string();
    else reader.skip();
  }
  return result;
}

function readNode(reader: WireReader, context: Context): NodeSkeleton {
  const node: NodeSkeleton = { name: '', op: '', domain: '', overload: '', inputs: [], outputs: [], attributes: [] };
  while (reader.next()) {
    if (reader.field === 1) node.inputs.push(reader.string());
    else if (reader.field === 2) node.outputs.push(reader.string());
    else if (reader.field === 3) node.name = reader.string();
    else if (reader.field === 4) node.op = reader.string();
    else if (reader.field === 5) node.attributes.push(readAttribute(reader.message(), context));
    else if (reader.field === 7) node.domain = domainOf(reader.string());
    else if (reader.field === 8) node.overload = reader.string();
    else reader.skip();
  }
  return node;
}

function readAttribute(reader: WireReader, context: Context): AttributeSkeleton {
  const attribute: AttributeSkeleton = { name: '', int: undefined, ints: [], tensor: undefined, graphs: [] };
  while (reader.next()) {
    if (reader.field === 1) attribute.name = reader.string();
    else if (reader.field === 3) attribute.int = reader.int();
    else if (reader.field === 5) attribute.tensor = readTensor(reader.message(), context, attribute.tensor);
    else if (reader.field === 6 || reader.field === 11) attribute.graphs.push(readSubgraph(reader, context));
    else if (reader.field === 8 && reader.wireType === VARINT) attribute.ints.push(reader.int());
    else if (reader.field === 8) {
      for (const packed = reader.message(); !packed.done; ) attribute.ints.push(packed.readVarint());
    } else if (reader.field === 10) readTensor(reader.message(), context);
    else if (reader.field === 22 || reader.field === 23) readSparseTensor(reader.message(), context);
    else reader.skip();
  }
  return attribute;
}

function readSubgraph(reader: WireReader, context: Context): GraphSkeleton {
  const graph: GraphSkeleton = { nodes: [], initializers: [], inputs: [], outputs: [], valueInfo: [] };
  readGraph(reader.message(), graph, { ...context, depth: context.depth + 1 });
  return graph;
}

function readTensor(reader: WireReader, context: Context, into?: TensorSkeleton): TensorSkeleton {
  const tensor = into ?? { name: '', elementType: 0, raw: undefined, packed: [], external: false };
  while (reader.next()) {
    if (reader.field === 2) tensor.elementType = reader.int();
    else if ((reader.field === 5 || reader.field === 7) && reader.wireType === LENGTH_DELIMITED)
      tensor.packed.push(reader.bytes());
    else if (reader.field === 8) tensor.name = reader.string();
    else if (reader.field === 9) tensor.raw = reader.bytes();
    else if (reader.field === 13) readExternalEntry(reader.message(), tensor, context);
    else if (reader.field === 14) tensor.external = reader.int() === 1 || tensor.external;
    else reader.skip();
  }
  return tensor;
}

function readSparseTensor(reader: WireReader, context: Context): void {
  while (reader.next()) {
    if (reader.field === 1 || reader.field === 2) readTensor(reader.message(), context);
    else reader.skip();
  }
}

function readExternalEntry(reader: WireReader, tensor: TensorSkeleton, { locations }: Context): void {
  let key = '';
  let value = '';
  while (reader.next()) {
    if (reader.field === 1) key = reader.string();
    else if (reader.field === 2) value = reader.string();
    else reader.skip();
  }
  tensor.external = true;
  if (key === 'location') locations.add(value);
}

function readValue(reader: WireReader): ValueSkeleton {
  const value: ValueSkeleton = { name: '', elementType: 0 };
  while (reader.next()) {
    if (reader.field === 1) value.name = reader.string();
    else if (reader.field === 2) value.elementType = readElementType(reader.message());
    else reader.skip();
  }
  return value;
}

/** TypeProto.tensor_type.elem_type; 0 for sequences, maps and the like. */
function readElementType(reader: WireReader): number {
  let elementType = 0;
  while (reader.next()) {
    if (reader.field !== 1) {
      reader.skip();
      continue;
    }
    for (const tensor = reader.message(); tensor.next(); ) {
      if (tensor.field === 1) elementType = tensor.int();
      else tensor.skip();
    }
  }
  return elementType;
}

function readOperatorSet(reader: WireReader): { domain: string; version: number } {
  const result = { domain: '', version: 0 };
  while (reader.next()) {
    if (reader.field === 1) result.domain = domainOf(reader.string());
    else if (reader.field === 2) result.version = reader.int();
    else reader.skip();
  }
  return result;
}

function domainOf(domain: string): string {
  return domain === 'ai.onnx' ? '' : domain;
}
