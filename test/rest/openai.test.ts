import { once } from 'node:events';
import { gzipSync } from 'node:zlib';
import OpenAI, {
  BadRequestError,
  InternalServerError,
  NotFoundError,
  RateLimitError,
  UnprocessableEntityError,
} from 'openai';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Timeline } from '../../src/base/timeline.js';
import { INFLIGHT_INPUTS } from '../../src/rest/openai-embeddings-run.js';
import { EmbeddingEngine, unit, vectorOf } from './embedding-engine.js';
import { type FrontEnd, startFrontEnd } from './front-end.js';

const MAX_INPUT = 8 * 1024 * 1024;
const engine = new EmbeddingEngine();
let front: FrontEnd;
let client: OpenAI;
beforeAll(async () => {
  front = await startFrontEnd({ engine, maxInputSize: MAX_INPUT });
  client = new OpenAI({ baseURL: `${front.url}/v1`, apiKey: 'none', maxRetries: 0 });
});
afterAll(() => front.close());
afterEach(() => {
  engine.mode = 'later';
  engine.loading = undefined;
  engine.onCancelled = undefined;
  engine.seen.length = engine.cancelled = engine.peakOpen = 0;
  expect(engine.open.size).toBe(0);
});

const post = (body: unknown, headers?: Record<string, string>) =>
  front.post('/v1/embeddings', typeof body === 'string' ? body : JSON.stringify(body), headers);

/** The error of a reply, which must have the envelope. */
async function errorOf(response: Response): Promise<Record<string, unknown>> {
  expect(response.headers.get('content-type')).toBe('application/json');
  expect(response.headers.get('server-timing')).toMatch(/total;dur=\d/);
  const body = (await response.json()) as { error: Record<string, unknown> };
  expect(Object.keys(body)).toEqual(['error']);
  expect(Object.keys(body.error)).toEqual(['message', 'type', 'param', 'code']);
  return body.error;
}

