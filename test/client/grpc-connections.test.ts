/** What the client over gRPC does to connections, addresses and failures, against small real servers. */
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { propagation } from '@opentelemetry/api';
import { afterEach, expect, test } from 'vitest';
import { connect as connectTo } from '../../src/client/client.js';
import { channelOptions } from '../../src/client/grpc-channels.js';
import type { ClientOptions, InferenceClient } from '../../src/client/types.js';
import { takeDeadPort } from '../support/dead-port.js';
import {
  failure,
  response,
  type StubOptions,
  type StubServer,
  startStub,
  streamed,
  type Unary,
} from './stub-server.js';

const opened: { stop(): void }[] = [];
const clients: InferenceClient[] = [];
afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.close()));
  for (const server of opened.splice(0)) server.stop();
});

async function stub(options?: StubOptions): Promise<StubServer> {
  const server = await startStub(options);
  opened.push(server);
  return server;
}

function connect(ports: readonly number[], options: Partial<ClientOptions> = {}): InferenceClient {
  const addresses = ports.map((port) => `127.0.0.1:${port}`);
  const client = connectTo({ protocol: 'grpc', addresses, ...options });
  clients.push(client);
  return client;
}

/** A port that nobody listens on. */
async function deadPort(): Promise<number> {
  const { port, release } = await takeDeadPort();
  opened.push({ stop: release });
  return port;
}

const REQUEST = { model: 'm', inputs: [{ name: 'x', shape: [2], data: Float32Array.of(1, 2) }] };
const QUICK = { initialBackoffMs: 1, maxBackoffMs: 1 };

test('a client has one connection, and as many as it is told to', async () => {
  for (const connections of [undefined, 1, 3]) {
    const server = await stub();
    const client = connect([server.port], connections === undefined ? {} : { connections });
    await Promise.all(Array.from({ length: 12 }, () => client.infer(REQUEST)));
    expect(server.sockets).toHaveLength(connections ?? 1);
    // What asks for metadata goes its round as well; every connection has its part.
    expect(server.calls).toHaveLength(12);
  }
});

test('two clients of one address share no connection', async () => {
  const server = await stub();
  await connect([server.port]).infer(REQUEST);
  await connect([server.port]).infer(REQUEST);
  expect(server.sockets).toHaveLength(2);
});

test('calls go round robin over addresses, past one that can not be reached, without a try more', async () => {
  const [one, two] = [await stub(), await stub()];
  const client = connect([one.port, await deadPort(), two.port], { retry: { attempts: 1 }, checkRequests: false });
  while (one.calls.length === 0 || two.calls.length === 0) await client.infer(REQUEST);
  const before = [one.calls.length, two.calls.length];
  for (let call = 0; call < 12; call++) await client.infer(REQUEST);
  expect([one.calls.length, two.calls.length]).toEqual(before.map((count) => count + 6));
});

test('no call waits for an address that never answers while another can go', async () => {
  // It takes connections and says nothing.
  const silent = createServer().listen(0, '127.0.0.1');
  await once(silent, 'listening');
  opened.push({ stop: () => silent.close() });
  const server = await stub();
  const client = connect([server.port, (silent.address() as AddressInfo).port], { checkRequests: false });
  for (let call = 0; call < 12; call++) await client.infer(REQUEST);
  expect(server.calls).toHaveLength(12);
});

test('an address that comes back is used again', async () => {
  // It keeps its port: another process would be given one that is free.
  const [one, two] = [await stub(), await stub({ isDown: true })];
  const client = connect([two.port, one.port], { checkRequests: false });
  await client.infer(REQUEST);
  expect(two.calls).toHaveLength(0);
  two.open();
  while (two.calls.length === 0) await client.infer(REQUEST);
  expect(two.calls.length).toBe(1);
});

test('where nobody can be reached the error says so, after the tries allowed', async () => {
  const ports = [await deadPort(), await deadPort()];
  const client = connect(ports, {
    retry: { ...QUICK, attempts: 2 },
    checkRequests: false,
  });
  await expect(client.infer(REQUEST)).rejects.toMatchObject({
    code: 'UNAVAILABLE',
    attempts: 2,
    message: expect.stringMatching(
      new RegExp(`^no connection to 127.0.0.1:(${ports.join('|')}): connect ECONNREFUSED 127.0.0.1:\\d+$`),
    ),
  });
  await expect(client.isLive()).rejects.toMatchObject({ code: 'UNAVAILABLE' });
});

