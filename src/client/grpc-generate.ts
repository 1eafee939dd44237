/**
 * A request for generated text as the tensors of ModelStreamInfer, and the text of its answers.
 *
 * Called by `grpc-client.ts`. Servers of the protocol's text models take `text_input`, but sampling differently: as tensors of their own
 * names, as JSON in `sampling_parameters`, as request parameters. The model's metadata say which. Must not know a server by name.
 */
import type { Datatype } from '../base/datatype.js';
import type { DecodedAnswer } from './answer.js';
import { ClientError } from './client-error.js';
import type { GenerateRequest, InferRequest, InputTensor, ModelMetadata, ParameterValue, TensorData } from './types.js';

const PROMPT = 'text_input';
const SAMPLING = 'sampling_parameters';
const STREAM = 'stream';
const TEXT = 'text_output';
/** Without it a whole text begins with its prompt, a stream of it does not. */
const NO_PROMPT = 'exclude_input_in_output';

/** `metadata` undefined = the server does not tell: then as Triton's vLLM models take it. Throws a local INVALID_ARGUMENT. */
export function generateTensors(
  { model, version, text, parameters }: GenerateRequest,
  metadata: ModelMetadata | undefined,
  isStream: boolean,
): InferRequest {
  const listed = new Map(metadata?.inputs.map((input) => [input.name, input]));
  const hasJson = metadata === undefined || listed.has(SAMPLING);
  // A model that takes batches has a dimension more.
  const shape = listed.get(PROMPT)?.shape.length === 2 ? [1, 1] : [1];
  const inputs: InputTensor[] = [{ name: PROMPT, datatype: 'BYTES', shape, data: [text] }];
  const json: Record<string, ParameterValue> = {};
  const rest: Record<string, ParameterValue> = {};
  const defaults = { [STREAM]: isStream, ...(listed.has(NO_PROMPT) && { [NO_PROMPT]: true }) };
  for (const [name, value] of Object.entries<ParameterValue>({ ...defaults, ...parameters })) {
    const datatype = listed.get(name)?.datatype;
    if (datatype !== undefined && name !== SAMPLING) inputs.push(tensorOf(name, datatype, { value, shape }));
    else if (name === STREAM) {
      if (metadata === undefined) inputs.push(tensorOf(name, 'BOOL', { value, shape }));
    } else if (name === SAMPLING) inputs.push(tensorOf(name, 'BYTES', { value, shape }));
    else if (hasJson) json[name] = value;
    else rest[name] = value;
  }
  if (Object.keys(json).length > 0) inputs.push(tensorOf(SAMPLING, 'BYTES', { value: jsonText(json), shape }));
  return { model, ...(version !== undefined && { version }), inputs, parameters: rest };
}

function tensorOf(
  name: string,
  datatype: Datatype,
  { value, shape }: { readonly value: ParameterValue; readonly shape: readonly number[] },
): InputTensor {
  return { name, datatype, shape, data: dataOf(name, datatype, value) };
}

function dataOf(name: string, datatype: Datatype, value: ParameterValue): TensorData {
  if (datatype === 'BYTES') return [String(value)];
  if (datatype === 'BOOL') {
    if (typeof value !== 'boolean') throw refusal(name, datatype, value);
    return Uint8Array.of(value ? 1 : 0);
  }
  if (typeof value === 'string' || typeof value === 'boolean') throw refusal(name, datatype, value);
  if (datatype === 'FP32') return Float32Array.of(Number(value));
  if (datatype === 'FP64') return Float64Array.of(Number(value));
  if (typeof value === 'number' && !Number.isInteger(value)) throw refusal(name, datatype, value);
  if (datatype === 'INT64') return BigInt64Array.of(BigInt(value));
  if (datatype === 'UINT64') return BigUint64Array.of(BigInt(value));
  if (datatype === 'INT32') return Int32Array.of(Number(value));
  if (datatype === 'UINT32') return Uint32Array.of(Number(value));
  throw refusal(name, datatype, value);
}

function refusal(name: string, datatype: Datatype, value: ParameterValue): ClientError {
  const message = `parameter '${name}' is ${JSON.stringify(String(value))}, the model takes ${datatype}`;
  return new ClientError('INVALID_ARGUMENT', message, { local: true });
}

/** JSON with integers of any size. */
function jsonText(members: Readonly<Record<string, ParameterValue>>): string {
  const texts = Object.entries(members).map(
    ([name, value]) => `${JSON.stringify(name)}:${typeof value === 'bigint' ? value : JSON.stringify(value)}`,
  );
  return `{${texts.join(',')}}`;
}

const utf8 = new TextDecoder();

/** The text of one answer; '' of one that has none, as the last of a stream may. */
export function generatedText({ outputs }: DecodedAnswer): string {
  const output = outputs.find(({ name }) => name === TEXT);
  if (output === undefined && outputs.length > 0) {
    const names = outputs.map(({ name }) => `'${name}'`).join(', ');
    throw new ClientError('INTERNAL', `the answer has no output '${TEXT}', there are: ${names}`);
  }
  if (output === undefined) return '';
  if (output.datatype !== 'BYTES')
    throw new ClientError('INTERNAL', `output '${TEXT}' is ${output.datatype}, expected BYTES`);
  return output.data.map((element) => utf8.decode(element)).join('');
}
