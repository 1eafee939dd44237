/** The metrics of the protocols on real ports: what is counted under which labels, and that clients can't make more of them. */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect as connectTcp } from 'node:net';
import { join } from 'node:path';
import { credentials } from '@grpc/grpc-js';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Metrics } from '../src/base/metrics.js';
import { PHASES, Timeline } from '../src/base/timeline.js';
import type { FinishedRequest } from '../src/engine/finished-request.js';
import { registerBudgetMetrics } from '../src/engine/model-metrics.js';
import { type Connections, registerConnectionMetrics, registerProtocolMetrics } from '../src/protocol-metrics.js';
import * as grpc from './grpc/front-end.js';
import * as rest from './rest/front-end.js';

/** Names, labels and bounds that dashboards of others may rely on. */
const PUBLISHED: Readonly<Record<string, { labels: string[]; bounds: number[] }>> = {
  rest_request_duration_ms: {
    labels: ['endpoint', 'status_code'],
    bounds: [1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500],
  },
  rest_json_serialization_ms: { labels: [], bounds: [0.1, 0.5, 1, 2, 5, 10] },
  rest_json_deserialization_ms: { labels: [], bounds: [0.1, 0.5, 1, 2, 5, 10] },
  rest_payload_bytes: { labels: [], bounds: [100, 1000, 10_000, 100_000, 1_000_000] },
  grpc_request_duration_ms: { labels: ['rpc_method', 'status'], bounds: [1, 5, 10, 25, 50, 100, 250, 500] },
  grpc_connection_setup_ms: { labels: [], bounds: [10, 25, 50, 100, 250] },
  grpc_protobuf_serialization_ms: { labels: [], bounds: [0.01, 0.05, 0.1, 0.5, 1] },
};

let metrics: Metrics;
let connections: Connections;
let restEnd: rest.FrontEnd;
let grpcEnd: grpc.FrontEnd;
let told = 0;

beforeEach(async () => {
  metrics = new Metrics();
  connections = registerConnectionMetrics(metrics);
  told = 0;
  const observers = [registerBudgetMetrics(metrics), registerProtocolMetrics(metrics), () => void told++];
  const onFinished = (request: FinishedRequest): void => {
    for (const observe of observers) observe(request);
  };
  restEnd = await rest.startFrontEnd({ onFinished, connections: connections.rest });
  grpcEnd = await grpc.startFrontEnd({ onFinished, connections: connections.grpc });
});
afterEach(async () => {
  await restEnd?.close();
  grpcEnd?.server.close();
});