test('a call that fails for the moment is tried again, and the waits are a phase of its budget', async () => {
  const server = await stub({
    infer: (_, answer, nth) => (nth < 3 ? answer(failure('UNAVAILABLE')) : answer(null, response())),
  });
  const client = connect([server.port], { retry: QUICK, checkRequests: false });
  const { model, budget } = await client.infer(REQUEST);
  expect(model).toBe('stub');
  expect(server.calls).toHaveLength(3);
  expect(budget.phases[0]).toMatchObject({ side: 'client', name: 'retry' });
  expect(budget.phases.reduce((sum, { ms }) => sum + ms, 0)).toBeCloseTo(budget.totalMs, 6);
  // All tries sent the same bytes.
  const [first, ...others] = server.calls.map((call) => (call as Unary).request.toString('hex'));
  expect(new Set(others)).toEqual(new Set([first]));
});

test.each<[string, ReturnType<typeof failure>, number]>([
  ['the tries allowed are used up', failure('UNAVAILABLE'), 3],
  ['a full server that says nothing is left alone', failure('RESOURCE_EXHAUSTED'), 1],
  ['a full server that says when is tried again', failure('RESOURCE_EXHAUSTED', '1'), 3],
  ['pushback of less than nothing forbids', failure('UNAVAILABLE', '-1'), 1],
  ['pushback beyond the deadline ends it now', failure('UNAVAILABLE', '600000'), 1],
  ['a refusal is one', failure('INVALID_ARGUMENT', '1'), 1],
])('%s', async (_, error, times) => {
  const server = await stub({ infer: (_call, answer) => answer(error) });
  const client = connect([server.port], { retry: QUICK, checkRequests: false });
  await expect(client.infer(REQUEST)).rejects.toMatchObject({
    name: 'ClientError',
    message: error.details,
    attempts: times,
    local: false,
  });
  expect(server.calls).toHaveLength(times);
});

test('an error that ends a call says how often it was tried', async () => {
  const aborter = new AbortController();
  let calls = 0;
  const server = await stub({
    infer: (_call, answer) => {
      if (++calls === 1) answer(failure('UNAVAILABLE', '0'));
      else aborter.abort();
    },
  });
  const client = connect([server.port], { retry: QUICK, checkRequests: false });
  const call = client.infer(REQUEST, { signal: aborter.signal });
  await expect(call).rejects.toMatchObject({ code: 'CANCELLED', attempts: 2 });
});

test('what has begun to be answered is not tried again', async () => {
  const server = await stub({
    infer: (call, answer) => {
      call.sendMetadata(call.metadata);
      setImmediate(() => answer(failure('UNAVAILABLE')));
    },
  });
  const client = connect([server.port], { retry: QUICK, checkRequests: false });
  await expect(client.infer(REQUEST)).rejects.toMatchObject({ code: 'UNAVAILABLE', attempts: 1 });
  expect(server.calls).toHaveLength(1);
});

test('the server hears the deadline, and the call ends by it, tries included', async () => {
  const server = await stub({ infer: () => undefined });
  const client = connect([server.port], { retry: QUICK, checkRequests: false });
  // No answer comes, whether the call has reached the server by then or not.
  await expect(client.infer(REQUEST, { timeoutMs: 50 })).rejects.toMatchObject({ code: 'DEADLINE_EXCEEDED' });
  const HOUR_MS = 3_600_000;
  for (const timeoutMs of [HOUR_MS, 0]) {
    const before = server.calls.length;
    const abort = new AbortController();
    const began = Date.now();
    const own = connect([server.port], { timeoutMs, checkRequests: false });
    const waiting = own.infer(REQUEST, { signal: abort.signal });
    const given = expect(waiting).rejects.toMatchObject({ code: 'CANCELLED' });
    while (server.calls.length === before) await new Promise(setImmediate);
    const heard = Number(server.calls[before]!.getDeadline());
    abort.abort();
    await given;
    if (timeoutMs === 0) expect(heard).toBe(Number.POSITIVE_INFINITY);
    else {
      expect(heard).toBeGreaterThan(began + HOUR_MS - 60_000);
      expect(heard).toBeLessThan(Number.POSITIVE_INFINITY);
    }
  }
});

