/**
 * Element views over raw tensor bytes, and the layout of BYTES elements.
 *
 * Called by the engine (row boundaries) and by the workers (views for ONNX Runtime). Copies nothing but strings.
 */
import type { Datatype } from '../base/datatype.js';

export type ElementArray =
  | Uint8Array
  | Uint16Array
  | Uint32Array
  | BigUint64Array
  | Int8Array
  | Int16Array
  | Int32Array
  | BigInt64Array
  | Float32Array
  | Float64Array;

/**
 * A view of `byteLength` bytes at `offset` as elements of `datatype`; `offset` must be a multiple of the element size.
 * BOOL and BYTES are bytes; FP16 and BF16 are their 16 bits.
 */
export function elementView(
  buffer: ArrayBufferLike,
  datatype: Datatype,
  offset: number,
  byteLength: number,
): ElementArray {
  switch (datatype) {
    case 'BOOL':
    case 'UINT8':
    case 'BYTES':
      return new Uint8Array(buffer, offset, byteLength);
    case 'INT8':
      return new Int8Array(buffer, offset, byteLength);
    case 'UINT16':
    case 'FP16':
    case 'BF16':
      return new Uint16Array(buffer, offset, byteLength / 2);
    case 'INT16':
      return new Int16Array(buffer, offset, byteLength / 2);
    case 'UINT32':
      return new Uint32Array(buffer, offset, byteLength / 4);
    case 'INT32':
      return new Int32Array(buffer, offset, byteLength / 4);
    case 'FP32':
      return new Float32Array(buffer, offset, byteLength / 4);
    case 'UINT64':
      return new BigUint64Array(buffer, offset, byteLength / 8);
    case 'INT64':
      return new BigInt64Array(buffer, offset, byteLength / 8);
    case 'FP64':
      return new Float64Array(buffer, offset, byteLength / 8);
    default:
      return datatype satisfies never;
  }
}

/** Length of the BYTES element that starts at `at`: a little-endian uint32. The caller has checked that 4 bytes are there. */
export function bytesElementLength(bytes: Uint8Array, at: number): number {
  return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;
}

/** Where `count` BYTES elements that start at `at` end. The layout has been validated. */
export function skipBytesElements(bytes: Uint8Array, at: number, count: number): number {
  let end = at;
  for (let i = 0; i < count; i++) end += 4 + bytesElementLength(bytes, end);
  return end;
}
