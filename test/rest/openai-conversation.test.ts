/** What becomes of a conversation on its way to the model's chat template. */
import OpenAI from 'openai';
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
  engine.generated.length = 0;
});

const user = (content: string) => [{ role: 'user' as const, content }];

const chat = { model: 'words', messages: user('a small house') };

const post = (path: string, body: unknown) =>
  front.post(path, typeof body === 'string' ? body : JSON.stringify({ model: 'words', ...(body as object) }));

async function errorOf(response: Response): Promise<Record<string, unknown>> {
  const body = (await response.json()) as { error: Record<string, unknown> };
  expect(Object.keys(body)).toEqual(['error']);
  expect(Object.keys(body.error)).toEqual(['message', 'type', 'param', 'code']);
  return body.error;
}

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
      verbosity: 'high',
      ...{ chat_template_kwargs: { enable_thinking: false }, add_generation_prompt: false },
    });
    expect(messagesOf()).toEqual([
      { role: 'system', content: 'be kind' },
      { role: 'user', name: 'ann', content: 'one\ntwo' },
      {
        role: 'assistant',
        content: '',
        tool_calls: [{ ...call, function: { name: 'f', arguments: { a: [1] } } }, odd],
      },
      { role: 'tool', tool_call_id: 'c1', content: 'result' },
      { role: 'assistant', content: 'no' },
      { role: 'user', content: 'go' },
    ]);
    expect(engine.generated[0]!.prompt).toMatchObject({
      tools: [{ type: 'function', function: { name: 'f' } }],
      templateArguments: { enable_thinking: false, reasoning_effort: 'low', verbosity: 'high' },
      addGenerationPrompt: false,
    });
  });

  test('may hold an answer of ours as it came, whose nulls templates never see', async () => {
    const { choices } = await client.chat.completions.create(chat);
    const sentBack = { ...choices[0]!.message, annotations: null, audio: null, function_call: null, name: null };
    for (const tool_calls of [null, []]) {
      engine.generated.length = 0;
      const messages = [...chat.messages, { ...sentBack, tool_calls }, ...user('and now')];
      expect((await post('/v1/chat/completions', { messages, guided_json: null, verbosity: null })).status).toBe(200);
      expect(messagesOf()).toEqual([
        ...chat.messages,
        { role: 'assistant', content: 'a small house' },
        ...user('and now'),
      ]);
      expect(engine.generated[0]!.prompt).not.toHaveProperty('templateArguments');
    }
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
      ...{ request_id: 'r-1', priority: 0, length_penalty: 1, spaces_between_special_tokens: true },
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
