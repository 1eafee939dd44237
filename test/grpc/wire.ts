/** The protobuf wire format written by hand, so that tests can also write what no library would. */

export function varint(value: number | bigint): Buffer {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  for (; rest >= 0x80n; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  bytes.push(Number(rest));
  return Buffer.from(bytes);
}

export function tag(field: number, wireType: number): Buffer {
  return varint(field * 8 + wireType);
}

export function integer(field: number, value: number | bigint): Buffer {
  return Buffer.concat([tag(field, 0), varint(value)]);
}

export function delimited(field: number, ...body: (Uint8Array | string)[]): Buffer {
  const bytes = Buffer.concat(body.map((part) => (typeof part === 'string' ? Buffer.from(part) : part)));
  return Buffer.concat([tag(field, 2), varint(bytes.length), bytes]);
}

export function fixed32(field: number, value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return Buffer.concat([tag(field, 5), bytes]);
}

export function fixed64(field: number, value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleLE(value);
  return Buffer.concat([tag(field, 1), bytes]);
}

/** `unit` over and over, up to `bytes` bytes. */
export function repeat(unit: Uint8Array, bytes: number): Buffer {
  return Buffer.alloc(Math.floor(bytes / unit.length) * unit.length, unit);
}

/** An InferInputTensor as a field of the request. */
export function input(name: string, datatype: string, ...fields: Uint8Array[]): Buffer {
  return delimited(5, delimited(1, name), delimited(2, datatype), ...fields);
}

/** Contents as a field of an InferInputTensor. */
export function contents(...fields: Uint8Array[]): Buffer {
  return delimited(5, ...fields);
}
