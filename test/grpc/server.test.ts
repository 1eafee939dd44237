import { Metadata } from '@grpc/grpc-js';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { call, connect, type FrontEnd, inferRequest, type Stub, startFrontEnd } from './front-end.js';

let front: FrontEnd;
let open: Stub;
let v1: Stub;

beforeAll(async () => {
  front = await startFrontEnd();
  open = connect('open', front.port);
  v1 = connect('v1', front.port);
});

afterAll(() => {
  open.close();
  v1.close();
  front.server.close();
});

function floats(count: number): Buffer {
  return Buffer.from(Float32Array.from({ length: count }, (_, i) => i / 3).buffer);
}

test.each(['echo', 'later'])(
  'ModelInfer of %s returns the bytes it was sent, copied before the lease ends',
  async (model) => {
    const data = floats(50_000);
    const { error, response } = await call(open, 'ModelInfer', inferRequest(model, data));
    expect(error).toBeNull();
    expect(response).toMatchObject({ model_name: model, model_version: '3', id: 'r1' });
    expect(response.outputs).toMatchObject([{ name: 'OUTPUT0', datatype: 'FP32', shape: [1, 50_000] }]);
    expect(data.equals(response.raw_output_contents[0])).toBe(true);
  },
);

test('typed contents reach the engine as raw bytes and are named as such', async () => {
  const { error, response } = await call(open, 'ModelInfer', {
    model_name: 'echo',
    inputs: [{ name: 'INPUT0', datatype: 'FP32', shape: [3], contents: { fp32_contents: [1, 2.5, -3] } }],
  });
  expect(error).toBeNull();
  expect(new Float32Array(Uint8Array.from(response.raw_output_contents[0]).buffer)).toEqual(
    Float32Array.of(1, 2.5, -3),
  );
  expect(front.finished.at(-1)).toMatchObject({
    method: 'ModelInfer',
    arm: 'grpc_typed',
    modelName: 'echo',
    status: 'OK',
  });
});

test('inference.v1 ModelInfer runs on the same engine', async () => {
  const data = floats(4);
  const { error, response } = await call(v1, 'ModelInfer', {
    model_name: 'echo',
    inputs: [{ name: 'X', shape: [4], datatype: 'FP32', raw_contents: data }],
  });
  expect(error).toBeNull();
  expect(response).toMatchObject({ model_name: 'echo', model_version: '3' });
  expect(data.equals(response.outputs[0].raw_contents)).toBe(true);
  // Where a text is the answer, requests that wait take turns by who asks.
  expect(front.engine.seen.at(-1)).toMatchObject({ wholeText: true, clientKey: '127.0.0.1' });
});

test('an error of a model that takes a prompt does not explain that text was taken as text', async () => {
  const inputs = [{ name: 'input', raw_contents: Buffer.from('Once') }];
  const { error } = await call(v1, 'ModelInfer', { model_name: 'words', inputs });
  expect(error!.details).toBe('temperature must be between 0 and 2, got -1');
});

