/**
 * Checks a request against what the server says of its model, before anything is sent.
 *
 * Called through `metadata-cache.ts` by both transports. It must never refuse what a server would take, so it knows where metadata do not
 * say all: BYTES beside or instead of tensors (texts and pictures that the server turns into them), inputs that are optional, servers
 * that list none.
 */
import { type ClientError, refusal } from './client-error.js';
import { checkTensor } from './tensor.js';
import type { GenerateRequest, InferRequest, InputTensor, ModelMetadata, TensorMetadata } from './types.js';

/** What is known of a model. */
export interface ModelFacts {
  readonly metadata: ModelMetadata;
  /** Names of the inputs that may be left out; undefined = the server does not tell which. */
  readonly optional: ReadonlySet<string> | undefined;
}

/** Throws a local INVALID_ARGUMENT for what no model could be asked, which callers whose types nobody checks may send. */
export function assertRequest(request: InferRequest | GenerateRequest): void {
  const model: unknown = request?.model;
  if (typeof model !== 'string' || model === '') throw refusal('the request names no model');
}

/** The same for what is no list of tensors. */
export function assertInferRequest(request: InferRequest): void {
  assertRequest(request);
  const { inputs } = request;
  if (!Array.isArray(inputs)) throw refusal('the request has no inputs, expected an array of tensors');
  for (const input of inputs) {
    if (typeof input?.name !== 'string' || input.name === '') throw refusal('an input has no name');
  }
}

/** Throws a local INVALID_ARGUMENT that names model, input, expected and actual. */
export function checkRequest(request: InferRequest, { metadata, optional }: ModelFacts): void {
  const { inputs } = metadata;
  if (inputs.length === 0) return;
  // Where there are texts or pictures, names and numbers of inputs are for the server to judge.
  const isPlain = inputs.every(({ datatype }) => datatype !== 'BYTES');
  const seen = new Set<string>();
  for (const input of request.inputs) {
    if (seen.has(input.name)) throw refusalOf(request, `input '${input.name}' is there twice`);
    seen.add(input.name);
    const expected = inputs.find(({ name }) => name === input.name);
    if (expected) checkInput(request, input, expected);
    else if (isPlain) throw refusalOf(request, `there is no input '${input.name}', expected ${names(inputs)}`);
  }
  if (!isPlain || optional === undefined) return;
  const missing = inputs.filter(({ name }) => !seen.has(name) && !optional.has(name));
  if (missing.length > 0) throw refusalOf(request, `${names(missing)} missing, got ${names(request.inputs)}`);
}

function checkInput(request: InferRequest, input: InputTensor, expected: TensorMetadata): void {
  const datatype = checkTensor(input);
  // Some servers take the tensor in place of the text or picture, or the other way round.
  if ((datatype === 'BYTES') !== (expected.datatype === 'BYTES')) return;
  if (datatype !== expected.datatype)
    throw refusalOf(request, `input '${input.name}' is ${datatype}, expected ${expected.datatype}`);
  if (datatype === 'BYTES') return;
  const { shape } = input;
  const fits =
    shape.length === expected.shape.length && expected.shape.every((dim, axis) => dim < 0 || dim === shape[axis]);
  if (!fits) {
    const [actual, wanted] = [shape.join(','), expected.shape.join(',')];
    throw refusalOf(request, `input '${input.name}' has shape [${actual}], expected [${wanted}]`);
  }
}

function names(tensors: readonly { readonly name: string }[]): string {
  return tensors.map(({ name }) => `'${name}'`).join(', ') || 'none';
}

function refusalOf({ model, version }: InferRequest, message: string): ClientError {
  const of = version ? `model '${model}' version '${version}'` : `model '${model}'`;
  return refusal(`request for ${of}: ${message}`);
}
