/** Requests by tensors for a model that generates text, as clients of Triton's language model backends send them, and what they get. */
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { nowMs } from '../../src/base/clock.js';
import type { ServeError } from '../../src/base/errors.js';
import { Timeline } from '../../src/base/timeline.js';
import type { InferInput, InferOutput, InferRequest, Parameters } from '../../src/engine/types.js';
import type { Sampling } from '../../src/runtime/generation-messages.js';
import { rawStrings, tensor } from '../support/engine.js';
import { type Played, playedGenerator } from '../support/token-streams.js';

const text = (name: string, value: string, shape = [1]): InferInput => ({
  name,
  datatype: 'BYTES',
  shape,
  data: rawStrings(value),
});
const bool = (name: string, value: boolean): InferInput => tensor(name, 'BOOL', [1], Uint8Array.of(Number(value)));
const int = (name: string, value: number): InferInput => tensor(name, 'INT32', [1], Int32Array.of(value));
const PROMPT = text('text_input', 'a bb');

function inferRequest(inputs: InferInput[], change: Partial<InferRequest> = {}): InferRequest {
  const timeline = new Timeline(nowMs());
  timeline.lastByte = timeline.decoded = timeline.firstByte;
  return {
    modelName: 'story',
    modelVersion: '',
    id: '17',
    inputs,
    outputs: [],
    parameters: new Map(),
    arm: 'grpc_raw',
    deadlineMs: Number.POSITIVE_INFINITY,
    timeline,
    ...change,
  };
}

type Values = Record<string, unknown>;

/** An output as a list of its elements. */
function values({ datatype, data }: InferOutput): unknown[] {
  const { buffer } = new Uint8Array(data);
  if (datatype === 'FP32') return [...new Float32Array(buffer)];
  if (datatype === 'INT32') return [...new Int32Array(buffer)];
  if (datatype === 'UINT32') return [...new Uint32Array(buffer)];
  return [Buffer.from(data.subarray(4)).toString()];
}

interface Told {
  readonly responses: (readonly [outputs: Values, final: boolean])[];
  readonly errors: ServeError[];
}

function stream(played: Played, inputs: InferInput[], change: Partial<InferRequest> = {}) {
  const told: Told = { responses: [], errors: [] };
  const call = played.generator.inferStream(inferRequest(inputs, change), {
    onResponse: ({ outputs, id, modelName }, final) => {
      expect([id, modelName]).toEqual(['17', modelName]);
      told.responses.push([Object.fromEntries(outputs.map((output) => [output.name, values(output)])), final]);
    },
    onError: (error) => void told.errors.push(error),
  });
  return { told, call };
}

const started = (played: Played, count = 1) => expect.poll(() => played.streams.started.length).toBe(count);

