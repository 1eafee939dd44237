/**
 * Tensors as the caller gives and gets them, and their raw layout: little-endian, row-major, BOOL one byte, each BYTES element after its
 * length in four bytes. It is what gRPC's raw contents and REST's binary extension both carry.
 *
 * Called by the codecs of both transports. What can't be right is refused here, before anything is sent. Must not know a protocol.
 */
import { copyBytes } from '../base/copy-bytes.js';
import { DATATYPES, type Datatype } from '../base/datatype.js';
import { textBytes } from '../base/wire-writer.js';
import { ClientError, refusal } from './client-error.js';
import type { InputTensor, TensorData } from './types.js';

/** Elements that lie in one piece of memory; all but BYTES. */
export type NumericData = Exclude<TensorData, readonly (string | Uint8Array)[]>;

/** Bytes before each element of BYTES. */
const LENGTH_BYTES = 4;
/** Largest element and tensor of the protocols' 32-bit lengths. */
const MAX_BYTES = 0x7fff_ffff;

interface ArrayKind {
  readonly name: string;
  /** The first is what such an array is without a datatype. */
  readonly datatypes: readonly Datatype[];
}

/** By `Symbol.toStringTag`, which a Buffer shares with Uint8Array and which no other realm's array lacks. */
const ARRAYS: ReadonlyMap<string, ArrayKind> = new Map(
  (
    [
      ['Uint8Array', ['UINT8', 'BOOL']],
      ['Uint16Array', ['UINT16', 'FP16', 'BF16']],
      ['Uint32Array', ['UINT32']],
      ['BigUint64Array', ['UINT64']],
      ['Int8Array', ['INT8']],
      ['Int16Array', ['INT16']],
      ['Int32Array', ['INT32']],
      ['BigInt64Array', ['INT64']],
      ['Float32Array', ['FP32']],
      ['Float64Array', ['FP64']],
    ] as const
  ).map(([name, datatypes]) => [name, { name, datatypes }]),
);

const ARRAY_OF: ReadonlyMap<Datatype, string> = new Map(
  [...ARRAYS.values()].flatMap(({ name, datatypes }) => datatypes.map((datatype) => [datatype, name] as const)),
);

export function isBytesData(data: TensorData): data is readonly (string | Uint8Array)[] {
  return Array.isArray(data);
}

/** Whether `name` is a datatype of the protocol. */
export function isDatatype(name: string): name is Datatype {
  return Object.hasOwn(DATATYPES, name);
}

/** Product of the dimensions; 1 for a scalar's empty shape. */
export function elementCount(shape: readonly number[]): number {
  let count = 1;
  for (const dim of shape) count *= dim;
  return count;
}

/**
 * The tensor's datatype, once everything about it fits together: array and datatype, shape and number of elements. Throws a local
 * INVALID_ARGUMENT that names the tensor, what was expected and what is there.
 */
export function checkTensor(tensor: InputTensor): Datatype {
  const { name, shape, data } = tensor;
  if (typeof name !== 'string' || name === '') throw refusal('an input has no name');
  const datatype = datatypeOf(tensor);
  if (!Array.isArray(shape)) throw refusal(`input '${name}' has no shape, expected an array of dimensions`);
  for (const dim of shape) {
    if (!Number.isSafeInteger(dim) || dim < 0)
      throw refusal(
        `shape [${shape.join(',')}] of input '${name}' has a dimension ${dim}, expected integers from 0 up`,
      );
  }
  const count = elementCount(shape);
  if (count !== data.length) {
    const elements = data.length === 1 ? '1 element' : `${data.length} elements`;
    throw refusal(`input '${name}' has ${elements}, its shape [${shape.join(',')}] says ${count}`);
  }
  return datatype;
}

/** The datatype that the caller says or, where none is said, that the array is. Throws a local INVALID_ARGUMENT where they disagree. */
function datatypeOf({ name, datatype, data }: InputTensor): Datatype {
  if (datatype !== undefined && !isDatatype(datatype))
    throw refusal(`input '${name}' has datatype '${datatype}', expected one of ${Object.keys(DATATYPES).join(', ')}`);
  if (Array.isArray(data)) {
    if (datatype !== undefined && datatype !== 'BYTES')
      throw refusal(
        `input '${name}' of datatype ${datatype} has a plain array, as BYTES have, expected ${expectedArray(datatype)}`,
      );
    checkElements(name, data);
    return 'BYTES';
  }
  const kind = ARRAYS.get((data as NumericData | undefined)?.[Symbol.toStringTag] ?? '');
  if (kind === undefined)
    throw refusal(`data of input '${name}' is ${kindOf(data)}, expected ${expectedArray(datatype)}`);
  if (isDetached(data as NumericData))
    throw refusal(`data of input '${name}' is gone: its ArrayBuffer was transferred to somebody else`);
  if (datatype === undefined) return kind.datatypes[0]!;
  if (kind.datatypes.includes(datatype)) return datatype;
  throw refusal(`input '${name}' of datatype ${datatype} has a ${kind.name}, expected ${expectedArray(datatype)}`);
}

function expectedArray(datatype: Datatype | undefined): string {
  if (datatype === undefined) return 'a typed array, such as Float32Array, or an array of strings and byte arrays';
  return datatype === 'BYTES' ? 'an array of strings or byte arrays' : `a ${ARRAY_OF.get(datatype)}`;
}

function kindOf(data: unknown): string {
  if (typeof data !== 'object' || data === null) return data === null ? 'null' : typeof data;
  return `of type ${Object.prototype.toString.call(data).slice('[object '.length, -1)}`;
}

