/**
 * Writes `InferTensorContents`: tensors as fields of numbers, for servers that don't take raw bytes and for comparing the two.
 *
 * Called by grpc-encode.ts with tensors that have been checked. Floats are one packed run, which is the raw layout; integers are varints,
 * written one by one.
 */
import type { Datatype } from '../base/datatype.js';
import { DELIMITED } from '../base/wire-reader.js';
import { varintBytes, WireWriter } from '../base/wire-writer.js';
import { ClientError } from './client-error.js';
import { bytesOfElement, byteView, type NumericData } from './tensor.js';
import type { InputTensor, TensorData } from './types.js';

/** Field of InferTensorContents by datatype; FP16 and BF16 have none. */
export const TYPED_FIELDS: Readonly<Partial<Record<Datatype, number>>> = {
  BOOL: 1,
  INT8: 2,
  INT16: 2,
  INT32: 2,
  INT64: 3,
  UINT8: 4,
  UINT16: 4,
  UINT32: 4,
  UINT64: 5,
  FP32: 6,
  FP64: 7,
  BYTES: 8,
};
export const BYTES_FIELD = 8;

/** Bytes of the contents. Throws a local INVALID_ARGUMENT for a datatype that has no field. */
export function typedBytes(input: InputTensor, datatype: Datatype): number {
  const { data } = input;
  const field = TYPED_FIELDS[datatype];
  if (field === undefined) {
    throw new ClientError(
      'INVALID_ARGUMENT',
      `input '${input.name}' is ${datatype}, which typed contents have no field for: use the encoding 'raw'`,
      { local: true },
    );
  }
  if (field === BYTES_FIELD) {
    let total = 0;
    for (const element of data as readonly (string | Uint8Array)[]) {
      const length = bytesOfElement(element);
      total += 1 + varintBytes(length) + length;
    }
    return total;
  }
  const packed = packedBytes(data as NumericData, datatype);
  return packed === 0 ? 0 : 1 + varintBytes(packed) + packed;
}

/** Bytes of the elements in one packed field. */
function packedBytes(data: NumericData, datatype: Datatype): number {
  switch (datatype) {
    case 'FP32':
    case 'FP64':
      return data.byteLength;
    case 'BOOL':
      return data.length;
    case 'INT64':
    case 'UINT64':
      return longBytes(words(data));
    default: {
      let total = 0;
      const integers = data as Int32Array;
      // A negative integer is written with the sign in all 64 bits.
      for (let index = 0; index < integers.length; index++)
        total += integers[index]! < 0 ? 10 : varintBytes(integers[index]!);
      return total;
    }
  }
}

/** Low and high half of each 64-bit element; the hosts we run on are little-endian. */
export function words(data: NumericData): Uint32Array {
  return new Uint32Array(data.buffer, data.byteOffset, data.byteLength >>> 2);
}

function longBytes(halves: Uint32Array): number {
  let total = 0;
  for (let index = 0; index < halves.length; index += 2) {
    const hi = halves[index + 1]!;
    if (hi === 0) total += varintBytes(halves[index]!);
    // 4 of the first 32 bits are in the fifth byte.
    else total += hi < 8 ? 5 : 5 + Math.ceil((32 - Math.clz32(hi) - 3) / 7);
  }
  return total;
}

export interface TypedData {
  readonly data: TensorData;
  readonly datatype: Datatype;
  /** As `typedBytes` said. */
  readonly length: number;
}

/** Writes the contents at `at`. */
export function writeTyped(target: Buffer, at: number, { data, datatype, length }: TypedData): void {
  if (length === 0) return;
  const writer = new WireWriter(target, at);
  const field = TYPED_FIELDS[datatype]!;
  const tag = (field << 3) | DELIMITED;
  if (field === BYTES_FIELD) {
    for (const element of data as readonly (string | Uint8Array)[]) {
      const bytes = bytesOfElement(element);
      writer.head(tag, bytes);
      if (typeof element === 'string') target.write(element, writer.place(bytes), 'utf8');
      else writer.bytes(element);
    }
  } else writePacked(writer, target, { tag, data: data as NumericData, datatype });
  writer.finish(at, length);
}

function writePacked(
  writer: WireWriter,
  target: Buffer,
  { tag, data, datatype }: { readonly tag: number; readonly data: NumericData; readonly datatype: Datatype },
): void {
  const packed = packedBytes(data, datatype);
  writer.head(tag, packed);
  if (datatype === 'FP32' || datatype === 'FP64') writer.bytes(byteView(data));
  else if (datatype === 'BOOL') writeBools(target, writer.place(packed), data as Uint8Array);
  else if (datatype === 'INT64' || datatype === 'UINT64') writeLongs(target, writer.place(packed), words(data));
  else writeIntegers(target, writer.place(packed), data as Int32Array);
}

function writeBools(target: Buffer, at: number, data: Uint8Array): void {
  for (let index = 0; index < data.length; index++) target[at + index] = data[index] === 0 ? 0 : 1;
}

function writeIntegers(target: Buffer, at: number, data: Int32Array): void {
  let pos = at;
  for (let index = 0; index < data.length; index++) {
    let rest = data[index]!;
    if (rest < 0) {
      pos = writeNegative(target, pos, rest);
      continue;
    }
    for (; rest >= 0x80; rest >>>= 7) target[pos++] = (rest & 0x7f) | 0x80;
    target[pos++] = rest;
  }
}

/** A negative integer as the 64 bits it is on the wire: its own 32, then 32 of sign. */
function writeNegative(target: Buffer, at: number, value: number): number {
  let pos = at;
  let rest = value;
  for (let bytes = 0; bytes < 5; bytes++, rest >>= 7) target[pos++] = (rest & 0x7f) | 0x80;
  for (let bytes = 0; bytes < 4; bytes++) target[pos++] = 0xff;
  target[pos++] = 1;
  return pos;
}

function writeLongs(target: Buffer, at: number, halves: Uint32Array): void {
  let pos = at;
  for (let index = 0; index < halves.length; index += 2) {
    let lo = halves[index]!;
    let hi = halves[index + 1]!;
    while (hi !== 0 || lo >= 0x80) {
      target[pos++] = (lo & 0x7f) | 0x80;
      lo = ((lo >>> 7) | (hi << 25)) >>> 0;
      hi >>>= 7;
    }
    target[pos++] = lo;
  }
}
