/** The table of sampling parameters: what each may be, what is told of the rest, and what fills the gaps. */
import { describe, expect, test } from 'vitest';
import type { GenerationDefaults } from '../../src/engine/generation.js';
import type { SamplingParameters } from '../../src/engine/generation-types.js';
import { checkSampling, resolveSampling } from '../../src/engine/sampling-parameters.js';

const defaults: GenerationDefaults = {
  temperature: 0.6,
  topK: 50,
  topP: 0.9,
  minP: 0.05,
  repetitionPenalty: 1.1,
  maxTokens: 40,
  minTokens: 2,
  eosTokenIds: [1, 2],
  suppressTokenIds: [7],
};
const scope = { defaults, vocabularySize: 100 };

const LEAST_SEED = -(2n ** 63n);

const REFUSED: [SamplingParameters, string][] = [
  [{ temperature: -1 }, 'temperature must be between 0 and 2, got -1'],
  [{ temperature: 2.1 }, 'temperature must be between 0 and 2, got 2.1'],
  [{ temperature: Number.NaN }, 'temperature must be between 0 and 2, got NaN'],
  [{ topK: -2 }, 'top_k must be a whole number between -1 and 2^31 - 1, got -2'],
  [{ topK: 1.5 }, 'top_k must be a whole number between -1 and 2^31 - 1, got 1.5'],
  [{ topP: 0 }, 'top_p must be above 0 and at most 1, got 0'],
  [{ topP: 1.01 }, 'top_p must be above 0 and at most 1, got 1.01'],
  [{ minP: 1.5 }, 'min_p must be between 0 and 1, got 1.5'],
  [{ repetitionPenalty: 0 }, 'repetition_penalty must be above 0 and at most 1000, got 0'],
  [
    { repetitionPenalty: Number.POSITIVE_INFINITY },
    'repetition_penalty must be above 0 and at most 1000, got Infinity',
  ],
  [{ presencePenalty: -2.5 }, 'presence_penalty must be between -2 and 2, got -2.5'],
  [{ frequencyPenalty: 3 }, 'frequency_penalty must be between -2 and 2, got 3'],
  [{ maxTokens: 0 }, 'max_tokens must be a whole number between 1 and 2^31 - 1, got 0'],
  [{ maxTokens: 2.5 }, 'max_tokens must be a whole number between 1 and 2^31 - 1, got 2.5'],
  [{ minTokens: -1 }, 'min_tokens must be a whole number between 0 and 2^31 - 1, got -1'],
  [{ maxTokens: 4, minTokens: 5 }, 'min_tokens must not be above max_tokens, got 5 above 4'],
  [{ logprobs: 21 }, 'logprobs must be a whole number between 0 and 20, got 21'],
  [{ seed: 0.5 }, 'seed must be a whole number of 64 bits, got 0.5'],
  [{ seed: 2n ** 64n }, 'seed must be a whole number of 64 bits, got 18446744073709551616'],
  [{ seed: LEAST_SEED - 1n }, 'seed must be a whole number of 64 bits, got -9223372036854775809'],
  [{ stop: new Array(65).fill('x') }, 'stop must have at most 64 strings, got 65'],
  [{ stop: new Array(10_000).fill('x') }, 'stop must have at most 64 strings, got 10000'],
  [{ stop: ['a', ''] }, 'stop must not have an empty string'],
  [
    { stop: ['y'.repeat(1025)] },
    "strings in stop must have at most 1024 characters, got one of 1025: 'yyyyyyyyyyyyyyyy...'",
  ],
  [
    { stop: [...new Array(8).fill('y'.repeat(1024)), 'x'] },
    'strings in stop must have at most 8192 characters together, got 8193',
  ],
  [{ stopTokenIds: [3, 100] }, 'stop_token_ids must name tokens of the model, from 0 to 99, got 100'],
  [{ stopTokenIds: [-1] }, 'stop_token_ids must name tokens of the model, from 0 to 99, got -1'],
  [{ stopTokenIds: new Array(1025).fill(1) }, 'stop_token_ids must have at most 1024 ids, got 1025'],
  [{ logitBias: new Map([[1.5, 0]]) }, 'logit_bias must name tokens of the model, from 0 to 99, got 1.5'],
  [{ logitBias: new Map([[5, 101]]) }, 'logit_bias of token 5 must be between -100 and 100, got 101'],
  [{ logitBias: new Map([[5, Number.NaN]]) }, 'logit_bias of token 5 must be between -100 and 100, got NaN'],
  [
    { logitBias: new Map(Array.from({ length: 4097 }, (_, id) => [id, 0])) },
    'logit_bias must have at most 4096 tokens, got 4097',
  ],
];

