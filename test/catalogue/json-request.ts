/** Bodies of REST requests with one input, right but for what a case changes; and their binary form. */
import { type Case, restCase } from './case.js';

export interface JsonTensor {
  readonly name?: unknown;
  readonly datatype?: unknown;
  readonly shape?: unknown;
  readonly data?: unknown;
  readonly parameters?: unknown;
}

/** A request with one input, INPUT0 of FP32 [1,2] unless said otherwise. */
export const one = (input: JsonTensor = {}, request: object = {}): object => ({
  inputs: [{ name: 'INPUT0', datatype: 'FP32', shape: [1, 2], data: [1, 2], ...input }],
  ...request,
});

/** JSON and the bytes behind it; the header field says where one ends. */
export function binary(
  row: string,
  name: string,
  model: string,
  json: object,
  tail: Uint8Array,
  status: number,
  says?: RegExp,
): Case {
  const head = Buffer.from(JSON.stringify(json));
  const headers = { 'inference-header-content-length': String(head.length) };
  return restCase(row, `${name}, binary`, model, () => Buffer.concat([head, tail]), status, says, { headers });
}

export const binaryInput = (bytes: number, input: JsonTensor = {}): object => {
  const { data, ...rest } = { name: 'INPUT0', datatype: 'FP32', shape: [1, 2], data: undefined, ...input };
  return { inputs: [{ ...rest, parameters: { binary_data_size: bytes } }] };
};
