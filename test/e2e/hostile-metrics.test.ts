/** The metrics while clients do to both ports what clients should not: they stay whole at each scrape, and add up when all have gone. */
import { once } from 'node:events';
import { connect as connectHttp2 } from 'node:http2';
import { connect as connectTcp, type Socket } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { frame, INFER, inferBytes, LIVE, RawConnection } from '../grpc/front-end.js';
import { temporaryDirectory } from '../support/engine.js';
import { identityModel, writeModel } from '../support/onnx.js';
import { startServer, type TestServer } from '../support/server.js';

let server: TestServer;

beforeAll(async () => {
  const repository = temporaryDirectory();
  writeModel(repository, 'identity', { versions: { 1: identityModel('FP32', ['n']) } });
  const limits = ['--http-max-input-size', '100000', '--grpc-max-input-size', '100000'];
  server = await startServer({ repository, args: ['--log-level', 'error', ...limits] });
  await server.waitFor(/^ +identity +1 +READY$/m);
});
afterAll(async () => {
  await server?.stop();
});

type Series = ReadonlyMap<string, number>;

/** Without what belongs to Node itself. */
async function scrape(): Promise<Series> {
  const text = await (await fetch(`http://127.0.0.1:${server.metricsPort}/metrics`)).text();
  const lines = text.split('\n').filter((line) => line !== '' && !/^(#|nodejs_|process_)/.test(line));
  return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), numberOf(line)]));
}

function numberOf(line: string): number {
  const text = line.slice(line.lastIndexOf(' ') + 1);
  expect(text, line).toMatch(/^[\d.e+-]+$/);
  return Number(text);
}

