/** Inference requests of both gRPC packages and of REST, put together piece by piece, so that any piece can be wrong. */
import { delimited, integer, tag, varint } from '../grpc/wire.js';

export type Bytes = Uint8Array;
export type Dims = readonly (number | bigint)[];

/** `inference.ModelInferRequest`. */
export function infer(model: string | Bytes, ...fields: Bytes[]): Buffer {
  return Buffer.concat([delimited(1, model), ...fields]);
}

/** An InferInputTensor. */
export function tensor(name: string | Bytes, datatype: string, shape: Dims, ...fields: Bytes[]): Buffer {
  return delimited(5, delimited(1, name), delimited(2, datatype), packedShape(3, shape), ...fields);
}

export function packedShape(field: number, shape: Dims): Buffer {
  return shape.length === 0 ? Buffer.alloc(0) : delimited(field, ...shape.map((dim) => varint(dim)));
}

/** A raw_input_contents entry. */
export function raw(bytes: Bytes): Buffer {
  return delimited(7, bytes);
}

/** The contents of an InferInputTensor. */
export function contents(...fields: Bytes[]): Buffer {
  return delimited(5, ...fields);
}

/** An InferRequestedOutputTensor. */
export function output(name: string, ...fields: Bytes[]): Buffer {
  return delimited(6, delimited(1, name), ...fields);
}

/** A parameter of the request (field 4 there, in an input too; 2 in an output). */
export function parameter(key: string | Bytes, value: Bytes, field = 4): Buffer {
  return delimited(field, delimited(1, key), delimited(2, value));
}

export const boolValue = (value: boolean): Buffer => integer(1, value ? 1 : 0);
export const intValue = (value: number | bigint): Buffer => integer(2, value);
export const textValue = (value: string): Buffer => delimited(3, value);
export const uintValue = (value: number | bigint): Buffer => integer(5, value);

/** `inference.v1.ModelInferRequest`. */
export function inferV1(model: string | Bytes, ...fields: Bytes[]): Buffer {
  return Buffer.concat([delimited(1, model), ...fields]);
}

/** A `inference.v1.TensorData` input. */
export function tensorV1(name: string, datatype: string, shape: Dims, data: Bytes, ...fields: Bytes[]): Buffer {
  return delimited(3, delimited(1, name), packedShape(2, shape), delimited(3, datatype), delimited(4, data), ...fields);
}

/** One BYTES element in the raw layout. */
export function element(text: string | Bytes): Buffer {
  const bytes = Buffer.from(text as string);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(bytes.length);
  return Buffer.concat([length, bytes]);
}

export const fp32 = (...values: number[]): Buffer => Buffer.from(Float32Array.from(values).buffer);
export const int32 = (...values: number[]): Buffer => Buffer.from(Int32Array.from(values).buffer);
export const int64 = (...values: (number | bigint)[]): Buffer =>
  Buffer.from(BigInt64Array.from(values.map(BigInt)).buffer);

/** What model `simple` takes: two INT32 tensors [1,16]. */
export function simpleInputs(): Buffer[] {
  return [tensor('INPUT0', 'INT32', [1, 16]), tensor('INPUT1', 'INT32', [1, 16])];
}

const SIXTEEN = int32(...Array.from({ length: 16 }, (_, i) => i));

/** A request that model `simple` answers, with `fields` more. */
export function goodInfer(...fields: Bytes[]): Buffer {
  return infer('simple', ...simpleInputs(), raw(SIXTEEN), raw(SIXTEEN), ...fields);
}

export function goodInferV1(...fields: Bytes[]): Buffer {
  const input = (name: string) => tensorV1(name, 'INT32', [1, 16], SIXTEEN);
  return inferV1('simple', input('INPUT0'), input('INPUT1'), ...fields);
}

/** The same in JSON, with members of the request and of INPUT0 added or replaced. */
export function goodJson(request: object = {}, input0: object = {}): Record<string, unknown> {
  const data = Array.from({ length: 16 }, (_, i) => i);
  const input = { datatype: 'INT32', shape: [1, 16], data };
  return {
    inputs: [
      { name: 'INPUT0', ...input, ...input0 },
      { name: 'INPUT1', ...input },
    ],
    ...request,
  };
}

/** A varint of `bytes` bytes, the last one `last`. */
export function longVarint(bytes: number, last: number): Buffer {
  return Buffer.concat([Buffer.alloc(bytes - 1, 0xff), Buffer.from([last])]);
}

export { delimited, integer, tag, varint };
