/** One interface over two protocols: the same calls must come to the same, whichever carries them. */
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { connect } from '../../src/client/client.js';
import type { ClientError } from '../../src/client/client-error.js';
import type { ClientOptions, InferenceClient } from '../../src/client/types.js';
import { startServer, type TestServer } from '../support/server.js';

let server: TestServer;
let clients: InferenceClient[];

const ARMS = [
  { protocol: 'grpc', encoding: 'raw' },
  { protocol: 'grpc', encoding: 'typed' },
  { protocol: 'rest', encoding: 'binary' },
  { protocol: 'rest', encoding: 'json' },
] as const satisfies readonly Partial<ClientOptions>[];

beforeAll(async () => {
  server = await startServer({ repository: join(import.meta.dirname, '../../models'), args: ['--log-level', 'error'] });
  clients = ARMS.map((arm) => {
    const port = arm.protocol === 'grpc' ? server.grpcPort : server.httpPort;
    return connect({ ...arm, addresses: [`127.0.0.1:${port}`], retry: { attempts: 1 } });
  });
});
afterAll(async () => {
  await Promise.all(clients.map((client) => client.close()));
  await server.stop();
});

/** What a call comes to on every arm, which must be one thing. One behind the other: in a batch with others a number may be rounded otherwise. */
async function outcome<Value>(call: (client: InferenceClient) => Promise<Value>): Promise<Value> {
  const outcomes: Value[] = [];
  for (const client of clients) outcomes.push(await call(client));
  for (const other of outcomes) expect(other).toEqual(outcomes[0]);
  return outcomes[0]!;
}

const failure = (call: Promise<unknown>) =>
  call.then(
    () => 'it succeeded',
    ({ name, code, local, attempts }: ClientError) => ({ name, code, local, attempts }),
  );

test('metadata and readiness', async () => {
  expect(await outcome((client) => client.isLive())).toBe(true);
  expect(await outcome((client) => client.isReady())).toBe(true);
  expect(await outcome((client) => client.isModelReady('digits'))).toBe(true);
  expect(await outcome((client) => client.isModelReady('digits', '7'))).toBe(false);
  expect(await outcome((client) => client.isModelReady('nobody'))).toBe(false);
  expect((await outcome((client) => client.serverMetadata())).extensions).not.toEqual([]);
  for (const model of ['simple', 'digits', 'image-classification', 'sentence-embedding', 'stories']) {
    expect((await outcome((client) => client.modelMetadata(model))).inputs, model).not.toEqual([]);
  }
});

test('tensors, texts and classes', async () => {
  const image = { name: 'image', shape: [1, 64], data: Float32Array.from({ length: 64 }, (_, i) => (i * 7) % 17) };
  const digit = await outcome(async (client) => {
    const answer = await client.infer({ model: 'digits', id: 'one', inputs: [image] });
    const { model, version, id, outputs } = answer;
    return { model, version, id, outputs };
  });
  expect(digit).toMatchObject({ model: 'digits', id: 'one' });
  const text = { name: 'text', shape: [2], data: ['a cat sleeps', Buffer.from('grüße')] };
  const vectors = await outcome(
    async (client) => (await client.infer({ model: 'sentence-embedding', inputs: [text] })).outputs,
  );
  expect(vectors[0]).toMatchObject({ datatype: 'FP32', shape: [2, 256] });
  const classes = await outcome(async (client) => {
    const outputs = [{ name: 'probabilities', classification: 3 }];
    const answer = await client.infer({ model: 'digits', inputs: [image], outputs });
    return (answer.output('probabilities').data as Uint8Array[]).map((element) => Buffer.from(element).toString());
  });
  expect(classes).toHaveLength(3);
});

test('generated texts, whole and as they come', async () => {
  const request = { model: 'stories', text: 'Once upon a time', parameters: { max_tokens: 24, temperature: 0 } };
  const whole = await outcome(async (client) => (await client.generate(request)).text);
  expect(whole.length).toBeGreaterThan(20);
  const pieces = await outcome(async (client) => {
    const texts: string[] = [];
    for await (const { text } of client.generateStream(request)) texts.push(text);
    return texts.join('');
  });
  expect(pieces).toBe(whole);
  const repeated = { ...request, parameters: { ...request.parameters, exclude_input_in_output: false } };
  expect(await outcome(async (client) => (await client.generate(repeated)).text)).toBe(`Once upon a time${whole}`);
});

test('failures', async () => {
  const data = new Float32Array(64);
  const fail = (request: Parameters<InferenceClient['infer']>[0], options?: Parameters<InferenceClient['infer']>[1]) =>
    outcome((client) => failure(client.infer(request, options)));
  const image = { name: 'image', shape: [1, 64], data };
  expect(await fail({ model: 'nobody', inputs: [] })).toMatchObject({ code: 'NOT_FOUND', local: false });
  expect(await fail({ model: 'digits', version: '9', inputs: [image] })).toMatchObject({ code: 'NOT_FOUND' });
  expect(await fail({ model: 'digits', inputs: [{ ...image, shape: [1, 63] }] })).toMatchObject({ local: true });
  expect(await fail({ model: 'digits', inputs: [image], outputs: ['nothing'] })).toMatchObject({
    code: 'INVALID_ARGUMENT',
  });
  expect(await fail({ model: '', inputs: [] })).toMatchObject({ code: 'INVALID_ARGUMENT', local: true });
  expect(await fail({ model: 'digits', inputs: [image] }, { signal: AbortSignal.abort() })).toMatchObject({
    code: 'CANCELLED',
  });
  const wrong = { model: 'stories', text: '', parameters: { max_tokens: -5 } };
  expect(await outcome((client) => failure(client.generate(wrong)))).toMatchObject({ code: 'INVALID_ARGUMENT' });
  const first = (client: InferenceClient) => client.generateStream(wrong)[Symbol.asyncIterator]().next();
  expect(await outcome((client) => failure(first(client)))).toMatchObject({ code: 'INVALID_ARGUMENT' });
});

test('a client that is closed', async () => {
  const closed = await outcome(async (client) => {
    await client.close();
    return failure(client.isLive());
  });
  expect(closed).toMatchObject({ name: 'ClientError', local: true });
});
