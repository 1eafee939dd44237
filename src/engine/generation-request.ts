/**
 * Reads a request by tensors for a model that generates text: the prompt, how tokens are to be chosen, which outputs are wanted.
 *
 *   request parameters  <  JSON in `sampling_parameters`  <  tensors of the fields' own names          the later one counts
 *
 * Called by the generator. Copies what it reads. Texts of refusals are those of other models where there is one.
 */
import { DATATYPES, type Datatype } from '../base/datatype.js';
import { invalid, printable, type ServeError } from '../base/errors.js';
import { elementView } from '../runtime/tensor.js';
import { FIELDS, type Field, type GenerationFields, setField } from './generation-fields.js';
import type { Prompt, SamplingParameters } from './generation-types.js';
import type { Model } from './model.js';
import { knownParameters } from './parameters.js';
import { checkElements } from './tensor-data.js';
import { elementCount } from './tensor-spec.js';
import type { InferInput, InferRequest } from './types.js';

/** What a response may have; those behind `num_output_tokens` only where they are asked for by name. */
export const OUTPUT_NAMES = [
  'text_output',
  'finish_reason',
  'cumulative_logprob',
  'logprobs',
  'num_input_tokens',
  'num_output_tokens',
  'token_id',
  'token_logit',
] as const;
export type OutputName = (typeof OUTPUT_NAMES)[number];

export interface ReadGeneration {
  readonly prompt: Prompt;
  readonly sampling: SamplingParameters;
  /** As asked for; undefined where the request does not say. */
  readonly stream: boolean | undefined;
  readonly excludeInput: boolean | undefined;
  /** Parameter `timeout`. */
  readonly queueTimeoutMs: number | undefined;
  /** In the order of the response. */
  readonly outputs: readonly OutputName[];
}

/** Elements of one tensor besides the prompt. */
const MAX_ELEMENTS = 1024;

/** Parameters that are not the model's: read elsewhere or of no meaning here. */
const OTHERS = new Set([
  'triton_enable_empty_final_response',
  'sequence_id',
  'sequence_start',
  'sequence_end',
  'priority',
  'timeout',
]);

const TOKEN_TENSOR = 'input_ids';

/** `maxTextBytes` bounds the texts, which are decoded here. Throws INVALID_ARGUMENT. */
export function readGenerationRequest(model: Model, request: InferRequest, maxTextBytes: number): ReadGeneration {
  const fields: GenerationFields = { sampling: {} };
  for (const { name, datatype, data } of request.inputs) {
    if (datatype !== 'BYTES' || data.byteLength <= maxTextBytes + 4) continue;
    throw invalid(
      `text of input '${printable(name)}' for model '${model.name}' has ${data.byteLength - 4} bytes, at most ${maxTextBytes} are taken. Use --max-text-byte-size to increase the limit.`,
    );
  }
  const source = promptInput(model, request.inputs);
  const { timeoutUs } = knownParameters(request.parameters);
  for (const [name, value] of request.parameters) {
    const field = FIELDS.get(name);
    if (field) setField(fields, name, field, value);
    else if (!OTHERS.has(name)) throw unknownParameter(name, model);
  }
  const others = request.inputs.filter((input) => input !== source);
  checkTwice(request.inputs);
  for (const input of others) if (input.name === 'sampling_parameters') readJson(model, input, fields);
  for (const input of others) if (input.name !== 'sampling_parameters') readTensor(model, input, fields);
  const outputs = outputsOf(model, request, fields);
  const { sampling, stream, excludeInput, endToken } = fields;
  if (endToken !== undefined && endToken < 0) sampling.ignoreEos ??= true;
  else if (endToken !== undefined) sampling.stopTokenIds = [...(sampling.stopTokenIds ?? []), endToken];
  if (outputs.includes('cumulative_logprob') || outputs.includes('logprobs')) sampling.logprobs ??= 0;
  // As for queues, 0 is none.
  const queueTimeoutMs = timeoutUs ? timeoutUs / 1e3 : undefined;
  return { prompt: promptOf(model, source, fields), sampling, stream, excludeInput, queueTimeoutMs, outputs };
}

