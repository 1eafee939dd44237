/** Chat completions and completions as OpenAI's own client gets them. */
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

  test('offsets of tokens in characters, as Python counts them', async () => {
    const body = { model: 'words', prompt: '👍🏽 ❤️ 𝕏y z', logprobs: 0, max_tokens: 4 } as const;
    const { choices } = await client.completions.create(body);
    const { text_offset, tokens } = choices[0]!.logprobs!;
    const characters = [...choices[0]!.text];
    expect(tokens).toEqual(['👍🏽', ' ❤️', ' 𝕏y', ' z']);
    expect(text_offset).toEqual([0, 2, 5, 8]);
    const streamed: number[] = [];
    for await (const { choices } of await client.completions.create({ ...body, stream: true })) {
      streamed.push(...choices[0]!.logprobs!.text_offset!);
    }
    expect(streamed).toEqual(text_offset);
    expect(
      tokens!.map((token, at) => characters.slice(text_offset![at], text_offset![at]! + [...token].length).join('')),
    ).toEqual(tokens);
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
    expect(engine.generated[0]).toMatchObject({ clientKey: '127.0.0.1 somebody', prompt: { addSpecialTokens: false } });
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

test('answers that are kept until all are complete count as bytes in flight, and end where there is no more room', async () => {
  for (const more of [{}, { n: 3 }]) {
    const response = await post('/v1/completions', { prompt: 'flood', max_tokens: 1_000_000, ...more });
    expect(response.status).toBe(429);
    expect(await response.json()).toMatchObject({ error: { type: 'rate_limit_error' } });
    expect(engine.streams.size).toBe(0);
  }
  expect(front.budget.peak).toBeGreaterThan(0.9 * front.budget.limit);
  expect(front.budget.used).toBe(0);
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