describe("OpenAI's own client", () => {
  test('gets the vector of a text, to the last bit, in the encoding it asks for by itself', async () => {
    const reply = await client.embeddings.create({ model: 'embed', input: 'hello' });
    expect(reply).toEqual({
      object: 'list',
      data: [{ object: 'embedding', index: 0, embedding: [...vectorOf('hello', 4)] }],
      model: 'embed',
      usage: { prompt_tokens: 5, total_tokens: 5 },
    });
    const [sent] = engine.seen;
    expect(sent).toMatchObject({
      modelName: 'embed',
      modelVersion: '',
      outputs: [{ name: 'sentence_embedding' }],
      inputs: [{ name: '', datatype: 'BYTES', shape: [1], content: 'text' }],
      arm: 'rest_json',
      deadlineMs: Infinity,
    });
    expect(sent!.parameters.size).toBe(0);
  });

  test('gets the same as numbers and as base64', async () => {
    const input = ['one', 'zwei', 'три'];
    const floats = await client.embeddings.create({ model: 'embed', input, encoding_format: 'float' });
    const coded = await client.embeddings.create({ model: 'embed', input, encoding_format: 'base64' });
    for (const [index, text] of input.entries()) {
      expect(floats.data[index]!.index).toBe(index);
      expect(Float32Array.from(floats.data[index]!.embedding)).toEqual(vectorOf(text, 4));
      const bytes = Uint8Array.from(Buffer.from(coded.data[index]!.embedding as unknown as string, 'base64'));
      expect(new Float32Array(bytes.buffer)).toEqual(vectorOf(text, 4));
    }
  });

  test('sends tokens in place of texts', async () => {
    const one = await client.embeddings.create({ model: 'embed', input: [7, 101, 2_000_000_000] });
    expect(one.data.map(({ embedding }) => embedding)).toEqual([[...vectorOf([7, 101, 2_000_000_000], 4)]]);
    expect(one.usage).toEqual({ prompt_tokens: 3, total_tokens: 3 });
    expect(engine.seen[0]!.inputs).toMatchObject([{ name: '', datatype: 'INT64', shape: [3], content: 'tokens' }]);
    const two = await client.embeddings.create({ model: 'embed', input: [[1], [2, 3]] });
    expect(two.data.map(({ embedding }) => embedding)).toEqual([[...vectorOf([1], 4)], [...vectorOf([2, 3], 4)]]);
    expect(two.usage.total_tokens).toBe(3);
  });

  test('lists the models that can be asked, each once, and finds one', async () => {
    const models = (await client.models.list()).data;
    expect(models.map(({ id }) => id)).toEqual(['echo', 'embed']);
    for (const model of models) {
      expect(model).toEqual({ id: model.id, object: 'model', created: expect.any(Number), owned_by: 'tensorwire' });
      expect(await client.models.retrieve(model.id)).toEqual(model);
    }
    expect(Math.abs(models[0]!.created - Date.now() / 1000)).toBeLessThan(3600);
    const missing = await client.models.retrieve('a/b').catch((error: unknown) => error);
    expect(missing).toBeInstanceOf(NotFoundError);
    expect(missing).toMatchObject({ code: 'model_not_found', param: 'model', type: 'invalid_request_error' });
  });

  test.each([
    [
      'an unknown model',
      { model: 'none', input: 'x' },
      NotFoundError,
      { status: 404, code: 'model_not_found', param: 'model' },
    ],
    ['a wrong member', { model: 'embed', input: '' }, BadRequestError, { status: 400, code: null, param: 'input' }],
    ['what the engine refuses', { model: 'embed', input: 'not-fit' }, BadRequestError, { status: 400, param: 'input' }],
    [
      'a full queue',
      { model: 'embed', input: 'busy' },
      RateLimitError,
      { status: 429, type: 'rate_limit_error', code: 'rate_limit_exceeded' },
    ],
    [
      'a model that is away',
      { model: 'embed', input: 'down' },
      InternalServerError,
      { status: 503, type: 'server_error', code: 'service_unavailable' },
    ],
    [
      'a missed deadline',
      { model: 'embed', input: 'late' },
      InternalServerError,
      { status: 504, type: 'server_error', code: 'deadline_exceeded' },
    ],
    [
      'a fault',
      { model: 'embed', input: 'bug' },
      InternalServerError,
      { status: 500, type: 'server_error', code: null },
    ],
  ])('throws its own class for %s', async (_name, body, type, members) => {
    const error = await client.embeddings.create(body).catch((error: unknown) => error);
    expect(error).toBeInstanceOf(type);
    expect(error).toMatchObject({ param: null, type: 'invalid_request_error', ...members });
    expect(error).not.toBeInstanceOf(UnprocessableEntityError);
  });
});

