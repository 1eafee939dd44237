/**
 * What chat completions and completions have in common: how tokens are chosen, how many answers, how they are sent.
 *
 * Called by `openai-chat.ts` and `openai-completions.ts`. Takes OpenAI's members and those that vLLM added, which clients send to
 * whatever serves a model of their own. Checks types; ranges are the engine's.
 */
import type { Prompt, SamplingParameters } from '../engine/generation-types.js';
import { invalidMember } from './openai-error.js';
import { isNumber, kindOf, Members } from './openai-members.js';

/** One request for generated text, whichever of the two it was. */
export interface OpenAiGeneration {
  readonly model: string;
  /** Each gets `choices` answers, which stand behind each other. */
  readonly prompts: readonly OpenAiPrompt[];
  readonly choices: number;
  readonly sampling: SamplingParameters;
  readonly stream: boolean;
  /** Usage in a last event of its own; `running`: in every event. */
  readonly usage: 'no' | 'last' | 'running';
  /** Whom the client says it asks for; '' where it does not. */
  readonly user: string;
}

export interface OpenAiPrompt {
  readonly prompt: Prompt;
  /** Text that is given back before the answer. */
  readonly echo: string;
}

/** Most answers to one request, over all its prompts. */
export const MAX_CHOICES = 128;
const MAX_N = 16;
/** It is kept for as long as its requests wait. */
const MAX_USER_LENGTH = 256;

/** The name of the model to ask. */
export function takeModel(members: Members): string {
  const model = members.string('model');
  if (model === undefined || model === '') throw invalidMember('model', "'model' is missing: name the model to ask");
  return model;
}

/** Members of both requests that say how text is made, but `max_tokens` and `logprobs`, which mean different things. */
export function takeSampling(members: Members): SamplingParameters {
  const sampling = {
    temperature: members.number('temperature'),
    topP: members.number('top_p'),
    presencePenalty: members.number('presence_penalty'),
    frequencyPenalty: members.number('frequency_penalty'),
    seed: takeSeed(members),
    stop: takeStop(members),
    logitBias: takeLogitBias(members),
    topK: members.integer('top_k'),
    minP: members.number('min_p'),
    repetitionPenalty: members.number('repetition_penalty'),
    minTokens: members.integer('min_tokens'),
    stopTokenIds: members.tokens('stop_token_ids'),
    ignoreEos: members.boolean('ignore_eos'),
    skipSpecialTokens: members.boolean('skip_special_tokens'),
    includeStop: members.boolean('include_stop_str_in_output'),
  };
  return defined(sampling);
}

/** `parameters` without members that are undefined, as the engine's types want them. */
export function defined<Given extends object>(given: Given): { [Key in keyof Given]?: NonNullable<Given[Key]> } {
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) as {
    [Key in keyof Given]?: NonNullable<Given[Key]>;
  };
}

/** How many answers each prompt gets, and how the reply is sent. */
export function takeDelivery(members: Members): Pick<OpenAiGeneration, 'choices' | 'stream' | 'usage' | 'user'> {
  const choices = members.integer('n', 1, MAX_N) ?? 1;
  const stream = members.boolean('stream') ?? false;
  const options = members.object('stream_options');
  if (options !== undefined && !stream) {
    throw invalidMember('stream_options', "'stream_options' can only be given together with 'stream': true");
  }
  let usage: OpenAiGeneration['usage'] = 'no';
  if (options !== undefined) {
    const inner = new Members(options, 'stream_options.');
    const running = inner.boolean('continuous_usage_stats') ?? false;
    // As vLLM: usage all the time is an addition to usage at the end.
    if (inner.boolean('include_usage') === true) usage = running ? 'running' : 'last';
    inner.ignore('include_obfuscation');
    inner.finish('a stream');
  }
  return { choices, stream, usage, user: members.string('user')?.slice(0, MAX_USER_LENGTH) ?? '' };
}

/** Members for other purposes of OpenAI's: billing, storage, caching. Nothing of the answer depends on them. */
export function ignoreBookkeeping(members: Members): void {
  members.ignore(
    'store',
    'metadata',
    'service_tier',
    'safety_identifier',
    'prompt_cache_key',
    'prompt_cache_retention',
  );
  members.ignore('prompt_cache_options', 'prediction', 'parallel_tool_calls');
  // vLLM's, with the values that change nothing.
  members.ignore('request_id');
  members.refuse('priority', 'requests take turns', (value) => value === 0);
  members.refuse('length_penalty', 'tokens are sampled', (value) => value === 1);
  members.refuse('spaces_between_special_tokens', 'the text is as the tokenizer makes it', (value) => value === true);
  members.refuse('use_beam_search', 'tokens are sampled');
}

/** Answer `index` of a prompt: the same request with a seed gives different answers, and the same ones each time. */
export function samplingOf(sampling: SamplingParameters, index: number): SamplingParameters {
  const { seed } = sampling;
  if (seed === undefined || index === 0) return sampling;
  return { ...sampling, seed: typeof seed === 'bigint' ? seed + BigInt(index) : seed + index };
}

/** 64 bits, of which a double holds 53: larger ones are rounded, always in the same way. */
function takeSeed(members: Members): number | bigint | undefined {
  const seed = members.integer('seed', -(2 ** 63), 2 ** 63);
  return seed === undefined || Number.isSafeInteger(seed) ? seed : BigInt.asIntN(64, BigInt(seed));
}

function takeStop(members: Members): string[] | undefined {
  const stop = members.take('stop');
  if (stop === undefined) return undefined;
  if (typeof stop === 'string') return [stop];
  if (Array.isArray(stop) && stop.every((text) => typeof text === 'string')) return stop;
  throw invalidMember('stop', `'stop' must be a string or an array of strings, got ${kindOf(stop)}`);
}

function takeLogitBias(members: Members): Map<number, number> | undefined {
  const object = members.object('logit_bias');
  if (object === undefined) return undefined;
  const biases = new Map<number, number>();
  for (const [id, bias] of Object.entries(object)) {
    if (!/^\d{1,10}$/.test(id) || !isNumber(bias)) {
      throw invalidMember('logit_bias', "'logit_bias' must map token ids, as strings, to numbers");
    }
    biases.set(Number(id), bias);
  }
  return biases;
}
