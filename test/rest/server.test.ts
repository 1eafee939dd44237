import { once } from 'node:events';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createRestServer } from '../../src/rest/server.js';
import { type FrontEnd, inferBody, readAll, startFrontEnd, testPool } from './front-end.js';

let front: FrontEnd;
beforeAll(async () => {
  front = await startFrontEnd();
});
afterAll(() => front.close());

async function get(path: string, method = 'GET'): Promise<{ status: number; headers: Headers; json: unknown }> {
  const response = await fetch(front.url + path, { method });
  expect(response.headers.get('server-timing')).toMatch(/total;dur=\d/);
  const text = await response.text();
  return { status: response.status, headers: response.headers, json: text === '' ? undefined : JSON.parse(text) };
}

describe('endpoints', () => {
  test.each<[string, unknown]>([
    ['/v2/health/live', { live: true }],
    ['/v2/health/ready', { ready: true, live: true }],
    ['/v2', { name: 'echo-engine', version: '9.9.9', extensions: ['statistics', 'model_configuration'] }],
    ['/v2/', { name: 'echo-engine', version: '9.9.9', extensions: ['statistics', 'model_configuration'] }],
    ['/v2/models', { models: ['echo'] }],
    ['/v2/models/echo/ready', { name: 'echo', ready: true }],
    ['/v2/models/echo/versions/3/ready/?a=1', { name: 'echo', ready: true }],
  ])('GET %s', async (path, expected) => {
    expect(await get(path)).toMatchObject({ status: 200, json: expected });
  });

  test('metadata, config and statistics come as the engine has them', async () => {
    expect((await get('/v2/models/echo')).json).toEqual(front.engine.modelMetadata('echo'));
    expect((await get('/v2/models/echo/versions/1/config')).json).toEqual(front.engine.modelConfig('echo'));
    const stats = { model_stats: front.engine.modelStatistics('echo') };
    expect((await get('/v2/models/echo/stats')).json).toEqual(stats);
    expect((await get('/v2/models/stats')).json).toEqual(stats);
  });

  test('a server that is not ready says so with 400, and lives', async () => {
    front.engine.ready = false;
    expect(await get('/v2/health/ready')).toMatchObject({ status: 400, json: { ready: false, live: true } });
    expect((await get('/v2/health/live')).status).toBe(200);
    front.engine.ready = true;
  });

  test('readiness of a model that is not there is 404, of a malformed version 400', async () => {
    expect(await get('/v2/models/none/ready')).toMatchObject({
      status: 404,
      json: { error: "Request for unknown model: 'none' is not found" },
    });
    expect((await get('/v2/models/echo/versions/a/ready')).status).toBe(400);
  });

  test.each([
    ['', ['echo', 'broken']],
    ['{}', ['echo', 'broken']],
    ['{"ready":true}', ['echo']],
  ])('the repository index for body %j', async (body, names) => {
    const response = await front.post('/v2/repository/index', body);
    const index = (await response.json()) as { name: string }[];
    expect(index.map((line) => line.name)).toEqual(names);
    expect(index[0]).toEqual({ name: 'echo', version: '3', state: 'READY' });
    if (names.length > 1) expect(index[1]).toEqual({ name: 'broken', reason: 'failed to load' });
  });

  test.each(['[]', '{', '{"ready":1}', 'null'])('the repository index refuses %s', async (body) => {
    expect((await front.post('/v2/repository/index', body)).status).toBe(400);
  });

  test.each<[string, string, number, string]>([
    [
      'POST',
      '/v2/repository/models/echo/load',
      503,
      'explicit model load / unload is not allowed if polling is enabled',
    ],
    ['POST', '/v2/repository/models/echo/unload', 503, 'explicit model load / unload is not allowed'],
    ['POST', '/v2/repository/r/index', 501, "'repository_name' specification is not supported"],
    ['GET', '/v2/systemsharedmemory/status', 501, 'shared memory'],
    ['POST', '/v2/cudasharedmemory/region/x/register', 501, 'shared memory'],
    ['GET', '/v2/trace/setting', 501, 'trace'],
    ['POST', '/v2/logging', 501, 'log'],
    ['GET', '/', 404, 'Not Found'],
    ['GET', '/v3', 404, 'Not Found'],
    ['POST', '/v2/models//infer', 404, 'Not Found'],
    ['GET', '/v2/models/%zz', 400, 'malformed path'],
  ])('%s %s answers %i', async (method, path, status, text) => {
    const answer = await get(path, method);
    expect(answer.status).toBe(status);
    expect((answer.json as { error: string }).error).toContain(text);
  });

  test.each([
    ['GET', '/v2/models/echo/infer', 'POST'],
    ['GET', '/v2/models/echo/versions/1/generate_stream', 'POST'],
    ['DELETE', '/v2/models/echo', 'GET'],
    ['PROPFIND', '/v2/health/live', 'GET'],
    ['OPTIONS', '/v2/trace/setting', 'GET, POST'],
    ['POST', '/v2', 'GET'],
  ])('%s %s is 405 and says what is allowed', async (method, path, allow) => {
    const answer = await get(path, method);
    expect(answer).toMatchObject({ status: 405, json: { error: 'Method Not Allowed' } });
    expect(answer.headers.get('allow')).toBe(allow);
  });

  test('HEAD answers as GET without a body', async () => {
    expect(await get('/v2/health/ready', 'HEAD')).toMatchObject({ status: 200, json: undefined });
  });

  test('a very long model name is refused with a short error', async () => {
    const answer = await get(`/v2/models/${'x'.repeat(12_000)}/ready`);
    expect(answer.status).toBe(404);
  });
});

