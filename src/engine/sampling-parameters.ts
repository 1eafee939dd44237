/**
 * Checks how tokens are to be chosen and fills in what the request leaves out: SamplingParameters become the worker's Sampling.
 *
 * Called by the generator. Pure but for the seed that is drawn where the request has none. Every refusal is INVALID_ARGUMENT that names
 * the parameter, its range and what came; names are those that vLLM and OpenAI's interface share.
 */
import { invalid, printable } from '../base/errors.js';
import type { Sampling } from '../runtime/generation-messages.js';
import type { GenerationDefaults } from './generation.js';
import type { SamplingParameters } from './generation-types.js';

/** What holds of one number. */
interface Range {
  readonly key: keyof SamplingParameters;
  readonly name: string;
  readonly least: number;
  readonly most: number;
  readonly whole?: boolean;
  /** `least` itself is out. */
  readonly above?: boolean;
}

const RANGES: readonly Range[] = [
  { key: 'maxTokens', name: 'max_tokens', least: 1, most: 2 ** 31 - 1, whole: true },
  { key: 'minTokens', name: 'min_tokens', least: 0, most: 2 ** 31 - 1, whole: true },
  { key: 'temperature', name: 'temperature', least: 0, most: 2 },
  { key: 'topK', name: 'top_k', least: -1, most: 2 ** 31 - 1, whole: true },
  { key: 'topP', name: 'top_p', least: 0, most: 1, above: true },
  { key: 'minP', name: 'min_p', least: 0, most: 1 },
  { key: 'repetitionPenalty', name: 'repetition_penalty', least: 0, most: 1000, above: true },
  { key: 'presencePenalty', name: 'presence_penalty', least: -2, most: 2 },
  { key: 'frequencyPenalty', name: 'frequency_penalty', least: -2, most: 2 },
  { key: 'logprobs', name: 'logprobs', least: 0, most: 20, whole: true },
];

const MAX_STOP_STRINGS = 64;
/** UTF-16 units of one; so much text is held back at most. */
const MAX_STOP_LENGTH = 1024;
/** Of all: the model's thread prepares its search for them between two steps of everybody's, some 5 ms for so many. */
const MAX_STOP_TOGETHER = 8192;
const MAX_STOP_TOKENS = 1024;
const MAX_LOGIT_BIASES = 4096;

export interface SamplingScope {
  readonly defaults: GenerationDefaults;
  readonly vocabularySize: number;
}

/** Throws INVALID_ARGUMENT for what no prompt could make right. */
export function checkSampling(parameters: SamplingParameters, { vocabularySize }: SamplingScope): void {
  for (const range of RANGES) {
    const value = parameters[range.key];
    if (value !== undefined) checkNumber(range, value as number);
  }
  const { maxTokens, minTokens = 0, seed, stop, stopTokenIds, logitBias } = parameters;
  if (maxTokens !== undefined && minTokens > maxTokens) {
    throw invalid(`min_tokens must not be above max_tokens, got ${minTokens} above ${maxTokens}`);
  }
  if (seed !== undefined) checkSeed(seed);
  if (stop) checkStop(stop);
  if (stopTokenIds) {
    if (stopTokenIds.length > MAX_STOP_TOKENS) {
      throw invalid(`stop_token_ids must have at most ${MAX_STOP_TOKENS} ids, got ${stopTokenIds.length}`);
    }
    for (const id of stopTokenIds) checkTokenId('stop_token_ids', id, vocabularySize);
  }
  if (logitBias) {
    if (logitBias.size > MAX_LOGIT_BIASES) {
      throw invalid(`logit_bias must have at most ${MAX_LOGIT_BIASES} tokens, got ${logitBias.size}`);
    }
    for (const [id, bias] of logitBias) {
      checkTokenId('logit_bias', id, vocabularySize);
      checkNumber({ key: 'logitBias', name: `logit_bias of token ${id}`, least: -100, most: 100 }, bias);
    }
  }
}

