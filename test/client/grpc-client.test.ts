/** The client over gRPC against the real server in a process of its own. */
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Datatype } from '../../src/base/datatype.js';
import type { Budget } from '../../src/client/budget.js';
import { connect as connectTo } from '../../src/client/client.js';
import type { ClientOptions, InferenceClient, InputTensor } from '../../src/client/types.js';
import { identityModel, writeModel } from '../support/onnx.js';
import { startServer, type TestServer } from '../support/server.js';
import { rawOf, sampleData } from './tensor-samples.js';

const repository = mkdtempSync(join(tmpdir(), 'tensorwire-client-'));
let server: TestServer;
const clients: InferenceClient[] = [];

/** A client that is closed at the end. */
function connect(options: Partial<ClientOptions> = {}): InferenceClient {
  const client = connectTo({
    protocol: 'grpc',
    addresses: [`127.0.0.1:${server.grpcPort}`],
    retry: { attempts: 1 },
    ...options,
  });
  clients.push(client);
  return client;
}

const DATATYPES: readonly Datatype[] = ['BOOL', 'UINT8', 'INT16', 'INT32', 'INT64', 'UINT64', 'FP32', 'FP64', 'BYTES'];

beforeAll(async () => {
  for (const datatype of [...DATATYPES, 'FP16'] as const)
    writeModel(repository, `same_${datatype}`, { versions: { 1: identityModel(datatype, ['n']) } });
  for (const model of ['simple', 'digits', 'stories', 'sentence-embedding'])
    symlinkSync(join(import.meta.dirname, '../../models', model), join(repository, model));
  server = await startServer({ repository, args: ['--log-level', 'error'] });
});
afterAll(async () => {
  await Promise.all(clients.map((client) => client.close()));
  await server.stop();
  rmSync(repository, { recursive: true });
});

const RAMP = Int32Array.from({ length: 16 }, (_, i) => i);
const SIMPLE = {
  model: 'simple',
  inputs: ['INPUT0', 'INPUT1'].map((name): InputTensor => ({ name, shape: [1, 16], data: RAMP })),
};

function expectToAddUp({ phases, totalMs }: Budget): void {
  expect(phases.reduce((total, { ms }) => total + ms, 0)).toBeCloseTo(totalMs, 6);
  expect(phases.every(({ ms }) => ms >= 0)).toBe(true);
}

test('server and models say what they are and whether they are ready', async () => {
  const client = connect();
  expect(client.protocol).toBe('grpc');
  expect(await client.isLive()).toBe(true);
  expect(await client.isReady()).toBe(true);
  expect(await client.isModelReady('simple')).toBe(true);
  expect(await client.isModelReady('simple', '9')).toBe(false);
  expect(await client.isModelReady('nobody')).toBe(false);
  expect(await client.serverMetadata()).toMatchObject({
    name: 'tensorwire',
    extensions: expect.arrayContaining(['statistics']),
  });
  expect(await client.modelMetadata('simple')).toMatchObject({
    name: 'simple',
    versions: ['1'],
    inputs: [
      { name: 'INPUT0', datatype: 'INT32', shape: [-1, 16] },
      { name: 'INPUT1', datatype: 'INT32', shape: [-1, 16] },
    ],
  });
  await expect(client.modelMetadata('nobody')).rejects.toMatchObject({ code: 'NOT_FOUND', local: false });
});

test.each(['raw', 'typed'] as const)(
  'every datatype comes back bit for bit, plain and compressed: %s',
  async (encoding) => {
    const client = connect({ encoding });
    for (const datatype of DATATYPES) {
      for (const compression of ['none', 'gzip'] as const) {
        const data = sampleData(datatype, 37);
        const answer = await client.infer(
          { model: `same_${datatype}`, id: 'seven', inputs: [{ name: 'INPUT0', datatype, shape: [1, 37], data }] },
          { compression },
        );
        expect(answer).toMatchObject({ model: `same_${datatype}`, version: '1', id: 'seven' });
        const [output] = answer.outputs;
        expect(output).toMatchObject({ datatype, shape: [1, 37] });
        expect(rawOf(output!.data)).toEqual(rawOf(data));
        expectToAddUp(answer.budget);
      }
    }
  },
);

