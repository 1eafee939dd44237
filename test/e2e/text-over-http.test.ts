/** The language model that comes with the server, asked over HTTP by OpenAI's client and by Triton's generate extension. */
import { once } from 'node:events';
import { cpSync } from 'node:fs';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { fileURLToPath } from 'node:url';
import OpenAI, { BadRequestError } from 'openai';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { temporaryDirectory } from '../support/engine.js';
import { addSubModel, writeModel } from '../support/onnx.js';
import { startServer, type TestServer } from '../support/server.js';

const MODEL = fileURLToPath(new URL('../../models/stories', import.meta.url));

let server: TestServer;
let url: string;
let client: OpenAI;
beforeAll(async () => {
  const repository = temporaryDirectory();
  cpSync(MODEL, `${repository}/stories`, { recursive: true });
  writeModel(repository, 'sums', { versions: { 1: addSubModel('FP32', [4]) } });
  server = await startServer({ repository });
  url = `http://127.0.0.1:${server.httpPort}`;
  client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 });
  await server.waitFor(/stories +1 +READY/);
});
afterAll(async () => {
  expect(await server.stop()).toBe(0);
});

const question = (content: string) => ({
  model: 'stories',
  messages: [{ role: 'user' as const, content }],
  temperature: 0,
});
const SUM = question('What is 3 plus 4?');

async function streamed(body: typeof SUM, aborter?: AbortController): Promise<string> {
  let text = '';
  const options = aborter && { signal: aborter.signal };
  for await (const { choices } of await client.chat.completions.create({ ...body, stream: true }, options)) {
    text += choices[0]?.delta.content ?? '';
    // Who can leave does with the first words.
    aborter?.abort();
  }
  return text;
}