test('every reply carries the budget, whose phases are the total', async () => {
  const ok = await call(open, 'ModelInfer', inferRequest('echo', floats(100)));
  const failed = await call(open, 'ModelInfer', inferRequest('nothing', floats(100)));
  const live = await call(open, 'ServerLive', {});
  const refused = await call(open, 'TraceSetting', {});
  for (const { trailer } of [ok, failed, live, refused]) {
    const [text] = trailer!.get('server-timing') as string[];
    const durations = [...text!.matchAll(/(\w+);dur=([\d.]+)/g)].map(([, name, ms]) => [name, Number(ms)] as const);
    expect(durations.map(([name]) => name)).toEqual([
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
    const total = durations.pop()![1];
    expect(durations.reduce((sum, [, ms]) => sum + ms, 0)).toBeCloseTo(total, 1);
    expect(total).toBeGreaterThan(0);
  }
});

test('an engine error keeps its code and is cut and cleaned', async () => {
  const { error } = await call(open, 'ModelInfer', inferRequest('fail', floats(1)));
  expect(error!.code).toBe(3);
  expect(error!.details).toMatch(/^unexpected shape for input\? 'x+\.\.\.$/);
  expect(error!.details.length).toBeLessThan(520);
});

test('a bug in the engine leaves as INTERNAL without detail and is logged with its stack', async () => {
  const { error } = await call(open, 'ModelInfer', inferRequest('throw', floats(1)));
  expect(error).toMatchObject({ code: 13, details: 'internal error' });
  expect(front.logged.join('\n')).toMatch(/secret detail of a bug[\s\S]*echo-engine/);
});

test('a request without data is INVALID_ARGUMENT', async () => {
  const noData = await call(open, 'ModelInfer', {
    model_name: 'echo',
    inputs: [{ name: 'A', datatype: 'FP32', shape: [1] }],
  });
  expect(noData.error!.code).toBe(3);
  expect(noData.error!.details).toContain("unable to find data for input tensor 'A'");
});

test('the deadline of the caller reaches the engine on the monotonic clock', async () => {
  await call(open, 'ModelInfer', inferRequest('echo', floats(1)), { deadline: Date.now() + 3_600_000 });
  const { deadlineMs, timeline } = front.engine.seen.at(-1)!;
  expect(deadlineMs - timeline.firstByte).toBeGreaterThan(3_000_000);
  expect(deadlineMs - timeline.firstByte).toBeLessThan(3_600_001);
  await call(open, 'ModelInfer', inferRequest('echo', floats(1)));
  expect(front.engine.seen.at(-1)!.deadlineMs).toBe(Number.POSITIVE_INFINITY);
});

test('unknown metadata is tolerated', async () => {
  const metadata = new Metadata();
  metadata.set('x-request-id', 'abc');
  metadata.set('trace-bin', Buffer.from([1, 2, 3]));
  for (const name of ['__proto__', 'constructor', 'hasownproperty']) metadata.set(name, '1');
  expect((await call(open, 'ModelInfer', inferRequest('echo', floats(1)), {}, metadata)).error).toBeNull();
});

test('server and model state', async () => {
  expect((await call(open, 'ServerLive', {})).response).toEqual({ live: true });
  expect((await call(open, 'ServerReady', {})).response).toEqual({ ready: true });
  expect((await call(open, 'ModelReady', { name: 'echo' })).response).toEqual({ ready: true });
  expect((await call(open, 'ModelReady', { name: 'nothing' })).response).toEqual({ ready: false });
  expect((await call(open, 'ModelReady', { name: 'echo', version: 'a' })).error).toMatchObject({ code: 3 });
  expect((await call(open, 'ServerMetadata', {})).response).toEqual({
    name: 'echo-engine',
    version: '9.9.9',
    extensions: ['statistics', 'model_configuration'],
  });
  expect((await call(v1, 'ServerMetadata', {})).response).toEqual({ name: 'echo-engine', version: '9.9.9' });
});

test('model metadata, config, statistics and index', async () => {
  expect((await call(open, 'ModelMetadata', { name: 'echo' })).response).toMatchObject({
    name: 'echo',
    versions: ['1', '3'],
    inputs: [{ name: 'INPUT0', datatype: 'FP32', shape: [-1, 4] }],
  });
  expect((await call(open, 'ModelMetadata', { name: 'x' })).error).toMatchObject({
    code: 5,
    details: "Request for unknown model: 'x' is not found",
  });
  expect((await call(open, 'ModelConfig', { name: 'echo' })).response.config).toMatchObject({
    max_batch_size: 8,
    input: [{ data_type: 'TYPE_FP32', dims: [4] }],
    scheduling_choice: 'dynamic_batching',
    dynamic_batching: { preferred_batch_size: [4, 8], max_queue_delay_microseconds: 100 },
    version_policy: { latest: { num_versions: 1 } },
  });
  expect((await call(open, 'ModelStatistics', {})).response.model_stats).toMatchObject([
    {
      name: 'echo',
      last_inference: 1_700_000_000_123,
      inference_stats: { success: { count: 12, ns: 9_007_199_254_740_000 } },
    },
  ]);
  const index = async (ready: boolean) => (await call(open, 'RepositoryIndex', { ready })).response.models;
  expect(await index(false)).toHaveLength(2);
  expect(await index(true)).toEqual([{ name: 'echo', version: '3', state: 'READY', reason: '' }]);
  expect((await call(open, 'RepositoryIndex', { repository_name: 'r' })).error).toMatchObject({
    code: 12,
    details: "'repository_name' specification is not supported",
  });
});

test.each([
  ['RepositoryModelLoad', 14, 'explicit model load / unload is not allowed if polling is enabled'],
  ['RepositoryModelUnload', 14, 'explicit model load / unload is not allowed if polling is enabled'],
  ['SystemSharedMemoryStatus', 12, 'Client shared memory is disabled'],
  ['SystemSharedMemoryRegister', 12, 'Client shared memory is disabled'],
  ['SystemSharedMemoryUnregister', 12, 'Client shared memory is disabled'],
  ['CudaSharedMemoryStatus', 12, 'Client shared memory is disabled'],
  ['CudaSharedMemoryRegister', 12, 'Client shared memory is disabled'],
  ['CudaSharedMemoryUnregister', 12, 'Client shared memory is disabled'],
  ['TraceSetting', 12, 'TraceSetting is not supported'],
  ['LogSettings', 12, 'LogSettings is not supported'],
])('%s answers %i', async (rpc, code, text) => {
  const { error } = await call(open, rpc, {});
  expect(error!.code).toBe(code);
  expect(error!.details).toContain(text);
});

test('the budget is whole again when all is answered', () => {
  expect(front.budget.peak).toBeGreaterThan(200_000);
  expect(front.budget.used).toBe(0);
});