describe('a parameter out of its range is refused with its name, its range and what came', () => {
  test.each(REFUSED)('%o', (parameters, message) => {
    expect(() => checkSampling(parameters, scope)).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT', message }) as Error,
    );
  });
});

test('the ends of every range pass', () => {
  const low: SamplingParameters = {
    temperature: 0,
    topK: -1,
    topP: Number.MIN_VALUE,
    minP: 0,
    repetitionPenalty: 0.01,
    presencePenalty: -2,
    frequencyPenalty: -2,
    maxTokens: 1,
    minTokens: 0,
    logprobs: 0,
    seed: LEAST_SEED,
    stop: ['x'.repeat(1024)],
    stopTokenIds: [0],
    logitBias: new Map([[0, -100]]),
  };
  const high: SamplingParameters = {
    temperature: 2,
    topK: 2 ** 31 - 1,
    topP: 1,
    minP: 1,
    repetitionPenalty: 1000,
    presencePenalty: 2,
    frequencyPenalty: 2,
    maxTokens: 2 ** 31 - 1,
    minTokens: 2 ** 31 - 1,
    logprobs: 20,
    seed: 2n ** 64n - 1n,
    stop: new Array(64).fill('x'.repeat(128)),
    stopTokenIds: new Array(1024).fill(99),
    logitBias: new Map([[99, 100]]),
  };
  for (const parameters of [low, high, {}]) expect(() => checkSampling(parameters, scope)).not.toThrow();
});

test("what a request leaves out comes from the model's files, and then from the interface's defaults", () => {
  expect(resolveSampling({ seed: 5 }, scope, 1000)).toEqual({
    maxTokens: 40,
    minTokens: 2,
    temperature: 0.6,
    topK: 50,
    topP: 0.9,
    minP: 0.05,
    repetitionPenalty: 1.1,
    presencePenalty: 0,
    frequencyPenalty: 0,
    seed: [5, 0],
    logprobs: -1,
    stop: [],
    stopTokenIds: [],
    eosTokenIds: [1, 2],
    suppressTokenIds: [7],
    logitBias: [],
    skipSpecialTokens: true,
    includeStop: false,
  });
});

test('the number of tokens is cut to the room in the context, the least number with it', () => {
  const sampling = resolveSampling({ maxTokens: 500, minTokens: 400 }, scope, 10);
  expect([sampling.maxTokens, sampling.minTokens]).toEqual([10, 10]);
  const unbounded = { ...scope, defaults: { ...defaults, maxTokens: undefined } };
  expect(resolveSampling({}, unbounded, 123).maxTokens).toBe(123);
});

test('all is asked for by a top k of -1 as by 0, and an ignored end of sequence is none', () => {
  const sampling = resolveSampling({ topK: -1, ignoreEos: true }, scope, 10);
  expect([sampling.topK, sampling.eosTokenIds]).toEqual([0, []]);
});

test('a seed keeps all of its 64 bits, and one that is left out is another each time', () => {
  const seeds = [-1, 2n ** 63n + 1n, 2 ** 32 + 7].map((seed) => resolveSampling({ seed }, scope, 10).seed);
  expect(seeds).toEqual([
    [0xffffffff, 0xffffffff],
    [1, 0x80000000],
    [7, 1],
  ]);
  const drawn = Array.from({ length: 8 }, () => resolveSampling({}, scope, 10).seed.join());
  expect(new Set(drawn).size).toBe(8);
});