/** The sum of a metric of the model. */
async function metric(name: string, label = ''): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${server.metricsPort}/metrics`)).text();
  const lines = text.split('\n').filter((line) => line.startsWith(`${name}{`) && line.includes(label));
  expect(lines.length).toBeGreaterThan(0);
  return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0);
}

test('what is 3 plus 4 is answered with 7, alone, in company, and from the prefix cache', async () => {
  expect(await streamed(SUM)).toContain('7');
  const others = Array.from({ length: 6 }, (_, i) =>
    client.completions.create({ model: 'stories', prompt: `Once upon a time ${i}`, max_tokens: 100, temperature: 1 }),
  );
  const [whole, ...texts] = await Promise.all([
    client.chat.completions.create(SUM),
    streamed(SUM),
    streamed(question('What is 2 plus 2?')),
  ]);
  expect(whole.choices[0]!.message.content).toContain('7');
  expect(texts[0]).toBe(whole.choices[0]!.message.content);
  expect(texts[1]).toContain('4');
  expect(whole.choices[0]!.finish_reason).toBe('stop');
  for (const { choices, usage } of await Promise.all(others)) {
    expect(choices[0]!.text).not.toBe('');
    expect(usage!.completion_tokens).toBeLessThanOrEqual(100);
  }
  const { prompt_tokens, prompt_tokens_details } = whole.usage!;
  const long = {
    ...SUM,
    messages: [{ role: 'system' as const, content: 'Once upon a time. '.repeat(8) }, ...SUM.messages],
  };
  const [first, second] = [await client.chat.completions.create(long), await client.chat.completions.create(long)];
  expect(prompt_tokens_details!.cached_tokens).toBeLessThan(prompt_tokens);
  expect(second.usage!.prompt_tokens_details!.cached_tokens).toBeGreaterThan(0);
  expect(second.choices).toEqual(first.choices);
});

test('a story comes in pieces that together are the story, the same for the same seed', async () => {
  const body = { model: 'stories', prompt: 'Once upon a time', max_tokens: 80, temperature: 0.9, seed: 7 } as const;
  const whole = await client.completions.create(body);
  const pieces: string[] = [];
  const stream = await client.completions.create({ ...body, stream: true, stream_options: { include_usage: true } });
  let usage: OpenAI.CompletionUsage | null | undefined;
  for await (const chunk of stream) {
    if (chunk.choices[0]) pieces.push(chunk.choices[0].text);
    usage = chunk.usage;
  }
  expect(pieces.length).toBeGreaterThan(20);
  expect(pieces.join('')).toBe(whole.choices[0]!.text);
  expect(usage!.completion_tokens).toBe(whole.usage!.completion_tokens);
  const several = await client.completions.create({ ...body, n: 3 });
  expect(several.choices[0]!.text).toBe(whole.choices[0]!.text);
  expect(new Set(several.choices.map(({ text }) => text)).size).toBe(3);
});

test('stop strings end the text before them, and log probabilities are of what was said', async () => {
  const body = { model: 'stories', prompt: 'Once upon a time', temperature: 0, max_tokens: 60 } as const;
  const { choices } = await client.completions.create({ ...body, logprobs: 3 });
  const [{ text, logprobs }] = choices as [OpenAI.CompletionChoice];
  expect(logprobs!.tokens!.join('')).toBe(text);
  expect(logprobs!.text_offset!.map((offset, i) => text.slice(offset, logprobs!.text_offset![i + 1]))).toEqual(
    logprobs!.tokens,
  );
  for (const [i, token] of logprobs!.tokens!.entries()) {
    expect(logprobs!.top_logprobs![i]![token]).toBe(logprobs!.token_logprobs![i]);
    // Greedy.
    expect(Math.max(...Object.values(logprobs!.top_logprobs![i]!))).toBe(logprobs!.token_logprobs![i]);
  }
  const held = await client.completions.create({ ...body, logprobs: 3, stop: `${text.slice(5, -5)}~` });
  expect(held.choices[0]!.text).toBe(text);
  expect(held.choices[0]!.logprobs!.text_offset).toEqual(logprobs!.text_offset);
  const stop = text.slice(20, 24);
  const stopped = await client.completions.create({ ...body, stop });
  expect(stopped.choices[0]).toMatchObject({ text: text.slice(0, text.indexOf(stop)), finish_reason: 'stop' });
});

test('the generate extension gives the same text, as a whole or in events', async () => {
  const text_input = 'Once upon a time';
  const members = { text_input, max_tokens: 30, temperature: 0, exclude_input_in_output: true };
  const post = (route: string, body: object) =>
    fetch(`${url}/v2/models/stories/${route}`, { method: 'POST', body: JSON.stringify(body) });
  const { text_output } = (await (await post('generate', members)).json()) as { text_output: string };
  const events = (await (await post('generate_stream', members)).text()).split('\n\n').filter((part) => part !== '');
  const pieces = events.map((event) => JSON.parse(event.slice('data: '.length)).text_output as string);
  expect(pieces.length).toBeGreaterThan(20);
  expect(pieces.join('')).toBe(text_output);
  const { choices } = await client.completions.create({
    model: 'stories',
    prompt: text_input,
    max_tokens: 30,
    temperature: 0,
  });
  expect(choices[0]!.text).toBe(text_output);
  const sums = await fetch(`${url}/v2/models/sums/generate_stream`, {
    method: 'POST',
    body: '{"INPUT0":[1,2,3,4],"INPUT1":[1,1,1,1]}',
  });
  expect(await sums.text()).toContain('"OUTPUT0":[2,3,4,5]');
});

test('the trailer holds the budget of the stream, in which prefill and decoding are apart', async () => {
  const call = httpRequest(`${url}/v1/chat/completions`, { method: 'POST' });
  call.end(JSON.stringify({ ...SUM, stream: true }));
  const [response] = (await once(call, 'response')) as [IncomingMessage];
  response.resume();
  await once(response, 'end');
  const phases = [...response.trailers['server-timing']!.matchAll(/(\w+);dur=([\d.]+)/g)];
  const lengths = new Map(phases.map(([, name, length]) => [name, Number(length)]));
  const total = lengths.get('total')!;
  lengths.delete('total');
  expect([...lengths.keys()]).toContain('prefill');
  expect([...lengths.values()].reduce((sum, length) => sum + length, 0)).toBeCloseTo(total, 1);
});

test('streams of clients that have gone are out of the batch, and the next question is answered', async () => {
  const long = { ...question('Tell me a story.'), ...{ ignore_eos: true, max_tokens: 480 } };
  const aborted = () => metric('vllm:request_success_total', '"abort"');
  const before = await aborted();
  const inBatch = async () => (await metric('vllm:num_requests_running')) + (await metric('vllm:num_requests_waiting'));
  // Where all six were told their story before they were gone, six more are.
  for (let tries = 0; tries < 10 && (await aborted()) === before; tries++) {
    await Promise.all(Array.from({ length: 6 }, () => streamed(long, new AbortController()).catch(() => '')));
    await expect.poll(inBatch).toBe(0);
  }
  expect(await aborted()).toBeGreaterThan(before);
  expect(await streamed(SUM)).toContain('7');
});

test.each<[string, object, object]>([
  ['a temperature out of range', { temperature: 3 }, { param: 'temperature' }],
  ['too many stop strings', { stop: Array.from({ length: 10_000 }, (_, i) => `s${i}`) }, { param: 'stop' }],
  [
    'more text than there is room for',
    { messages: [{ role: 'user', content: 'word '.repeat(2000) }] },
    { param: 'messages', code: 'context_length_exceeded' },
  ],
  ['a model without text', { model: 'sums' }, { param: 'model' }],
  ['a token that there is not', { logit_bias: { '99999999': 1 } }, { param: 'logit_bias' }],
])('%s is refused with the member named, while another stream runs', async (_name, more, expected) => {
  const running = streamed(SUM);
  const error = await client.chat.completions.create({ ...SUM, ...more }).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(BadRequestError);
  expect(error).toMatchObject(expected);
  expect(await running).toContain('7');
});
