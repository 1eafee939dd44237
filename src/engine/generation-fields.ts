/**
 * What a request for generated text may say besides its prompt, by name, and how each value is read: names of vLLM, of Triton's backends
 * and of what their clients send.
 *
 * Called by generation-request.ts with values from tensors, from `sampling_parameters` and from request parameters, where all may be strings.
 * Types only are looked at here; ranges are sampling-parameters.ts's. Every refusal is INVALID_ARGUMENT that names the field.
 */
import { invalid, printable, type ServeError } from '../base/errors.js';
import type { SamplingParameters } from './generation-types.js';

type Mutable<T> = { -readonly [Key in keyof T]: T[Key] };

/** What was asked for, filled name by name; later values take the place of earlier ones. */
export interface GenerationFields {
  readonly sampling: Mutable<SamplingParameters>;
  stream?: boolean;
  excludeInput?: boolean;
  /** One more token that ends the text; below 0 none does. */
  endToken?: number;
  addSpecialTokens?: boolean;
  finishReason?: boolean;
  cumulativeLogprob?: boolean;
  logprobs?: boolean;
  inputTokens?: boolean;
  outputTokens?: boolean;
}

type Kind = 'number' | 'seed' | 'boolean' | 'no' | 'strings' | 'words' | 'no words' | 'ids' | 'biases' | 'one';

export interface Field {
  readonly kind: Kind;
  readonly set: (fields: GenerationFields, value: never) => void;
}

const number = (key: keyof SamplingParameters): Field => ({
  kind: 'number',
  set: ({ sampling }, value: number) => void ((sampling as Record<string, unknown>)[key] = value),
});
const flag = (key: 'ignoreEos' | 'skipSpecialTokens' | 'includeStop'): Field => ({
  kind: 'boolean',
  set: ({ sampling }, value: boolean) => void (sampling[key] = value),
});
const choice = (key: Exclude<keyof GenerationFields, 'sampling' | 'endToken'>): Field => ({
  kind: 'boolean',
  set: (fields, value: boolean) => void (fields[key] = value),
});
/** Searches over several texts at once: there are none here, and asking for one is no error. */
const single: Field = { kind: 'one', set: () => undefined };
/** What there is not, which clients say that they don't want. */
const absent: Field = { kind: 'no', set: () => undefined };
const seed: Field = { kind: 'seed', set: ({ sampling }, value: bigint) => void (sampling.seed = value) };
const stop: Field = { kind: 'strings', set: ({ sampling }, value: string[]) => void (sampling.stop = value) };

export const FIELDS: ReadonlyMap<string, Field> = new Map<string, Field>([
  ['max_tokens', number('maxTokens')],
  ['max_new_tokens', number('maxTokens')],
  ['min_tokens', number('minTokens')],
  ['min_length', number('minTokens')],
  ['temperature', number('temperature')],
  ['top_k', number('topK')],
  ['top_p', number('topP')],
  ['min_p', number('minP')],
  ['repetition_penalty', number('repetitionPenalty')],
  ['presence_penalty', number('presencePenalty')],
  ['frequency_penalty', number('frequencyPenalty')],
  ['logprobs', number('logprobs')],
  ['seed', seed],
  ['random_seed', seed],
  ['stop', stop],
  // TensorRT-LLM's clients send empty ones for none.
  ['stop_words', { ...stop, kind: 'words' }],
  ['bad_words', { kind: 'no words', set: () => undefined }],
  ['end_id', { kind: 'number', set: (fields, value: number) => void (fields.endToken = value) }],
  // Rows of a batch are never padded by tokens here, whichever they would be.
  ['pad_id', { kind: 'number', set: () => undefined }],
  ['return_log_probs', absent],
  ['return_context_logits', absent],
  ['return_generation_logits', absent],
  ['use_beam_search', absent],
  // Text never is half a character here, whatever is said of it.
  ['accumulate_tokens', { kind: 'boolean', set: () => undefined }],
  [
    'stop_token_ids',
    { kind: 'ids', set: ({ sampling }, value: number[]) => void (sampling.stopTokenIds = value) } satisfies Field,
  ],
  [
    'logit_bias',
    {
      kind: 'biases',
      set: ({ sampling }, value: Map<number, number>) => void (sampling.logitBias = value),
    } satisfies Field,
  ],
  ['ignore_eos', flag('ignoreEos')],
  ['skip_special_tokens', flag('skipSpecialTokens')],
  ['include_stop_str_in_output', flag('includeStop')],
  ['n', single],
  ['best_of', single],
  ['beam_width', single],
  ['length_penalty', single],
  ['add_special_tokens', choice('addSpecialTokens')],
  ['stream', choice('stream')],
  ['exclude_input_in_output', choice('excludeInput')],
  ['return_finish_reason', choice('finishReason')],
  ['return_cumulative_logprob', choice('cumulativeLogprob')],
  ['return_logprobs', choice('logprobs')],
  ['return_num_input_tokens', choice('inputTokens')],
  ['return_num_output_tokens', choice('outputTokens')],
]);

