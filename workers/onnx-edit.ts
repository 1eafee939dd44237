/**
 * Changes a few fields of an ONNX file's graph and copies the rest as it lies: nodes added, an input of one node exchanged or an attribute
 * left out, inputs and outputs replaced. Weights are neither read nor encoded again.
 *
 * Called by `onnx-tap.ts` and `decoder-ports.ts`. Field numbers are those of onnx.proto. Borrows the bytes it is given.
 */
import { badModel, LENGTH_DELIMITED, VARINT, WireReader } from './wire-reader.js';

/** A graph input or output with its shape; a dimension without a size is its name, '' where it has none. */
export interface GraphValue {
  readonly name: string;
  /** 0 = not a tensor. */
  readonly elementType: number;
  readonly dims: readonly (number | string)[];
}

/** A node to be added. Attributes are integers; an array is INTS. */
export interface NewNode {
  readonly op: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes?: Readonly<Record<string, number | readonly number[]>>;
}

export interface GraphEdit {
  readonly nodes: readonly NewNode[];
  readonly inputs: readonly GraphValue[];
  /** Take the place of all that there are where given. */
  readonly outputs?: readonly GraphValue[];
  /** Numbers of nodes, in the order of the file, and which of their inputs are called otherwise now. */
  readonly renamed: ReadonlyMap<number, ReadonlyMap<number, string>>;
  /** Numbers of nodes, and the attribute that each has no more. */
  readonly dropped?: ReadonlyMap<number, string>;
}

const GRAPH = 7;
const NODE = 1;
const INPUT = 11;
const OUTPUT = 12;

/** Inputs and outputs of the graph, with shapes; initializers that are listed as inputs too are among them. */
export function readValues(bytes: Uint8Array): { inputs: GraphValue[]; outputs: GraphValue[] } {
  const inputs: GraphValue[] = [];
  const outputs: GraphValue[] = [];
  for (const reader = readerOf(bytes); reader.next(); ) {
    if (reader.field !== GRAPH) reader.skip();
    else {
      for (const graph = reader.message(); graph.next(); ) {
        if (graph.field === INPUT) inputs.push(readValue(graph.message()));
        else if (graph.field === OUTPUT) outputs.push(readValue(graph.message()));
        else graph.skip();
      }
    }
  }
  return { inputs, outputs };
}

/** A copy of the file with the edit made. Throws ServeError INVALID_ARGUMENT for a file whose graph is in several pieces. */
export function editGraph(bytes: Uint8Array, edit: GraphEdit): Buffer {
  const file = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const parts: Buffer[] = [];
  let graphs = 0;
  const reader = readerOf(bytes);
  for (let start = 0; reader.next(); start = reader.offset) {
    if (reader.field === GRAPH) {
      if (++graphs > 1) throw badModel('its graph is in several pieces');
      const content = editContent(file, reader.message(), edit);
      const length = content.reduce((sum, part) => sum + part.byteLength, 0);
      parts.push(tag(GRAPH, LENGTH_DELIMITED), varint(length), ...content);
    } else {
      reader.skip();
      parts.push(file.subarray(start, reader.offset));
    }
  }
  return Buffer.concat(parts);
}

function editContent(file: Buffer, graph: WireReader, edit: GraphEdit): Buffer[] {
  const parts: Buffer[] = [];
  let node = 0;
  /** Where the stretch begins that is copied as it is. */
  let kept = graph.offset;
  let start = kept;
  const replace = (by: Buffer[]): void => {
    parts.push(file.subarray(kept, start), ...by);
    kept = graph.offset;
  };
  for (; graph.next(); start = graph.offset) {
    const index = graph.field === NODE ? node++ : -1;
    const renamed = edit.renamed.get(index);
    const dropped = edit.dropped?.get(index);
    if (renamed || dropped !== undefined) {
      const message = graph.message();
      replace([field(NODE, changeNode(file, message, renamed, dropped))]);
    } else {
      graph.skip();
      if (graph.field === OUTPUT && edit.outputs) replace([]);
    }
  }
  replace(edit.nodes.map((added) => field(NODE, encodeNode(added))));
  for (const value of edit.inputs) parts.push(field(INPUT, encodeValue(value)));
  for (const value of edit.outputs ?? []) parts.push(field(OUTPUT, encodeValue(value)));
  return parts;
}

