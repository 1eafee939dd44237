/** The client over REST against servers that misbehave, as small real ones on ports of their own. */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { type AddressInfo, createServer as createTcpServer, type Socket } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { gunzipSync, gzipSync } from 'node:zlib';
import { afterEach, expect, test, vi } from 'vitest';
import type { ClientError } from '../../src/client/client-error.js';
import { createRestClient } from '../../src/client/rest-client.js';
import type { ClientOptions, InferenceClient } from '../../src/client/types.js';
import { takeDeadPort } from '../support/dead-port.js';

const cleanups: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

type Handler = (request: IncomingMessage, response: ServerResponse, index: number) => unknown;

interface Peer {
  readonly address: string;
  /** Requests so far. */
  count: number;
  /** Connections so far. */
  connections: number;
}

/** An HTTP server that answers by `handler`, which gets the number of the request, from 0. */
async function serve(handler: Handler): Promise<Peer> {
  const peer = { address: '', count: 0, connections: 0 };
  const server = createServer((request, response) => void handler(request, response, peer.count++));
  server.on('connection', () => peer.connections++);
  peer.address = await listen(server);
  cleanups.push(() => server.closeAllConnections());
  return peer;
}

async function listen(server: Server | ReturnType<typeof createTcpServer>): Promise<string> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  cleanups.push(() => server.close());
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** A server of bytes. */
function serveBytes(onSocket: (socket: Socket) => void): Promise<string> {
  const server = createTcpServer((socket) => {
    socket.on('error', () => undefined);
    cleanups.push(() => socket.destroy());
    onSocket(socket);
  });
  return listen(server);
}

/** An address at which nobody listens. */
async function deadAddress(): Promise<string> {
  const { port, release } = await takeDeadPort();
  cleanups.push(release);
  return `127.0.0.1:${port}`;
}

function connect(addresses: string | string[], options: Partial<ClientOptions> = {}): InferenceClient {
  const client = createRestClient({
    protocol: 'rest',
    addresses: [addresses].flat(),
    checkRequests: false,
    retry: { initialBackoffMs: 1, maxBackoffMs: 2 },
    ...options,
  });
  cleanups.push(() => client.close());
  return client;
}

const REQUEST = { model: 'm', inputs: [{ name: 'x', shape: [2], data: Float32Array.of(1, 2) }] };
const ANSWER = '{"model_name":"m","outputs":[{"name":"y","datatype":"FP32","shape":[1],"data":[3]}]}';

function succeed(_: IncomingMessage, response: ServerResponse): void {
  response.setHeader('content-type', 'application/json').end(ANSWER);
}

const outcome = (call: Promise<unknown>): Promise<ClientError> =>
  call.then(
    () => {
      throw new Error('the call succeeded');
    },
    (error) => error,
  );

test('calls go round over the addresses', async () => {
  const peers = await Promise.all([serve(succeed), serve(succeed), serve(succeed)]);
  const client = connect(peers.map(({ address }) => address));
  for (let call = 0; call < 9; call++) await client.infer(REQUEST);
  expect(peers.map(({ count }) => count)).toEqual([3, 3, 3]);
});

test('an address that can not be reached is passed over, without a try being counted', async () => {
  const peer = await serve(succeed);
  const client = connect([await deadAddress(), peer.address, await deadAddress()], { retry: { attempts: 1 } });
  for (let call = 0; call < 6; call++) await client.infer(REQUEST);
  expect(peer.count).toBe(6);
});

test('where nobody can be reached, it is UNAVAILABLE after as many tries as were allowed', async () => {
  const address = await deadAddress();
  expect(await outcome(connect(address, { retry: { attempts: 2, initialBackoffMs: 1 } }).infer(REQUEST))).toMatchObject(
    {
      name: 'ClientError',
      code: 'UNAVAILABLE',
      attempts: 2,
      local: false,
      message: expect.stringMatching(`^no connection to ${address}: .*ECONNREFUSED`),
    },
  );
});

test('a server that says 503 is asked again, at the time it names', async () => {
  const peer = await serve((request, response, index) => {
    if (index < 2) response.writeHead(503, { 'retry-after': '0' }).end('{"error":"loading"}');
    else succeed(request, response);
  });
  const { budget } = await connect(peer.address, { retry: { initialBackoffMs: 1e6, maxBackoffMs: 1e6 } }).infer(
    REQUEST,
  );
  expect(peer.count).toBe(3);
  expect(budget.phases[0]).toMatchObject({ side: 'client', name: 'retry' });
  const sum = budget.phases.reduce((total, { ms }) => total + ms, 0);
  expect(sum).toBeCloseTo(budget.totalMs, 6);
});