test('half floats travel as their bits, and not as typed contents', async () => {
  const inputs = [{ name: 'INPUT0', datatype: 'FP16', shape: [1, 2], data: Uint16Array.of(0x3c00, 0xbc00) }] as const;
  const { outputs } = await connect().infer({ model: 'same_FP16', inputs });
  expect(outputs[0]!.data).toEqual(Uint16Array.of(0x3c00, 0xbc00));
  await expect(connect({ encoding: 'typed' }).infer({ model: 'same_FP16', inputs })).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    local: true,
  });
});

test('the budget has the phases of both sides, bytes, and adds up to what the caller waited', async () => {
  const client = connect();
  const begin = performance.now();
  const first = await client.infer(SIMPLE);
  const waited = performance.now() - begin;
  expectToAddUp(first.budget);
  expect(first.budget.totalMs).toBeLessThanOrEqual(waited);
  const names = ({ phases }: Budget) => phases.map(({ side, name }) => `${side} ${name}`);
  // Of a model's first call alone: it asked for the metadata.
  expect(names(first.budget)[0]).toBe('client check');
  const second = await client.infer(SIMPLE);
  expectToAddUp(second.budget);
  expect(names(second.budget)).toEqual([
    'client encode',
    'client send',
    ...['receive', 'decode', 'admit', 'preprocess', 'queue', 'dispatch', 'compute', 'collect', 'encode'].map(
      (name) => `server ${name}`,
    ),
    'between transit',
    'client read',
    'client decode',
  ]);
  expect(second.budget.serverMs).toBeGreaterThan(0);
  expect(second.budget.requestBytes).toBeGreaterThan(128);
  expect(second.budget.responseBytes).toBeGreaterThan(128);
});

test('only the outputs asked for come, and classes where they are', async () => {
  const client = connect();
  const answer = await client.infer({ ...SIMPLE, outputs: [{ name: 'OUTPUT0', classification: 2 }] });
  expect(answer.outputs).toHaveLength(1);
  expect((answer.output('OUTPUT0').data as Uint8Array[]).map((element) => Buffer.from(element).toString())).toEqual([
    '30:15',
    '28:14',
  ]);
  expect(() => answer.output('OUTPUT1')).toThrow("has no output 'OUTPUT1', there are: 'OUTPUT0'");
});

test('a request that can not be right is refused before it is sent; unchecked, the server says so', async () => {
  const wrong = { ...SIMPLE, inputs: [{ name: 'INPUT9', shape: [1, 16], data: RAMP }] };
  await expect(connect().infer(wrong)).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    local: true,
    message: "request for model 'simple': there is no input 'INPUT9', expected 'INPUT0', 'INPUT1'",
  });
  await expect(connect({ checkRequests: false }).infer(wrong)).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    local: false,
    message: expect.stringContaining("unexpected inference input 'INPUT9'"),
  });
  await expect(connect().infer({ ...SIMPLE, model: 'nobody' })).rejects.toMatchObject({
    code: 'NOT_FOUND',
    local: false,
  });
});

test('a model of texts takes texts and tokens, whatever is checked', async () => {
  const client = connect();
  const [text, ids] = [
    await client.infer({ model: 'sentence-embedding', inputs: [{ name: 'text', shape: [1, 1], data: ['a cat'] }] }),
    await client.infer({
      model: 'sentence-embedding',
      inputs: ['input_ids', 'attention_mask'].map((name) => ({
        name,
        shape: [1, 4],
        data: BigInt64Array.of(1n, 1n, 1n, 1n),
      })),
    }),
  ];
  expect(text.outputs[0]!.datatype).toBe('FP32');
  expect(ids.outputs[0]!.datatype).toBe('FP32');
});