/**
 * `parameters`, which {@link checkSampling} has passed, complete: from the request, else from the model's files, else the interface's
 * defaults. `room` is how many tokens the context has left behind the prompt, at least 1.
 */
export function resolveSampling(parameters: SamplingParameters, { defaults }: SamplingScope, room: number): Sampling {
  const maxTokens = Math.min(parameters.maxTokens ?? defaults.maxTokens ?? room, room);
  return {
    maxTokens,
    minTokens: Math.min(parameters.minTokens ?? defaults.minTokens, maxTokens),
    temperature: parameters.temperature ?? defaults.temperature,
    topK: Math.max(0, parameters.topK ?? defaults.topK),
    topP: parameters.topP ?? defaults.topP,
    minP: parameters.minP ?? defaults.minP,
    repetitionPenalty: parameters.repetitionPenalty ?? defaults.repetitionPenalty,
    presencePenalty: parameters.presencePenalty ?? 0,
    frequencyPenalty: parameters.frequencyPenalty ?? 0,
    seed: parameters.seed === undefined ? randomSeed() : halves(parameters.seed),
    logprobs: parameters.logprobs ?? -1,
    stop: parameters.stop ?? [],
    stopTokenIds: parameters.stopTokenIds ?? [],
    eosTokenIds: parameters.ignoreEos ? [] : defaults.eosTokenIds,
    suppressTokenIds: defaults.suppressTokenIds,
    logitBias: [...(parameters.logitBias ?? [])],
    skipSpecialTokens: parameters.skipSpecialTokens ?? true,
    includeStop: parameters.includeStop ?? false,
  };
}

function checkNumber({ name, least, most, whole, above }: Range, value: number): void {
  // Written so that NaN is outside.
  const inside = value <= most && (above ? value > least : value >= least);
  if (inside && (!whole || Number.isInteger(value))) return;
  const kind = whole ? 'a whole number ' : '';
  const upper = most === 2 ** 31 - 1 ? '2^31 - 1' : String(most);
  const range = above ? `above ${least} and at most ${upper}` : `between ${least} and ${upper}`;
  throw invalid(`${name} must be ${kind}${range}, got ${String(value)}`);
}

function checkTokenId(name: string, id: number, vocabularySize: number): void {
  if (Number.isInteger(id) && id >= 0 && id < vocabularySize) return;
  throw invalid(`${name} must name tokens of the model, from 0 to ${vocabularySize - 1}, got ${String(id)}`);
}

function checkSeed(seed: number | bigint): void {
  const whole = typeof seed === 'bigint' || Number.isInteger(seed);
  if (whole && seed >= -(2n ** 63n) && seed < 2n ** 64n) return;
  throw invalid(`seed must be a whole number of 64 bits, got ${String(seed)}`);
}

function checkStop(stop: readonly string[]): void {
  if (stop.length > MAX_STOP_STRINGS) {
    throw invalid(`stop must have at most ${MAX_STOP_STRINGS} strings, got ${stop.length}`);
  }
  let together = 0;
  for (const text of stop) {
    together += text.length;
    if (text === '') throw invalid('stop must not have an empty string');
    if (text.length > MAX_STOP_LENGTH) {
      throw invalid(
        `strings in stop must have at most ${MAX_STOP_LENGTH} characters, got one of ${text.length}: '${printable(text, 16)}'`,
      );
    }
  }
  if (together > MAX_STOP_TOGETHER) {
    throw invalid(`strings in stop must have at most ${MAX_STOP_TOGETHER} characters together, got ${together}`);
  }
}

/** The lower and the upper half of the 64 bits. */
function halves(seed: number | bigint): [number, number] {
  const bits = BigInt.asUintN(64, BigInt(seed));
  return [Number(bits & 0xffffffffn), Number(bits >> 32n)];
}

/** Nobody's secret: it only has to be another each time. */
function randomSeed(): [number, number] {
  const half = () => Math.floor(Math.random() * 2 ** 32);
  return [half(), half()];
}
