/** The language model that comes with the server means what it says: alone, in company, after cancels, from the prefix cache. */
import { join } from 'node:path';
import OpenAI from 'openai';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startServer, type TestServer } from '../support/server.js';

let server: TestServer;
let client: OpenAI;

beforeAll(async () => {
  server = await startServer({
    repository: join(import.meta.dirname, '../../models'),
    args: ['--log-level', 'error', '--max-sequences', '16'],
  });
  await server.waitFor(/^ +stories +1 +READY$/m);
  client = new OpenAI({ baseURL: `http://127.0.0.1:${server.httpPort}/v1`, apiKey: 'none', maxRetries: 0 });
});
afterAll(() => server.stop());

/** The streamed answer to one question, and how much of the prompt was in the prefix cache. */
async function ask(content: string): Promise<{ text: string; cached: number }> {
  const chunks = await client.chat.completions.create({
    model: 'stories',
    messages: [{ role: 'user', content }],
    temperature: 0,
    max_tokens: 60,
    stream: true,
    stream_options: { include_usage: true },
  });
  let text = '';
  let cached = 0;
  for await (const { choices, usage } of chunks) {
    text += choices[0]?.delta.content ?? '';
    cached += usage?.prompt_tokens_details?.cached_tokens ?? 0;
  }
  return { text, cached };
}

async function metric(name: string): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${server.metricsPort}/metrics`)).text();
  const lines = [...text.matchAll(new RegExp(`^${name}\\{[^}]*stories[^}]*\\} (\\S+)$`, 'gm'))];
  return lines.reduce((sum, [, value]) => sum + Number(value), 0);
}

const SUMS = [3, 5, 8].flatMap((a) => [4, 1, 6, 9].map((b) => [a, b] as const));
const sumOf = ([a, b]: readonly [number, number]) => ask(`What is ${a} plus ${b}?`);

/** A story that goes on until it is aborted or as long as may be: when its first words have come, and when it is over. */
function tellUntilAborted(prompt: string, signal: AbortSignal): { begun: Promise<void>; ended: Promise<void> } {
  const begun = Promise.withResolvers<void>();
  const tell = async (): Promise<void> => {
    const request = { model: 'stories', prompt, max_tokens: 400, stream: true, ...{ ignore_eos: true } } as const;
    try {
      const stream = await client.completions.create(request, { signal });
      for await (const _ of stream) begun.resolve();
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      begun.reject(new Error('the story ended before it began'));
    }
  };
  return { begun: begun.promise, ended: tell() };
}

test('a sum is right', async () => {
  expect((await ask('What is 3 plus 4?')).text).toContain('7');
});

test('sums are right while stories run beside them, and when those are cancelled in the middle', async () => {
  const aborters = Array.from({ length: 6 }, () => new AbortController());
  const stories = aborters.map(({ signal }, i) =>
    tellUntilAborted(`Once upon a time there were ${i + 2} friends`, signal),
  );
  await Promise.all(stories.map(({ begun }) => begun));
  const before = await Promise.all(SUMS.slice(0, 6).map(sumOf));
  for (const aborter of aborters.slice(0, 5)) aborter.abort();
  // These are cancelled when their first words have come: whatever the machine, some are in the middle.
  const cut = SUMS.slice(6).map((_, i) => {
    const aborter = new AbortController();
    const story = tellUntilAborted(`One day ${i + 2} birds`, aborter.signal);
    return story.begun.then(() => aborter.abort()).then(() => story.ended);
  });
  const after = await Promise.all(SUMS.slice(6).map(sumOf));
  aborters[5]!.abort();
  await Promise.all([...cut, ...stories.map(({ ended }) => ended)]);
  const answers = [...before, ...after].map(({ text }) => text);
  expect(answers.map((text, i) => text.includes(String(SUMS[i]![0] + SUMS[i]![1])))).toEqual(SUMS.map(() => true));
  await expect.poll(() => metric('vllm:num_requests_running')).toBe(0);
  // Where every story was told before its client was gone, more are begun.
  const cancelled = () => metric('tensorwire_streams_cancelled_total');
  for (let more = 0; more < 20 && (await cancelled()) === 0; more++) {
    const aborter = new AbortController();
    const { begun, ended } = tellUntilAborted('One day a bird', aborter.signal);
    await begun;
    aborter.abort();
    await ended;
    await expect.poll(() => metric('vllm:num_requests_running')).toBe(0);
  }
  expect(await cancelled()).toBeGreaterThan(0);
});

test('an answer is the same when its question comes from the prefix cache', async () => {
  const question = 'Mia has a red kite. What color is the kite of Mia?';
  const first = await ask(question);
  const again = await ask(question);
  expect(again.text).toBe(first.text);
  expect(again.cached).toBeGreaterThan(first.cached);
});

test('a story reads like one: it begins as asked and ends by itself', async () => {
  const { choices, usage } = await client.completions.create({
    model: 'stories',
    prompt: 'Once upon a time',
    temperature: 0.7,
    seed: 4,
    max_tokens: 400,
  });
  const { text, finish_reason } = choices[0]!;
  expect(finish_reason).toBe('stop');
  expect(usage!.completion_tokens).toBeGreaterThan(60);
  // Sentences of words, and most words are no repetition.
  expect(text).toMatch(/^[\p{L}\p{P}\s\d]+[.!?"]\s*$/u);
  const words = text.toLowerCase().match(/\p{L}+/gu)!;
  expect(new Set(words).size).toBeGreaterThan(words.length / 4);
});

test('a request with a seed gives the same tokens alone and among fifteen others', async () => {
  const tell = async (seed: number) => {
    const { choices } = await client.completions.create({
      model: 'stories',
      prompt: 'One day',
      temperature: 1,
      top_p: 0.95,
      seed,
      max_tokens: 60,
    });
    return choices[0]!.text;
  };
  const alone = await tell(7);
  const [inCompany, ...others] = await Promise.all([7, ...Array.from({ length: 15 }, (_, i) => 100 + i)].map(tell));
  expect(inCompany).toBe(alone);
  expect(new Set(others).size).toBeGreaterThan(10);
});
