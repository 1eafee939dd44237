/** Text in, meaning out, on a real server: the tokens are the tokenizer's, the numbers those of the graph run directly. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { call, connect } from '../grpc/front-end.js';
import { temporaryDirectory } from '../support/engine.js';
import { type ModelFolder, type TextModelOptions, writeTextModel } from '../support/huggingface.js';
import { startServer, type TestServer } from '../support/server.js';
import { ARMS, type ArmClient, createArmClient, type RawTensor } from './arms.js';
import { budgetOf, content, farthest, floatsOf, intsOf, output, tokenizerOf } from './content.js';

process.env.ORT_DISABLE_TELEMETRY = '1';
const { InferenceSession, Tensor } = await import('onnxruntime-node');
type Session = Awaited<ReturnType<typeof InferenceSession.create>>;

const MAX_TEXT_BYTES = 2000;
const MAX_TOKENS = 48;
/** Waits for eight texts, so that who comes together runs together. */
const TOGETHER =
  'max_batch_size: 16\ndynamic_batching { preferred_batch_size: [8] max_queue_delay_microseconds: 600000000 }\n';
const ALONE = 'max_batch_size: 16\ndynamic_batching { }\n';
const ENCODER = { layers: 2, hidden: 32, heads: 4, maxTokens: MAX_TOKENS } as const;

const repository = temporaryDirectory();
const write = (name: string, options: TextModelOptions): ModelFolder =>
  writeTextModel(repository, name, { maxTokens: MAX_TOKENS, config: ALONE, ...options });
const folders = {
  echo: write('echo', { head: 'echo' }),
  sentence: write('sentence', { ...ENCODER, head: 'sentence' }),
  pooled: write('pooled', { ...ENCODER, head: 'hidden', pooling: ['mean'], normalize: true }),
  together: write('together', { ...ENCODER, head: 'sentence', config: TOGETHER }),
  plain: write('plain', {
    head: 'echo',
    files: { 'tokenizer.json': undefined, 'tokenizer_config.json': undefined, 'special_tokens_map.json': undefined },
  }),
};

let server: TestServer;
let client: ArmClient;
const sessions: Session[] = [];

beforeAll(async () => {
  server = await startServer({ repository, args: ['--max-text-byte-size', String(MAX_TEXT_BYTES)] });
  client = createArmClient(server);
});
afterAll(async () => {
  client?.close();
  for (const session of sessions) await session.release();
  expect(await server?.stop()).toBe(0);
});

async function direct(folder: ModelFolder): Promise<Session> {
  const session = await InferenceSession.create(folder.onnxFile, { intraOpNumThreads: 1 });
  sessions.push(session);
  return session;
}

/** One row of tokens as the graph takes it. */
function feeds(ids: readonly number[]) {
  const tensor = (values: readonly number[]) =>
    new Tensor('int64', BigInt64Array.from(values, BigInt), [1, ids.length]);
  return {
    input_ids: tensor(ids),
    attention_mask: tensor(ids.map(() => 1)),
    token_type_ids: tensor(ids.map(() => 0)),
  };
}

/** The same row as a request of raw tensors. */
function rawInputs(ids: readonly number[]): RawTensor[] {
  return Object.entries(feeds(ids)).map(([name, { data }]) => {
    const bytes = new Uint8Array((data as BigInt64Array).buffer);
    return { name, datatype: 'INT64', shape: [1, ids.length], data: bytes };
  });
}

const SENTENCES = [
  'The weather is good today.',
  'Which city has the best coffee?',
  'a',
  'naïve café, Übergröße & 50% of 3.14',
  '世界 hello мир שלום سلام',
  'rocket 🚀 and flag 🇩🇪 and family 👨‍👩‍👧',
  'tabs\tand\nlines\u0000and\u200bmore\u0007',
  '   spaces   around   ',
  `${'supercalifragilistic '.repeat(20)}end`,
  '[CLS] is a [MASK] in [SEP] text',
];