test('an abort cancels the call on the server, and one between tries ends the wait', async () => {
  const cancelled = Promise.withResolvers<void>();
  const abort = new AbortController();
  const server = await stub({
    infer: (call) => {
      call.on('cancelled', () => cancelled.resolve());
      abort.abort('no need any more');
    },
  });
  const client = connect([server.port], { checkRequests: false });
  await expect(client.infer(REQUEST, { signal: abort.signal })).rejects.toMatchObject({
    code: 'CANCELLED',
    cause: 'no need any more',
  });
  await cancelled.promise;
  const later = new AbortController();
  const failing = await stub({
    infer: (_, answer) => {
      answer(failure('UNAVAILABLE', '30000'));
      setImmediate(() => later.abort());
    },
  });
  const waiting = connect([failing.port], { checkRequests: false }).infer(REQUEST, { signal: later.signal });
  await expect(waiting).rejects.toMatchObject({ code: 'CANCELLED' });
  expect(failing.calls).toHaveLength(1);
});

test('compressed requests are smaller on the wire and arrive as they were', async () => {
  const request = { model: 'm', inputs: [{ name: 'x', shape: [100_000], data: new Float32Array(100_000).fill(0.5) }] };
  const sizes: number[] = [];
  for (const compression of ['none', 'gzip'] as const) {
    const server = await stub();
    const client = connect([server.port], { compression, checkRequests: false });
    const { budget } = await client.infer(request);
    expect(budget.requestBytes).toBeGreaterThan(400_000);
    expect((server.calls[0] as Unary).request).toHaveLength(budget.requestBytes);
    sizes.push(server.sockets[0]!.bytesRead);
  }
  expect(sizes[0]!).toBeGreaterThan(400_000);
  expect(sizes[1]!).toBeLessThan(10_000);
});

test('headers of the client and of the call arrive as metadata, the call’s win', async () => {
  const server = await stub();
  const client = connect([server.port], {
    headers: { authorization: 'Bearer a', 'x-team': 'one' },
    checkRequests: false,
  });
  await client.infer(REQUEST, { headers: { Authorization: 'Bearer b' } });
  await client.infer(REQUEST);
  expect(server.calls.map(({ metadata }) => [...metadata.get('authorization'), ...metadata.get('x-team')])).toEqual([
    ['Bearer b', 'one'],
    ['Bearer a', 'one'],
  ]);
  await expect(client.infer(REQUEST, { headers: { 'not a name': 'x' } })).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    local: true,
  });
});

test('the trace that the caller is in travels along', async () => {
  const server = await stub();
  const client = connect([server.port], { checkRequests: false });
  propagation.setGlobalPropagator({
    inject: (_, carrier, { set }) =>
      set(carrier, 'traceparent', '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'),
    extract: (context) => context,
    fields: () => ['traceparent'],
  });
  try {
    await client.infer(REQUEST);
  } finally {
    propagation.disable();
  }
  await client.infer(REQUEST);
  expect(server.calls.map(({ metadata }) => metadata.get('traceparent'))).toEqual([
    ['00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'],
    [],
  ]);
});

test('a server that tells nothing of its models is served unchecked', async () => {
  const server = await stub();
  const { model } = await connect([server.port]).infer(REQUEST);
  expect(model).toBe('stub');
});

test('an answer that can not be read is an INTERNAL error, and is not asked for again', async () => {
  const server = await stub({ infer: (_, answer) => answer(null, Buffer.from([0x0a, 200])) });
  await expect(connect([server.port], { checkRequests: false }).infer(REQUEST)).rejects.toMatchObject({
    code: 'INTERNAL',
    message: expect.stringContaining('malformed ModelInferResponse'),
  });
  expect(server.calls).toHaveLength(1);
});