/** The input that is the prompt: by its content, by its name, else the only one of an unknown name that has text. */
function promptInput(model: Model, inputs: readonly InferInput[]): InferInput {
  const isPrompt = ({ name, content }: InferInput) =>
    content === 'text' || content === 'tokens' || name === 'text_input' || name === TOKEN_TENSOR;
  const named = inputs.filter(isPrompt);
  if (named.length > 1) {
    throw invalid(
      `inputs '${printable(named[0]!.name)}' and '${printable(named[1]!.name)}' for model '${model.name}' are both a prompt, send one of them`,
    );
  }
  if (named[0]) return named[0];
  const texts = inputs.filter(
    ({ name, datatype, content }) =>
      datatype === 'BYTES' && content === undefined && name !== 'sampling_parameters' && !FIELDS.has(name),
  );
  if (texts.length === 1) return texts[0]!;
  if (texts.length > 1) {
    throw invalid(`unexpected inference input '${printable(texts[1]!.name)}' for model '${model.name}'`);
  }
  const got = inputs.map(({ name }) => `'${printable(name)}'`).join(',');
  throw invalid(
    `expected an input 'text_input' with the prompt for model '${model.name}'. Got input(s) [${got}], but missing required input(s) ['text_input']. Please provide all required input(s).`,
  );
}

function promptOf(model: Model, input: InferInput, { addSpecialTokens }: GenerationFields): Prompt {
  if (input.content === 'tokens' || (input.name === TOKEN_TENSOR && input.datatype !== 'BYTES')) {
    const most = model.generation!.spec.contextLength;
    const values = valuesOf(model, input, ['INT64', 'INT32'], most);
    return { kind: 'tokens', tokens: values.map(Number) };
  }
  const [text] = valuesOf(model, input, ['BYTES'], 1) as [string];
  return { kind: 'text', text, ...(addSpecialTokens !== undefined && { addSpecialTokens }) };
}

function readJson(model: Model, input: InferInput, fields: GenerationFields): void {
  const [text] = valuesOf(model, input, ['BYTES'], 1) as [string];
  let members: unknown;
  try {
    members = text.trim() === '' ? {} : JSON.parse(text);
  } catch {
    members = undefined;
  }
  if (typeof members !== 'object' || members === null || Array.isArray(members)) {
    throw invalid(
      `input 'sampling_parameters' for model '${model.name}' must be a JSON object, got '${printable(text)}'`,
    );
  }
  for (const [name, value] of Object.entries(members)) {
    // As absent, also where there is no such parameter.
    if (value === null) continue;
    const field = FIELDS.get(name);
    if (!field) throw unknownParameter(name, model);
    setField(fields, name, field, value);
  }
}

function readTensor(model: Model, input: InferInput, fields: GenerationFields): void {
  const { name } = input;
  const field = FIELDS.get(name);
  if (!field || input.content !== undefined) {
    throw invalid(`unexpected inference input '${printable(name)}' for model '${model.name}'`);
  }
  const { kind } = field;
  const isList = kind === 'ids' || WORDS.has(kind);
  const isText = kind === 'biases' || WORDS.has(kind);
  const datatypes = kind === 'boolean' || kind === 'no' ? BOOLEANS : isText ? TEXTS : NUMBERS;
  const values = valuesOf(model, input, datatypes, isList ? MAX_ELEMENTS : 1);
  setField(fields, name, field, isList ? values : values[0]);
}

const WORDS: ReadonlySet<string> = new Set<Field['kind']>(['strings', 'words', 'no words']);
const BOOLEANS: readonly Datatype[] = ['BOOL'];
const TEXTS: readonly Datatype[] = ['BYTES'];
const NUMBERS: readonly Datatype[] = ['INT32', 'UINT32', 'INT64', 'UINT64', 'FP32', 'FP64', 'BOOL'];