describe.each(ARMS)('text over %s', (arm) => {
  test('becomes the tokens that the tokenizer gives by itself', async () => {
    const tokenizer = tokenizerOf(folders.echo);
    for (const text of SENTENCES) {
      const { ids } = tokenizer.encode(text);
      const expected = ids.length > MAX_TOKENS ? [...ids.slice(0, MAX_TOKENS - 1), ids.at(-1)!] : ids;
      const outputs = await client.infer(arm, 'echo', [content('text', text)]);
      expect(intsOf(output(outputs, 'tokens')), text).toEqual(expected);
      expect(output(outputs, 'tokens').shape.map(Number)).toEqual([1, expected.length]);
      expect(intsOf(output(outputs, 'mask'))).toEqual(expected.map(() => 1));
      expect(intsOf(output(outputs, 'types'))).toEqual(expected.map(() => 0));
    }
  });

  test('gives the embedding of the graph run directly, to the last bit', async () => {
    const session = await direct(folders.sentence);
    const tokenizer = tokenizerOf(folders.sentence);
    for (const text of SENTENCES.slice(0, 4)) {
      const { sentence_embedding } = await session.run(feeds(tokenizer.encode(text).ids));
      const outputs = await client.infer(arm, 'sentence', [content('text', text)]);
      expect(floatsOf(output(outputs, 'sentence_embedding')), text).toEqual(sentence_embedding!.data);
    }
  });

  test('is taken under any name where it is all that the model takes', async () => {
    const outputs = await client.infer(arm, 'echo', [content('input-0', 'hello')]);
    const same = await client.infer(arm, 'echo', [content('input_ids', 'hello')]);
    expect(intsOf(output(outputs, 'tokens'))).toEqual(tokenizerOf(folders.echo).encode('hello').ids);
    expect(intsOf(output(same, 'tokens'))).toEqual(intsOf(output(outputs, 'tokens')));
  });

  test('of several lengths in one request is padded to the longest, which the mask tells', async () => {
    const texts = ['hello', 'the weather is good today', 'good day'];
    const rows = texts.map((text) => tokenizerOf(folders.echo).encode(text).ids);
    const length = Math.max(...rows.map((row) => row.length));
    const padded = (row: number[]): number[] => [...row, ...new Array(length - row.length).fill(0)];
    const outputs = await client.infer(arm, 'echo', [content('text', ...texts)]);
    expect(intsOf(output(outputs, 'tokens'))).toEqual(rows.flatMap(padded));
    expect(intsOf(output(outputs, 'mask'))).toEqual(rows.flatMap((row) => padded(row.map(() => 1))));
  });

  test('leaves raw tensors of the same model as they were', async () => {
    const ids = [2, 77, 78, 3];
    for (const model of ['echo', 'plain']) {
      const outputs = await client.infer(arm, model, rawInputs(ids));
      expect(intsOf(output(outputs, 'tokens'))).toEqual(ids);
    }
  });
});

describe('an embedding', () => {
  test('that the server pools and normalizes is the mean of the token vectors, of length 1', async () => {
    const { ids } = tokenizerOf(folders.pooled).encode(SENTENCES[0]!);
    const { last_hidden_state } = await (await direct(folders.pooled)).run(feeds(ids));
    const state = last_hidden_state!.data as Float32Array;
    const mean = Array.from({ length: 32 }, (_, k) => {
      return ids.reduce((sum: number, _: number, i: number) => sum + state[i * 32 + k]!, 0) / ids.length;
    });
    const norm = Math.hypot(...mean);
    const outputs = await client.infer('gRPC raw', 'pooled', [content('text', SENTENCES[0]!)]);
    const vector = floatsOf(output(outputs, 'sentence_embedding'));
    expect(
      farthest(
        vector,
        Float32Array.from(mean, (x) => x / norm),
      ),
    ).toBeLessThan(1e-6);
  });

  test('of texts that run in one batch is within 1e-5 of each text alone', async () => {
    const session = await direct(folders.together);
    const tokenizer = tokenizerOf(folders.together);
    // Eight lengths that are near enough for one batch.
    const texts = Array.from({ length: 8 }, (_, i) => `${'good day '.repeat(7)}${'water '.repeat(i % 4)}end ${i}`);
    const alone = [];
    for (const text of texts) {
      const { sentence_embedding } = await session.run(feeds(tokenizer.encode(text).ids));
      alone.push(sentence_embedding!.data as Float32Array);
    }
    const answers = await Promise.all(
      texts.map((text, i) => client.infer(ARMS[i % ARMS.length]!, 'together', [content('text', text)])),
    );
    for (const [i, outputs] of answers.entries()) {
      expect(farthest(floatsOf(output(outputs, 'sentence_embedding')), alone[i]!)).toBeLessThanOrEqual(1e-5);
      // What is per token comes back at the text's own length.
      const { ids } = tokenizer.encode(texts[i]!);
      expect(output(outputs, 'token_embeddings').shape.map(Number)).toEqual([1, ids.length, 32]);
    }
    const stats = await (await fetch(`http://127.0.0.1:${server.httpPort}/v2/models/together/stats`)).json();
    const [{ batch_stats: batches }] = (stats as { model_stats: [{ batch_stats: { batch_size: number }[] }] })
      .model_stats;
    expect(batches.map(({ batch_size }) => batch_size)).toEqual([8]);
  });
});

