/** What chat completions and completions do not take, and that it is said which member it is. */
import type OpenAI from 'openai';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type FrontEnd, startFrontEnd } from './front-end.js';
import { TokenEngine } from './token-engine.js';

const engine = new TokenEngine();
let front: FrontEnd;
beforeAll(async () => {
  front = await startFrontEnd({ engine });
});
afterAll(() => front.close());
afterEach(() => {
  expect(engine.streams.size).toBe(0);
  engine.generated.length = 0;
});

const user = (content: string) => [{ role: 'user' as const, content }];

const post = (path: string, body: unknown) =>
  front.post(path, typeof body === 'string' ? body : JSON.stringify({ model: 'words', ...(body as object) }));

async function errorOf(response: Response): Promise<Record<string, unknown>> {
  const body = (await response.json()) as { error: Record<string, unknown> };
  expect(Object.keys(body)).toEqual(['error']);
  expect(Object.keys(body.error)).toEqual(['message', 'type', 'param', 'code']);
  return body.error;
}

describe('a request is refused with the member that is wrong:', () => {
  const message = (content: unknown, role = 'user') => ({ messages: [{ role, content }] });
  const image = { type: 'image_url', image_url: { url: 'data:' } };
  test.each<[string, object, string | null]>([
    ['chat', { model: undefined }, 'model'],
    ['chat', { model: 7 }, 'model'],
    ['chat', { messages: undefined }, 'messages'],
    ['chat', { messages: 'hello' }, 'messages'],
    ['chat', { messages: [] }, 'messages'],
    ['chat', { messages: ['hello'] }, 'messages[0]'],
    ['chat', message('x', 'robot'), 'messages[0].role'],
    ['chat', message(7), 'messages[0].content'],
    ['chat', message(null), 'messages[0].content'],
    ['chat', message([{ type: 'text', text: 'x' }, image]), 'messages[0].content[1]'],
    ['chat', message([{ type: 'text' }]), 'messages[0].content[0]'],
    ['chat', message(['x']), 'messages[0].content[0]'],
    ['chat', { temperature: '0.5' }, 'temperature'],
    ['chat', { max_tokens: 1.5 }, 'max_tokens'],
    ['chat', { n: 0 }, 'n'],
    ['chat', { n: 17 }, 'n'],
    ['chat', { n: 1e15 }, 'n'],
    ['chat', { logprobs: 3 }, 'logprobs'],
    ['chat', { top_logprobs: 3 }, 'top_logprobs'],
    ['chat', { logprobs: true, top_logprobs: 21 }, 'top_logprobs'],
    ['chat', { stream: 'yes' }, 'stream'],
    ['chat', { stream_options: {} }, 'stream_options'],
    ['chat', { stream: true, stream_options: { other: 1 } }, 'stream_options.other'],
    ['chat', { stream: true, stream_options: { include_usage: 1 } }, 'stream_options.include_usage'],
    ['chat', { stop: [1] }, 'stop'],
    ['chat', { stop: {} }, 'stop'],
    ['chat', { logit_bias: { x: 1 } }, 'logit_bias'],
    ['chat', { logit_bias: { 5: '1' } }, 'logit_bias'],
    ['chat', { stop_token_ids: [-1] }, 'stop_token_ids'],
    ['chat', { seed: 1.5 }, 'seed'],
    ['chat', { response_format: { type: 'json_object' } }, 'response_format'],
    ['chat', { response_format: { type: 'json_schema', json_schema: {} } }, 'response_format'],
    ['chat', { functions: [{}] }, 'functions'],
    ['chat', { tools: [{ type: 'web_search' }] }, 'tools'],
    ['chat', { tools: 'all' }, 'tools'],
    ['chat', { tool_choice: 'required' }, 'tool_choice'],
    ['chat', { tool_choice: { type: 'function', function: { name: 'f' } } }, 'tool_choice'],
    ['chat', { modalities: ['text', 'audio'] }, 'modalities'],
    ['chat', { continue_final_message: true }, 'continue_final_message'],
    ['chat', { guided_json: {} }, 'guided_json'],
    ['chat', { prompt: 'x' }, 'prompt'],
    ['chat', { priority: 1 }, 'priority'],
    ['chat', { chat_template_kwargs: [] }, 'chat_template_kwargs'],
    ['text', { prompt: undefined }, 'prompt'],
    ['text', { prompt: [] }, 'prompt'],
    ['text', { prompt: [1, 'x'] }, 'prompt'],
    ['text', { prompt: ['x', [1]] }, 'prompt'],
    ['text', { prompt: [1.5] }, 'prompt'],
    ['text', { prompt: [2 ** 40] }, 'prompt'],
    ['text', { prompt: { text: 'x' } }, 'prompt'],
    ['text', { prompt: new Array(129).fill('x') }, 'prompt'],
    ['text', { prompt: new Array(9).fill('x'), n: 16 }, 'prompt'],
    ['text', { logprobs: 6 }, 'logprobs'],
    ['text', { logprobs: true }, 'logprobs'],
    ['text', { best_of: 3 }, 'best_of'],
    ['text', { suffix: 'end' }, 'suffix'],
    ['text', { echo: true, logprobs: 1 }, 'echo'],
    ['text', { echo: true, prompt: [1] }, 'echo'],
    ['text', { use_beam_search: true }, 'use_beam_search'],
    ['text', { messages: [] }, 'messages'],
  ])('%s %j', async (kind, more, param) => {
    const path = kind === 'chat' ? '/v1/chat/completions' : '/v1/completions';
    const body = kind === 'chat' ? { messages: user('x') } : { prompt: 'x' };
    const response = await post(path, { ...body, ...more });
    expect(response.status).toBe(400);
    expect(response.headers.get('server-timing')).toMatch(/total;dur=\d/);
    expect(await errorOf(response)).toMatchObject({ param, type: 'invalid_request_error', code: null });
    expect(engine.generated).toEqual([]);
  });

  const deep = (depth: number) => '['.repeat(depth) + ']'.repeat(depth);
  test.each<[string, string]>([
    ['an array', '[]'],
    ['nothing', ''],
    ['no JSON', '{"model":'],
    ['more than one value', '{}{}'],
    ['NaN', '{"model":"words","prompt":"x","temperature":NaN}'],
    ['a lone surrogate', '{"model":"words","prompt":"\\ud800"}'],
    ['a bomb of depth', `{"model":"words","prompt":"x","metadata":${deep(10_000)}}`],
    ['a large bomb of depth', `{"model":"words","prompt":"x","metadata":${deep(1_000_000)}}`],
    ['a bomb of values', `{"model":"words","prompt":"x","metadata":[${'[],'.repeat(300_000)}0]}`],
    ['a number past all doubles', '{"model":"words","prompt":"x","temperature":1e999}'],
  ])('%s', async (_name, body) => {
    const response = await post('/v1/completions', body);
    expect(response.status).toBe(400);
    await errorOf(response);
    expect(engine.generated).toEqual([]);
  });

  test('invalid UTF-8', async () => {
    const body = Buffer.from('{"model":"words","prompt":"x\u00ff"}', 'latin1');
    const response = await front.post('/v1/completions', Uint8Array.from(body));
    expect(await errorOf(response)).toMatchObject({ message: expect.stringContaining('invalid UTF-8') });
  });

  test('more text than any model reads', async () => {
    const response = await post('/v1/completions', { prompt: 'x'.repeat(8 * 1024 * 1024) });
    expect(response.status).toBe(413);
    expect(await errorOf(response)).toMatchObject({ code: 'request_too_large' });
  });

  test('and of a member that is there twice the last counts', async () => {
    const response = await post('/v1/completions', '{"model":"words","prompt":7,"prompt":"x","n":99,"n":2}');
    expect(((await response.json()) as OpenAI.Completion).choices).toHaveLength(2);
  });

  test('while ten thousand stop strings are for the engine to refuse', async () => {
    const stop = Array.from({ length: 10_000 }, (_, i) => `stop ${i}`);
    await post('/v1/completions', { prompt: 'fail INVALID_ARGUMENT', stop });
    expect(engine.generated[0]!.sampling.stop).toEqual(stop);
  });

  test.each([
    ['top_p must be above 0 and at most 1, got 2', 'top_p', null],
    ["model 'words' takes no conversations: it has no template", 'model', null],
    ["prompt for model 'words' is empty", 'prompt', null],
    [
      "prompt for model 'words' has 600 tokens, at most 511 leave room in its context of 512 tokens",
      'prompt',
      'context_length_exceeded',
    ],
    [
      "prompt for model 'words' has at least 600 bytes, at most 500 are taken. Use --max-text-byte-size",
      'prompt',
      'string_above_max_length',
    ],
    ['the chat template refused: roles must alternate', 'prompt', null],
    ['the conversation gives no tokens', 'prompt', null],
    ['token 3 of the prompt must be a whole number', 'prompt', null],
    ['something else', null, null],
  ])('by the engine: %s', async (message, param, code) => {
    const body = { prompt: `refuse ${message}` };
    expect(await errorOf(await post('/v1/completions', body))).toMatchObject({ message, param, code });
    const inChat = { messages: user(`refuse ${message}`) };
    const chatParam = param === 'prompt' ? 'messages' : param;
    expect(await errorOf(await post('/v1/chat/completions', inChat))).toMatchObject({
      message,
      param: chatParam,
      code,
    });
  });
});