describe('embeddings', () => {
  test.each(['at once', 'later', 'hold'] as const)(
    'of many texts come in their order when answered %s',
    async (mode) => {
      engine.mode = mode;
      const input = Array.from({ length: 200 }, (_, i) => `text ${i}`);
      const creating = client.embeddings.create({ model: 'embed', input });
      if (mode === 'hold') {
        while (engine.seen.length < input.length || engine.open.size > 0) {
          await new Promise((resolve) => setImmediate(resolve));
          engine.answerHeld();
        }
      }
      const { data, usage } = await creating;
      expect(data.map(({ index }) => index)).toEqual(input.map((_, i) => i));
      for (const [i, text] of input.entries()) expect(data[i]!.embedding).toEqual([...vectorOf(text, 4)]);
      expect(usage.total_tokens).toBe(input.join('').length);
    },
  );

  test('a request of 2048 texts keeps the engine busy and never gives it more than its window', async () => {
    const input = Array.from({ length: 2048 }, (_, i) => `text number ${i} with some words to it`);
    const { data } = await client.embeddings.create({ model: 'matryoshka', input, encoding_format: 'float' });
    expect(engine.peakOpen).toBe(INFLIGHT_INPUTS);
    for (const [i, text] of input.entries()) expect(Float32Array.from(data[i]!.embedding)).toEqual(vectorOf(text, 8));
    expect(front.budget.peak).toBeLessThan(3 * MAX_INPUT);
  });

  test('a body for the JSON worker means the same, and is refused with the same words', async () => {
    const user = 'u'.repeat(20_000);
    const small = await (await post({ model: 'embed', input: ['a', 'b'] })).json();
    expect(await (await post({ user, model: 'embed', input: ['a', 'b'] })).json()).toEqual(small);
    for (const bad of [{ input: ['a', ''] }, { input: 'a', dimensions: 'x' }]) {
      const error = await errorOf(await post({ model: 'embed', ...bad }));
      expect(await errorOf(await post({ user, model: 'embed', ...bad }))).toEqual(error);
    }
    const broken = `{"user":"${user}","model":}`;
    expect(await errorOf(await post(broken))).toMatchObject({
      message: expect.stringContaining('failed to parse'),
      param: null,
    });
  });

  test('a large reply is printed elsewhere and is the same in both encodings', async () => {
    const input = Array.from({ length: 2048 }, (_, i) => [i]);
    for (const encoding_format of ['float', 'base64'] as const) {
      const response = await post({ model: 'matryoshka', input, encoding_format });
      expect(response.headers.get('server-timing')).toMatch(
        /^receive;dur=[\d.]+, decode.*, encode;dur=[\d.]+, total;dur/,
      );
      const { data } = (await response.json()) as { data: { embedding: number[] | string }[] };
      for (const [i, { embedding }] of data.entries()) {
        const bytes =
          typeof embedding === 'string'
            ? Buffer.from(embedding, 'base64')
            : Buffer.from(Float32Array.from(embedding).buffer);
        expect(new Float32Array(Uint8Array.from(bytes).buffer)).toEqual(vectorOf([i], 8));
      }
    }
  });

  test('are cut to fewer dimensions and made of unit length again where the model was trained for it', async () => {
    const whole = vectorOf('x', 8);
    for (const model of ['matryoshka', 'free']) {
      const { data } = await client.embeddings.create({ model, input: ['x', 'y'], dimensions: 3 });
      const [cut] = data;
      expect(cut!.embedding).toHaveLength(3);
      for (const [i, value] of unit(whole.slice(0, 3)).entries()) expect(cut!.embedding[i]).toBeCloseTo(value, 6);
      expect(data[1]!.embedding).toHaveLength(3);
      const same = await client.embeddings.create({ model, input: 'x', dimensions: 8 });
      expect(same.data[0]!.embedding).toEqual([...whole]);
    }
    expect(
      (await client.embeddings.create({ model: 'embed', input: 'x', dimensions: 4 })).data[0]!.embedding,
    ).toHaveLength(4);
  });

  test.each([
    ['embed', 3, "embeddings of model 'embed' have 4 dimensions and they can not be cut, got 3"],
    ['matryoshka', 9, "embeddings of model 'matryoshka' have 8 dimensions and they can be cut to 1 to 8, got 9"],
    ['free', 9, "embeddings of model 'free' have 8 dimensions and they can be cut to 1 to 8, got 9"],
  ])('of %s in %i dimensions are refused', async (model, dimensions, message) => {
    const response = await post({ model, input: ['x', 'y'], dimensions });
    expect(response.status).toBe(400);
    expect(await errorOf(response)).toMatchObject({ message, param: 'dimensions' });
  });

  test.each([
    ['vague', "model 'vague' is no text-embedding model: its pooling mode 'max' is not known"],
    ['numbers', "model 'numbers' is no text-embedding model: it takes no text"],
  ])('of model %s are refused with the reason', async (model, message) => {
    const response = await post({ model, input: 'x' });
    expect(response.status).toBe(400);
    expect(await errorOf(response)).toEqual({ message, type: 'invalid_request_error', param: 'model', code: null });
    expect(engine.seen).toHaveLength(0);
  });

  test('that are no numbers are a fault in JSON and bytes in base64', async () => {
    const response = await post({ model: 'nan', input: 'x' });
    expect(response.status).toBe(500);
    expect((await errorOf(response)).message).toContain("encoding_format 'base64' has");
    expect((await client.embeddings.create({ model: 'nan', input: 'x' })).data[0]!.embedding).toEqual(
      Array(4).fill(Number.NaN),
    );
  });

  test('wait for a model that is loading', async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    engine.loading = promise;
    const creating = client.embeddings.create({ model: 'embed', input: 'x' });
    await new Promise((resolve) => setImmediate(resolve));
    expect(engine.seen).toHaveLength(0);
    resolve();
    expect((await creating).data).toHaveLength(1);
  });

  test('whether texts may be cut is told to the engine', async () => {
    await post({ model: 'embed', input: ['x', 'y'], truncate: false });
    await post({ model: 'embed', input: 'x', truncate: true });
    expect(engine.seen.map(({ parameters }) => [...parameters])).toEqual([
      [['truncate', false]],
      [['truncate', false]],
      [['truncate', true]],
    ]);
  });

  test('the first refusal names its input and cancels all others', async () => {
    engine.mode = 'hold';
    const input = Array.from({ length: 100 }, (_, i) => (i === 60 ? 'not-fit' : `text ${i}`));
    const posting = post({ model: 'embed', input });
    while (engine.seen.length < INFLIGHT_INPUTS) await new Promise((resolve) => setImmediate(resolve));
    // From the last to the first, so that three are answered before the bad one.
    engine.answerHeld();
    const response = await posting;
    expect(response.status).toBe(400);
    expect(await errorOf(response)).toMatchObject({
      message: 'input[60]: text has 9 tokens, at most 8 are taken',
      param: 'input',
    });
    // Three were answered, so three more were sent; one failed.
    expect(engine.seen).toHaveLength(INFLIGHT_INPUTS + 3);
    expect(engine.cancelled).toBe(INFLIGHT_INPUTS - 1);
  });

  test('a client that leaves cancels all that is in flight and gives its bytes back', async () => {
    engine.mode = 'hold';
    const { promise: cancelled, resolve } = Promise.withResolvers<void>();
    engine.onCancelled = () => {
      if (engine.cancelled === INFLIGHT_INPUTS) resolve();
    };
    const leaving = new AbortController();
    const input = Array.from({ length: 100 }, (_, i) => `text ${i}`);
    const creating = client.embeddings.create({ model: 'embed', input }, { signal: leaving.signal });
    while (engine.seen.length < INFLIGHT_INPUTS) await new Promise((resolve) => setImmediate(resolve));
    leaving.abort();
    await expect(creating).rejects.toThrow('aborted');
    await cancelled;
    expect(engine.open.size).toBe(0);
    expect(front.budget.used).toBe(0);
    expect(front.finished.at(-1)).toMatchObject({ arm: 'rest_json', modelName: 'embed', status: 499 });
  });

  test('one that leaves while its model loads asks the engine nothing', async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    engine.loading = promise;
    const text = JSON.stringify({ model: 'embed', input: 'x' });
    const socket = await front.connect();
    socket.on('error', () => {});
    const count = front.finished.length;
    socket.write(`POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-length: ${text.length}\r\n\r\n${text}`);
    while (front.budget.used === 0) await new Promise((resolve) => setImmediate(resolve));
    socket.destroy();
    await once(socket, 'close');
    while (front.finished.length === count) await new Promise((resolve) => setImmediate(resolve));
    resolve();
    await new Promise((resolve) => setImmediate(resolve));
    expect(engine.seen).toHaveLength(0);
    expect(front.budget.used).toBe(0);
  });

  test('the budget adds up from the first byte to the reply, with the queue from when the first input was in it', async () => {
    const timelines: Pick<Timeline, 'queued' | 'encoded' | 'inputBytes' | 'outputBytes'>[] = [];
    const own = await startFrontEnd({ engine, onFinished: ({ timeline }) => timelines.push({ ...timeline }) });
    const response = await own.post('/v1/embeddings', JSON.stringify({ model: 'embed', input: ['a', 'b', 'c'] }));
    const timing = response.headers.get('server-timing')!;
    await response.text();
    await own.close();
    const parts = [...timing.matchAll(/(\w+);dur=([\d.]+)/g)].map(([, name, ms]) => [name, Number(ms)] as const);
    expect(parts.map(([name]) => name)).toEqual([
      'receive',
      'decode',
      'admit',
      'preprocess',
      'queue',
      'dispatch',
      'compute',
      'collect',
      'encode',
      'total',
    ]);
    const sum = parts.slice(0, -1).reduce((sum, [, ms]) => sum + ms, 0);
    expect(sum).toBeCloseTo(parts.at(-1)![1], 1);
    const [first] = engine.seen;
    expect(timelines).toHaveLength(1);
    expect(timelines[0]).toMatchObject({ queued: first!.timeline.queued });
    // Of all three: letters behind their lengths, vectors of four.
    expect(timelines[0]).toMatchObject({ inputBytes: 3 * (4 + 1), outputBytes: 3 * 4 * 4 });
    expect(timelines[0]!.encoded).toBeGreaterThan(0);
    expect(own.budget.used).toBe(0);
  });
});