describe('a pair of texts', () => {
  test('is joined into one row with types', async () => {
    const inputs = [content('text', 'good day'), content('text_pair', 'rain')];
    const expected = tokenizerOf(folders.echo).encode('good day', { text_pair: 'rain', return_token_type_ids: true });
    for (const arm of ARMS) {
      const outputs = await client.infer(arm, 'echo', inputs);
      expect(intsOf(output(outputs, 'tokens'))).toEqual(expected.ids);
      expect(intsOf(output(outputs, 'types'))).toEqual(expected.token_type_ids);
    }
  });
});

describe('the small contract', () => {
  const v1 = async (rpc: string, request: object) => {
    const stub = connect('v1', server.grpcPort);
    try {
      return await call(stub, rpc, request);
    } finally {
      stub.close();
    }
  };
  const hello = tokenizerOf(folders.echo).encode('hello world').ids;

  test('takes a tensor of nothing but a name and raw contents as one text', async () => {
    const inputs = [{ name: 'text', raw_contents: Buffer.from('hello world') }];
    const { error, response } = await v1('ModelInfer', { model_name: 'echo', inputs });
    expect(error).toBeNull();
    const tokens = response.outputs[0];
    expect(intsOf({ ...tokens, data: tokens.raw_contents })).toEqual(hello);
  });

  test('takes text in a multimodal request, with or without a name', async () => {
    for (const input of [{ name: 'text', text: 'hello world' }, { text: 'hello world' }]) {
      const { error, response } = await v1('MultimodalInfer', { model_name: 'echo', inputs: [input] });
      expect(error).toBeNull();
      const tokens = response.outputs[0];
      expect(intsOf({ ...tokens, data: tokens.raw_contents })).toEqual(hello);
    }
  });

  test.each([
    ['a picture', { image_bytes: Buffer.from('\x89PNG') }, 'an image'],
    ['an embedding', { embedding: { values: [1, 2] } }, 'an embedding'],
  ])('refuses %s for a model of text, naming both', async (_, input, sent) => {
    const { error } = await v1('MultimodalInfer', { model_name: 'echo', inputs: [{ name: 'text', ...input }] });
    expect(error?.code).toBe(3);
    expect(error?.details).toContain(sent);
    expect(error?.details).toContain('text');
  });
});

