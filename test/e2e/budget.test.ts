/** The latency budget on every reply of both protocols, and the metrics: their names, and that clients can't make more of them. */
import { createConnection } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { INFER_PHASES } from '../../src/base/timeline.js';
import { call, connect, frame, INFER, inferBytes, RawConnection } from '../grpc/front-end.js';
import { readAll } from '../rest/front-end.js';
import { temporaryDirectory } from '../support/engine.js';
import { gatherModel, identityModel, slowModel, writeModel } from '../support/onnx.js';
import { startServer, type TestServer } from '../support/server.js';
import { ARMS, type ArmClient, createArmClient, type RawTensor } from './arms.js';

let server: TestServer;
let client: ArmClient;

beforeAll(async () => {
  const repository = temporaryDirectory();
  writeModel(repository, 'identity', { versions: { 1: identityModel('FP32', ['n']) } });
  writeModel(repository, 'gather', { versions: { 1: gatherModel() } });
  writeModel(repository, 'slow', { versions: { 1: slowModel(200) } });
  server = await startServer({ repository });
  client = createArmClient(server);
});
afterAll(async () => {
  client?.close();
  await server?.stop();
});

const row = (name: string, elements: number): RawTensor => {
  return { name, datatype: 'FP32', shape: [1, elements], data: Buffer.alloc(elements * 4) };
};

/** Durations by name; fails on anything that is no budget. */
function parseTiming(text: string | null | undefined): Record<string, number> {
  expect(text).toMatch(/^(\w+;dur=\d+\.\d{3})(, \w+;dur=\d+\.\d{3})*$/);
  return Object.fromEntries(
    text!.split(', ').map((entry) => {
      const [name, duration] = entry.split(';dur=') as [string, string];
      return [name, Number(duration)];
    }),
  );
}

/** A whole budget: every phase, which add up to the total but for rounding to a microsecond. */
function wholeBudget(text: string | null | undefined): Record<string, number> {
  const timing = parseTiming(text);
  expect(Object.keys(timing)).toEqual([...INFER_PHASES, 'total']);
  const sum = INFER_PHASES.reduce((sum, phase) => sum + timing[phase]!, 0);
  expect(Math.abs(sum - timing.total!)).toBeLessThanOrEqual(0.0005 * (INFER_PHASES.length + 1) + 1e-9);
  return timing;
}

const url = (path: string): string => `http://127.0.0.1:${server.httpPort}${path}`;

/** Model `slow` takes tens of milliseconds for a request, and no machine a twentieth of that. */
const LEAST_MS = 1;

/** What model `slow` has computed by its statistics, less `before`: the worker's own measure, whatever else the machine was busy with. */
async function computedMs(before = 0): Promise<number> {
  const { model_stats } = (await (await fetch(url('/v2/models/slow/stats'))).json()) as {
    model_stats: { inference_stats: { compute_infer: { ns: number } } }[];
  };
  return model_stats[0]!.inference_stats.compute_infer.ns / 1e6 - before;
}