/** What a scrape says now, by series, without what belongs to Node itself. */
async function scrape(): Promise<Map<string, number>> {
  const { body } = await metrics.render();
  const lines = String(body)
    .split('\n')
    .filter((line) => line !== '' && !/^(#|nodejs_|process_)/.test(line));
  return new Map(
    lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ')))]),
  );
}

/** Waits until `count` requests have been told of. */
const finished = (count: number) => expect.poll(() => told).toBe(count);

const json = rest.inferBody('FP32', [2], '[1,2]');
const binary = rest.binaryBody(
  {
    inputs: [{ name: 'X', datatype: 'FP32', shape: [2], parameters: { binary_data_size: 8 } }],
    parameters: { binary_data_output: true },
  },
  Buffer.alloc(8),
);
const message = grpc.inferBytes('echo', Buffer.alloc(8));

async function postAll(body: string | Uint8Array<ArrayBuffer>, headers = {}, model = 'echo'): Promise<Response> {
  const response = await restEnd.post(`/v2/models/${model}/infer`, body, headers);
  await response.arrayBuffer();
  return response;
}

test('every published name is there with its labels and all of its bounds', async () => {
  await postAll(json);
  const raw = new grpc.RawConnection(grpcEnd.port);
  await raw.request(grpc.INFER, grpc.frame(message));
  await finished(2);
  const series = [...(await scrape()).keys()];
  for (const [name, { labels, bounds }] of Object.entries(PUBLISHED)) {
    const buckets = series.filter((line) => line.startsWith(`${name}_bucket{`));
    const found = buckets.map((line) => /le="([^"]+)"/.exec(line)![1]);
    expect(found.filter((le) => bounds.map(String).includes(le!)).map(Number), name).toEqual(bounds);
    expect(found.at(-1)).toBe('+Inf');
    const keys = [...buckets[0]!.matchAll(/([a-z_]+)="/g)].map((match) => match[1]);
    expect(keys, name).toEqual([...labels, 'le']);
  }
  expect(series).toContain('grpc_active_connections');
  raw.close();
});

test('outcomes are counted by route or RPC and status, whatever is neither as `other`', async () => {
  await postAll(json);
  await postAll('no json');
  await postAll(json, {}, 'unknown');
  await (await fetch(`${restEnd.url}/v2/health/live`)).arrayBuffer();
  await (await fetch(`${restEnd.url}/wp-login.php`)).arrayBuffer();
  await (await fetch(`${restEnd.url}/v2`, { method: 'DELETE' })).arrayBuffer();
  const raw = new grpc.RawConnection(grpcEnd.port);
  await raw.request(grpc.INFER, grpc.frame(message));
  await raw.request(grpc.LIVE, grpc.frame(Buffer.alloc(0)));
  await raw.request('/no.such/Method', grpc.frame(Buffer.alloc(0)));
  await finished(9);
  const counts = [...(await scrape())].filter(([name]) => /_request_duration_ms_count\{(endpoint|rpc)/.test(name));
  expect(Object.fromEntries(counts)).toEqual({
    'rest_request_duration_ms_count{endpoint="/v2/models/:model/infer",status_code="200"}': 1,
    'rest_request_duration_ms_count{endpoint="/v2/models/:model/infer",status_code="400"}': 1,
    'rest_request_duration_ms_count{endpoint="/v2/models/:model/infer",status_code="404"}': 1,
    'rest_request_duration_ms_count{endpoint="/v2/health/live",status_code="200"}': 1,
    'rest_request_duration_ms_count{endpoint="other",status_code="404"}': 1,
    'rest_request_duration_ms_count{endpoint="other",status_code="405"}': 1,
    'grpc_request_duration_ms_count{rpc_method="ModelInfer",status="OK"}': 1,
    'grpc_request_duration_ms_count{rpc_method="ServerLive",status="OK"}': 1,
    'grpc_request_duration_ms_count{rpc_method="other",status="UNIMPLEMENTED"}': 1,
  });
  raw.close();
});

test('JSON is timed where there was JSON, protobuf where there was protobuf', async () => {
  await postAll(json);
  await postAll(json);
  await postAll(binary.body, binary.headers);
  await (await fetch(`${restEnd.url}/v2/health/live`)).arrayBuffer();
  const raw = new grpc.RawConnection(grpcEnd.port);
  for (let i = 0; i < 3; i++) await raw.request(grpc.INFER, grpc.frame(message));
  await raw.request(grpc.LIVE, grpc.frame(Buffer.alloc(0)));
  await finished(8);
  const found = await scrape();
  for (const [name, count] of [
    ['rest_json_serialization_ms', 2],
    ['rest_json_deserialization_ms', 2],
    ['grpc_protobuf_serialization_ms', 3],
    ['grpc_protobuf_deserialization_ms', 3],
  ] as const) {
    expect(found.get(`${name}_count`), name).toBe(count);
    expect(found.get(`${name}_sum`), name).toBeGreaterThan(0);
  }
  for (const [labels, sums] of [
    ['protocol="rest",arm="rest_json"', 2],
    ['protocol="rest",arm="rest_binary"', 1],
    ['protocol="rest",arm="none"', 1],
    ['protocol="grpc",arm="grpc_raw"', 3],
    ['protocol="grpc",arm="none"', 1],
  ] as const) {
    expect(found.get(`tensorwire_requests_total{${labels}}`), labels).toBe(sums);
    const times = ['serialization', 'deserialization'].map(
      (way) => found.get(`tensorwire_${way}_ms_total{${labels}}`)!,
    );
    if (labels.includes('none')) expect(times).toEqual([0, 0]);
    else for (const time of times) expect(time).toBeGreaterThan(0);
  }
  raw.close();
});

test('bodies and messages are summed as they were on the wire', async () => {
  const response = await restEnd.post('/v2/models/echo/infer', binary.body, binary.headers);
  const restBytes = (await response.arrayBuffer()).byteLength;
  const raw = new grpc.RawConnection(grpcEnd.port);
  const { body } = await raw.request(grpc.INFER, grpc.frame(message));
  await finished(2);
  const found = await scrape();
  expect(found.get('tensorwire_request_bytes_total{protocol="rest",arm="rest_binary"}')).toBe(binary.body.length);
  expect(found.get('tensorwire_response_bytes_total{protocol="rest",arm="rest_binary"}')).toBe(restBytes);
  expect(found.get('tensorwire_request_bytes_total{protocol="grpc",arm="grpc_raw"}')).toBe(message.length);
  expect(found.get('tensorwire_response_bytes_total{protocol="grpc",arm="grpc_raw"}')).toBe(body.length - 5);
  expect(found.get('rest_payload_bytes_sum')).toBe(restBytes);
  raw.close();
});

test('the phases of a model add up to its durations, and a request that no model answered has no place among them', async () => {
  metrics = new Metrics();
  const observe = registerBudgetMetrics(metrics);
  for (let i = 0; i < 7; i++) observe(answered('m', i));
  const refused = answered('unanswered', 1);
  refused.timeline.scattered = 0;
  observe(refused);
  const found = await scrape();
  const of = (name: string, more = '') => found.get(`tensorwire_${name}{model="m",arm="grpc_raw"${more}}`);
  const sums = PHASES.map((phase) => of('phase_duration_ms_sum', `,phase="${phase}"`)!);
  expect(of('request_duration_ms_sum')).toBeGreaterThan(0);
  expect(sums.reduce((sum, each) => sum + each, 0)).toBeCloseTo(of('request_duration_ms_sum')!, 6);
  for (const phase of PHASES) expect(of('phase_duration_ms_count', `,phase="${phase}"`)).toBe(7);
  expect([...found.keys()].filter((name) => name.includes('unanswered'))).toEqual([]);
});

/** A request that a model answered, with other lengths for each `step`. */
function answered(modelName: string, step: number): FinishedRequest {
  const timeline = new Timeline(100);
  const stamps = ['lastByte', 'decoded', 'admitted', 'queued', 'dispatched', 'computeStart', 'computeEnd'] as const;
  for (const [i, stamp] of [...stamps, 'scattered' as const, 'encoded' as const].entries()) {
    timeline[stamp] = 100 + (i + 1) * (0.3 + step);
  }
  const bytes = { requestBytes: 8, responseBytes: 8 };
  return { protocol: 'grpc', method: 'ModelInfer', status: 'OK', arm: 'grpc_raw', modelName, timeline, ...bytes };
}

describe('connections', () => {
  const opened = async (protocol: string) =>
    (await scrape()).get(`tensorwire_connections_opened_total{protocol="${protocol}"}`);
  const closed = async (protocol: string) =>
    (await scrape()).get(`tensorwire_connections_closed_total{protocol="${protocol}"}`);
  const active = async (protocol: string) => (await scrape()).get(`${protocol}_active_connections`);

  test('are counted when they open and when they close, on each protocol its own', async () => {
    const raws = [1, 2, 3].map(() => new grpc.RawConnection(grpcEnd.port));
    await Promise.all(raws.map((raw) => raw.request(grpc.LIVE, grpc.frame(Buffer.alloc(0)))));
    const sockets = [await restEnd.connect(), await restEnd.connect()];
    await expect.poll(() => opened('rest')).toBe(2);
    expect(await opened('grpc')).toBe(3);
    expect(await active('grpc')).toBe(3);
    expect(await active('rest')).toBe(2);
    raws[0]!.close();
    sockets[0]!.destroy();
    await expect.poll(() => closed('grpc')).toBe(1);
    await expect.poll(() => closed('rest')).toBe(1);
    expect(await active('grpc')).toBe(2);
    expect(await active('rest')).toBe(1);
    for (const raw of raws) raw.close();
    for (const socket of sockets) socket.destroy();
    await expect.poll(() => active('grpc')).toBe(0);
  });

  test('of gRPC are timed up to the first SETTINGS; one that says nothing is not', async () => {
    const silent = connectTcp(grpcEnd.port, '127.0.0.1');
    await once(silent, 'connect');
    const raw = new grpc.RawConnection(grpcEnd.port);
    await raw.request(grpc.LIVE, grpc.frame(Buffer.alloc(0)));
    await raw.request(grpc.LIVE, grpc.frame(Buffer.alloc(0)));
    await expect.poll(() => opened('grpc')).toBe(2);
    const found = await scrape();
    expect(found.get('grpc_connection_setup_ms_count')).toBe(1);
    expect(found.get('grpc_connection_setup_ms_sum')).toBeGreaterThan(0);
    silent.destroy();
    raw.close();
  });

  test('with TLS are timed and counted likewise, on both protocols', async () => {
    const pem = (name: string) => readFileSync(join(import.meta.dirname, 'fixtures/tls', name));
    const tls = { cert: pem('server.pem'), key: pem('server.key'), mutual: false };
    const secure = await grpc.startFrontEnd({ tls, connections: connections.grpc });
    const secureRest = await rest.startFrontEnd({ tls, connections: connections.rest });
    const stub = grpc.connect('open', secure.port, credentials.createSsl(pem('authority.pem')));
    const { error } = await grpc.call(stub, 'ServerLive', {});
    expect(error).toBeNull();
    expect((await scrape()).get('grpc_connection_setup_ms_count')).toBe(1);
    const socket = await secureRest.connect();
    await expect.poll(() => opened('rest')).toBe(1);
    stub.close();
    secure.server.close();
    socket.destroy();
    await secureRest.close();
    await expect.poll(() => closed('grpc')).toBe(1);
    await expect.poll(() => closed('rest')).toBe(1);
  });
});

describe('whatever clients write', () => {
  const NAMES = 100_000;
  const PER_CONNECTION = 500;

  /** Sends pipelined requests on one connection; all are answered when it closes. */
  async function pipeline(requests: readonly string[]): Promise<void> {
    const socket = await restEnd.connect();
    socket.resume();
    socket.end(requests.join(''));
    await once(socket, 'close');
  }

  /** A request for nothing there is, other for each `i`. */
  function nonsense(i: number): string {
    const close = (i + 1) % PER_CONNECTION === 0 ? 'connection: close\r\n' : '';
    const model = `unknown_${i}`;
    const line = [
      `GET /v2/models/${model}/config`,
      `POST /v2/models/${model}/infer`,
      `GET /${model}/%7Bendpoint%7D`,
      `DELETE /v2/models/${model}`,
    ][i % 4];
    return `${line} HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n${close}\r\n`;
  }

  test(`${NAMES} names of models and paths that there are not add no series`, { timeout: 900_000 }, async () => {
    const raw = new grpc.RawConnection(grpcEnd.port);
    const calls = async (from: number, count: number) => {
      const paths = [grpc.INFER, '/inference.GRPCInferenceService/ModelReady'];
      await Promise.all(
        Array.from({ length: count }, (_, k) => {
          const i = from + k;
          const path = i % 3 === 0 ? `/unknown.Service${i}/Method${i}` : paths[i % 2]!;
          return raw.request(path, grpc.frame(grpc.inferBytes(`unknown_${i}`, Buffer.alloc(4))));
        }),
      );
    };
    // One of each kind, after which nothing may be new.
    await pipeline(Array.from({ length: PER_CONNECTION }, (_, i) => nonsense(i)));
    await calls(0, 6);
    await finished(PER_CONNECTION + 6);
    const before = [...(await scrape()).keys()];
    for (let from = PER_CONNECTION; from < NAMES; from += PER_CONNECTION) {
      await pipeline(Array.from({ length: PER_CONNECTION }, (_, i) => nonsense(from + i)));
      await calls(from, 20);
    }
    await finished(NAMES + 6 + (NAMES / PER_CONNECTION - 1) * 20);
    expect([...(await scrape()).keys()]).toEqual(before);
    raw.close();
  });
});
