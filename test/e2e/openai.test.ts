/** OpenAI's routes against the real server: text in, vectors out that are those of the graph on the same tokens. */
import OpenAI, { BadRequestError } from 'openai';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { temporaryDirectory } from '../support/engine.js';
import { writeTextModel } from '../support/huggingface.js';
import { addSubModel, writeModel } from '../support/onnx.js';
import { startServer, type TestServer } from '../support/server.js';
import { VOCABULARY } from '../support/wordpiece.js';

const HIDDEN = 8;
const MAX_TOKENS = 32;

let server: TestServer;
let url: string;
let client: OpenAI;

beforeAll(async () => {
  const repository = temporaryDirectory();
  const sentence = { hidden: HIDDEN, maxTokens: MAX_TOKENS, normalize: true } as const;
  writeTextModel(repository, 'sentences', { ...sentence, head: 'hidden', pooling: ['mean'] });
  const config = JSON.stringify({ architectures: ['BertModel'], model_type: 'bert', is_matryoshka: true });
  const files = { 'config.json': config };
  writeTextModel(repository, 'matryoshka', { ...sentence, head: 'hidden', pooling: ['cls'], files });
  const modules = ['Transformer', 'Pooling', 'Dense'].map((name, idx) => ({
    idx,
    name: String(idx),
    path: idx === 0 ? '' : `${idx}_${name}`,
    type: `sentence_transformers.models.${name}`,
  }));
  const dense = { 'modules.json': JSON.stringify(modules) };
  writeTextModel(repository, 'dense', { ...sentence, head: 'hidden', pooling: ['mean'], files: dense });
  const lazy = 'parameters { key: "load_on_first_use" value { string_value: "true" } }';
  writeTextModel(repository, 'lazy', { ...sentence, head: 'hidden', pooling: ['mean'], config: lazy });
  writeTextModel(repository, 'classes', { head: 'classifier', labels: ['good', 'bad'] });
  writeModel(repository, 'sums', { versions: { 1: addSubModel('FP32', [4]) } });
  server = await startServer({ repository });
  url = `http://127.0.0.1:${server.httpPort}`;
  client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 });
});
afterAll(async () => {
  expect(await server.stop()).toBe(0);
});

const ids = (...pieces: string[]): number[] => ['[CLS]', ...pieces, '[SEP]'].map((piece) => VOCABULARY.indexOf(piece));

/** The mean of the graph's own vectors for tokens, of unit length. */
async function pooled(tokens: number[]): Promise<number[]> {
  const shape = [1, tokens.length];
  const input = (name: string, data: number[]) => ({ name, datatype: 'INT64', shape, data });
  const inputs = [
    input('input_ids', tokens),
    input(
      'attention_mask',
      tokens.map(() => 1),
    ),
    input(
      'token_type_ids',
      tokens.map(() => 0),
    ),
  ];
  const body = JSON.stringify({ inputs, outputs: [{ name: 'last_hidden_state' }] });
  const reply = await (await fetch(`${url}/v2/models/sentences/infer`, { method: 'POST', body })).json();
  const { data } = (reply as { outputs: { data: number[] }[] }).outputs[0]!;
  const sum = new Array<number>(HIDDEN).fill(0);
  for (const [i, value] of data.entries()) sum[i % HIDDEN]! += value;
  return unit(sum);
}

function unit(vector: number[]): number[] {
  const norm = Math.hypot(...vector);
  return vector.map((value) => value / norm);
}

function expectClose(actual: readonly number[], expected: readonly number[]): void {
  expect(actual).toHaveLength(expected.length);
  for (const [i, value] of expected.entries()) expect(Math.abs(actual[i]! - value)).toBeLessThan(1e-5);
}

test('a text, its tokens and the graph itself give the same vector', async () => {
  const tokens = ids('hello', 'world', '!');
  const [text, coded] = await Promise.all([
    client.embeddings.create({ model: 'sentences', input: 'Hello world!' }),
    client.embeddings.create({ model: 'sentences', input: tokens, encoding_format: 'float' }),
  ]);
  const expected = await pooled(tokens);
  expectClose(text.data[0]!.embedding, expected);
  expectClose(coded.data[0]!.embedding, expected);
  expect(text.usage).toEqual({ prompt_tokens: tokens.length, total_tokens: tokens.length });
  expect(coded.usage).toEqual(text.usage);
  expect(text.model).toBe('sentences');
});

test('the most texts that a request may have are answered in order, run together, and are those of each alone', async () => {
  const words = ['hello', 'world', 'weather', 'music', 'garden', 'tiger', 'ticket'];
  const texts = Array.from({ length: 2048 }, (_, i) =>
    Array.from({ length: 1 + ((i * 7) % 23) }, (_, at) => words[(i + at * at) % words.length]).join(' '),
  );
  const before = await counts();
  const { data, usage } = await client.embeddings.create({ model: 'sentences', input: texts });
  const after = await counts();
  expect(after.inferences - before.inferences).toBe(2048);
  expect(after.executions - before.executions).toBeLessThan(2048);
  expect(data.map(({ index }) => index)).toEqual(texts.map((_, i) => i));
  expect(usage.total_tokens).toBeGreaterThan(2048 * 3);
  for (const i of [0, 1, 63, 64, 65, 1000, 2047]) {
    const alone = await client.embeddings.create({ model: 'sentences', input: texts[i]! });
    expectClose(data[i]!.embedding, alone.data[0]!.embedding);
  }
});

