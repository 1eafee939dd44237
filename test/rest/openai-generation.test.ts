import OpenAI, {
  APIError,
  APIUserAbortError,
  BadRequestError,
  InternalServerError,
  NotFoundError,
  RateLimitError,
} from 'openai';
import type { ChatCompletionChunk } from 'openai/resources/chat/completions';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type FrontEnd, startFrontEnd } from './front-end.js';
import { TokenEngine } from './token-engine.js';

const engine = new TokenEngine();
let front: FrontEnd;
let client: OpenAI;
beforeAll(async () => {
  front = await startFrontEnd({ engine });
  client = new OpenAI({ baseURL: `${front.url}/v1`, apiKey: 'none', maxRetries: 0 });
});
afterAll(() => front.close());
afterEach(() => {
  expect(engine.streams.size).toBe(0);
  engine.generated.length = front.finished.length = engine.cancelled = engine.taken = 0;
  engine.onCancelled = engine.onStep = undefined;
});

const user = (content: string) => [{ role: 'user' as const, content }];
const chat = { model: 'words', messages: user('a small house') };

const post = (path: string, body: unknown) =>
  front.post(path, typeof body === 'string' ? body : JSON.stringify({ model: 'words', ...(body as object) }));

/** The data of each event of a reply. */
async function eventsOf(response: Response): Promise<string[]> {
  expect(response.status).toBe(200);
  expect(response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
  const parts = (await response.text()).split('\n\n');
  expect(parts.pop()).toBe('');
  return parts.map((part) => {
    expect(part).toMatch(/^data: [^\n]*$/);
    return part.slice(6);
  });
}

async function errorOf(response: Response): Promise<Record<string, unknown>> {
  const body = (await response.json()) as { error: Record<string, unknown> };
  expect(Object.keys(body)).toEqual(['error']);
  expect(Object.keys(body.error)).toEqual(['message', 'type', 'param', 'code']);
  return body.error;
}

describe("OpenAI's own client gets", () => {
  test('a chat completion as a whole', async () => {
    const { data, response } = await client.chat.completions.create(chat).withResponse();
    expect(data).toEqual({
      id: expect.stringMatching(/^chatcmpl-[0-9a-f]{32}$/),
      object: 'chat.completion',
      created: expect.any(Number),
      model: 'words',
      choices: [
        {
          index: 0,
          message: { role: 'assistant', content: 'a small house', refusal: null },
          logprobs: null,
          finish_reason: 'stop',
        },
      ],
      usage: { prompt_tokens: 3, completion_tokens: 4, total_tokens: 7, prompt_tokens_details: { cached_tokens: 2 } },
    });
    expect(Math.abs(data.created - Date.now() / 1000)).toBeLessThan(3600);
    expect(response.headers.get('server-timing')).toMatch(/prefill;dur=1\.000, compute;dur=4\.000.*total;dur=\d/);
    expect(engine.generated).toHaveLength(1);
    expect(engine.generated[0]).toMatchObject({
      modelName: 'words',
      modelVersion: '',
      prompt: { kind: 'chat', messages: [{ role: 'user', content: 'a small house' }] },
      sampling: {},
      protocol: 'rest',
      clientKey: '127.0.0.1',
      deadlineMs: Infinity,
    });
    expect(Object.keys(engine.generated[0]!.sampling)).toEqual([]);
    expect(engine.taken).toBe(4);
    expect(front.finished).toEqual([{ arm: 'rest_json', modelName: 'words', status: 200 }]);
  });

  test('a chat completion chunk by chunk', async () => {
    const chunks: ChatCompletionChunk[] = [];
    for await (const chunk of await client.chat.completions.create({ ...chat, stream: true })) chunks.push(chunk);
    const choice = (delta: object, finish_reason: string | null = null) => ({
      id: chunks[0]!.id,
      object: 'chat.completion.chunk',
      created: chunks[0]!.created,
      model: 'words',
      choices: [{ index: 0, delta, logprobs: null, finish_reason }],
    });
    expect(chunks).toEqual([
      choice({ role: 'assistant', content: '' }),
      choice({ content: 'a' }),
      choice({ content: ' small' }),
      choice({ content: ' house' }),
      choice({}, 'stop'),
    ]);
  });

  test('a chat completion put together by the stream helper, with usage', async () => {
    const contents: string[] = [];
    const stream = client.chat.completions
      .stream({ ...chat, stream_options: { include_usage: true } })
      .on('content', (delta) => contents.push(delta));
    const completion = await stream.finalChatCompletion();
    expect(contents).toEqual(['a', ' small', ' house']);
    expect(completion.choices[0]).toMatchObject({
      message: { role: 'assistant', content: 'a small house' },
      finish_reason: 'stop',
    });
    expect(completion.usage).toMatchObject({ prompt_tokens: 3, completion_tokens: 4, total_tokens: 7 });
  });

  test('a completion as a whole, of 16 tokens where it asks for no other number', async () => {
    const completion = await client.completions.create({ model: 'words', prompt: 'one two' });
    expect(completion).toEqual({
      id: expect.stringMatching(/^cmpl-[0-9a-f]{32}$/),
      object: 'text_completion',
      created: expect.any(Number),
      model: 'words',
      choices: [{ index: 0, text: 'one two', logprobs: null, finish_reason: 'stop' }],
      usage: { prompt_tokens: 2, completion_tokens: 3, total_tokens: 5, prompt_tokens_details: { cached_tokens: 2 } },
    });
    expect(engine.generated[0]).toMatchObject({
      prompt: { kind: 'text', text: 'one two', addSpecialTokens: true },
      sampling: { maxTokens: 16 },
    });
    const long = await client.completions.create({ model: 'words', prompt: 'w '.repeat(30) });
    expect(long.choices[0]!.finish_reason).toBe('length');
    expect(long.usage!.completion_tokens).toBe(16);
  });

  test('a completion chunk by chunk, the last text with the reason', async () => {
    const chunks = [];
    const stream = await client.completions.create({ model: 'words', prompt: 'a b c', max_tokens: 3, stream: true });
    for await (const { choices, object } of stream) chunks.push([object, ...choices]);
    expect(chunks).toEqual([
      ['text_completion', { index: 0, text: 'a', logprobs: null, finish_reason: null }],
      ['text_completion', { index: 0, text: ' b', logprobs: null, finish_reason: null }],
      ['text_completion', { index: 0, text: ' c', logprobs: null, finish_reason: 'length' }],
    ]);
  });

  test('log probabilities of a chat in its form', async () => {
    const body = { ...chat, messages: user('hé'), logprobs: true, top_logprobs: 2 };
    const whole = await client.chat.completions.create(body);
    const expected = {
      content: [
        {
          token: 'hé',
          logprob: -0.5,
          bytes: [104, 195, 169],
          top_logprobs: [
            { token: 'hé', logprob: -0.5, bytes: [104, 195, 169] },
            { token: 'hé1', logprob: -1.5, bytes: [104, 195, 169, 49] },
          ],
        },
      ],
      refusal: null,
    };
    expect(whole.choices[0]!.logprobs).toEqual(expected);
    const streamed = await client.chat.completions.stream(body).finalChatCompletion();
    expect(streamed.choices[0]!.logprobs).toEqual(expected);
    expect(engine.generated[0]!.sampling.logprobs).toBe(2);
  });

  test('log probabilities of a completion in theirs', async () => {
    const body = { model: 'words', prompt: 'a bc d', logprobs: 1, max_tokens: 3 } as const;
    const whole = await client.completions.create(body);
    expect(whole.choices[0]!.logprobs).toEqual({
      text_offset: [0, 1, 4],
      token_logprobs: [-0.5, -0.5, -0.5],
      tokens: ['a', ' bc', ' d'],
      top_logprobs: [{ a: -0.5 }, { ' bc': -0.5 }, { ' d': -0.5 }],
    });
    const offsets: number[] = [];
    for await (const { choices } of await client.completions.create({ ...body, stream: true })) {
      offsets.push(...choices[0]!.logprobs!.text_offset!);
    }
    expect(offsets).toEqual([0, 1, 4]);
  });

  test('answers to each of several prompts, behind each other, seeds counted up', async () => {
    const { choices, usage } = await client.completions.create({
      model: 'words',
      prompt: ['one', 'two three'],
      n: 2,
      seed: 40,
      best_of: 2,
    });
    expect(choices.map(({ index, text }) => [index, text])).toEqual([
      [0, 'one'],
      [1, 'one'],
      [2, 'two three'],
      [3, 'two three'],
    ]);
    expect(engine.generated.map(({ sampling }) => sampling.seed)).toEqual([40, 41, 40, 41]);
    // Each prompt counts once.
    expect(usage).toMatchObject({ prompt_tokens: 3, completion_tokens: 10, total_tokens: 13 });
  });

  test('several answers as they come, each with its index', async () => {
    const order: number[] = [];
    const texts = ['', '', ''];
    const roles = [0, 0, 0];
    for await (const { choices } of await client.chat.completions.create({ ...chat, n: 3, stream: true })) {
      const { index, delta } = choices[0]!;
      order.push(index);
      texts[index] += delta.content ?? '';
      if (delta.role) roles[index]!++;
    }
    expect(texts).toEqual(['a small house', 'a small house', 'a small house']);
    expect(roles).toEqual([1, 1, 1]);
    expect(order.slice(0, 9)).toEqual([0, 0, 1, 1, 2, 2, 0, 1, 2]);
  });

  test('the prompt back before the text, once', async () => {
    const body = { model: 'words', prompt: ['say', 'tell me'], echo: true };
    const { choices } = await client.completions.create(body);
    expect(choices.map(({ text }) => text)).toEqual(['saysay', 'tell metell me']);
    const texts = ['', ''];
    for await (const { choices } of await client.completions.create({ ...body, stream: true })) {
      texts[choices[0]!.index] += choices[0]!.text;
    }
    expect(texts).toEqual(['saysay', 'tell metell me']);
  });

  test('text for prompts of tokens', async () => {
    const one = await client.completions.create({ model: 'words', prompt: [5, 6] });
    expect(one.choices[0]!.text).toBe('5 6');
    const two = await client.completions.create({ model: 'words', prompt: [[5], [7, 8]] });
    expect(two.choices.map(({ text }) => text)).toEqual(['5', '7 8']);
    expect(engine.generated[2]!.prompt).toEqual({ kind: 'tokens', tokens: [7, 8] });
  });

  test('a character that takes two tokens in one piece', async () => {
    const contents = [];
    for await (const { choices } of await client.chat.completions.create({
      ...chat,
      messages: user('halves'),
      stream: true,
    })) {
      contents.push(choices[0]!.delta.content);
    }
    expect(contents).toEqual(['', 'é', undefined]);
    expect(engine.taken).toBe(3);
  });

  test('what it sends about sampling through to the engine', async () => {
    await client.completions.create({
      model: 'words',
      prompt: 'x',
      max_tokens: 7,
      temperature: 0.5,
      top_p: 0.9,
      presence_penalty: -1,
      frequency_penalty: 1.5,
      seed: -3,
      stop: 'end',
      logit_bias: { '17': -100, '5': 2.5 },
      user: 'somebody',
      ...{ top_k: 40, min_p: 0.05, repetition_penalty: 1.1, min_tokens: 2, stop_token_ids: [1, 2] },
      ...{ ignore_eos: true, skip_special_tokens: false, include_stop_str_in_output: true, add_special_tokens: false },
    });
    expect(engine.generated[0]).toMatchObject({ clientKey: 'somebody', prompt: { addSpecialTokens: false } });
    expect(engine.generated[0]!.sampling).toEqual({
      maxTokens: 7,
      temperature: 0.5,
      topP: 0.9,
      presencePenalty: -1,
      frequencyPenalty: 1.5,
      seed: -3,
      stop: ['end'],
      logitBias: new Map([
        [17, -100],
        [5, 2.5],
      ]),
      topK: 40,
      minP: 0.05,
      repetitionPenalty: 1.1,
      minTokens: 2,
      stopTokenIds: [1, 2],
      ignoreEos: true,
      skipSpecialTokens: false,
      includeStop: true,
    });
  });

  test.each([
    ['an unknown model', { model: 'none' }, NotFoundError, { code: 'model_not_found', param: 'model' }],
    ['an unknown member', { colour: 'red' }, BadRequestError, { param: 'colour' }],
    ['a refusal', { messages: user('fail INVALID_ARGUMENT') }, BadRequestError, { type: 'invalid_request_error' }],
    [
      'a full queue',
      { messages: user('fail RESOURCE_EXHAUSTED') },
      RateLimitError,
      { status: 429, code: 'rate_limit_exceeded' },
    ],
    ['a stopping server', { messages: user('fail UNAVAILABLE') }, InternalServerError, { status: 503 }],
    ['a fault', { messages: user('throw') }, InternalServerError, { status: 500, type: 'server_error' }],
  ])('its own class of error for %s, streaming or not', async (_name, more, type, members) => {
    for (const stream of [false, true]) {
      const error = await client.chat.completions
        .create({ ...chat, stream, ...more })
        .catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(type);
      expect(error).toMatchObject(members);
      expect((error as APIError).message).not.toContain('secret');
    }
  });

  test('an error in the middle of a stream, and the end', async () => {
    const contents: (string | null | undefined)[] = [];
    const reading = (async () => {
      const stream = await client.chat.completions.create({
        ...chat,
        messages: user('late UNAVAILABLE'),
        stream: true,
      });
      for await (const { choices } of stream) contents.push(choices[0]!.delta.content);
    })();
    const error = await reading.catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(APIError);
    expect((error as APIError).error).toEqual({
      message: 'it broke',
      type: 'server_error',
      param: null,
      code: 'service_unavailable',
    });
    expect(contents).toEqual(['', 'late', ' UNAVAILABLE']);
    const events = await eventsOf(
      await post('/v1/chat/completions', { messages: user('late INTERNAL'), stream: true, n: 2 }),
    );
    expect(JSON.parse(events.at(-1)!)).toHaveProperty('error.type', 'server_error');
    expect(events.filter((event) => event.includes('"error"'))).toHaveLength(1);
    // The other answer ends with it.
    expect(engine.cancelled).toBe(1);
  });

  test.each(['chat', 'completion'] as const)('nothing any more of a %s that it aborts', async (kind) => {
    const aborter = new AbortController();
    const { promise, resolve } = Promise.withResolvers<void>();
    engine.onCancelled = () => engine.cancelled === 2 && resolve();
    const options = { signal: aborter.signal };
    const flood = 'flood';
    const stream =
      kind === 'chat'
        ? await client.chat.completions.create({ ...chat, messages: user(flood), n: 2, stream: true }, options)
        : await client.completions.create({ model: 'words', prompt: [flood, flood], stream: true }, options);
    for await (const _ of stream) {
      aborter.abort();
      break;
    }
    await promise;
    expect(front.finished).toEqual([{ arm: 'rest_json', modelName: 'words', status: 200 }]);
  });

  test('nothing any more of a reply that it does not wait for', async () => {
    const aborter = new AbortController();
    const seen = new Promise<void>((resolve) => {
      engine.onStep = resolve;
    });
    const creating = client.chat.completions.create(
      { ...chat, messages: user('hold'), n: 2 },
      { signal: aborter.signal },
    );
    await seen;
    const { promise, resolve } = Promise.withResolvers<void>();
    engine.onCancelled = () => engine.cancelled === 2 && resolve();
    aborter.abort();
    expect(await creating.catch((thrown: unknown) => thrown)).toBeInstanceOf(APIUserAbortError);
    await promise;
    expect(front.finished).toEqual([{ arm: 'rest_json', modelName: 'words', status: 499 }]);
  });
});

describe('usage', () => {
  test.each([
    [undefined, ['absent', 'absent', 'absent']],
    [{}, ['absent', 'absent', 'absent']],
    [{ include_usage: false, include_obfuscation: false }, ['absent', 'absent', 'absent']],
    [{ include_usage: true }, ['null', 'null', 'null', '2+3']],
    [{ include_usage: true, continuous_usage_stats: true }, ['2+1', '2+2', '2+3', '2+3']],
  ])('with stream options %j stands in %j', async (stream_options, expected) => {
    const events = await eventsOf(await post('/v1/completions', { prompt: 'x y', stream: true, stream_options }));
    expect(events.pop()).toBe('[DONE]');
    const chunks = events.map((event) => JSON.parse(event) as OpenAI.Completion);
    const shown = chunks.map(({ usage }) => {
      if (usage === undefined) return 'absent';
      return usage === null ? 'null' : `${usage.prompt_tokens}+${usage.completion_tokens}`;
    });
    expect(shown).toEqual(expected);
    if (expected.length === 4) expect(chunks.at(-1)!.choices).toEqual([]);
  });
});

describe('a conversation', () => {
  const messagesOf = () => (engine.generated[0]!.prompt as { messages: unknown }).messages;

  test('comes to the template with texts for content and objects for arguments', async () => {
    const call = { id: 'c1', type: 'function', function: { name: 'f', arguments: '{"a":[1]}' } };
    const odd = { id: 'c2', type: 'function', function: { name: 'f', arguments: '[1' } };
    await client.chat.completions.create({
      model: 'words',
      messages: [
        { role: 'developer', content: 'be kind' },
        {
          role: 'user',
          name: 'ann',
          content: [
            { type: 'text', text: 'one' },
            { type: 'text', text: 'two' },
          ],
        },
        { role: 'assistant', content: null, tool_calls: [call, odd] as never },
        { role: 'tool', tool_call_id: 'c1', content: 'result' },
        { role: 'assistant', content: [{ type: 'refusal', refusal: 'no' }] },
        { role: 'user', content: 'go' },
      ],
      tools: [{ type: 'function', function: { name: 'f' } }],
      tool_choice: 'auto',
      parallel_tool_calls: false,
      reasoning_effort: 'low',
      ...{ chat_template_kwargs: { enable_thinking: false }, add_generation_prompt: false },
    });
    expect(messagesOf()).toEqual([
      { role: 'system', content: 'be kind' },
      { role: 'user', name: 'ann', content: 'one\ntwo' },
      {
        role: 'assistant',
        content: null,
        tool_calls: [{ ...call, function: { name: 'f', arguments: { a: [1] } } }, odd],
      },
      { role: 'tool', tool_call_id: 'c1', content: 'result' },
      { role: 'assistant', content: 'no' },
      { role: 'user', content: 'go' },
    ]);
    expect(engine.generated[0]!.prompt).toMatchObject({
      tools: [{ type: 'function', function: { name: 'f' } }],
      templateArguments: { enable_thinking: false, reasoning_effort: 'low' },
      addGenerationPrompt: false,
    });
  });

  test('shows no tools to a model that may call none', async () => {
    await client.chat.completions.create({
      ...chat,
      tools: [{ type: 'function', function: { name: 'f' } }],
      tool_choice: 'none',
    });
    expect(Object.keys(engine.generated[0]!.prompt)).toEqual(['kind', 'messages']);
  });

  test('takes max_completion_tokens before max_tokens, and bookkeeping without a word', async () => {
    await client.chat.completions.create({
      ...chat,
      max_tokens: 9,
      max_completion_tokens: 2,
      store: true,
      metadata: { a: 'b' },
      service_tier: 'flex',
      response_format: { type: 'text' },
      modalities: ['text'],
      n: 1,
      stop: null,
    });
    expect(engine.generated[0]!.sampling).toEqual({ maxTokens: 2 });
  });

  test('of many kilobytes is read by the worker and means the same', async () => {
    const filler = { role: 'system', content: 'é"\\'.repeat(40_000) };
    const body = { messages: [filler, ...user('a b')], __proto__: null, metadata: { ['__proto__']: 1 } };
    const reply = (await (await post('/v1/chat/completions', body)).json()) as OpenAI.ChatCompletion;
    expect(reply.choices[0]!.message.content).toBe('a b');
    expect((messagesOf() as unknown[])[0]).toEqual(filler);
    const wrong = await errorOf(await post('/v1/chat/completions', { ...body, n: 'x' }));
    expect(wrong).toMatchObject({ param: 'n', message: "'n' must be a whole number, got the string 'x'" });
  });
});

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
