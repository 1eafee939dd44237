/** The client over REST against the real server in a process of its own. */
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Budget } from '../../src/client/budget.js';
import { createRestClient } from '../../src/client/rest-client.js';
import type { ClientOptions, InferenceClient, TensorData } from '../../src/client/types.js';
import { identityModel, writeModel } from '../support/onnx.js';
import { startServer, type TestServer } from '../support/server.js';
import { JSON_DATATYPES, rawOf, sampleData } from './tensor-samples.js';

const repository = mkdtempSync(join(tmpdir(), 'tensorwire-client-'));
let server: TestServer;
const clients: InferenceClient[] = [];

/** A client that is closed at the end. */
function connect(options: Partial<ClientOptions> = {}): InferenceClient {
  const client = createRestClient({
    protocol: 'rest',
    addresses: [`127.0.0.1:${server.httpPort}`],
    retry: { attempts: 1 },
    ...options,
  });
  clients.push(client);
  return client;
}

beforeAll(async () => {
  for (const datatype of [...JSON_DATATYPES, 'FP16'] as const) {
    writeModel(repository, `same_${datatype}`, {
      versions: { 1: identityModel(datatype, ['n']) },
    });
  }
  for (const model of ['simple', 'digits', 'stories']) {
    symlinkSync(join(import.meta.dirname, '../../models', model), join(repository, model));
  }
  server = await startServer({ repository, args: ['--log-level', 'error'] });
});
afterAll(async () => {
  await Promise.all(clients.map((client) => client.close()));
  await server.stop();
  rmSync(repository, { recursive: true });
});

function expectToAddUp({ phases, totalMs }: Budget): void {
  const sum = phases.reduce((total, { ms }) => total + ms, 0);
  expect(Math.abs(sum - totalMs)).toBeLessThan(0.02 * totalMs + 0.01);
  expect(phases.every(({ ms }) => ms >= 0)).toBe(true);
}

const RAMP = Int32Array.from({ length: 16 }, (_, i) => i);
const SIMPLE = {
  model: 'simple',
  inputs: ['INPUT0', 'INPUT1'].map((name) => ({ name, shape: [1, 16], data: RAMP })),
};

test('server and models say what they are and whether they are ready', async () => {
  const client = connect();
  expect(client.protocol).toBe('rest');
  expect(await client.isLive()).toBe(true);
  expect(await client.isReady()).toBe(true);
  expect(await client.isModelReady('simple')).toBe(true);
  expect(await client.isModelReady('simple', '1')).toBe(true);
  expect(await client.isModelReady('simple', '9')).toBe(false);
  expect(await client.isModelReady('nobody')).toBe(false);
  expect(await client.serverMetadata()).toMatchObject({
    name: 'tensorwire',
    extensions: expect.arrayContaining(['binary_tensor_data']),
  });
  expect(await client.modelMetadata('simple')).toMatchObject({
    name: 'simple',
    versions: ['1'],
    inputs: [
      { name: 'INPUT0', datatype: 'INT32', shape: [-1, 16] },
      { name: 'INPUT1', datatype: 'INT32', shape: [-1, 16] },
    ],
  });
  await expect(client.modelMetadata('nobody')).rejects.toMatchObject({
    code: 'NOT_FOUND',
    httpStatus: 404,
    local: false,
  });
});