const SAMPLED: [string, InferInput[], Parameters | Record<string, never>, Partial<Sampling>][] = [
  ['a tensor of its own', [int('max_tokens', 7)], new Map(), { maxTokens: 7 }],
  [
    'a tensor of another width',
    [tensor('max_tokens', 'UINT64', [1, 1], BigUint64Array.of(7n))],
    new Map(),
    { maxTokens: 7 },
  ],
  [
    'a tensor of no dimensions',
    [tensor('temperature', 'FP32', [], Float32Array.of(0.5))],
    new Map(),
    { temperature: 0.5 },
  ],
  ["TensorRT-LLM's names", [int('min_length', 3), int('beam_width', 1)], new Map(), { minTokens: 3 }],
  [
    "what TensorRT-LLM's clients send for nothing",
    [],
    new Map<string, boolean | number | string>([
      ['bad_words', ''],
      ['stop_words', '["","end"]'],
      ['accumulate_tokens', true],
      ['length_penalty', 1],
      ['pad_id', 2],
      ['return_log_probs', false],
    ]),
    { stop: ['end'] },
  ],
  [
    "TensorRT-LLM's last token beside others",
    [int('end_id', 3), tensor('stop_token_ids', 'INT32', [1], Int32Array.of(4)), int('pad_id', 2)],
    new Map([['return_context_logits', false]]),
    { stopTokenIds: [4, 3] },
  ],
  ["TensorRT-LLM's last token that never comes", [int('end_id', -1)], new Map(), { eosTokenIds: [], stopTokenIds: [] }],
  [
    'a list of strings',
    [{ name: 'stop_words', datatype: 'BYTES', shape: [1, 2], data: rawStrings('x', 'y') }],
    new Map(),
    { stop: ['x', 'y'] },
  ],
  [
    'a list of ids',
    [tensor('stop_token_ids', 'INT64', [2], BigInt64Array.of(3n, 4n))],
    new Map(),
    { stopTokenIds: [3, 4] },
  ],
  [
    'sampling_parameters whose numbers are strings',
    [text('sampling_parameters', '{"max_tokens":"16","min_tokens":"2","temperature":"0.5","ignore_eos":"True"}')],
    new Map(),
    { maxTokens: 16, minTokens: 2, temperature: 0.5, eosTokenIds: [] },
  ],
  [
    "what vLLM's clients say of what they don't want",
    [text('sampling_parameters', '{"use_beam_search":false,"guided_json":null,"top_k":5}')],
    new Map(),
    { topK: 5 },
  ],
  [
    'sampling_parameters with lists and objects',
    [
      text(
        'sampling_parameters',
        '{"stop":["a","b"],"stop_token_ids":[5],"logit_bias":{"7":-3},"seed":-1,"top_k":null}',
      ),
    ],
    new Map(),
    { stop: ['a', 'b'], stopTokenIds: [5], logitBias: [[7, -3]], seed: [0xffffffff, 0xffffffff] },
  ],
  [
    'request parameters',
    [],
    new Map<string, boolean | number | bigint | string>([
      ['max_tokens', 5],
      ['top_p', 0.5],
      ['seed', 2n ** 63n],
      ['skip_special_tokens', false],
    ]),
    { maxTokens: 5, topP: 0.5, seed: [0, 0x80000000], skipSpecialTokens: false },
  ],
  [
    'request parameters that are all strings',
    [],
    new Map([
      ['max_tokens', '5'],
      ['min_p', '.25'],
      ['seed', '9'],
      ['stop', '["x","y"]'],
      ['logit_bias', '{"3": 1.5}'],
      ['include_stop_str_in_output', 'true'],
    ]),
    { maxTokens: 5, minP: 0.25, seed: [9, 0], stop: ['x', 'y'], logitBias: [[3, 1.5]], includeStop: true },
  ],
  ['one stop string', [], new Map([['stop', '[no list']]), { stop: ['[no list'] }],
  [
    "a tensor rather than sampling_parameters, and those rather than the request's parameters",
    [int('max_tokens', 1), text('sampling_parameters', '{"max_tokens":2,"top_k":2}')],
    new Map([
      ['max_tokens', 3],
      ['top_k', 3],
      ['temperature', 1],
    ]),
    { maxTokens: 1, topK: 2, temperature: 1 },
  ],
  [
    "Triton's own parameters beside them",
    [],
    new Map<string, boolean | number | string>([
      ['triton_enable_empty_final_response', true],
      ['sequence_id', 0],
      ['sequence_start', false],
      ['sequence_end', false],
      ['priority', 1],
      ['timeout', 60_000_000],
    ]),
    { temperature: 0 },
  ],
];

describe('how tokens are to be chosen can be said by', () => {
  test.each(SAMPLED)('%s', async (_, inputs, parameters, sampling) => {
    const played = playedGenerator();
    const { told } = stream(played, [PROMPT, ...inputs], { parameters: parameters as Parameters });
    await expect.poll(() => [played.streams.started.length, told.errors]).toEqual([1, []]);
    expect(played.streams.started[0]!.sampling).toMatchObject(sampling);
  });
});

