/**
 * An infer request as the body of a POST: JSON, or JSON with the tensors' bytes behind it (the binary tensor extension).
 *
 * Called by `rest-client.ts` and by the bench, which measures it. One body is one piece of memory; a tensor is copied into it once or
 * printed once. Must not know a connection.
 */
import { isUtf8 } from 'node:buffer';
import type { Datatype } from '../base/datatype.js';
import { ClientError } from './client-error.js';
import { checkTensor, isBytesData, type NumericData, rawBytes, writeRaw } from './tensor.js';
import type { InferRequest, InputTensor, ParameterValue } from './types.js';

export type RestEncoding = 'binary' | 'json';

export interface EncodedBody {
  readonly body: Buffer;
  /** `content-type`, and with binary tensors where they begin. */
  readonly headers: Record<string, string>;
}

/**
 * The body and what its headers must say. `binary` asks for binary outputs as well, `json` for JSON. Throws a local INVALID_ARGUMENT for
 * a tensor that isn't one (see `checkTensor`) and for what JSON can't carry: FP16, BF16, BYTES that are no UTF-8.
 */
export function encodeInferBody(request: InferRequest, encoding: RestEncoding): EncodedBody {
  return encoding === 'binary' ? encodeBinary(request) : encodeJson(request);
}

function encodeBinary(request: InferRequest): EncodedBody {
  let tensorBytes = 0;
  const inputs = request.inputs.map((input) => {
    const head = inputHead(input, checkTensor(input));
    const size = rawBytes(input.data);
    tensorBytes += size;
    return `${head},"parameters":{"binary_data_size":${size}}}`;
  });
  const head = requestText(request, inputs, true);
  const headBytes = Buffer.byteLength(head);
  const body = Buffer.allocUnsafe(headBytes + tensorBytes);
  let at = body.write(head, 0);
  for (const { data } of request.inputs) at = writeRaw(body, data, at);
  return {
    body,
    headers: { 'content-type': 'application/octet-stream', 'inference-header-content-length': String(headBytes) },
  };
}

function encodeJson(request: InferRequest): EncodedBody {
  const inputs = request.inputs.map((input) => {
    const datatype = checkTensor(input);
    return `${inputHead(input, datatype)},"data":${dataText(input, datatype)}}`;
  });
  const body = Buffer.from(requestText(request, inputs, false));
  return { body, headers: { 'content-type': 'application/json' } };
}

function inputHead({ name, shape }: InputTensor, datatype: Datatype): string {
  return `{"name":${quote(name)},"shape":[${shape.join(',')}],"datatype":"${datatype}"`;
}

function requestText(request: InferRequest, inputs: readonly string[], binary: boolean): string {
  const { id, outputs = [], parameters = {} } = request;
  // It speaks of outputs that are not listed; those that are say it themselves.
  const all = binary && outputs.length === 0 ? { ...parameters, binary_data_output: true } : parameters;
  const members: string[] = [];
  if (id) members.push(`"id":${quote(id)}`);
  if (Object.keys(all).length > 0) members.push(`"parameters":${parametersText(all)}`);
  members.push(`"inputs":[${inputs.join(',')}]`);
  if (outputs.length > 0) members.push(`"outputs":[${outputs.map((output) => outputText(output, binary)).join(',')}]`);
  return `{${members.join(',')}}`;
}

function outputText(output: NonNullable<InferRequest['outputs']>[number], binary: boolean): string {
  const { name, classification } =
    typeof output === 'string' ? { name: output } : { classification: undefined, ...output };
  const parameters: Record<string, ParameterValue> = {};
  if (binary) parameters.binary_data = true;
  if (classification !== undefined) parameters.classification = classification;
  const rest = Object.keys(parameters).length > 0 ? `,"parameters":${parametersText(parameters)}` : '';
  return `{"name":${quote(name)}${rest}}`;
}

/** A JSON object of scalars, integers exact. Throws a local INVALID_ARGUMENT for numbers that JSON hasn't got. */
export function parametersText(parameters: Readonly<Record<string, ParameterValue>>): string {
  const members = Object.entries(parameters)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${quote(name)}:${scalarText(name, value)}`);
  return `{${members.join(',')}}`;
}

function scalarText(name: string, value: ParameterValue): string {
  if (typeof value === 'string') return quote(value);
  if (typeof value === 'number' && !Number.isFinite(value)) {
    throw refusal(`parameter '${name}' is ${value}, which JSON can't carry`);
  }
  return String(value);
}

/** A JSON string; lone surrogates become what they are in UTF-8. */
function quote(text: string): string {
  return JSON.stringify(text.toWellFormed());
}

/** The elements as a JSON array: what `JSON.stringify` makes of plain numbers, but exact where that is not. */
function dataText({ name, data }: InputTensor, datatype: Datatype): string {
  if (isBytesData(data)) return `[${data.map((element, index) => textElement(name, element, index)).join(',')}]`;
  switch (datatype) {
    case 'FP16':
    case 'BF16':
      throw refusal(`input '${name}' is ${datatype}, which JSON can't carry; use the binary encoding`);
    case 'INT64':
    case 'UINT64':
      return `[${data.join(',')}]`;
    case 'BOOL':
      return JSON.stringify(Array.from(data as Uint8Array, (value) => value !== 0));
    case 'FP32':
    case 'FP64':
      return floatsText(data as Float32Array | Float64Array);
    default:
      return JSON.stringify(Array.from(data as Exclude<NumericData, BigInt64Array | BigUint64Array>));
  }
}

function floatsText(data: Float32Array | Float64Array): string {
  if (!data.some(isUnprintable)) return JSON.stringify(Array.from(data));
  // Bare NaN and Infinity are no JSON, but Triton writes and reads them, and so does this server.
  return `[${Array.from(data, (value) => (Object.is(value, -0) ? '-0.0' : String(value))).join(',')}]`;
}

/** NaN, the infinities and -0, which `JSON.stringify` makes null and 0 of. */
function isUnprintable(value: number): boolean {
  return value - value !== 0 || (value === 0 && 1 / value < 0);
}

function textElement(name: string, element: string | Uint8Array, index: number): string {
  if (typeof element === 'string') return quote(element);
  if (!isUtf8(element)) {
    throw refusal(`element ${index} of input '${name}' is no UTF-8, which JSON can't carry; use the binary encoding`);
  }
  return JSON.stringify(Buffer.from(element.buffer, element.byteOffset, element.byteLength).toString());
}

function refusal(message: string): ClientError {
  return new ClientError('INVALID_ARGUMENT', message, { local: true });
}