describe('the budget', () => {
  test('of an inference over REST names every phase, adds up, and is no longer than the client waited', async () => {
    const body = JSON.stringify({
      inputs: [{ name: 'INPUT0', datatype: 'FP32', shape: [1, 16], data: new Array(16).fill(1) }],
    });
    const before = await computedMs();
    const sentAt = performance.now();
    const response = await fetch(url('/v2/models/slow/infer'), { method: 'POST', body });
    await response.arrayBuffer();
    const waited = performance.now() - sentAt;
    const timing = wholeBudget(response.headers.get('server-timing'));
    expect(timing.total).toBeLessThanOrEqual(waited);
    expect(timing.compute).toBeGreaterThan(LEAST_MS);
    expect(timing.compute).toBeCloseTo(await computedMs(before), 2);
  });

  test('of an inference over gRPC is in the trailer, likewise', async () => {
    const stub = connect('open', server.grpcPort);
    await call(stub, 'ServerLive', {});
    const before = await computedMs();
    const sentAt = performance.now();
    const { error, trailer } = await call(stub, 'ModelInfer', {
      model_name: 'slow',
      inputs: [{ name: 'INPUT0', datatype: 'FP32', shape: [1, 16] }],
      raw_input_contents: [Buffer.alloc(64)],
    });
    const waited = performance.now() - sentAt;
    expect(error).toBeNull();
    const timing = wholeBudget(trailer!.get('server-timing')[0] as string);
    expect(timing.total).toBeLessThanOrEqual(waited);
    expect(timing.compute).toBeGreaterThan(LEAST_MS);
    expect(timing.compute).toBeCloseTo(await computedMs(before), 2);
    stub.close();
  });

  test.each([
    ['GET', '/v2', 200],
    ['GET', '/v2/health/live', 200],
    ['GET', '/v2/health/ready', 200],
    ['GET', '/v2/models', 200],
    ['GET', '/v2/models/identity', 200],
    ['GET', '/v2/models/identity/ready', 200],
    ['GET', '/v2/models/identity/config', 200],
    ['GET', '/v2/models/stats', 200],
    ['POST', '/v2/repository/index', 200],
    ['GET', '/v2/models/unknown', 404],
    ['GET', '/nowhere', 404],
    ['DELETE', '/v2', 405],
    ['POST', '/v2/models/unknown/infer', 400],
    ['POST', '/v2/models/identity/infer', 400],
    ['POST', '/v2/repository/models/identity/load', 503],
    ['GET', '/v2/trace/setting', 501],
  ])('is on the reply to %s %s (%d)', async (method, path, status) => {
    const response = await fetch(url(path), { method, ...(path.endsWith('/infer') && { body: 'no json' }) });
    await response.arrayBuffer();
    expect(response.status).toBe(status);
    expect(parseTiming(response.headers.get('server-timing')).total).toBeGreaterThanOrEqual(0);
  });

  test.each([
    ['a model that is not known', 'unknown', [1], 404],
    ['a shape that is wrong', 'gather', [1, 2, 3], 400],
    ['a value that the model refuses while it runs', 'gather', [1, 1], 400],
  ])('of a refused inference over REST is whole: %s', async (_, model, shape, status) => {
    const data = new Array(shape.reduce((product, dim) => product * dim, 1)).fill(99);
    const body = JSON.stringify({ inputs: [{ name: 'INPUT0', datatype: 'INT64', shape, data }] });
    const response = await fetch(url(`/v2/models/${model}/infer`), { method: 'POST', body });
    await response.arrayBuffer();
    expect(response.status).toBe(status);
    wholeBudget(response.headers.get('server-timing'));
  });

  test.each([
    ['garbage', 'garbage\r\n\r\n', '400'],
    ['CONNECT', 'CONNECT example.org:1 HTTP/1.1\r\nhost: example.org\r\n\r\n', '405'],
    ['a header of 20 KB', `GET /v2 HTTP/1.1\r\nhost: a\r\nx: ${'x'.repeat(20_000)}\r\n\r\n`, '431'],
    [
      'an announced body of 1 GB',
      'POST /v2/models/identity/infer HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000\r\n\r\n',
      '413',
    ],
  ])('is on the reply to %s', async (_, bytes, status) => {
    const socket = createConnection({ port: server.httpPort, host: '127.0.0.1', allowHalfOpen: true });
    socket.on('error', () => {});
    socket.end(bytes);
    const reply = await readAll(socket);
    expect(reply).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
    parseTiming(/^server-timing: (.*)\r$/im.exec(reply)?.[1]);
  });

  test.each([
    ['ServerLive', {}, undefined],
    ['ServerReady', {}, undefined],
    ['ServerMetadata', {}, undefined],
    ['ModelReady', { name: 'identity' }, undefined],
    ['ModelMetadata', { name: 'identity' }, undefined],
    ['ModelConfig', { name: 'identity' }, undefined],
    ['ModelStatistics', {}, undefined],
    ['RepositoryIndex', {}, undefined],
    ['ModelMetadata', { name: 'unknown' }, 5],
    ['ModelInfer', { model_name: 'unknown' }, 5],
    ['ModelInfer', { model_name: 'identity' }, 3],
    ['RepositoryModelLoad', { model_name: 'identity' }, undefined],
    ['TraceSetting', {}, 12],
    ['SystemSharedMemoryStatus', {}, 12],
  ])('is in the trailer of %s %j (status %s)', async (rpc, request, code) => {
    const stub = connect('open', server.grpcPort);
    const { error, trailer } = await call(stub, rpc, request);
    if (rpc !== 'RepositoryModelLoad') expect(error?.code).toBe(code);
    expect(parseTiming(trailer!.get('server-timing')[0] as string).total).toBeGreaterThanOrEqual(0);
    stub.close();
  });

  test('is in the trailer of health, of inference.v1 and of what no protobuf library would send', async () => {
    const health = connect('health', server.grpcPort);
    parseTiming((await call(health, 'Check', { service: '' })).trailer!.get('server-timing')[0] as string);
    parseTiming((await call(health, 'Check', { service: 'unknown' })).trailer!.get('server-timing')[0] as string);
    health.close();
    const v1 = connect('v1', server.grpcPort);
    parseTiming((await call(v1, 'ServerMetadata', {})).trailer!.get('server-timing')[0] as string);
    v1.close();
    const raw = new RawConnection(server.grpcPort);
    const replies = [
      await raw.request('/no.such/Service', frame(Buffer.alloc(0))),
      await raw.request(INFER, frame(Buffer.from([0xff, 0xff, 0xff]))),
      await raw.request(INFER, frame(inferBytes('identity', Buffer.alloc(16)), 7)),
      await raw.request(INFER, frame(inferBytes('identity', Buffer.alloc(16)))),
    ];
    expect(replies.map(({ headers }) => headers['grpc-status'])).toEqual(['12', '13', '13', '0']);
    for (const { headers } of replies) parseTiming(headers['server-timing'] as string);
    raw.close();
  });
});