test('an answer larger than allowed is refused', async () => {
  const server = await stub({ infer: (_, answer) => answer(null, response({ id: 'x'.repeat(5000) })) });
  const client = connect([server.port], { maxReceiveBytes: 4096, checkRequests: false });
  await expect(client.infer(REQUEST)).rejects.toMatchObject({ code: 'RESOURCE_EXHAUSTED' });
});

test('a stream is opened again where nothing of it had come, and ends with what the server says', async () => {
  const server = await stub({
    stream: (call, nth) => {
      if (nth === 1) call.emit('error', failure('UNAVAILABLE'));
      else {
        call.write(streamed({ id: '1' }));
        call.write(streamed({ id: '2', parameters: { triton_final_response: { bool_param: true } } }));
        call.end();
      }
    },
  });
  const client = connect([server.port], { retry: QUICK, checkRequests: false });
  const ids: string[] = [];
  for await (const { id } of client.inferStream(REQUEST)) ids.push(id);
  // The last one has no outputs: it only says that there are no more.
  expect(ids).toEqual(['1']);
  expect(server.calls).toHaveLength(2);
  expect(server.calls[1]!.metadata.get('triton_grpc_error')).toEqual(['true']);
});

test('an error in a stream comes behind the answers before it', async () => {
  const server = await stub({
    stream: (call, nth) => {
      call.write(streamed({ id: '1' }));
      if (nth === 1) {
        call.write(streamed({}, 'out of luck'));
        call.end();
      } else call.emit('error', failure('RESOURCE_EXHAUSTED'));
    },
  });
  const client = connect([server.port], { checkRequests: false });
  for (const expected of [
    { code: 'UNKNOWN', message: 'out of luck' },
    { code: 'RESOURCE_EXHAUSTED', message: 'stub says RESOURCE_EXHAUSTED' },
  ]) {
    const ids: string[] = [];
    const reading = (async () => {
      for await (const { id } of client.inferStream(REQUEST)) ids.push(id);
    })();
    await expect(reading).rejects.toMatchObject(expected);
    expect(ids).toEqual(['1']);
  }
});

test('a reader that stops cancels the call on the server', async () => {
  const cancelled = Promise.withResolvers<void>();
  const server = await stub({
    stream: (call) => {
      call.on('cancelled', () => cancelled.resolve());
      call.write(streamed({ id: '1' }));
    },
  });
  for await (const { id } of connect([server.port], { checkRequests: false }).inferStream(REQUEST)) {
    expect(id).toBe('1');
    break;
  }
  await cancelled.promise;
});

test('a reader that is slow holds the server back, and misses nothing', async () => {
  const COUNT = 1000;
  let written = 0;
  const server = await stub({
    stream: (call) => {
      const more = (): void => {
        while (written < COUNT) {
          written++;
          if (!call.write(streamed({ id: String(written), model_version: 'x'.repeat(65_536) }))) {
            call.once('drain', more);
            return;
          }
        }
        call.end();
      };
      more();
    },
  });
  const client = connect([server.port], { checkRequests: false });
  let read = 0;
  for await (const { id } of client.inferStream(REQUEST)) {
    expect(id).toBe(String(++read));
    // Meanwhile others are served, on the same connection.
    if (read === 1) {
      for (let before = -1; before !== written; ) {
        before = written;
        for (let call = 0; call < 50; call++) await client.infer(REQUEST);
      }
      // 64 MB are to come, 8 MB of them fit into the window.
      expect(written).toBeLessThan(COUNT / 2);
    }
  }
  expect(read).toBe(COUNT);
});

test('a PING goes out no sooner than servers allow, and as the caller says', () => {
  const keepalive = (options: Partial<ClientOptions>) =>
    channelOptions({ protocol: 'grpc', addresses: ['localhost:1'], ...options }, false)['grpc.keepalive_time_ms'];
  const allowedMs = 5 * 60_000;
  expect(keepalive({})).toBeGreaterThan(allowedMs);
  expect(keepalive({ keepaliveMs: 20_000 })).toBe(20_000);
  expect(keepalive({ keepaliveMs: 0 })).toBeUndefined();
});
