/**
 * An infer request as the body of a POST: JSON, or JSON with the tensors' bytes behind it (the binary tensor extension).
 *
 * Called by `rest-client.ts` and by the bench, which measures it. One body is one piece of memory; a tensor is copied into it once or
 * printed once. Must not know a connection.
 */
import { isUtf8 } from 'node:buffer';
import type { Datatype } from '../base/datatype.js';
import { JsonWriter } from '../base/json-writer.js';
import { printData } from '../base/tensor-json-print.js';
import { refusal } from './client-error.js';
import { byteView, checkTensor, isBytesData, rawBytes, writeRaw } from './tensor.js';
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
  const datatypes = request.inputs.map(checkTensor);
  const inputs = request.inputs.map((input, index) => {
    const datatype = datatypes[index]!;
    if (datatype === 'FP16' || datatype === 'BF16') {
      throw refusal(`input '${input.name}' is ${datatype}, which JSON can't carry; use the binary encoding`);
    }
    return `${inputHead(input, datatype)},"data":[${DATA}]}`;
  });
  const parts = requestText(request, inputs, false).split(DATA);
  scratch.at = 0;
  for (const [index, input] of request.inputs.entries()) {
    scratch.text(parts[index]!);
    printElements(scratch, input, datatypes[index]!);
  }
  scratch.text(parts[parts.length - 1]!);
  const body = scratch.take();
  if (scratch.buffer.length > KEPT_SCRATCH_BYTES) scratch = new JsonWriter(FIRST_SCRATCH_BYTES);
  return { body, headers: { 'content-type': 'application/json' } };
}

/** Where the elements go in the text around them: nowhere else is there a bare NUL, since strings have theirs escaped. */
const DATA = '\0';

const FIRST_SCRATCH_BYTES = 1 << 16;
/** A larger one, which a single huge request has made, is not kept. */
const KEPT_SCRATCH_BYTES = 1 << 24;
let scratch = new JsonWriter(FIRST_SCRATCH_BYTES);

/** Numbers by the printer of the base: `JSON.stringify` takes five times as long and prints an FP32 in twice its digits. */
function printElements(writer: JsonWriter, { name, shape, data }: InputTensor, datatype: Datatype): void {
  if (isBytesData(data)) writer.text(data.map((element, index) => textElement(name, element, index)).join(','));
  else printData(writer, { name, datatype, shape, data: byteView(data), binaryDataSize: 0 });
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

function textElement(name: string, element: string | Uint8Array, index: number): string {
  if (typeof element === 'string') return quote(element);
  if (!isUtf8(element)) {
    throw refusal(`element ${index} of input '${name}' is no UTF-8, which JSON can't carry; use the binary encoding`);
  }
  return JSON.stringify(Buffer.from(element.buffer, element.byteOffset, element.byteLength).toString());
}