describe('metrics', () => {
  async function scrape(): Promise<string[]> {
    const response = await fetch(`http://127.0.0.1:${server.metricsPort}/metrics`);
    expect(response.headers.get('content-type')).toMatch(/^text\/plain/);
    return (await response.text()).split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  }

  /** Names with labels, without what belongs to Node itself. */
  const seriesOf = (lines: string[]): string[] =>
    lines.map((line) => line.slice(0, line.lastIndexOf(' '))).filter((name) => !/^(nodejs|process)_/.test(name));

  const sample = (lines: string[], series: string): number =>
    Number(lines.find((line) => line.startsWith(`${series} `))?.slice(series.length));

  test('carry Triton’s names for every model, and the budget by encoding and phase', async () => {
    for (const arm of ARMS) await client.infer(arm, 'identity', [row('INPUT0', 4)]);
    const names = new Set((await scrape()).map((line) => /^[a-z_]+/.exec(line)![0]));
    for (const name of [
      'nv_inference_request_success',
      'nv_inference_request_failure',
      'nv_inference_count',
      'nv_inference_exec_count',
      'nv_inference_request_duration_us',
      'nv_inference_queue_duration_us',
      'nv_inference_compute_input_duration_us',
      'nv_inference_compute_infer_duration_us',
      'nv_inference_compute_output_duration_us',
      'nv_inference_pending_request_count',
      'tensorwire_requests_in_flight',
      'tensorwire_request_duration_ms_bucket',
      'tensorwire_phase_duration_ms_bucket',
      'tensorwire_bytes_in_flight',
      'tensorwire_shared_memory_bytes',
    ]) {
      expect(names).toContain(name);
    }
  });

  test('count what was asked: a success, a refusal by the model, each encoding', async () => {
    const model = '{model="gather",version="1"}';
    const reason = '{model="gather",version="1",reason="BACKEND"}';
    const before = await scrape();
    const index: RawTensor = { name: 'INPUT0', datatype: 'INT64', shape: [2, 1], data: Buffer.alloc(16) };
    for (const arm of ARMS) await client.infer(arm, 'gather', [index]);
    await expect(client.infer('gRPC raw', 'gather', [{ ...index, data: Buffer.alloc(16, 99) }])).rejects.toThrow(
      'refused the data',
    );
    const after = await scrape();
    const grown = (series: string): number => sample(after, series) - (sample(before, series) || 0);
    expect(grown(`nv_inference_request_success${model}`)).toBe(ARMS.length);
    expect(grown(`nv_inference_count${model}`)).toBe(2 * ARMS.length);
    expect(grown(`nv_inference_exec_count${model}`)).toBe(ARMS.length);
    expect(grown(`nv_inference_request_failure${reason}`)).toBe(1);
    const arms = ['rest_json', 'rest_binary', 'grpc_raw', 'grpc_typed'];
    const byArm = arms.map((arm) => grown(`tensorwire_request_duration_ms_count{model="gather",arm="${arm}"}`));
    // inference.v1 carries raw tensors over gRPC; the refused request was not answered by the model.
    expect(byArm).toEqual([1, 1, 2, 1]);
  });

  test('say of every model whether it is ready, and how many requests may wait for it', async () => {
    const lines = await scrape();
    for (const model of ['identity', 'gather', 'slow']) {
      expect(sample(lines, `tensorwire_model_ready{model="${model}",version="1"}`)).toBe(1);
      expect(sample(lines, `tensorwire_queue_limit{model="${model}",version="1"}`)).toBeGreaterThan(0);
    }
  });

  test('a thousand names of models that are not there add no series', async () => {
    // The outcome itself is a series, once for each route and RPC.
    const first = ARMS.map((arm) => client.infer(arm, 'unknown', [row('INPUT0', 4)]).catch(() => undefined));
    await Promise.all(first);
    const before = seriesOf(await scrape());
    for (let i = 0; i < 1_000; i += 10) {
      await Promise.all(
        Array.from({ length: 10 }, (_, k) =>
          expect(client.infer(ARMS[k % ARMS.length]!, `unknown_${i + k}`, [row('INPUT0', 4)])).rejects.toThrow(
            'unknown model',
          ),
        ),
      );
    }
    expect(seriesOf(await scrape())).toEqual(before);
  });
});