/** Reads `value` as what `name` is and sets it. Throws INVALID_ARGUMENT. */
export function setField(fields: GenerationFields, name: string, field: Field, value: unknown): void {
  field.set(fields, READERS[field.kind](name, value) as never);
}

const NUMBER = /^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$/;
const INTEGER = /^\s*[+-]?\d{1,30}\s*$/;

const READERS: Readonly<Record<Kind, (name: string, value: unknown) => unknown>> = {
  number: readNumber,
  seed: (name, value) => {
    if (typeof value === 'bigint' || typeof value === 'number') return value;
    if (typeof value === 'string' && INTEGER.test(value)) return BigInt(value.trim().replace(/^\+/, ''));
    throw wrong(name, 'a whole number', value);
  },
  boolean: (name, value) => {
    if (typeof value === 'boolean') return value;
    const text = typeof value === 'string' ? value.trim().toLowerCase() : '';
    if (text === 'true' || text === 'false') return text === 'true';
    throw wrong(name, 'true or false', value);
  },
  no: (name, value) => {
    if (READERS.boolean(name, value) === false) return undefined;
    const why =
      name === 'use_beam_search' ? 'tokens are sampled' : 'ask for return_logprobs or return_cumulative_logprob';
    throw invalid(`${name} is not supported: ${why}`);
  },
  strings: readStrings,
  words: (name, value) => readStrings(name, value).filter((word) => word !== ''),
  'no words': (name, value) => {
    if (readStrings(name, value).every((word) => word === '')) return undefined;
    throw invalid(`${name} is not supported: forbid tokens by a logit_bias of -100`);
  },
  ids: (name, value) => {
    const list = typeof value === 'string' ? json(value) : value;
    if (Array.isArray(list)) return list.map((item) => readNumber(name, item));
    if (list !== undefined) return [readNumber(name, list)];
    throw wrong(name, 'a list of token ids', value);
  },
  biases: (name, value) => {
    const object = typeof value === 'string' ? json(value) : value;
    if (typeof object !== 'object' || object === null || Array.isArray(object)) {
      throw wrong(name, 'an object of token ids and numbers', value);
    }
    return new Map(Object.entries(object).map(([id, bias]) => [readNumber(name, id), readNumber(name, bias)]));
  },
  one: (name, value) => {
    const count = typeof value === 'boolean' ? Number(value) : readNumber(name, value);
    if (count === 1) return 1;
    throw invalid(`${name} must be 1: a request gives one text. Got ${count}`);
  },
};

function readStrings(name: string, value: unknown): string[] {
  const list = typeof value === 'string' && /^\s*\[/.test(value) ? (json(value) ?? value) : value;
  if (typeof list === 'string') return [list];
  if (Array.isArray(list) && list.every((item) => typeof item === 'string')) return list;
  throw wrong(name, 'a string or a list of strings', value);
}

function readNumber(name: string, value: unknown): number {
  if (typeof value === 'number') return value;
  if (typeof value === 'bigint' || (typeof value === 'string' && NUMBER.test(value))) return Number(value);
  throw wrong(name, 'a number', value);
}

function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function wrong(name: string, expected: string, value: unknown): ServeError {
  let got: string;
  if (typeof value === 'string') got = `'${printable(value)}'`;
  // JSON has no bigint.
  else got = typeof value === 'object' ? printable(JSON.stringify(value)) : String(value);
  return invalid(`${name} must be ${expected}, got ${got}`);
}