test.each([
  [503, undefined, 3],
  [503, '3600', 1],
  [503, 'nonsense', 1],
  [429, undefined, 1],
  [429, '0', 3],
  [500, '0', 1],
  [400, '0', 1],
])('status %i with Retry-After %s is tried %i times', async (status, retryAfter, tries) => {
  const peer = await serve((_, response) => {
    response.writeHead(status, retryAfter === undefined ? {} : { 'retry-after': retryAfter }).end('{"error":"no"}');
  });
  const error = await outcome(connect(peer.address, { encoding: 'json' }).infer(REQUEST));
  expect(error).toMatchObject({ httpStatus: status, attempts: tries, message: 'no' });
  expect(peer.count).toBe(tries);
});

test('a connection that is closed without an answer is opened again', async () => {
  const peer = await serve((request, response, index) => {
    if (index === 0) request.socket.destroy();
    else succeed(request, response);
  });
  await connect(peer.address).infer(REQUEST);
  expect(peer.count).toBe(2);
});

test("a proxy's page is told shortly, with the code of its status", async () => {
  const page = '<html><title>504 Gateway Time-out</title><body>nginx</body></html>';
  const peer = await serve((_, response) => response.writeHead(504, { 'content-type': 'text/html' }).end(page));
  expect(await outcome(connect(peer.address).infer(REQUEST))).toMatchObject({
    code: 'DEADLINE_EXCEEDED',
    httpStatus: 504,
    message: 'HTTP status 504 with text/html: 504 Gateway Time-out',
  });
});

test('a page that comes with status 200 is no answer', async () => {
  const peer = await serve((_, response) => response.end('<html>welcome</html>'));
  const client = connect(peer.address);
  expect(await outcome(client.infer(REQUEST))).toMatchObject({ code: 'INTERNAL' });
  expect(await outcome(client.modelMetadata('m'))).toMatchObject({
    code: 'INTERNAL',
    message: "the model's metadata is no JSON: <html>welcome</html>",
  });
  expect(await outcome(client.generate({ model: 'm', text: '' }))).toMatchObject({ code: 'INTERNAL' });
});

test('a server that tells no metadata, or nonsense, is asked unchecked', async () => {
  const asked: string[] = [];
  const peer = await serve((request, response) => {
    asked.push(request.url!);
    if (request.url!.endsWith('/infer')) succeed(request, response);
    else if (request.url!.includes('/nonsense')) response.end('<html>welcome</html>');
    else response.writeHead(404).end();
  });
  const client = connect(peer.address, { checkRequests: true });
  for (const model of ['nonsense', 'silent']) {
    expect((await client.infer({ ...REQUEST, model })).outputs).toHaveLength(1);
    expect(asked.splice(0).sort()).toEqual(['', '/config', '/infer'].map((rest) => `/v2/models/${model}${rest}`));
  }
});

test('a redirect is no answer', async () => {
  const peer = await serve((_, response) => response.writeHead(307, { location: '/login' }).end());
  expect(await outcome(connect(peer.address).infer(REQUEST))).toMatchObject({ code: 'UNKNOWN', httpStatus: 307 });
});

