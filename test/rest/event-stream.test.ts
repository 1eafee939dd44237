/** Events on the wire: chunks, trailers, who waits for whom, and what becomes of a stream whose reader does not read or goes. */
import { once } from 'node:events';
import { get, request as httpRequest, type IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { ServeError } from '../../src/base/errors.js';
import { type FrontEnd, readAll, startFrontEnd } from './front-end.js';
import { TokenEngine, WINDOW } from './token-engine.js';

const engine = new TokenEngine();
const faults: ServeError[] = [];
let front: FrontEnd;
beforeAll(async () => {
  const corsOrigins = ['*'];
  front = await startFrontEnd({ engine, corsOrigins, closeGraceMs: 200, onInternalError: (e) => faults.push(e) });
});
afterAll(() => front.close());
afterEach(() => {
  expect(engine.streams.size).toBe(0);
  engine.generated.length = front.finished.length = engine.cancelled = engine.taken = faults.length = 0;
  engine.onCancelled = engine.onStep = undefined;
  front.draining = false;
});

const bodyFor = (prompt: string, more: object = {}) =>
  JSON.stringify({ model: 'words', prompt, max_tokens: 1000, stream: true, ...more });

function rawRequest(body: string, version = '1.1', fields = ''): string {
  const head = `POST /v1/completions HTTP/${version}\r\nhost: x\r\n${fields}content-length: ${Buffer.byteLength(body)}\r\n`;
  return `${head}\r\n${body}`;
}

/** Sends without ending the connection. */
async function open(body: string): Promise<Socket> {
  const socket = await front.connect();
  socket.on('error', () => {});
  socket.write(rawRequest(body));
  return socket;
}

/** Waits for what `engine` tells by one of its hooks until `holds`. */
function until(hook: 'onStep' | 'onCancelled', holds: () => boolean): Promise<void> {
  return new Promise((resolve) => {
    engine[hook] = () => {
      if (holds()) resolve();
    };
  });
}

/** Chunks of a body as they stand on the wire, and its trailer. */
function dechunk(text: string): { chunks: string[]; trailer: string } {
  const chunks: string[] = [];
  for (let at = 0; ; ) {
    const lineEnd = text.indexOf('\r\n', at);
    const size = Number.parseInt(text.slice(at, lineEnd), 16);
    if (size === 0) return { chunks, trailer: text.slice(lineEnd + 2) };
    chunks.push(text.slice(lineEnd + 2, lineEnd + 2 + size));
    at = lineEnd + 2 + size + 2;
  }
}

test('each turn of the engine is one chunk, and the budget is the trailer', async () => {
  const text = await front.raw(rawRequest(bodyFor('a b', { n: 2 }), '1.1', 'origin: http://x\r\n'));
  const [head, ...rest] = text.split('\r\n\r\n');
  const lines = head!.toLowerCase().split('\r\n');
  expect(lines[0]).toBe('http/1.1 200 ok');
  for (const line of [
    'content-type: text/event-stream; charset=utf-8',
    'cache-control: no-cache',
    'transfer-encoding: chunked',
    'trailer: server-timing',
    'access-control-allow-origin: *',
  ]) {
    expect(lines).toContain(line);
  }
  expect(head).not.toContain('content-encoding');
  const { chunks, trailer } = dechunk(rest.join('\r\n\r\n'));
  // Two answers of two words and an end each: three turns, and [DONE] in the last.
  expect(chunks.map((chunk) => chunk.match(/^data: /gm)!.length)).toEqual([2, 2, 3]);
  for (const chunk of chunks) expect(chunk.endsWith('\n\n')).toBe(true);
  expect(chunks.at(-1)).toContain('data: [DONE]');
  expect(trailer).toMatch(/^server-timing: receive;dur=.*prefill;dur=1\.000, compute;dur=.*total;dur=[\d.]+\r\n\r\n$/i);
});

test('the trailer reaches a client, and the connection is used again', async () => {
  const { Agent } = await import('node:http');
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const sockets = new Set<unknown>();
  for (let round = 0; round < 3; round++) {
    const call = httpRequest({ port: front.port, method: 'POST', path: '/v1/completions', agent });
    call.end(bodyFor('a b c', { stream: round !== 1 }));
    const [response] = (await once(call, 'response')) as [IncomingMessage];
    sockets.add(response.socket);
    response.resume();
    await once(response, 'end');
    const place = round === 1 ? response.headers : response.trailers;
    expect(place['server-timing']).toMatch(/compute;dur=\d.*total;dur=\d/);
  }
  expect(sockets.size).toBe(1);
  agent.destroy();
});

test('a client of HTTP/1.0 gets the events without chunks, and the end of the connection', async () => {
  const text = await front.raw(rawRequest(bodyFor('a b'), '1.0'));
  const [head, ...rest] = text.split('\r\n\r\n');
  expect(head!.toLowerCase()).not.toMatch(/chunked|trailer/);
  const events = rest.join('\r\n\r\n').split('\n\n');
  expect(events).toHaveLength(5);
  expect(events.slice(-2)).toEqual(['data: [DONE]', '']);
});

test('events are not compressed, whatever the client can read', async () => {
  const response = await front.post('/v1/completions', bodyFor('a b c'), { 'accept-encoding': 'gzip' });
  expect(response.headers.get('content-encoding')).toBeNull();
  expect(await response.text()).toContain('[DONE]');
});

test('a reader that does not read holds back its own stream only, and reads on where it was', async () => {
  const socket = await open(bodyFor('flood'));
  socket.pause();
  const [stalled] = await streamsWhen(() => [...engine.streams].some(({ outstanding }) => outstanding === WINDOW));
  expect(stalled!.outstanding).toBe(WINDOW);
  // Others go on meanwhile. The kernel may find room for more of it a few times; a stream that nothing holds back would never rest.
  let given = -1;
  for (let tries = 0; tries < 100 && stalled!.at !== given; tries++) {
    given = stalled!.at;
    const other = await front.post('/v1/completions', bodyFor('a b c'));
    expect(await other.text()).toContain('[DONE]');
  }
  expect(stalled!.at).toBe(given);
  expect(stalled!.outstanding).toBe(WINDOW);
  const more = until('onStep', () => stalled!.at > given + 2 * WINDOW);
  socket.resume();
  await more;
  const cancelled = until('onCancelled', () => engine.cancelled === 1);
  socket.destroy();
  await cancelled;
});

test('one that does not read at all loses its connection when the engine ends it', async () => {
  const socket = await open(bodyFor('flood'));
  socket.pause();
  const [stalled] = await streamsWhen(() => [...engine.streams].some(({ outstanding }) => outstanding === WINDOW));
  stalled!.fail(new ServeError('RESOURCE_EXHAUSTED', 'the reader takes nothing'));
  expect(await readAll(socket.resume())).not.toContain('takes nothing');
  expect(front.finished.at(-1)).toMatchObject({ status: 200 });
});

/** The running streams once `holds`, asked after each step. */
async function streamsWhen(holds: () => boolean) {
  await until('onStep', holds);
  return [...engine.streams];
}

test('an engine that is out of something tells a reader that reads', async () => {
  const reading = front.raw(rawRequest(bodyFor('late RESOURCE_EXHAUSTED')));
  const text = await reading;
  expect(text).toContain('data: {"error":{"message":"it broke","type":"rate_limit_error"');
  expect(text).not.toContain('[DONE]');
  expect(text).toMatch(/server-timing: .*\r\n\r\n$/i);
});

test('the first outcome decides the status: an error before any token is a plain reply', async () => {
  const response = await front.post('/v1/completions', bodyFor('fail DEADLINE_EXCEEDED'));
  expect(response.status).toBe(504);
  expect(response.headers.get('content-type')).toBe('application/json');
  expect(front.finished).toEqual([{ arm: 'rest_json', modelName: 'words', status: 504 }]);
});

test('a fault in the middle of a stream is told to the log', async () => {
  const response = await front.post('/v1/completions', bodyFor('late INTERNAL'));
  expect(response.status).toBe(200);
  await response.text();
  expect(faults).toHaveLength(1);
});

test('a client that goes ends its generations at once, before or after the first token', async () => {
  for (const prompt of ['hold', 'flood']) {
    engine.cancelled = 0;
    const seen = until('onStep', () => engine.streams.size === 3);
    const socket = await open(bodyFor(prompt, { n: 3 }));
    await seen;
    const cancelled = until('onCancelled', () => engine.cancelled === 3);
    socket.destroy();
    await cancelled;
  }
  expect(front.finished.map(({ status }) => status)).toEqual([499, 200]);
});

test('a client that closes its sending side and waits gets all of it', async () => {
  const socket = await front.connect();
  socket.end(rawRequest(bodyFor('a b c')));
  expect(await readAll(socket)).toContain('[DONE]');
});

test('a client that closes its sending side and has gone is found out', async () => {
  const seen = until('onStep', () => engine.streams.size === 1);
  const socket = await open(bodyFor('hold'));
  await seen;
  const cancelled = until('onCancelled', () => engine.cancelled === 1);
  socket.resetAndDestroy();
  await cancelled;
});

test('a stream that runs while the server stops ends as it should, and its connection with it', async () => {
  const seen = until('onStep', () => engine.streams.size === 1);
  const socket = await front.connect();
  const reading = readAll(socket);
  socket.write(rawRequest(bodyFor('a '.repeat(300))));
  await seen;
  front.draining = true;
  const text = await reading;
  expect(text).toContain('[DONE]');
  expect(text).toMatch(/server-timing: .*\r\n\r\n$/i);
  // The client's own side is still open, as in a pool; the server waits for nothing of it.
  socket.on('error', () => {});
  // A server reads over empty lines; one that has closed answers them with a reset.
  while (!socket.destroyed) await new Promise((resolve) => socket.write('\r\n', resolve));
});

test('a server that closes waits for its streams', async () => {
  const own = new TokenEngine();
  const closing = await startFrontEnd({ engine: own });
  const began = new Promise<void>((resolve) => {
    own.onStep = resolve;
  });
  const reading = closing.raw(rawRequest(bodyFor('a '.repeat(300))));
  await began;
  await closing.close();
  expect(await reading).toContain('[DONE]');
  expect(own.cancelled).toBe(0);
});

test('a server that closes waits only so long for a stream that nobody reads', async () => {
  const own = new TokenEngine();
  const closing = await startFrontEnd({ engine: own, closeGraceMs: 50 });
  const isStalled = new Promise<void>((resolve) => {
    own.onStep = () => {
      if ([...own.streams].some(({ outstanding }) => outstanding === WINDOW)) resolve();
    };
  });
  const stalled = await closing.connect();
  stalled.on('error', () => {});
  stalled.pause().write(rawRequest(bodyFor('flood')));
  await isStalled;
  await closing.close();
  expect(own.cancelled).toBe(1);
});

test('a stream that begins while the server stops is refused', async () => {
  front.draining = true;
  const response = await new Promise<IncomingMessage>((resolve) => {
    get({ port: front.port, method: 'POST', path: '/v1/completions' }, resolve);
  });
  expect(response.statusCode).toBe(503);
  response.resume();
});

test('bytes that a request reserved come back with its end, whichever it is', async () => {
  for (const prompt of ['a b', 'late INTERNAL', 'fail NOT_FOUND']) {
    await (await front.post('/v1/completions', bodyFor(prompt))).text();
  }
  expect(front.budget.used).toBe(0);
});
