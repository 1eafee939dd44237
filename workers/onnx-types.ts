/**
 * What is known of the values in an ONNX graph without running it: element type, and whether they can be -1 or the smallest
 * integer. As much as finding dangerous integer divisions takes, not type inference.
 *
 * Called by `onnx-scan.ts`. Must not guess: what is not known is undefined.
 */
import { ELEMENT, type NodeSkeleton, type TensorSkeleton } from './onnx-graph.js';
import { WireReader } from './wire-reader.js';

export interface Known {
  /** `TensorProto.DataType`; undefined = not known. */
  readonly type: number | undefined;
  /** Its elements are sizes or indices: never negative. */
  readonly extent?: boolean;
  /** Its elements are all among these. */
  readonly constant?: TensorSkeleton | readonly number[] | undefined;
}

export const UNKNOWN: Known = { type: undefined };

const BOOLEAN_OPS = new Set(
  `And Equal Greater GreaterOrEqual IsInf IsNaN Less LessOrEqual Not Or RegexFullMatch Xor`.split(' '),
);
const INDEX_OPS = new Set(['ArgMax', 'ArgMin', 'NonMaxSuppression', 'NonZero', 'Shape', 'Size']);
/** Operators whose outputs after the first are indices. */
const INDEX_AFTER_FIRST_OPS = new Set(['MaxPool', 'TopK', 'Unique']);
/** Operators that choose or arrange elements of their first input. */
const MOVING_OPS = new Set(
  `Expand Flatten Gather GatherElements GatherND Identity Reshape Slice Split Squeeze Tile Transpose Unsqueeze`.split(
    ' ',
  ),
);
const TYPE_OF_INPUT: Readonly<Record<string, number>> = {
  CastLike: 1,
  DequantizeLinear: 1,
  OneHot: 2,
  QLinearConv: 7,
  QLinearMatMul: 7,
  QuantizeLinear: 2,
  Where: 1,
};
const FIXED_TYPE: Readonly<Record<string, number>> = { ConvInteger: ELEMENT.INT32, MatMulInteger: ELEMENT.INT32 };
/** Operators with a `dtype` attribute, and the type without it. */
const DTYPE_OPS: Readonly<Record<string, number | undefined>> = {
  Bernoulli: undefined,
  EyeLike: undefined,
  Multinomial: ELEMENT.INT32,
  RandomNormal: ELEMENT.FLOAT,
  RandomNormalLike: undefined,
  RandomUniform: ELEMENT.FLOAT,
  RandomUniformLike: undefined,
};

/** What is known of output `index` of a node without subgraphs, from what is known of its inputs. */
export function outputOf(node: NodeSkeleton, inputs: readonly Known[], index: number): Known {
  // Operators of other domains may give anything.
  if (node.domain !== '') return UNKNOWN;
  const { op } = node;
  const first = inputs[0] ?? UNKNOWN;
  if (op === 'Constant') return constantOf(node);
  if (op === 'ConstantOfShape')
    return { type: tensorAttribute(node)?.elementType ?? ELEMENT.FLOAT, constant: fillOf(node) };
  if (op === 'Cast') {
    const to = attribute(node, 'to')?.int || undefined;
    // A size may lose its high bits, and become negative, in anything narrower.
    return { type: to, extent: first.extent === true && to === ELEMENT.INT64 };
  }
  if (BOOLEAN_OPS.has(op)) return { type: ELEMENT.BOOL };
  if (INDEX_OPS.has(op) || (index > 0 && INDEX_AFTER_FIRST_OPS.has(op))) return { type: ELEMENT.INT64, extent: true };
  if (MOVING_OPS.has(op)) return first;
  if (op === 'Concat') return { type: first.type, extent: inputs.every((input) => input.extent === true) };
  if (op === 'Dropout' && index === 1) return { type: ELEMENT.BOOL };
  if (op === 'DynamicQuantizeLinear') return { type: index === 1 ? ELEMENT.FLOAT : ELEMENT.UINT8 };
  if (Object.hasOwn(FIXED_TYPE, op)) return { type: FIXED_TYPE[op] };
  if (Object.hasOwn(TYPE_OF_INPUT, op)) return { type: inputs[TYPE_OF_INPUT[op]!]?.type };
  if (Object.hasOwn(DTYPE_OPS, op)) return { type: attribute(node, 'dtype')?.int || (DTYPE_OPS[op] ?? first.type) };
  return { type: first.type };
}

export function attribute(node: NodeSkeleton, name: string) {
  return node.attributes.find((candidate) => candidate.name === name);
}

function tensorAttribute(node: NodeSkeleton): TensorSkeleton | undefined {
  return attribute(node, 'value')?.tensor;
}

function fillOf(node: NodeSkeleton): Known['constant'] {
  return tensorAttribute(node) ?? [0];
}

function constantOf(node: NodeSkeleton): Known {
  const tensor = tensorAttribute(node);
  if (tensor !== undefined) return { type: tensor.elementType || undefined, constant: tensor };
  const int = attribute(node, 'value_int')?.int;
  if (int !== undefined) return { type: ELEMENT.INT64, constant: [int] };
  const ints = attribute(node, 'value_ints')?.ints;
  if (ints !== undefined) return { type: ELEMENT.INT64, constant: ints };
  const string = attribute(node, 'value_string') ?? attribute(node, 'value_strings');
  return { type: string === undefined ? ELEMENT.FLOAT : ELEMENT.STRING };
}

/** Whether elements of an INT32 or INT64 value may be -1 (`minusOne`) or the type's smallest integer (`smallest`). */
export function mayHold(known: Known, type: number, what: 'minusOne' | 'smallest'): boolean {
  if (known.extent === true) return false;
  if (known.constant === undefined) return true;
  const wide = type === ELEMENT.INT64;
  if (Array.isArray(known.constant))
    return known.constant.includes(what === 'minusOne' ? -1 : wide ? -(2 ** 63) : -(2 ** 31));
  const tensor = known.constant as TensorSkeleton;
  // Elements elsewhere, or written in a form that no integer tensor has.
  if (tensor.external || (tensor.raw === undefined && tensor.packed.length === 0)) return true;
  const [low, high] = what === 'minusOne' ? [0xffffffff, 0xffffffff] : wide ? [0, 0x80000000] : [0x80000000, 0];
  for (const packed of tensor.packed) {
    for (const reader = new WireReader(packed); !reader.done; ) {
      reader.readVarint();
      if (reader.low === low && (!wide || reader.high === high)) return true;
    }
  }
  const raw = tensor.raw;
  if (raw === undefined) return false;
  const size = wide ? 8 : 4;
  for (let at = 0; at + size <= raw.length; at += size) {
    if (raw.readUInt32LE(at) === low && (!wide || raw.readUInt32LE(at + 4) === high)) return true;
  }
  return false;
}