/** The elements of `input`, from 1 to `most`. */
function valuesOf(
  model: Model,
  { name, datatype, shape, data }: InferInput,
  datatypes: readonly Datatype[],
  most: number,
): (boolean | number | bigint | string)[] {
  const known = datatypes.find((expected) => expected === datatype);
  const label = printable(name);
  if (!known) {
    throw invalid(
      `inference input '${label}' data-type is '${printable(datatype)}', but model '${model.name}' expects '${datatypes[0]}'`,
    );
  }
  const count = elementCount(shape);
  // All but one dimension are 1: [n], [1,n], and [] for one element.
  if (shape.some((dim) => dim < 0 || (dim !== 1 && dim !== count)) || count < 1) {
    const expected = most === 1 ? '[1]' : '[n] or [1,n]';
    throw invalid(
      `unexpected shape for input '${label}' for model '${model.name}'. Expected ${expected}, got [${shape.join(',')}]`,
    );
  }
  if (count > most) {
    const expected = most === 1 ? 'Expected [1]' : `Expected at most ${most} elements`;
    throw invalid(
      `unexpected shape for input '${label}' for model '${model.name}'. ${expected}, got [${shape.join(',')}]`,
    );
  }
  if (known === 'BYTES') return stringsOf(`inference input '${label}' for model '${model.name}'`, data, count);
  const byteSize = count * DATATYPES[known].byteSize;
  if (data.byteLength !== byteSize) {
    throw invalid(
      `input byte size mismatch for input '${label}' for model '${model.name}'. Expected ${byteSize}, got ${data.byteLength}`,
    );
  }
  // A copy: views have to be aligned, and these are a few bytes but for prompts of tokens.
  const values = [...elementView(new Uint8Array(data).buffer, known, 0, byteSize)];
  return known === 'BOOL' ? values.map((value) => value !== 0) : values;
}

function stringsOf(where: string, data: Uint8Array, count: number): string[] {
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  const texts: string[] = [];
  checkElements(where, data, count, (start, end, index) => {
    try {
      texts.push(decoder.decode(data.subarray(start + 4, end)));
    } catch {
      throw invalid(`string element ${index} of ${where} is not valid UTF-8`);
    }
  });
  return texts;
}

/** Named in `outputs` of the request; else the text and what `return_...` adds to it. */
function outputsOf(model: Model, { outputs }: InferRequest, fields: GenerationFields): OutputName[] {
  if (outputs.length === 0) {
    const wanted: Partial<Record<OutputName, boolean | undefined>> = {
      text_output: true,
      finish_reason: fields.finishReason,
      cumulative_logprob: fields.cumulativeLogprob,
      logprobs: fields.logprobs,
      num_input_tokens: fields.inputTokens,
      num_output_tokens: fields.outputTokens,
    };
    return OUTPUT_NAMES.filter((name) => wanted[name]);
  }
  const names: OutputName[] = [];
  for (const { name, classification } of outputs) {
    const known = OUTPUT_NAMES.find((output) => output === name);
    if (!known) throw invalid(`unexpected inference output '${printable(name)}' for model '${model.name}'`);
    if (names.includes(known)) throw invalid(`output '${name}' already exists in request`);
    if (classification) {
      throw invalid(
        `class result not available for output due to unsupported type: output '${name}' of model '${model.name}' can not be ranked`,
      );
    }
    names.push(known);
  }
  return names;
}

function checkTwice(inputs: readonly InferInput[]): void {
  const seen = new Set<string>();
  for (const { name } of inputs) {
    if (seen.has(name)) throw invalid(`input '${printable(name)}' already exists in request`);
    seen.add(name);
  }
}

function unknownParameter(name: string, model: Model): ServeError {
  return invalid(`unknown parameter '${printable(name)}' for model '${model.name}', which generates text`);
}