/** Arrays have no elements any more once their memory belongs to another thread. */
function isDetached({ length, buffer }: NumericData): boolean {
  return length === 0 && buffer instanceof ArrayBuffer && buffer.detached;
}

function checkElements(name: string, elements: readonly unknown[]): void {
  for (let index = 0; index < elements.length; index++) {
    const element = elements[index];
    if (typeof element === 'string' || element instanceof Uint8Array) continue;
    const actual = element === null ? 'null' : typeof element;
    const hint =
      actual === 'number' || actual === 'bigint' ? ': numbers go in a typed array, such as Float32Array' : '';
    throw refusal(`element ${index} of input '${name}' is ${actual}, expected a string or Uint8Array${hint}`);
  }
}

/** The array's memory, not copied. */
export function byteView(data: NumericData): Uint8Array {
  return data instanceof Uint8Array ? data : new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

/** Bytes of the raw layout. Throws a local INVALID_ARGUMENT when no message can hold them. */
export function rawBytes(data: TensorData): number {
  let total = 0;
  if (isBytesData(data)) for (const element of data) total += LENGTH_BYTES + bytesOfElement(element);
  else total = data.byteLength;
  if (total > MAX_BYTES) throw refusal(`an input of ${total} bytes is beyond the ${MAX_BYTES} that a message can hold`);
  return total;
}

/** Bytes of one element of BYTES, without its length. */
export function bytesOfElement(element: string | Uint8Array): number {
  return typeof element === 'string' ? textBytes(element) : element.byteLength;
}

/** Writes the raw layout at `at`; returns where it ends. The one copy that a request makes of its tensors. */
export function writeRaw(target: Buffer, data: TensorData, at: number): number {
  if (!isBytesData(data)) return copyBytes(target, byteView(data), at);
  let pos = at;
  for (const element of data) {
    const end =
      typeof element === 'string'
        ? pos + LENGTH_BYTES + target.write(element, pos + LENGTH_BYTES, 'utf8')
        : copyBytes(target, element, pos + LENGTH_BYTES);
    target.writeUInt32LE(end - pos - LENGTH_BYTES, pos);
    pos = end;
  }
  return pos;
}

/**
 * Elements from the raw layout of an output: a view on `raw` where its address is a multiple of the element's size, else a copy; BYTES
 * elements are always views. Throws INTERNAL when the bytes aren't as many as the shape says: the server is at fault then.
 */
export function fromRaw(name: string, datatype: Datatype, shape: readonly number[], raw: Uint8Array): TensorData {
  const count = elementCount(shape);
  if (datatype === 'BYTES') return splitElements(name, count, raw);
  const { byteSize } = DATATYPES[datatype];
  if (count * byteSize !== raw.byteLength) {
    throw new ClientError(
      'INTERNAL',
      `output '${name}' has ${raw.byteLength} bytes, ${datatype} of shape [${shape.join(',')}] takes ${count * byteSize}`,
    );
  }
  const { buffer, byteOffset } = raw.byteOffset % byteSize === 0 ? raw : aligned(raw);
  return viewOf(datatype, buffer, byteOffset, count);
}

/** A copy of its own, whose address is a multiple of 8. */
function aligned(raw: Uint8Array): Uint8Array {
  const copy = Buffer.allocUnsafeSlow(raw.byteLength);
  copy.set(raw);
  return copy;
}

/** `count` elements in `buffer`. `byteOffset` must be a multiple of the element's size. */
export function viewOf(datatype: Datatype, buffer: ArrayBufferLike, byteOffset: number, count: number): NumericData {
  switch (datatype) {
    case 'BOOL':
    case 'UINT8':
      return new Uint8Array(buffer, byteOffset, count);
    case 'UINT16':
    case 'FP16':
    case 'BF16':
      return new Uint16Array(buffer, byteOffset, count);
    case 'UINT32':
      return new Uint32Array(buffer, byteOffset, count);
    case 'UINT64':
      return new BigUint64Array(buffer, byteOffset, count);
    case 'INT8':
      return new Int8Array(buffer, byteOffset, count);
    case 'INT16':
      return new Int16Array(buffer, byteOffset, count);
    case 'INT32':
      return new Int32Array(buffer, byteOffset, count);
    case 'INT64':
      return new BigInt64Array(buffer, byteOffset, count);
    case 'FP32':
      return new Float32Array(buffer, byteOffset, count);
    case 'FP64':
      return new Float64Array(buffer, byteOffset, count);
    case 'BYTES':
      throw new TypeError('BYTES is no array of numbers');
    default:
      throw new TypeError(`no array for ${datatype satisfies never}`);
  }
}

function splitElements(name: string, count: number, raw: Uint8Array): Uint8Array[] {
  const bytes = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  const elements: Uint8Array[] = [];
  let pos = 0;
  while (pos < raw.byteLength) {
    const start = pos + LENGTH_BYTES;
    const end = start <= raw.byteLength ? start + bytes.getUint32(pos, true) : start;
    if (end > raw.byteLength)
      throw new ClientError('INTERNAL', `output '${name}' ends inside its element ${elements.length}`);
    elements.push(new Uint8Array(raw.buffer, raw.byteOffset + start, end - start));
    pos = end;
  }
  if (elements.length !== count)
    throw new ClientError('INTERNAL', `output '${name}' has ${elements.length} elements, its shape says ${count}`);
  return elements;
}