describe('a bad text', () => {
  const BROKEN = Buffer.from([0x68, 0x69, 0xff, 0xfe]);

  test.each([
    ['that is no UTF-8', content('text', BROKEN), /UTF-8/],
    ['that is cut inside a character', content('text', Buffer.from('世界').subarray(0, 5)), /UTF-8/],
    ['of a lone surrogate', content('text', Buffer.from([0xed, 0xa0, 0x80])), /UTF-8/],
    ['that is empty', content('text', ''), /empty/],
    ['past the limit', content('text', 'x'.repeat(MAX_TEXT_BYTES + 1)), /2001 bytes.*2000.*--max-text-byte-size/],
    ['among good ones', content('text', 'good', BROKEN, 'day'), /UTF-8/],
    [
      'under a name that is none',
      { ...content('text', 'a'), name: 'txt', datatype: 'FP32', data: new Uint8Array(4) },
      /txt/,
    ],
  ] as [string, RawTensor, RegExp][])(
    '%s is refused with a sentence that helps, and disturbs no neighbour',
    async (_, bad, message) => {
      const good = tokenizerOf(folders.echo).encode('good day').ids;
      // JSON and typed contents of text can't hold what is no UTF-8 over REST JSON; the raw encodings hold anything.
      const arms = ['REST binary', 'gRPC raw', 'gRPC typed', 'inference.v1'] as const;
      const asked = arms.flatMap((arm) => [
        client.infer(arm, 'echo', [content('text', 'good day')]).then((outputs) => {
          expect(intsOf(output(outputs, 'tokens'))).toEqual(good);
        }),
        expect(client.infer(arm, 'echo', [bad])).rejects.toThrow(message),
        client.infer(arm, 'echo', [content('text', 'good day')]).then((outputs) => {
          expect(intsOf(output(outputs, 'tokens'))).toEqual(good);
        }),
      ]);
      await Promise.all(asked);
    },
  );

  test('has the status of a bad request on both protocols', async () => {
    const stub = connect('open', server.grpcPort);
    const inputs = [{ name: 'text', datatype: 'BYTES', shape: [1, 1] }];
    const request = { model_name: 'echo', inputs, raw_input_contents: [content('text', BROKEN).data] };
    expect((await call(stub, 'ModelInfer', request)).error?.code).toBe(3);
    stub.close();
    const response = await fetch(`http://127.0.0.1:${server.httpPort}/v2/models/echo/infer`, {
      method: 'POST',
      body: JSON.stringify({ inputs: [{ name: 'text', datatype: 'BYTES', shape: [1, 1], data: [''] }] }),
    });
    expect(response.status).toBe(400);
    expect(((await response.json()) as { error: string }).error).toMatch(/empty/);
  });

  test('of as many bytes as are allowed is taken', async () => {
    const outputs = await client.infer('gRPC raw', 'echo', [content('text', 'x '.repeat(MAX_TEXT_BYTES / 2))]);
    expect(output(outputs, 'tokens').shape.map(Number)).toEqual([1, MAX_TOKENS]);
  });

  test('is all that a model without a tokenizer can make of text', async () => {
    await expect(client.infer('gRPC raw', 'plain', [content('text', 'good day')])).rejects.toThrow(/text/);
  });
});

describe('the parameter truncate', () => {
  const ask = (truncate: unknown) =>
    fetch(`http://127.0.0.1:${server.httpPort}/v2/models/echo/infer`, {
      method: 'POST',
      body: JSON.stringify({
        inputs: [{ name: 'text', datatype: 'BYTES', shape: [1, 1], data: ['water '.repeat(100)] }],
        parameters: { truncate },
      }),
    });

  test('set to false refuses a text of more tokens than the model takes, naming both numbers', async () => {
    const response = await ask(false);
    expect(response.status).toBe(400);
    const { error } = (await response.json()) as { error: string };
    expect(error).toContain('102');
    expect(error).toContain(String(MAX_TOKENS));
  });

  test('set to true cuts it', async () => {
    const response = await ask(true);
    const { outputs } = (await response.json()) as { outputs: { shape: number[] }[] };
    expect(outputs[0]!.shape).toEqual([1, MAX_TOKENS]);
  });
});

describe('the budget of a text', () => {
  test('has a phase for the tokenizing, over REST', async () => {
    const response = await fetch(`http://127.0.0.1:${server.httpPort}/v2/models/echo/infer`, {
      method: 'POST',
      body: JSON.stringify({ inputs: [{ name: 'text', datatype: 'BYTES', shape: [1, 1], data: ['good day'] }] }),
    });
    await response.arrayBuffer();
    expect(budgetOf(response.headers.get('server-timing')).preprocess).toBeGreaterThan(0);
  });

  test('has a phase for the tokenizing, over gRPC, and none for raw tensors', async () => {
    const stub = connect('open', server.grpcPort);
    const preprocess = async (inputs: RawTensor[]) => {
      const { error, trailer } = await call(stub, 'ModelInfer', {
        model_name: 'echo',
        inputs: inputs.map(({ data: _, ...head }) => head),
        raw_input_contents: inputs.map(({ data }) => data),
      });
      expect(error).toBeNull();
      return budgetOf(trailer!.get('server-timing')[0] as string).preprocess;
    };
    expect(await preprocess([content('text', 'good day')])).toBeGreaterThan(0);
    expect(await preprocess(rawInputs([2, 3]))).toBe(0);
    stub.close();
  });
});
