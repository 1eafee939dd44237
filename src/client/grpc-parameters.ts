/**
 * `map<string, InferParameter>` on the wire: what requests say beside their tensors, and what answers do.
 *
 * Called by the gRPC codecs. An integer travels as int64 (as uint64 beyond), any other number as a double. Must not know a parameter.
 */
import { readInferParameterValue } from '../base/wire-parameter.js';
import { FIXED64, VARINT, type WireReader } from '../base/wire-reader.js';
import { textBytes, varintBytes, WireWriter } from '../base/wire-writer.js';
import { ClientError } from './client-error.js';
import type { ParameterValue } from './types.js';

const NOTHING = new Uint8Array(0);
const MIN_INT64 = -(2n ** 63n);
const MAX_INT64 = 2n ** 63n - 1n;
const MAX_UINT64 = 2n ** 64n - 1n;

/** The map's entries as whole fields with tag `tag`. `owner` names whose they are. Throws a local INVALID_ARGUMENT. */
export function encodeParameters(
  tag: number,
  parameters: Readonly<Record<string, ParameterValue>> | undefined,
  owner: string,
): Uint8Array {
  if (parameters === undefined) return NOTHING;
  const entries = Object.entries(parameters);
  return entries.length === 0
    ? NOTHING
    : Buffer.concat(entries.map(([key, value]) => entry(tag, key, encodeValue(key, value, owner))));
}

function entry(tag: number, key: string, value: Uint8Array): Uint8Array {
  const keyBytes = textBytes(key);
  const length = delimited(keyBytes) + delimited(value.byteLength);
  const field = Buffer.allocUnsafe(delimited(length));
  const writer = new WireWriter(field, 0);
  writer.head(tag, length);
  writer.head(10, keyBytes);
  field.write(key, writer.place(keyBytes), 'utf8');
  writer.head(18, value.byteLength);
  writer.bytes(value);
  writer.finish(0, field.length);
  return field;
}

/** Size of a delimited field with a tag of one byte. */
function delimited(length: number): number {
  return 1 + varintBytes(length) + length;
}

/** An InferParameter. */
function encodeValue(key: string, value: ParameterValue, owner: string): Uint8Array {
  switch (typeof value) {
    case 'boolean':
      return Uint8Array.of((1 << 3) | VARINT, value ? 1 : 0);
    case 'bigint':
      return integer(key, value);
    case 'number':
      return Number.isSafeInteger(value) && !Object.is(value, -0) ? integer(key, BigInt(value)) : double(value);
    case 'string':
      return text(value);
    default:
      throw new ClientError(
        'INVALID_ARGUMENT',
        `parameter '${key}' of ${owner} is ${value === null ? 'null' : typeof value}, expected a boolean, number, bigint or string`,
        { local: true },
      );
  }
}

function integer(key: string, value: bigint): Uint8Array {
  if (value < MIN_INT64 || value > MAX_UINT64)
    throw new ClientError('INVALID_ARGUMENT', `parameter '${key}' is ${value}, beyond 64 bits`, { local: true });
  const bytes = [((value > MAX_INT64 ? 5 : 2) << 3) | VARINT];
  let rest = BigInt.asUintN(64, value);
  for (; rest >= 0x80n; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  bytes.push(Number(rest));
  return Uint8Array.from(bytes);
}

function double(value: number): Uint8Array {
  const bytes = Buffer.allocUnsafe(9);
  bytes[0] = (4 << 3) | FIXED64;
  bytes.writeDoubleLE(value, 1);
  return bytes;
}

function text(value: string): Uint8Array {
  const length = textBytes(value);
  const bytes = Buffer.allocUnsafe(delimited(length));
  const writer = new WireWriter(bytes, 0);
  writer.head(26, length);
  bytes.write(value, writer.place(length), 'utf8');
  writer.finish(0, bytes.length);
  return bytes;
}

/** Reads one entry and sets it in `parameters`; one without a value is none. */
export function readParameter(reader: WireReader, parameters: Record<string, ParameterValue>): void {
  const outer = reader.enter();
  let key = '';
  let value: ParameterValue | undefined;
  while (reader.pos < reader.limit) {
    const tag = reader.tag();
    if (tag === 10) key = reader.text();
    else if (tag === 18) value = readInferParameterValue(reader) ?? value;
    else reader.skip(tag);
  }
  reader.leave(outer);
  if (value !== undefined) parameters[key] = value;
}