test('while it drains only health is answered, and connections are not kept', async () => {
  front.draining = true;
  const refused = await front.post('/v2/models/echo/infer', inferBody('BOOL', [1], '[true]'));
  expect(refused.status).toBe(503);
  expect(refused.headers.get('connection')).toBe('close');
  expect(await get('/v2/health/ready')).toMatchObject({ status: 400, json: { ready: false, live: true } });
  expect((await get('/v2/health/live')).status).toBe(200);
  front.draining = false;
});

test('close answers what is in flight and does not wait for idle connections', async () => {
  const own = await startFrontEnd();
  const silent = await own.connect();
  const held = own.post('/v2/models/hold/infer', inferBody('BOOL', [1], '[true]'));
  await own.engine.nextSeen();
  const closed = own.close();
  // The port closes a few turns later; who comes before that is refused with a reply.
  for (let isOpen = true; isOpen; ) {
    isOpen = await fetch(`${own.url}/v2`).then(
      ({ status }) => status === 503,
      () => false,
    );
  }
  own.engine.release();
  const response = await held;
  expect(response.status).toBe(200);
  expect(response.headers.get('connection')).toBe('close');
  await closed;
  silent.destroy();
});

test('a request that has arrived when the server closes is answered, on a used connection and on new ones', async () => {
  const own = await startFrontEnd();
  const request = 'GET /v2 HTTP/1.1\r\nhost: x\r\n\r\n';
  const used = await own.connect();
  used.write(request);
  await once(used, 'data');
  const sockets = [used, ...(await Promise.all(Array.from({ length: 20 }, own.connect)))];
  const replies = sockets.map(readAll);
  for (const socket of sockets) socket.write(request);
  // They are the kernel's to deliver, which takes no turn of ours: nothing is read meanwhile, and then all has arrived.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300);
  const closed = own.close();
  for (const reply of await Promise.all(replies)) expect(reply).toMatch(/^HTTP\/1\.1 (200|503) /);
  await closed;
});

test('browsers of listed origins may call, others may not', async () => {
  const own = await startFrontEnd({ corsOrigins: ['http://good.example'] });
  const call = (origin: string) =>
    own
      .post('/v2/models/echo/infer', inferBody('BOOL', [1], '[true]'), { origin })
      .then((response) => response.headers);
  expect((await call('http://good.example')).get('access-control-allow-origin')).toBe('http://good.example');
  expect((await call('http://bad.example')).get('access-control-allow-origin')).toBeNull();
  const preflight = await fetch(`${own.url}/v2/models/echo/infer`, {
    method: 'OPTIONS',
    headers: { origin: 'http://good.example', 'access-control-request-method': 'POST' },
  });
  expect(preflight.status).toBe(204);
  expect(preflight.headers.get('access-control-allow-methods')).toContain('POST');
  await own.close();
});

test('a port that is taken is the error of listen', async () => {
  const jsonPool = testPool();
  const second = createRestServer({
    engine: front.engine,
    budget: front.budget,
    jsonPool,
    host: '127.0.0.1',
    port: front.port,
    maxInputSize: 1024,
    corsOrigins: [],
    draining: () => false,
  });
  await expect(second.listen()).rejects.toMatchObject({ code: 'EADDRINUSE' });
  await second.close();
  await jsonPool.close();
});