const REFUSED: [string, InferInput[], Partial<InferRequest>, string][] = [
  ['no prompt', [int('max_tokens', 1)], {}, "missing required input(s) ['text_input']"],
  ['two prompts', [PROMPT, tensor('input_ids', 'INT32', [1], Int32Array.of(1))], {}, 'are both a prompt'],
  [
    'two texts of unknown names',
    [text('a', 'x'), text('b', 'x')],
    {},
    "unexpected inference input 'b' for model 'story'",
  ],
  ['a tensor twice', [PROMPT, int('max_tokens', 1), int('max_tokens', 1)], {}, "input 'max_tokens' already exists"],
  ['a tensor of no meaning', [PROMPT, int('horizon', 1)], {}, "unexpected inference input 'horizon' for model 'story'"],
  ['several prompts in one', [{ ...PROMPT, shape: [2], data: rawStrings('a', 'b') }], {}, 'Expected [1], got [2]'],
  ['an empty tensor', [PROMPT, tensor('max_tokens', 'INT32', [0], new Int32Array(0))], {}, 'Expected [1], got [0]'],
  [
    'a matrix',
    [PROMPT, { name: 'stop', datatype: 'BYTES', shape: [2, 2], data: rawStrings('a', 'b', 'c', 'd') }],
    {},
    'Expected [n] or [1,n], got [2,2]',
  ],
  [
    'a text for a flag',
    [PROMPT, text('stream', 'true')],
    {},
    "inference input 'stream' data-type is 'BYTES', but model 'story' expects 'BOOL'",
  ],
  ['bytes missing', [PROMPT, { ...int('max_tokens', 1), data: new Uint8Array(3) }], {}, 'Expected 4, got 3'],
  ['text that is none', [{ ...PROMPT, data: rawStrings(Uint8Array.of(0xff)) }], {}, 'is not valid UTF-8'],
  ['text of too many bytes', [text('text_input', 'x'.repeat(1001))], {}, 'has 1001 bytes, at most 1000 are taken'],
  ['parameters that are no object', [PROMPT, text('sampling_parameters', '[1]')], {}, 'must be a JSON object'],
  ['parameters that are no JSON', [PROMPT, text('sampling_parameters', '{')], {}, 'must be a JSON object'],
  ['an unknown member', [PROMPT, text('sampling_parameters', '{"warmth":1}')], {}, "unknown parameter 'warmth'"],
  ['an unknown parameter', [PROMPT], { parameters: new Map([['warmth', 1]]) }, "unknown parameter 'warmth'"],
  [
    'words to avoid',
    [PROMPT],
    { parameters: new Map([['bad_words', '["a"]']]) },
    'bad_words is not supported: forbid tokens by a logit_bias',
  ],
  [
    'a search by beams',
    [PROMPT, text('sampling_parameters', '{"use_beam_search":"True"}')],
    {},
    'use_beam_search is not supported: tokens are sampled',
  ],
  [
    'outputs that only TensorRT-LLM has',
    [PROMPT, bool('return_log_probs', true)],
    {},
    'return_log_probs is not supported: ask for return_logprobs or return_cumulative_logprob',
  ],
  [
    'an unknown parameter without a prompt',
    [],
    { parameters: new Map([['prompt', 'x']]) },
    "missing required input(s) ['text_input']",
  ],
  ['a reserved parameter', [PROMPT], { parameters: new Map([['triton_x', 1]]) }, "starts with 'triton_'"],
  ['a number that is none', [PROMPT], { parameters: new Map([['top_k', 'ten']]) }, "top_k must be a number, got 'ten'"],
  ['a flag that is none', [PROMPT], { parameters: new Map([['ignore_eos', 10n]]) }, 'ignore_eos must be true or false'],
  ['a seed that is none', [PROMPT], { parameters: new Map([['seed', 'x']]) }, "seed must be a whole number, got 'x'"],
  ['several texts', [PROMPT], { parameters: new Map([['n', 2]]) }, 'n must be 1: a request gives one text. Got 2'],
  ['a value out of range', [PROMPT], { parameters: new Map([['top_p', '3']]) }, 'top_p must be above 0'],
  ['an unknown output', [PROMPT], { outputs: [{ name: 'x' }] }, "unexpected inference output 'x' for model 'story'"],
  [
    'an output twice',
    [PROMPT],
    { outputs: [{ name: 'text_output' }, { name: 'text_output' }] },
    "output 'text_output' already exists in request",
  ],
  [
    'classes of a text',
    [PROMPT],
    { outputs: [{ name: 'text_output', classification: 2 }] },
    'class result not available for output',
  ],
  [
    'the prompt in a stream',
    [PROMPT, bool('stream', true), bool('exclude_input_in_output', false)],
    {},
    'When streaming, `exclude_input_in_output` = False is not allowed.',
  ],
];