describe.each(['binary', 'json'] as const)('with %s tensors', (encoding) => {
  test('sums come back as typed arrays, with what was asked for', async () => {
    const answer = await connect({ encoding }).infer({ ...SIMPLE, version: '1', id: 'a', outputs: ['OUTPUT0'] });
    expect(answer).toMatchObject({ model: 'simple', version: '1', id: 'a' });
    expect(answer.outputs.map(({ name }) => name)).toEqual(['OUTPUT0']);
    expect(answer.output('OUTPUT0')).toEqual({
      name: 'OUTPUT0',
      datatype: 'INT32',
      shape: [1, 16],
      data: RAMP.map((value) => 2 * value),
    });
    expect(() => answer.output('OUTPUT1')).toThrow("'OUTPUT0'");
  });

  test('classes are asked for by their number', async () => {
    const image = { name: 'image', shape: [1, 64], data: new Float32Array(64).fill(8) };
    const answer = await connect({ encoding }).infer({
      model: 'digits',
      inputs: [image],
      outputs: [{ name: 'probabilities', classification: 2 }],
    });
    const { datatype, shape, data } = answer.output('probabilities');
    expect({ datatype, shape }).toEqual({ datatype: 'BYTES', shape: [1, 2] });
    expect(Buffer.from((data as Uint8Array[])[0]!).toString()).toMatch(/^0\.\d+:\d+:/);
  });

  test.each(JSON_DATATYPES)('%s comes back bit for bit, plain and compressed', async (datatype) => {
    const client = connect({ encoding });
    for (const compression of ['none', 'gzip'] as const) {
      for (const count of [0, 1, 7, 500]) {
        const data = sampleData(datatype, count);
        const request = { model: `same_${datatype}`, inputs: [{ name: 'INPUT0', datatype, shape: [1, count], data }] };
        const output = (await client.infer(request, { compression })).output('OUTPUT0');
        expect(output).toMatchObject({ datatype, shape: [1, count] });
        expect(rawOf(output.data)).toEqual(rawOf(data));
      }
    }
  });

  test('the phases of both sides add up to what the caller waited', async () => {
    const client = connect({ encoding });
    const data = Float32Array.from({ length: 100_000 }, Math.random);
    const inputs = [{ name: 'INPUT0', shape: [1, data.length], data }];
    const first = (await client.infer({ model: 'same_FP32', inputs })).budget;
    expect(first.phases[0]).toMatchObject({ side: 'client', name: 'check' });
    expectToAddUp(first);
    for (let call = 0; call < 5; call++) {
      const { budget } = await client.infer({ model: 'same_FP32', inputs });
      expectToAddUp(budget);
      const names = budget.phases.map(({ side, name }) => `${side} ${name}`);
      expect(names.slice(0, 3)).toEqual(['client encode', 'client send', 'server receive']);
      expect(names.slice(-3)).toEqual(['between transit', 'client read', 'client decode']);
      expect(budget.serverMs).toBeGreaterThan(0);
      if (encoding === 'binary') {
        expect(budget.requestBytes - 4 * data.length).toBeLessThan(300);
        expect(budget.responseBytes - 4 * data.length).toBeLessThan(300);
        expect(budget.responseBytes).toBeGreaterThan(4 * data.length);
      } else expect(budget.requestBytes).toBeGreaterThan(8 * data.length);
    }
  });

  test('errors of the server come with its own words', async () => {
    const client = connect({ encoding, checkRequests: false });
    const wrong = { ...SIMPLE, inputs: [{ name: 'INPUT0', shape: [1, 16], data: new Float32Array(16) }] };
    await expect(client.infer(wrong)).rejects.toMatchObject({
      name: 'ClientError',
      code: 'INVALID_ARGUMENT',
      httpStatus: 400,
      attempts: 1,
      message: expect.stringContaining('simple'),
    });
    const checked = connect({ encoding });
    await expect(checked.infer(wrong)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      local: true,
      message: expect.stringContaining("'INPUT0' is FP32, expected INT32"),
    });
    const missing = { ...SIMPLE, inputs: SIMPLE.inputs.slice(0, 1) };
    await expect(checked.infer(missing)).rejects.toMatchObject({
      local: true,
      message: expect.stringContaining("'INPUT1' missing"),
    });
    await expect(client.infer({ ...SIMPLE, model: 'no/body' })).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(client.infer({ ...SIMPLE, model: '' })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      local: true,
    });
  });
});

test('halves travel as their bits in binary, and are refused in JSON before anything is sent', async () => {
  const data = Uint16Array.of(0x3c00, 0x7e01, 0x8000);
  const request = { model: 'same_FP16', inputs: [{ name: 'INPUT0', datatype: 'FP16', shape: [1, 3], data }] } as const;
  expect((await connect().infer(request)).output('OUTPUT0').data).toEqual(data);
  await expect(connect({ encoding: 'json' }).infer(request)).rejects.toMatchObject({ local: true });
});

test('a binary output is a view on the received message', async () => {
  const data = Float64Array.from({ length: 1000 }, Math.random);
  const request = { model: 'same_FP64', inputs: [{ name: 'INPUT0', shape: [1, 1000], data }] };
  const output = (await connect().infer(request)).output('OUTPUT0').data as Float64Array;
  expect(output.byteOffset).toBeGreaterThan(0);
  expect(output.buffer.byteLength).toBeGreaterThan(output.byteLength);
});

test('compression makes both messages smaller on the wire', async () => {
  const inputs = [{ name: 'INPUT0', shape: [1, 50_000], data: new Float32Array(50_000) }];
  const { budget } = await connect({ compression: 'gzip' }).infer({ model: 'same_FP32', inputs });
  expect(budget.requestBytes).toBeLessThan(2000);
  expect(budget.responseBytes).toBeLessThan(5000);
  expectToAddUp(budget);
});