test.each([
  ['a body shorter than its length', 'HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"outputs"'],
  ['a chunk that breaks off', 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nff\r\n{"outputs"'],
])('%s is UNAVAILABLE and not tried again: the model has run', async (_, bytes) => {
  let requests = 0;
  const address = await serveBytes((socket) => {
    socket.once('data', () => {
      requests++;
      socket.end(bytes);
    });
  });
  expect(await outcome(connect(address).infer(REQUEST))).toMatchObject({
    code: 'UNAVAILABLE',
    attempts: 1,
    message: expect.stringContaining('ended after 10 bytes'),
  });
  expect(requests).toBe(1);
});

test('a server of something else is INTERNAL', async () => {
  const address = await serveBytes((socket) => socket.once('data', () => socket.end('SSH-2.0-OpenSSH\r\n\r\n')));
  expect(await outcome(connect(address).infer(REQUEST))).toMatchObject({ code: 'INTERNAL', attempts: 1 });
});

test('an answer whose header length is no number, or beyond it, is refused', async () => {
  for (const length of ['x', '-1', '9999999999999999', '1000']) {
    const peer = await serve((_, response) => {
      response.writeHead(200, { 'inference-header-content-length': length }).end(ANSWER);
    });
    expect(await outcome(connect(peer.address).infer(REQUEST)), length).toMatchObject({ code: 'INTERNAL' });
  }
});

test('an answer larger than allowed is refused by its length, by its bytes, and when it inflates', async () => {
  const bytes = Buffer.alloc(100_000, 0x20);
  const peer = await serve((request, response) => {
    if (request.url!.includes('length')) response.writeHead(200, { 'content-length': 100_000 }).end(bytes);
    else if (request.url!.includes('chunks')) {
      for (let at = 0; at < 10; at++) response.write(bytes.subarray(0, 10_000));
      response.end();
    } else response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync(bytes));
  });
  const client = connect(peer.address, { maxReceiveBytes: 50_000 });
  for (const model of ['length', 'chunks', 'inflated']) {
    expect(await outcome(client.infer({ ...REQUEST, model })), model).toMatchObject({
      code: 'RESOURCE_EXHAUSTED',
      message: expect.stringContaining('maxReceiveBytes'),
    });
  }
});

test('a coding that nobody asked for, and one that is broken, are INTERNAL', async () => {
  const peer = await serve((_, response, index) => {
    response.writeHead(200, { 'content-encoding': index === 0 ? 'br' : 'gzip' }).end('xxxx');
  });
  const client = connect(peer.address);
  expect(await outcome(client.infer(REQUEST))).toMatchObject({ message: expect.stringContaining("'br'") });
  expect(await outcome(client.infer(REQUEST))).toMatchObject({ code: 'INTERNAL' });
});

test('with gzip the body is compressed and a compressed answer asked for; headers of client and call go along', async () => {
  const seen: { headers: IncomingMessage['headers']; body: Buffer }[] = [];
  const peer = await serve(async (request, response) => {
    seen.push({ headers: request.headers, body: await buffer(request) });
    response.setHeader('content-encoding', 'gzip').end(gzipSync(ANSWER));
  });
  const client = connect(peer.address, { encoding: 'json', headers: { 'x-a': '1', 'x-b': '1' } });
  const answer = await client.infer(REQUEST, { compression: 'gzip', headers: { 'X-B': '2' } });
  expect([...(answer.output('y').data as Float32Array)]).toEqual([3]);
  const [{ headers, body }] = seen as [(typeof seen)[0]];
  expect(headers).toMatchObject({
    'content-encoding': 'gzip',
    'accept-encoding': 'gzip',
    'content-type': 'application/json',
    'x-a': '1',
    'x-b': '2',
  });
  expect(JSON.parse(gunzipSync(body).toString()).inputs[0].data).toEqual([1, 2]);
  expect(answer.budget.requestBytes).toBe(body.length);
});

test('a header that can not be is refused here', async () => {
  const peer = await serve(succeed);
  const error = await outcome(connect(peer.address).infer(REQUEST, { headers: { 'x-a': 'two\nlines' } }));
  expect(error).toMatchObject({ code: 'INVALID_ARGUMENT', local: true });
  expect(peer.count).toBe(0);
});

test('a server that never answers is left at the deadline, and one in the middle of its answer too', async () => {
  const closed: Promise<unknown>[] = [];
  const arrived = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const peer = await serve((request, response, index) => {
    // By a reset or without.
    closed.push(new Promise((resolve) => request.socket.once('close', resolve)));
    const arrive = (): void => arrived[index]!.resolve();
    if (index === 1) response.writeHead(200, { 'content-length': 1000 }).write('{', arrive);
    else arrive();
  });
  const client = connect(peer.address);
  // The deadline comes when the server has the request, however long that takes.
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  cleanups.push(() => vi.useRealTimers());
  for (const { promise } of arrived) {
    const over = outcome(client.infer(REQUEST, { timeoutMs: 250 }));
    await promise;
    vi.advanceTimersByTime(250);
    expect(await over).toMatchObject({ code: 'DEADLINE_EXCEEDED', message: 'no answer within 250 ms' });
  }
  // HTTP/1.1 has no other way to tell the server.
  await Promise.all(closed);
  expect(closed).toHaveLength(2);
});

test('the deadline covers tries and the waits between them', async () => {
  const peer = await serve((_, response) => response.writeHead(503).end());
  const retry = { attempts: 1000, initialBackoffMs: 5, maxBackoffMs: 5 };
  const error = await outcome(connect(peer.address, { retry }).infer(REQUEST, { timeoutMs: 40 }));
  expect(['DEADLINE_EXCEEDED', 'UNAVAILABLE']).toContain(error.code);
  expect(peer.count).toBeLessThan(100);
});

test.each([
  ['a\nb', 'x', /invalid header key/],
  ['expect', '100-continue', /expect header not supported/],
  ['content-length', '3', /does not match content-length/],
])("a header that can not be sent is the caller's mistake, and no server is blamed: %j", async (name, value, why) => {
  const peer = await serve(succeed);
  const error = await outcome(connect(peer.address).infer(REQUEST, { headers: { [name]: value } }));
  expect(error).toMatchObject({
    code: 'INVALID_ARGUMENT',
    local: true,
    attempts: 1,
    message: expect.stringMatching(why),
  });
  expect(error.message).toMatch(/^the request can't be sent: /);
});

test('an error that ends a call says how often it was tried', async () => {
  const aborter = new AbortController();
  const peer = await serve((_, response, index) => {
    if (index === 0) response.writeHead(503, { 'retry-after': '0' }).end();
    else aborter.abort();
  });
  const error = await outcome(connect(peer.address).infer(REQUEST, { signal: aborter.signal }));
  expect(error).toMatchObject({ code: 'CANCELLED', attempts: 2 });
});

test('an abort ends the call at once: before it, under way, in a queue and between two tries', async () => {
  const arrived = Promise.withResolvers<void>();
  const peer = await serve((request, response) => {
    if (request.url!.includes('busy')) response.writeHead(503, { 'retry-after': '100' }).end();
    arrived.resolve();
  });
  const client = connect(peer.address, { connections: 1 });
  const cancelled = { code: 'CANCELLED', message: 'the call was aborted' };
  expect(await outcome(client.infer(REQUEST, { signal: AbortSignal.abort('no') }))).toMatchObject(cancelled);
  expect(peer.count).toBe(0);
  const aborter = new AbortController();
  const { signal } = aborter;
  const calls = [outcome(client.infer(REQUEST, { signal })), outcome(client.infer(REQUEST, { signal }))];
  await arrived.promise;
  aborter.abort(new Error('enough'));
  for (const error of await Promise.all(calls)) {
    expect(error).toMatchObject(cancelled);
    expect(error.cause).toMatchObject({ message: 'enough' });
  }
  expect(peer.count).toBe(1);
  const again = new AbortController();
  const waiting = outcome(
    connect(peer.address, { timeoutMs: 0 }).infer({ ...REQUEST, model: 'busy' }, { signal: again.signal }),
  );
  await new Promise<void>((resolve) => {
    const look = (): void => void (peer.count > 1 ? resolve() : setImmediate(look));
    look();
  });
  again.abort();
  expect(await waiting).toMatchObject(cancelled);
});

test('a server that stops or does not know the model is not ready; one that asks who calls is an error', async () => {
  const peer = await serve((request, response) => {
    response.writeHead(Number(/\d\d\d/.exec(request.url!)![0])).end('{"error":"x"}');
  });
  const client = connect(peer.address);
  for (const status of ['503', '404', '400']) expect(await client.isModelReady(status)).toBe(false);
  expect(peer.count).toBe(3);
  expect(await client.isModelReady('200')).toBe(true);
  expect(await outcome(client.isModelReady('401'))).toMatchObject({ code: 'UNAUTHENTICATED' });
});

test('at most as many connections are open as was said', async () => {
  const waiting: ServerResponse[] = [];
  const peer = await serve((_, response) => {
    waiting.push(response);
    setImmediate(() => void waiting.shift()?.end(ANSWER));
  });
  const client = connect(peer.address, { connections: 3 });
  await Promise.all(Array.from({ length: 20 }, () => client.infer(REQUEST)));
  expect(peer.connections).toBeLessThanOrEqual(3);
});

test('calls that are given up while they wait for a connection cost none, and the rest get theirs', async () => {
  const held: ServerResponse[] = [];
  const arrived = Promise.withResolvers<void>();
  const peer = await serve((request, response, index) => {
    if (index > 0) return succeed(request, response);
    held.push(response);
    arrived.resolve();
  });
  const client = connect(peer.address, { connections: 1 });
  const first = client.infer(REQUEST);
  await arrived.promise;
  const aborter = new AbortController();
  const given = Array.from({ length: 20 }, () => outcome(client.infer(REQUEST, { signal: aborter.signal })));
  const kept = Array.from({ length: 5 }, () => client.infer(REQUEST));
  await new Promise(setImmediate);
  aborter.abort();
  for (const error of await Promise.all(given)) expect(error.code).toBe('CANCELLED');
  held[0]!.end(ANSWER);
  await Promise.all([first, ...kept]);
  expect(peer).toMatchObject({ count: 6, connections: 1 });
});

const EVENTS = { 'content-type': 'text/event-stream' };
const TEXT = { model: 'm', text: 'hi' };

async function read(client: InferenceClient): Promise<string[]> {
  const pieces: string[] = [];
  for await (const { text } of client.generateStream(TEXT)) pieces.push(text);
  return pieces;
}

test('a stream of another server is read: bytes cut anywhere, comments, lists, the end mark of OpenAI', async () => {
  const bytes = Buffer.from(
    ': hello\r\n\r\ndata: {"text_output": "grüß"}\r\n\r\ndata: {"text_output": ["e", "!"]}\n\ndata: [DONE]\n\n',
  );
  const peer = await serve(async (_, response) => {
    response.writeHead(200, EVENTS);
    for (const byte of bytes) {
      response.write(Buffer.of(byte));
      await new Promise(setImmediate);
    }
    response.end();
  });
  expect(await read(connect(peer.address))).toEqual(['grüß', 'e!']);
});

test('what a stream is asked for stands beside the text, and the parameters of the caller count', async () => {
  const bodies: unknown[] = [];
  const peer = await serve(async (request, response) => {
    bodies.push([request.url, JSON.parse((await buffer(request)).toString())]);
    response.writeHead(200, EVENTS).end();
  });
  const parameters = { max_tokens: 3, exclude_input_in_output: false, seed: 2n ** 60n };
  for await (const _ of connect(peer.address).generateStream({ ...TEXT, version: '2', parameters }))
    expect.unreachable();
  expect(bodies).toEqual([
    [
      '/v2/models/m/versions/2/generate_stream',
      { text_input: 'hi', stream: true, max_tokens: 3, exclude_input_in_output: false, seed: 2 ** 60 },
    ],
  ]);
});

test('a stream that goes on ends by its deadline', async () => {
  const peer = await serve(
    (_, response) => void response.writeHead(200, EVENTS).write('data: {"text_output":"a"}\n\n'),
  );
  const reading = async () => {
    for await (const { text } of connect(peer.address).generateStream(TEXT, { timeoutMs: 20 })) expect(text).toBe('a');
  };
  expect(await outcome(reading())).toMatchObject({ code: 'DEADLINE_EXCEEDED', message: 'no answer within 20 ms' });
});

test('an error in a stream comes behind the pieces before it', async () => {
  const peer = await serve((_, response) => {
    response.writeHead(200, EVENTS).end('data: {"text_output":"a"}\n\ndata: {"error":"out of memory"}\n\n');
  });
  const pieces: string[] = [];
  const error = await outcome(
    (async () => {
      for await (const { text } of connect(peer.address).generateStream(TEXT)) pieces.push(text);
    })(),
  );
  expect(pieces).toEqual(['a']);
  expect(error).toMatchObject({ code: 'UNKNOWN', message: 'out of memory' });
});

test('a stream that breaks off is UNAVAILABLE behind the pieces before it, one that is no stream INTERNAL', async () => {
  const peer = await serve((_, response, index) => {
    if (index > 0) response.setHeader('content-type', 'application/json').end('{"text_output":"a"}');
    else response.writeHead(200, EVENTS).write('data: {"text_output":"a"}\n\n', () => response.destroy());
  });
  const client = connect(peer.address);
  const pieces: string[] = [];
  const error = await outcome(
    (async () => {
      for await (const { text } of client.generateStream(TEXT)) pieces.push(text);
    })(),
  );
  expect(pieces).toEqual(['a']);
  expect(error).toMatchObject({ code: 'UNAVAILABLE', message: expect.stringContaining('ended after 27 bytes') });
  expect(await outcome(read(client))).toMatchObject({
    code: 'INTERNAL',
    message: 'the answer is application/json, expected text/event-stream',
  });
});

test('a stream is tried again where the server is not ready, and a reader that stops closes the connection', async () => {
  const closed = Promise.withResolvers<void>();
  const peer = await serve((request, response, index) => {
    if (index === 0) {
      response.writeHead(503, { 'retry-after': '0' }).end();
      return;
    }
    request.socket.once('close', () => closed.resolve());
    response.writeHead(200, EVENTS).write('data: {"text_output":"a"}\n\n');
  });
  for await (const { text } of connect(peer.address).generateStream(TEXT)) {
    expect(text).toBe('a');
    break;
  }
  await closed.promise;
  expect(peer.count).toBe(2);
});

test('pieces that have come are not given to a reader who has aborted', async () => {
  const peer = await serve((_, response) => {
    response.writeHead(200, EVENTS).end('data: {"text_output":"a"}\n\n'.repeat(10));
  });
  const aborter = new AbortController();
  let pieces = 0;
  const read = async () => {
    for await (const _ of connect(peer.address).generateStream(TEXT, { signal: aborter.signal })) {
      pieces++;
      aborter.abort();
    }
  };
  await expect(read()).rejects.toMatchObject({ code: 'CANCELLED' });
  expect(pieces).toBe(1);
});

test('a reader that is slow holds the server back, and gets everything', async () => {
  const EVENT = `data: {"text_output":"${'x'.repeat(10_000)}"}\n\n`;
  const COUNT = 2000;
  let written = 0;
  const peer = await serve(async (request, response) => {
    if (!request.url!.includes('generate_stream')) return succeed(request, response);
    response.writeHead(200, EVENTS);
    for (; written < COUNT; written++) if (!response.write(EVENT)) await once(response, 'drain');
    response.end();
  });
  const client = connect(peer.address);
  let pieces = 0;
  for await (const { text } of client.generateStream(TEXT)) {
    expect(text.length).toBe(10_000);
    if (++pieces !== 1) continue;
    // Until the server gets no further while other calls come and go.
    for (let before = -1; before !== written; ) {
      before = written;
      for (let call = 0; call < 50; call++) await client.infer(REQUEST);
    }
    expect(written).toBeLessThan(COUNT);
  }
  expect(pieces).toBe(COUNT);
});

test('an event without an end is refused', async () => {
  const peer = await serve((_, response) => {
    response.writeHead(200, EVENTS);
    const write = (): void => void (response.destroyed || response.write('x'.repeat(10_000), write));
    write();
  });
  const error = await outcome(read(connect(peer.address, { maxReceiveBytes: 100_000 })));
  expect(error).toMatchObject({ code: 'RESOURCE_EXHAUSTED' });
});

test('a server that may not have binary tensors refuses them with a hint, and is asked once what it has', async () => {
  const asked: (string | undefined)[] = [];
  const server = (extensions: string[], status: number) =>
    serve((request, response) => {
      asked.push(request.url);
      if (request.url === '/v2') return response.end(JSON.stringify({ name: 's', version: '1', extensions }));
      if (request.headers['content-type'] === 'application/json') return succeed(request, response);
      return response.writeHead(status).end('Internal Server Error');
    });
  const plain = await server([], 500);
  const client = connect(plain.address);
  const hint = "the server lists no extension binary_tensor_data: if it has none, connect with encoding 'json'";
  for (let call = 0; call < 2; call++)
    expect(await outcome(client.infer(REQUEST))).toMatchObject({
      code: 'INTERNAL',
      httpStatus: 500,
      message: `HTTP status 500 with no content type: Internal Server Error (${hint})`,
    });
  expect(asked).toEqual(['/v2/models/m/infer', '/v2', '/v2/models/m/infer']);
  expect((await connect(plain.address, { encoding: 'json' }).infer(REQUEST)).model).toBe('m');

  const others = [await server(['binary_tensor_data'], 400), await server([], 404)];
  for (const { address } of others)
    expect((await outcome(connect(address).infer(REQUEST))).message).not.toContain('binary_tensor_data');
});