describe('a request that can not be meant is refused with the reason', () => {
  test.each(REFUSED)('%s', async (_, inputs, change, message) => {
    const played = playedGenerator();
    const { told } = stream(played, inputs, change);
    await expect.poll(() => told.errors.map(({ code }) => code)).toEqual(['INVALID_ARGUMENT']);
    expect(told.errors[0]!.message).toContain(message);
    expect([played.streams.started.length, played.generator.inFlight, told.responses.length]).toEqual([0, 0, 0]);
  });
});

describe('the prompt is', () => {
  test.each<[string, InferInput, string | number[]]>([
    ['text_input', PROMPT, 'a bb'],
    ['a text of another name', text('question', 'a bb', [1, 1]), 'a bb'],
    ['what the contract says is text', { ...PROMPT, name: '', content: 'text' }, 'a bb'],
    ['ids by their name', tensor('input_ids', 'INT32', [1, 2], Int32Array.of(8, 9)), [8, 9]],
    [
      'what the contract says are ids',
      { ...tensor('', 'INT64', [2], BigInt64Array.of(8n, 9n)), content: 'tokens' },
      [8, 9],
    ],
  ])('%s', async (_, input, expected) => {
    const played = playedGenerator();
    stream(played, [input]);
    await started(played);
    if (typeof expected === 'string')
      expect(Buffer.from(played.prompts[0]!.data.subarray(4)).toString()).toBe(expected);
    else expect([...played.streams.started[0]!.tokens]).toEqual(expected);
  });
});

const LOGPROB = {
  id: 5,
  token: 'x',
  bytes: [120],
  logprob: -0.5,
  offset: 0,
  top: [{ id: 4, token: 'y', bytes: [121], logprob: -0.25 }],
};

test('a stream has a response for each token, the last is final, and what was asked for beside the text', async () => {
  const played = playedGenerator();
  const more = ['finish_reason', 'cumulative_logprob', 'logprobs', 'num_input_tokens', 'num_output_tokens'];
  const { told, call } = stream(played, [
    PROMPT,
    bool('stream', true),
    ...more.map((name) => bool(`return_${name}`, true)),
  ]);
  await started(played);
  expect(played.streams.started[0]!.sampling.logprobs).toBe(0);
  played.streams.token(0, 'Once', { detail: { logprob: LOGPROB } });
  played.streams.end(0, ' upon');
  expect(told.responses).toEqual([
    [
      {
        text_output: ['Once'],
        finish_reason: ['None'],
        cumulative_logprob: [-0.5],
        logprobs: [
          '[{"4":{"logprob":-0.25,"rank":1,"decoded_token":"y"},"5":{"logprob":-0.5,"rank":null,"decoded_token":"x"}}]',
        ],
        num_input_tokens: [2],
        num_output_tokens: [1],
      },
      false,
    ],
    [
      {
        text_output: [' upon'],
        finish_reason: ['stop'],
        cumulative_logprob: [-0.5],
        logprobs: ['[{}]'],
        num_input_tokens: [2],
        num_output_tokens: [1],
      },
      true,
    ],
  ]);
  call.taken(1);
});

test('outputs come as they are named, those of single tokens among them', async () => {
  const played = playedGenerator();
  const outputs = [{ name: 'token_logit' }, { name: 'text_output' }, { name: 'token_id' }];
  const { told } = stream(played, [PROMPT], { streams: true, outputs });
  await started(played);
  played.streams.token(0, 'Once');
  expect(told.responses).toEqual([[{ token_logit: [2], text_output: ['Once'], token_id: [4] }, false]]);
});

test('without being asked for a stream there is one response, and the prompt comes first in it', async () => {
  const played = playedGenerator();
  const { told } = stream(played, [PROMPT, bool('return_num_output_tokens', true)]);
  await started(played);
  played.streams.token(0, ' c');
  expect(told.responses).toEqual([]);
  played.streams.end(0, ' d');
  expect(told.responses).toEqual([[{ text_output: ['a bb c d'], num_output_tokens: [2] }, true]]);
});