/** What must hold at every moment, whatever is going on. */
function checkWhole(now: Series, before: Series): void {
  for (const [name, value] of now) {
    expect(value, name).toBeGreaterThanOrEqual(0);
    // By Triton's name for it, this is a gauge.
    if (!/(_total|_count|_sum|_bucket|_duration_us|_success|_failure)(\{|$)/.test(name)) continue;
    if (name.startsWith('nv_inference_pending_request_count')) continue;
    expect(value, `${name} never falls`).toBeGreaterThanOrEqual(before.get(name) ?? 0);
  }
  const buckets = new Map<string, number[]>();
  for (const [name, value] of now) {
    const match = /^(.*)_bucket\{(.*?),?le="[^"]*"\}$/.exec(name);
    if (match === null) continue;
    const key = `${match[1]}_count${match[2] === '' ? '' : `{${match[2]}}`}`;
    const own = buckets.get(key) ?? [];
    own.push(value);
    buckets.set(key, own);
  }
  expect(buckets.size).toBeGreaterThan(10);
  for (const [count, values] of buckets) {
    expect(values, count).toEqual([...values].sort((a, b) => a - b));
    expect(values.at(-1), count).toBe(now.get(count));
  }
  for (const protocol of ['grpc', 'rest']) {
    const [opened, closed] = ['opened', 'closed'].map(
      (what) => now.get(`tensorwire_connections_${what}_total{protocol="${protocol}"}`)!,
    );
    expect(now.get(`${protocol}_active_connections`), protocol).toBe(opened! - closed!);
  }
}

/** The sum over all series of one name whose labels match. */
function sum(series: Series, name: string, labels = /./): number {
  let total = 0;
  for (const [key, value] of series) if (key.startsWith(`${name}{`) && labels.test(key)) total += value;
  return total;
}

async function tcp(port: number): Promise<Socket> {
  const socket = connectTcp({ port, host: '127.0.0.1', allowHalfOpen: true });
  socket.on('error', () => {});
  socket.resume();
  await once(socket, 'connect');
  return socket;
}

/** Sends `text` on a connection of its own and waits until the server closes it. */
async function say(port: number, text: string | Uint8Array): Promise<void> {
  const socket = await tcp(port);
  const closed = once(socket, 'close');
  socket.on('end', () => socket.end());
  socket.write(text);
  await closed;
}

const BODY = JSON.stringify({ inputs: [{ name: 'INPUT0', datatype: 'FP32', shape: [1, 4], data: [1, 2, 3, 4] }] });
const post = (model: string, body = BODY, more = '') =>
  `POST /v2/models/${model}/infer HTTP/1.1\r\nhost: a\r\ncontent-length: ${body.length}\r\n${more}\r\n${body}`;
const CLOSE = 'connection: close\r\n';
const TLS_HELLO = Buffer.from('16030100050100000100', 'hex');
const times = (count: number, act: (i: number) => Promise<unknown>) =>
  Promise.all(Array.from({ length: count }, (_, i) => act(i)));

/** Each does its worst `ROUNDS` times on REST's port and says how many requests of which status that is. */
const REST: Readonly<Record<string, { act: (port: number, i: number) => Promise<void>; statuses: readonly string[] }>> =
  {
    'pipelined requests, of which each counts': {
      act: (port) =>
        say(port, post('identity') + post('unknown') + post('identity', '[') + post('identity', BODY, CLOSE)),
      statuses: ['200', '404', '400', '200'],
    },
    'HTTP/1.0': {
      act: (port) => say(port, post('identity').replace('HTTP/1.1', 'HTTP/1.0')),
      statuses: ['200'],
    },
    'a method that is not there, and a path': {
      act: (port, i) =>
        say(port, `PATCH /v2 HTTP/1.1\r\nhost: a\r\n\r\nGET /x${i}/%00 HTTP/1.1\r\nhost: a\r\n${CLOSE}\r\n`),
      statuses: ['405', '404'],
    },
    'a body over the limit': {
      act: (port) => say(port, post('identity', 'x'.repeat(100_001), CLOSE)),
      statuses: ['413'],
    },
    'no HTTP at all': { act: (port) => say(port, 'hello\r\n\r\n'), statuses: ['400'] },
    'TLS where there is none': { act: (port) => say(port, TLS_HELLO), statuses: ['400'] },
    'a connection that says nothing': {
      act: async (port) => void (await tcp(port)).destroy(),
      statuses: [],
    },
    'an upload that breaks off': {
      act: async (port) => {
        const socket = await tcp(port);
        socket.write(post('identity').slice(0, -10), () => setImmediate(() => socket.resetAndDestroy()));
        await once(socket, 'close');
      },
      statuses: ['499'],
    },
  };

const message = (model: string) => inferBytes(model, Buffer.alloc(16), {});

/** Opens a stream for a call and gives it to `act`; waits until it has closed. */
async function streamed(
  port: number,
  act: (stream: ReturnType<ReturnType<typeof connectHttp2>['request']>) => void,
): Promise<void> {
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  session.on('error', () => {});
  const stream = session.request({
    ':method': 'POST',
    ':path': INFER,
    'content-type': 'application/grpc',
    te: 'trailers',
  });
  stream.on('error', () => {});
  const closed = once(stream, 'close');
  // Acknowledged settings say that the request that was sent before them has been read.
  await new Promise<void>((resolve) => session.settings({}, () => resolve()));
  act(stream);
  stream.resume();
  await closed;
  session.close();
}

async function called(port: number, path: string, body: Buffer): Promise<void> {
  const raw = new RawConnection(port);
  await raw.request(path, body);
  raw.close();
}

const GRPC: typeof REST = {
  'calls that are answered': { act: (port) => called(port, INFER, frame(message('identity'))), statuses: ['OK'] },
  'RPCs that are not there': {
    act: (port, i) => called(port, `/a.B${i}/C${i}`, frame(Buffer.alloc(0))),
    statuses: ['UNIMPLEMENTED'],
  },
  'models that are not there': {
    act: (port, i) => called(port, INFER, frame(message(`unknown_${i}`))),
    statuses: ['NOT_FOUND'],
  },
  'messages over the limit': {
    act: (port) => called(port, INFER, frame(Buffer.alloc(100_001))),
    statuses: ['RESOURCE_EXHAUSTED'],
  },
  'no protobuf': { act: (port) => called(port, INFER, frame(Buffer.alloc(9, 255))), statuses: ['INTERNAL'] },
  'HTTP/1.1 and TLS on the port of HTTP/2': {
    act: async (port) => {
      await say(port, 'GET / HTTP/1.1\r\nhost: a\r\n\r\n');
      await say(port, TLS_HELLO);
    },
    statuses: [],
  },
  'streams that are reset before their message': {
    act: (port) => streamed(port, (stream) => stream.destroy()),
    statuses: ['CANCELLED'],
  },
  'streams that are reset inside their message': {
    act: (port) =>
      streamed(port, (stream) => stream.write(frame(message('identity')).subarray(0, 20), () => stream.destroy())),
    statuses: ['CANCELLED'],
  },
  'connections that break under their streams': {
    act: (port) => streamed(port, (stream) => stream.session!.destroy()),
    statuses: ['CANCELLED'],
  },
  'a health check': { act: (port) => called(port, LIVE, frame(Buffer.alloc(0))), statuses: ['OK'] },
};

const ROUNDS = 40;

test('under hostile clients on both ports each scrape is whole, and all adds up when they have gone', async () => {
  // One of each, after which no series may be new.
  const once = async () => {
    for (const { act } of Object.values(REST)) await act(server.httpPort, 0);
    for (const { act } of Object.values(GRPC)) await act(server.grpcPort, 0);
  };
  await once();
  const settled = (what: Series) => ['rest', 'grpc'].map((protocol) => what.get(`${protocol}_active_connections`));
  await expect.poll(async () => settled(await scrape())).toEqual([0, 0]);
  await expect.poll(async () => (await scrape()).get('tensorwire_requests_in_flight')).toBe(0);
  const first = await scrape();

  let before = first;
  let isOver = false;
  const watching = (async () => {
    let scrapes = 0;
    for (; !isOver || scrapes < 3; scrapes++) {
      const now = await scrape();
      checkWhole(now, before);
      before = now;
    }
    return scrapes;
  })();
  const load = times(ROUNDS, async (i) => {
    await Promise.all([
      ...Object.values(REST).map(({ act }) => act(server.httpPort, i)),
      ...Object.values(GRPC).map(({ act }) => act(server.grpcPort, i)),
    ]);
  });
  const [scrapes] = await Promise.all([
    watching,
    load.finally(() => {
      isOver = true;
    }),
  ]);
  expect(scrapes).toBeGreaterThan(2);
  await expect.poll(async () => settled(await scrape())).toEqual([0, 0]);

  const last = await scrape();
  checkWhole(last, before);
  const grown = (name: string, labels?: RegExp) => sum(last, name, labels) - sum(first, name, labels);
  for (const [protocol, all, label] of [
    ['rest', REST, 'status_code'],
    ['grpc', GRPC, 'status'],
  ] as const) {
    const expected: Record<string, number> = {};
    for (const { statuses } of Object.values(all)) {
      for (const status of statuses) expected[status] = (expected[status] ?? 0) + ROUNDS;
    }
    const found: Record<string, number> = {};
    for (const status of Object.keys(expected)) {
      found[status] = grown(`${protocol}_request_duration_ms_count`, new RegExp(`${label}="${status}"`));
    }
    expect(found).toEqual(expected);
    const requests = Object.values(expected).reduce((total, count) => total + count, 0);
    expect(grown(`${protocol}_request_duration_ms_count`)).toBe(requests);
    expect(grown('tensorwire_requests_total', new RegExp(`protocol="${protocol}"`))).toBe(requests);
  }
  // Advice comes with the twentieth request, and batches have as many rows as there happened to be.
  const names = (series: Series) =>
    [...series.keys()].filter((name) => !/^tensorwire_(advice|batch_executions)_/.test(name)).sort();
  expect(names(last)).toEqual(names(first));
  expect(last.get('tensorwire_bytes_in_flight')).toBe(0);
  // What was answered is what was computed: each over REST three times a round, once over gRPC.
  const model = 'nv_inference_request_success{model="identity",version="1"}';
  expect(last.get(model)! - first.get(model)!).toBe(4 * ROUNDS);
  const received = grown('tensorwire_request_bytes_total', /arm="rest_json"/);
  expect(received).toBeGreaterThanOrEqual(3 * ROUNDS * BODY.length);
  expect(received).toBeLessThanOrEqual(6 * ROUNDS * BODY.length);
});