describe('errors below /v1 have the envelope, whoever makes them', () => {
  test.each<[string, string, string, number, Record<string, unknown>]>([
    ['an unknown path', 'GET', '/v1/files', 404, { code: 'unknown_url', param: null }],
    ['the bare prefix', 'GET', '/v1?x=1', 404, { code: 'unknown_url' }],
    ['a wrong method', 'GET', '/v1/embeddings', 405, { code: 'method_not_supported' }],
    ['a malformed path', 'GET', '/v1/models/%ff', 400, { message: 'malformed path' }],
  ])('%s', async (_name, method, path, status, members) => {
    const response = await fetch(front.url + path, { method });
    expect(response.status).toBe(status);
    expect(await errorOf(response)).toMatchObject({ type: 'invalid_request_error', ...members });
  });

  test('bodies that are no JSON, of another type, of a bad coding, too large', async () => {
    expect(await errorOf(await post('{'))).toMatchObject({
      message: expect.stringContaining('failed to parse the request JSON buffer'),
    });
    const form = await post('{}', { 'content-type': 'multipart/form-data; boundary=x' });
    expect([form.status, (await errorOf(form)).type]).toEqual([415, 'invalid_request_error']);
    const coded = await post('nonsense', { 'content-encoding': 'gzip' });
    expect([coded.status, (await errorOf(coded)).message]).toEqual([
      400,
      'request body is not valid in its content encoding',
    ]);
    const large = await post('x'.repeat(MAX_INPUT + 1));
    expect(large.status).toBe(413);
    expect(await errorOf(large)).toMatchObject({
      code: 'request_too_large',
      message: expect.stringContaining('--http-max-input-size'),
    });
    const bomb = gzipSync(`{"input":"${'x'.repeat(MAX_INPUT)}"}`);
    const inflated = await front.post('/v1/embeddings', Uint8Array.from(bomb), { 'content-encoding': 'gzip' });
    expect([inflated.status, (await errorOf(inflated)).code]).toEqual([413, 'request_too_large']);
    const tokens = await post(`{"model":"embed","input":[${'1,'.repeat(MAX_INPUT / 8)}1]}`);
    expect(tokens.status).toBe(413);
    expect((await errorOf(tokens)).message).toContain('tensors of the request take');
    expect(front.budget.used).toBe(0);
  });

  test('a body that is announced as too large is not invited', async () => {
    const reply = await front.raw(
      `POST /v1/embeddings HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: ${MAX_INPUT + 1}\r\n\r\n`,
    );
    expect(reply).toMatch(/^HTTP\/1.1 413/);
    expect(JSON.parse(reply.slice(reply.indexOf('\r\n\r\n')))).toMatchObject({ error: { code: 'request_too_large' } });
  });

  test('a budget of bytes that is spent', async () => {
    const free = front.budget.limit - front.budget.used - 10;
    front.budget.reserve(free);
    const response = await post({ model: 'embed', input: 'x' });
    front.budget.release(free);
    expect(response.status).toBe(429);
    expect(await errorOf(response)).toMatchObject({ type: 'rate_limit_error', code: 'rate_limit_exceeded' });
  });

  test('a server that stops', async () => {
    front.draining = true;
    const response = await post({ model: 'embed', input: 'x' });
    front.draining = false;
    expect(response.status).toBe(503);
    expect(await errorOf(response)).toMatchObject({
      message: 'server is stopping',
      type: 'server_error',
      code: 'service_unavailable',
    });
  });

  test("the protocol's own routes keep theirs", async () => {
    for (const path of ['/v2/models/none', '/v11/models', '/']) {
      expect(Object.keys((await (await fetch(front.url + path)).json()) as object)).toEqual(['error']);
      expect(typeof ((await (await fetch(front.url + path)).json()) as { error: unknown }).error).toBe('string');
    }
  });
});