async function counts(): Promise<{ inferences: number; executions: number }> {
  const stats = (await (await fetch(`${url}/v2/models/sentences/stats`)).json()) as {
    model_stats: { inference_count: number; execution_count: number }[];
  };
  const [{ inference_count, execution_count } = { inference_count: 0, execution_count: 0 }] = stats.model_stats;
  return { inferences: inference_count, executions: execution_count };
}

test('a text past the limit is cut, or refused by its number where the client says so', async () => {
  const long = 'word '.repeat(500);
  const cut = await client.embeddings.create({ model: 'sentences', input: ['hello', long] });
  expect(cut.usage.total_tokens).toBe(3 + MAX_TOKENS);
  const body = { model: 'sentences', input: ['hello', long], truncate: false };
  const refused = await client.embeddings.create(body).catch((error: unknown) => error);
  expect(refused).toBeInstanceOf(BadRequestError);
  expect(refused).toMatchObject({ param: 'input', message: expect.stringMatching(/input\[1\]: .*502 tokens.*32/) });
});

test('vectors of a model that was trained for it are cut and of unit length again', async () => {
  const whole = (await client.embeddings.create({ model: 'matryoshka', input: 'hello' })).data[0]!.embedding;
  const cut = (await client.embeddings.create({ model: 'matryoshka', input: 'hello', dimensions: 3 })).data[0]!
    .embedding;
  expectClose(cut, unit(whole.slice(0, 3)));
  const refused = await client.embeddings.create({ model: 'sentences', input: 'hello', dimensions: 3 }).catch((e) => e);
  expect(refused).toMatchObject({ status: 400, param: 'dimensions', message: expect.stringContaining('8 dimensions') });
});

test('a model that gives no embeddings says why', async () => {
  for (const [model, why] of [
    ['dense', /'dense' is no text-embedding model: its modules\.json has a module 'Dense', which is not applied here/],
    ['classes', /'classes' is no text-embedding model: /],
    ['sums', /is no text-embedding model: it takes no text/],
  ] as const) {
    const refused = await client.embeddings.create({ model, input: 'hello' }).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(BadRequestError);
    expect(refused).toMatchObject({ param: 'model', message: expect.stringMatching(why) });
  }
});

test('a model that loads on first use is listed before, and many requests at once get their answer from it', async () => {
  expect(await client.models.retrieve('lazy')).toMatchObject({ id: 'lazy' });
  const replies = await Promise.all(
    Array.from({ length: 20 }, () => client.embeddings.create({ model: 'lazy', input: ['hello', 'hello world'] })),
  );
  const [first, second] = (await client.embeddings.create({ model: 'sentences', input: ['hello', 'hello world'] }))
    .data;
  for (const { data } of replies) {
    expectClose(data[0]!.embedding, first!.embedding);
    expectClose(data[1]!.embedding, second!.embedding);
  }
});

test('tokens outside the vocabulary are refused and the next request is served', async () => {
  const refused = await client.embeddings
    .create({
      model: 'sentences',
      input: [
        [2, 3],
        [2, 1_000_000],
      ],
    })
    .catch((e) => e);
  expect(refused).toMatchObject({ status: 400, param: 'input' });
  expect((await client.embeddings.create({ model: 'sentences', input: [2, 3] })).data).toHaveLength(1);
});

test('models are listed, and one request counts as one in the metrics, with its preprocessing', async () => {
  expect((await client.models.list()).data.map(({ id }) => id).sort()).toEqual([
    'classes',
    'dense',
    'lazy',
    'matryoshka',
    'sentences',
    'sums',
  ]);
  const count = async (): Promise<number> => {
    const text = await (await fetch(`http://127.0.0.1:${server.metricsPort}/metrics`)).text();
    const line = /^tensorwire_request_duration_ms_count\{model="sentences",arm="rest_json"\} (\d+)$/m.exec(text);
    return Number(line?.[1] ?? 0);
  };
  const before = await count();
  const body = JSON.stringify({ model: 'sentences', input: ['one', 'two', 'three'] });
  const response = await fetch(`${url}/v1/embeddings`, { method: 'POST', body });
  await response.text();
  expect(await count()).toBe(before + 1);
  const timing = response.headers.get('server-timing')!;
  for (const phase of ['preprocess', 'queue', 'compute', 'encode']) {
    expect(Number(new RegExp(`${phase};dur=([\\d.]+)`).exec(timing)![1])).toBeGreaterThan(0);
  }
});
