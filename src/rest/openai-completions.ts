/**
 * The body of POST /v1/completions: prompts as texts or tokens.
 *
 * Called by `openai-generation.ts`.
 */
import type { JsonObject } from '../base/tensor-json.js';
import { invalidMember } from './openai-error.js';
import { isTokens, kindOf, Members } from './openai-members.js';
import {
  defined,
  ignoreBookkeeping,
  MAX_CHOICES,
  type OpenAiGeneration,
  type OpenAiPrompt,
  takeDelivery,
  takeModel,
  takeSampling,
} from './openai-sampling.js';

/** OpenAI's own. */
const DEFAULT_MAX_TOKENS = 16;
const MAX_LOGPROBS = 5;

/** The request in `body`; throws 400 that names the member. */
export function parseCompletion(body: JsonObject): OpenAiGeneration {
  const members = new Members(body);
  const model = takeModel(members);
  const echo = members.boolean('echo') ?? false;
  const prompts = takePrompts(members, echo);
  const delivery = takeDelivery(members);
  const logprobs = members.integer('logprobs', 0, MAX_LOGPROBS);
  if (echo && logprobs !== undefined) {
    throw invalidMember('echo', "'echo' can not be given together with 'logprobs': those of the prompt are not known");
  }
  const maxTokens = members.integer('max_tokens') ?? DEFAULT_MAX_TOKENS;
  const sampling = { ...takeSampling(members), ...defined({ maxTokens, logprobs }) };
  members.refuse('best_of', 'all answers are given, none is chosen', (value) => value === delivery.choices);
  members.refuse('suffix', 'text is only continued, never filled in', (value) => value === '');
  refuseFormats(members);
  ignoreBookkeeping(members);
  members.finish('a completion');
  if (prompts.length * delivery.choices > MAX_CHOICES) {
    const asked = `${prompts.length} prompts with ${delivery.choices} answers each`;
    throw invalidMember('prompt', `at most ${MAX_CHOICES} answers are given to one request, got ${asked}`);
  }
  return { model, prompts, sampling, ...delivery };
}

/** Formats that would have to be kept to while text is generated. */
export function refuseFormats(members: Members): void {
  members.refuse('response_format', "only {'type': 'text'} is, text is not held to a format", isTextFormat);
}

function isTextFormat(value: unknown): boolean {
  return typeof value === 'object' && value !== null && (value as { type?: unknown }).type === 'text';
}

function takePrompts(members: Members, echo: boolean): OpenAiPrompt[] {
  const given = members.take('prompt');
  const addSpecialTokens = members.boolean('add_special_tokens') ?? true;
  const text = (value: string): OpenAiPrompt => ({
    prompt: { kind: 'text', text: value, addSpecialTokens },
    echo: echo ? value : '',
  });
  const tokens = (value: number[]): OpenAiPrompt => {
    if (echo) throw invalidMember('echo', "'echo' gives back texts; of a prompt of tokens there is none");
    return { prompt: { kind: 'tokens', tokens: value }, echo: '' };
  };
  if (given === undefined) throw invalidMember('prompt', "'prompt' is missing: send a text to go on from");
  if (typeof given === 'string') return [text(given)];
  if (!Array.isArray(given)) throw wrongPrompt(kindOf(given));
  if (given.length === 0) throw invalidMember('prompt', "'prompt' is an empty array, send at least one text");
  if (isTokens(given)) return [tokens(given)];
  const areTexts = typeof given[0] === 'string';
  return given.map((entry: unknown, index) => {
    if (areTexts && typeof entry === 'string') return text(entry);
    if (!areTexts && isTokens(entry)) return tokens(entry);
    throw wrongPrompt(`${kindOf(entry)} at ${index}`);
  });
}

function wrongPrompt(got: string): Error {
  const types = 'a string, an array of strings, an array of token ids or an array of such arrays';
  return invalidMember('prompt', `'prompt' must be ${types}, got ${got}`);
}