test('many calls run side by side on few connections', async () => {
  const client = connect({ connections: 2 });
  const answers = await Promise.all(
    Array.from({ length: 50 }, (_, i) =>
      client.infer({
        model: 'same_INT64',
        inputs: [{ name: 'INPUT0', shape: [1, 1], data: BigInt64Array.of(BigInt(i)) }],
      }),
    ),
  );
  expect(answers.map((answer) => Number((answer.output('OUTPUT0').data as BigInt64Array)[0]))).toEqual(
    Array.from({ length: 50 }, (_, i) => i),
  );
  for (const { budget } of answers) expectToAddUp(budget);
});

const STORY = { model: 'stories', text: 'Once upon a time', parameters: { max_tokens: 20, temperature: 0 } };

test('a whole text and its stream are the same text', async () => {
  const client = connect();
  const { text, budget } = await client.generate(STORY);
  expect(text.length).toBeGreaterThan(20);
  expectToAddUp(budget);
  const stream = client.generateStream(STORY);
  const pieces: string[] = [];
  for await (const piece of stream) pieces.push(piece.text);
  expect(pieces.length).toBeGreaterThan(5);
  expect(pieces.join('')).toBe(text);
  const streamed = await stream.budget;
  expectToAddUp(streamed);
  expect(streamed.serverMs).toBeGreaterThan(0);
  expect(() => stream[Symbol.asyncIterator]()).toThrow('read once');
});

test('a stream whose reader stops is cancelled on the server, and others go on', async () => {
  const client = connect({ connections: 1 });
  const stream = client.generateStream({ ...STORY, parameters: { max_tokens: 400, ignore_eos: true } });
  for await (const _ of stream) break;
  await expect(stream.budget).rejects.toMatchObject({ code: 'CANCELLED' });
  expect((await client.generate(STORY)).text).not.toBe('');
});

test('a stream ends by its signal and by its deadline', async () => {
  const client = connect();
  const endless = { ...STORY, parameters: { max_tokens: 400, ignore_eos: true } };
  const aborter = new AbortController();
  const read = async (options: object, onPiece: (count: number) => unknown) => {
    let pieces = 0;
    for await (const _ of client.generateStream(endless, options)) await onPiece(++pieces);
  };
  const aborted = read({ signal: aborter.signal }, (count) => count === 3 && aborter.abort());
  await expect(aborted).rejects.toMatchObject({ code: 'CANCELLED' });
  // Timers of one length fire in the order in which they were set: the reader goes on behind the deadline, with most of the text to come.
  const pastDeadline = () => new Promise((resolve) => setTimeout(resolve, 1));
  await expect(read({ timeoutMs: 1 }, pastDeadline)).rejects.toMatchObject({ code: 'DEADLINE_EXCEEDED' });
});

test('errors of generations are told by the first call of next', async () => {
  const client = connect();
  const wrong = { ...STORY, parameters: { max_tokens: -1 } };
  await expect(client.generate(wrong)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  const stream = client.generateStream(wrong);
  await expect(stream[Symbol.asyncIterator]().next()).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  await expect(stream.budget).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
});

test('streams of answers are told to need gRPC', async () => {
  const answers = connect().inferStream(SIMPLE);
  await expect(answers[Symbol.asyncIterator]().next()).rejects.toMatchObject({
    code: 'UNIMPLEMENTED',
    message: expect.stringContaining('grpc'),
  });
});

test('close waits for calls under way, is idempotent, and nothing goes out after it', async () => {
  const client = connect();
  const under = client.infer(SIMPLE);
  await Promise.all([client.close(), client.close()]);
  expect((await under).outputs).toHaveLength(2);
  await expect(client.infer(SIMPLE)).rejects.toMatchObject({ code: 'FAILED_PRECONDITION', local: true });
});

test('an encoding of the other protocol is refused at once', () => {
  expect(() => connect({ encoding: 'raw' })).toThrow("encoding is 'raw', over REST it is 'binary' or 'json'");
});

test('the data of an answer can be sent on as it is', async () => {
  const client = connect();
  const data: TensorData = sampleData('BYTES', 9);
  const first = await client.infer({ model: 'same_BYTES', inputs: [{ name: 'INPUT0', shape: [1, 9], data }] });
  const again = { name: 'INPUT0', shape: [1, 9], data: first.output('OUTPUT0').data };
  const second = await client.infer({ model: 'same_BYTES', inputs: [again] });
  expect(rawOf(second.output('OUTPUT0').data)).toEqual(rawOf(data));
});