function changeNode(
  file: Buffer,
  node: WireReader,
  renamed: ReadonlyMap<number, string> | undefined,
  dropped: string | undefined,
): Buffer {
  const parts: Buffer[] = [];
  let input = 0;
  for (let start = node.offset; node.next(); start = node.offset) {
    if (node.field === 5 && dropped !== undefined) {
      if (attributeName(node.message()) !== dropped) parts.push(file.subarray(start, node.offset));
      continue;
    }
    node.skip();
    const name = node.field === 1 ? renamed?.get(input++) : undefined;
    parts.push(name === undefined ? file.subarray(start, node.offset) : field(1, name));
  }
  return Buffer.concat(parts);
}

function attributeName(attribute: WireReader): string {
  let name = '';
  while (attribute.next()) {
    if (attribute.field === 1) name = attribute.string();
    else attribute.skip();
  }
  return name;
}

function readerOf(bytes: Uint8Array): WireReader {
  return new WireReader(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
}

function readValue(reader: WireReader): GraphValue {
  let name = '';
  let elementType = 0;
  const dims: (number | string)[] = [];
  while (reader.next()) {
    if (reader.field === 1) name = reader.string();
    else if (reader.field !== 2) reader.skip();
    else {
      for (const type = reader.message(); type.next(); ) {
        if (type.field !== 1) type.skip();
        else {
          for (const tensor = type.message(); tensor.next(); ) {
            if (tensor.field === 1) elementType = tensor.int();
            else if (tensor.field === 2) readShape(tensor.message(), dims);
            else tensor.skip();
          }
        }
      }
    }
  }
  return { name, elementType, dims };
}

function readShape(reader: WireReader, dims: (number | string)[]): void {
  while (reader.next()) {
    if (reader.field !== 1) {
      reader.skip();
      continue;
    }
    let dim: number | string = '';
    for (const message = reader.message(); message.next(); ) {
      if (message.field === 1) dim = message.int();
      else if (message.field === 2) dim = message.string();
      else message.skip();
    }
    dims.push(dim);
  }
}

function encodeNode(node: NewNode): Buffer {
  return Buffer.concat([
    ...node.inputs.map((name) => field(1, name)),
    ...node.outputs.map((name) => field(2, name)),
    field(3, node.outputs[0]!),
    field(4, node.op),
    ...Object.entries(node.attributes ?? {}).map(([name, value]) => field(5, encodeAttribute(name, value))),
  ]);
}

function encodeAttribute(name: string, value: number | readonly number[]): Buffer {
  // AttributeProto: i = 3, ints = 8, type = 20 (INT = 2, INTS = 7).
  return typeof value === 'number'
    ? Buffer.concat([field(1, name), integer(3, value), integer(20, 2)])
    : Buffer.concat([field(1, name), ...value.map((one) => integer(8, one)), integer(20, 7)]);
}

function encodeValue({ name, elementType, dims }: GraphValue): Buffer {
  const shape = dims.map((dim) => field(1, typeof dim === 'number' ? integer(1, dim) : field(2, dim)));
  const tensor = Buffer.concat([integer(1, elementType), field(2, Buffer.concat(shape))]);
  return Buffer.concat([field(1, name), field(2, field(1, tensor))]);
}

function field(number: number, content: Buffer | string): Buffer {
  const bytes = typeof content === 'string' ? Buffer.from(content) : content;
  return Buffer.concat([tag(number, LENGTH_DELIMITED), varint(bytes.byteLength), bytes]);
}

function integer(number: number, value: number): Buffer {
  return Buffer.concat([tag(number, VARINT), varint(value)]);
}

function tag(number: number, wireType: number): Buffer {
  return varint((number << 3) | wireType);
}

/** A negative number takes ten bytes, as 64 bits in two's complement. */
function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  for (; rest > 0x7fn; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  bytes.push(Number(rest));
  return Buffer.from(bytes);
}