test('a deadline and an abort end a call, also while it waits for metadata', async () => {
  const client = connect();
  await expect(client.infer(SIMPLE, { timeoutMs: 0.001 })).rejects.toMatchObject({ code: 'DEADLINE_EXCEEDED' });
  const abort = new AbortController();
  const aborted = client.infer(SIMPLE, { signal: abort.signal });
  abort.abort(new Error('enough'));
  await expect(aborted).rejects.toMatchObject({
    code: 'CANCELLED',
    cause: expect.objectContaining({ message: 'enough' }),
  });
  await expect(client.infer(SIMPLE, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'CANCELLED' });
  expect((await client.infer(SIMPLE)).outputs).toHaveLength(2);
});

const PROMPT = { model: 'stories', text: 'Once upon a time', parameters: { max_tokens: 12, temperature: 0, seed: 7n } };

test('a whole text and its stream are the same text, and both have a budget', async () => {
  const client = connect();
  const whole = await client.generate(PROMPT);
  expect(whole.text.length).toBeGreaterThan(10);
  expectToAddUp(whole.budget);
  const clientsOwn = ({ phases }: Budget) => phases.filter(({ side }) => side === 'client').map(({ name }) => name);
  expect(clientsOwn(whole.budget)).toEqual(['check', 'encode', 'send', 'read', 'decode']);
  const stream = client.generateStream(PROMPT);
  const pieces: string[] = [];
  for await (const { text } of stream) pieces.push(text);
  expect(pieces.length).toBeGreaterThan(3);
  expect(pieces.join('')).toBe(whole.text);
  const budget = await stream.budget;
  expectToAddUp(budget);
  expect(clientsOwn(budget)).toEqual(['encode', 'send', 'read', 'decode']);
  expect(budget.phases.filter(({ side }) => side === 'server').map(({ name }) => name)).toContain('prefill');
  expect(() => stream[Symbol.asyncIterator]()).toThrow('a generated stream can be read once');
});

test('a stream of answers has each in turn, with the budget up to it', async () => {
  const client = connect();
  const texts: string[] = [];
  for await (const answer of client.inferStream({
    model: 'stories',
    inputs: [
      { name: 'text_input', shape: [1], data: [PROMPT.text] },
      { name: 'stream', datatype: 'BOOL', shape: [1], data: Uint8Array.of(1) },
      { name: 'max_tokens', shape: [1], data: Int32Array.of(5) },
    ],
  })) {
    texts.push(Buffer.from((answer.output('text_output').data as Uint8Array[])[0]!).toString());
    expectToAddUp(answer.budget);
  }
  expect(texts.length).toBeGreaterThan(1);
  const answers: number[] = [];
  for await (const { outputs } of client.inferStream(SIMPLE)) answers.push(outputs.length);
  expect(answers).toEqual([2]);
});

test('a stream that is not read to its end is cancelled, and its budget does not come', async () => {
  const client = connect();
  const stream = client.generateStream({ ...PROMPT, parameters: { max_tokens: 200, ignore_eos: true } });
  for await (const { text } of stream) if (text !== '') break;
  await expect(stream.budget).rejects.toMatchObject({ code: 'CANCELLED' });
  // Nothing holds the client open.
  await client.close();
});

test('a stream ends by its signal, and gives nothing after it', async () => {
  const client = connect();
  const abort = new AbortController();
  let pieces = 0;
  const reading = (async () => {
    for await (const _ of client.generateStream(
      { ...PROMPT, parameters: { max_tokens: 200, ignore_eos: true } },
      { signal: abort.signal },
    )) {
      pieces++;
      abort.abort();
    }
  })();
  await expect(reading).rejects.toMatchObject({ code: 'CANCELLED' });
  expect(pieces).toBe(1);
});

test('errors of a generation have their code', async () => {
  const client = connect();
  await expect(client.generate({ ...PROMPT, parameters: { temperature: -1 } })).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
  });
  await expect(client.generate({ ...PROMPT, model: 'nobody' })).rejects.toMatchObject({ code: 'NOT_FOUND' });
});

test('close waits for calls under way, is idempotent, and nothing goes out after it', async () => {
  const client = connect();
  const answered = client.infer(SIMPLE);
  const closed = client.close();
  expect((await answered).outputs).toHaveLength(2);
  await closed;
  await client.close();
  await expect(client.infer(SIMPLE)).rejects.toMatchObject({ code: 'FAILED_PRECONDITION', local: true });
});