test('a long text for one response uses up no window', async () => {
  const played = playedGenerator();
  const { told } = stream(played, [PROMPT]);
  await started(played);
  for (let i = 0; i < 200; i++) played.streams.token(0, 'x');
  const credited = played.streams.credits.reduce((sum, [, deltas]) => sum + deltas, 0);
  expect(credited).toBeGreaterThan(200 - 64);
  expect(told.errors).toEqual([]);
});

test.each([
  ['exclude_input_in_output', { inputs: [bool('exclude_input_in_output', true)] }],
  ['the route, which would stream, where the request would not', { inputs: [bool('stream', false)], streams: true }],
])('the prompt is left out as %s says', async (_, { inputs, ...change }) => {
  const played = playedGenerator();
  const { told } = stream(played, [PROMPT, ...inputs], change);
  await started(played);
  played.streams.end(0, ' c');
  expect(told.responses).toEqual([[{ text_output: [' c'] }, true]]);
});

test("the parameter 'timeout' is how long it waits for its first token", () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  onTestFinished(() => void vi.useRealTimers());
  const played = playedGenerator();
  const parameters = new Map([['timeout', 20_000]]);
  const ids = tensor('input_ids', 'INT32', [1], Int32Array.of(8));
  const late = stream(played, [ids], { parameters });
  const early = stream(played, [ids], { parameters });
  vi.advanceTimersByTime(19);
  played.streams.token(1, 'x');
  expect(late.told.errors).toEqual([]);
  vi.advanceTimersByTime(1);
  expect(late.told.errors.map(({ code, message }) => [code, message])).toEqual([
    ['UNAVAILABLE', 'Request timeout expired'],
  ]);
  played.streams.end(1, 'y');
  expect([early.told.errors, early.told.responses.length, played.streams.cancelled]).toEqual([[], 1, [0]]);
});

test('a caller that goes ends the stream', async () => {
  const played = playedGenerator();
  const { call } = stream(played, [PROMPT, bool('stream', true)]);
  await started(played);
  call.cancel();
  expect([played.streams.cancelled, played.generator.inFlight]).toEqual([[0], 0]);
});

test('another model answers once, and that is final', () => {
  const { told } = stream(playedGenerator(), [], { modelName: 'plain' });
  expect(told.responses).toEqual([[{}, true]]);
});

describe('a request for one answer', () => {
  const ask = (played: Played, change: Partial<InferRequest>) => {
    const texts: unknown[] = [];
    const cancel = played.generator.answer(played.model, inferRequest([PROMPT, bool('stream', true)], change), {
      onResponse: ({ outputs }) => void texts.push(values(outputs[0]!)),
      onError: ({ code, message }) => void texts.push([code, message]),
    });
    return { texts, cancel };
  };

  test.each([
    ['grpc_raw', "ModelInfer RPC doesn't support models with decoupled transaction policy"],
    ['grpc_typed', "ModelInfer RPC doesn't support models with decoupled transaction policy"],
    ['rest_json', "HTTP end point doesn't support models with decoupled transaction policy"],
    ['rest_binary', "HTTP end point doesn't support models with decoupled transaction policy"],
  ] as const)('is refused as Triton does: %s', (arm, message) => {
    expect(ask(playedGenerator(), { arm }).texts).toEqual([['UNIMPLEMENTED', message]]);
  });

  test('that wants the whole text gets it, without the prompt', async () => {
    const played = playedGenerator();
    const { texts } = ask(played, { wholeText: true });
    await started(played);
    played.streams.token(0, 'Once');
    played.streams.end(0, ' upon');
    expect(texts).toEqual([['Once upon']]);
  });

  test('that was accepted before the server stops is answered', async () => {
    const played = playedGenerator();
    played.generator.stopAccepting();
    const { texts } = ask(played, { wholeText: true });
    await started(played);
    played.streams.end(0, 'Once');
    expect(texts).toEqual([['Once']]);
  });

  test('ends with its caller', async () => {
    const played = playedGenerator();
    const { cancel } = ask(played, { wholeText: true });
    await started(played);
    cancel();
    expect(played.streams.cancelled).toEqual([0]);
  });
});
