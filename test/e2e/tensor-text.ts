/**
 * Tensors between the protocol's raw layout and the two textual forms that clients write: JSON elements, and typed gRPC contents.
 *
 * Called by `arms.ts` and by tests. Written against the protocol and not with the server's own codecs, which it helps to test.
 */
import type { Datatype } from '../../src/base/datatype.js';

type Numeric = Exclude<Datatype, 'BYTES' | 'FP16' | 'BF16'>;

interface Element {
  readonly size: number;
  readonly field: string;
  get(view: DataView, at: number): number | bigint | boolean;
  set(view: DataView, at: number, token: string): void;
}

const element = (
  size: number,
  field: string,
  get: Element['get'],
  set: (view: DataView, at: number, token: string) => void,
): Element => ({ size, field, get, set });

const ELEMENTS: Readonly<Record<Numeric, Element>> = {
  BOOL: element(
    1,
    'bool_contents',
    (v, i) => v.getUint8(i) !== 0,
    (v, i, t) => v.setUint8(i, Number(t === 'true')),
  ),
  UINT8: element(
    1,
    'uint_contents',
    (v, i) => v.getUint8(i),
    (v, i, t) => v.setUint8(i, Number(t)),
  ),
  UINT16: element(
    2,
    'uint_contents',
    (v, i) => v.getUint16(i, true),
    (v, i, t) => v.setUint16(i, Number(t), true),
  ),
  UINT32: element(
    4,
    'uint_contents',
    (v, i) => v.getUint32(i, true),
    (v, i, t) => v.setUint32(i, Number(t), true),
  ),
  UINT64: element(
    8,
    'uint64_contents',
    (v, i) => v.getBigUint64(i, true),
    (v, i, t) => v.setBigUint64(i, BigInt(t), true),
  ),
  INT8: element(
    1,
    'int_contents',
    (v, i) => v.getInt8(i),
    (v, i, t) => v.setInt8(i, Number(t)),
  ),
  INT16: element(
    2,
    'int_contents',
    (v, i) => v.getInt16(i, true),
    (v, i, t) => v.setInt16(i, Number(t), true),
  ),
  INT32: element(
    4,
    'int_contents',
    (v, i) => v.getInt32(i, true),
    (v, i, t) => v.setInt32(i, Number(t), true),
  ),
  INT64: element(
    8,
    'int64_contents',
    (v, i) => v.getBigInt64(i, true),
    (v, i, t) => v.setBigInt64(i, BigInt(t), true),
  ),
  FP32: element(
    4,
    'fp32_contents',
    (v, i) => v.getFloat32(i, true),
    (v, i, t) => v.setFloat32(i, Number(t), true),
  ),
  FP64: element(
    8,
    'fp64_contents',
    (v, i) => v.getFloat64(i, true),
    (v, i, t) => v.setFloat64(i, Number(t), true),
  ),
};

/** Elements of raw numbers, one by one; FP16 and BF16 have no textual form. */
function numbers(datatype: Datatype, raw: Uint8Array): (number | bigint | boolean)[] {
  const { size, get } = ELEMENTS[datatype as Numeric];
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  return Array.from({ length: raw.byteLength / size }, (_, i) => get(view, i * size));
}

/** The strings of a raw BYTES tensor. */
export function rawToStrings(raw: Uint8Array): Buffer[] {
  const bytes = Buffer.from(raw.buffer, raw.byteOffset, raw.byteLength);
  const strings: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const end = at + 4 + bytes.readUInt32LE(at);
    strings.push(bytes.subarray(at + 4, end));
    at = end;
  }
  return strings;
}

/** A raw BYTES tensor of these strings. */
export function stringsToRaw(strings: readonly (string | Uint8Array)[]): Buffer {
  return Buffer.concat(
    strings.flatMap((text) => {
      const bytes = Buffer.from(text as string);
      const length = Buffer.alloc(4);
      length.writeUInt32LE(bytes.length);
      return [length, bytes];
    }),
  );
}

/** The `data` array of an input in JSON, with `NaN` and its like as bare words and every integer exact. */
export function rawToJson(datatype: Datatype, raw: Uint8Array): string {
  if (datatype === 'BYTES') return `[${rawToStrings(raw).map((bytes) => JSON.stringify(bytes.toString()))}]`;
  return `[${numbers(datatype, raw).map((value) => (Object.is(value, -0) ? '-0' : String(value)))}]`;
}

/** The raw form of a reply's elements: numbers as the text they were written in (`12`, `-0`, `NaN`, `true`), BYTES as strings. */
export function elementsToRaw(datatype: Datatype, elements: readonly string[]): Buffer {
  if (datatype === 'BYTES') return stringsToRaw(elements);
  const { size, set } = ELEMENTS[datatype as Numeric];
  const raw = Buffer.alloc(elements.length * size);
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  elements.forEach((token, i) => {
    set(view, i * size, token);
  });
  return raw;
}

/** `InferTensorContents` of a tensor. */
export function rawToContents(datatype: Datatype, raw: Uint8Array): object {
  if (datatype === 'BYTES') return { bytes_contents: rawToStrings(raw) };
  const values = numbers(datatype, raw);
  // proto-loader takes 64-bit integers as text.
  return {
    [ELEMENTS[datatype as Numeric].field]: values.map((value) => (typeof value === 'bigint' ? `${value}` : value)),
  };
}
