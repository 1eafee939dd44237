/** What observers are told of every request that ended: on real ports, both protocols. */
import { once } from 'node:events';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { FinishedRequest } from '../src/engine/finished-request.js';
import * as grpc from './grpc/front-end.js';
import * as rest from './rest/front-end.js';

const told: FinishedRequest[] = [];
const onFinished = (request: FinishedRequest): void => void told.push(request);
let restEnd: rest.FrontEnd;
let grpcEnd: grpc.FrontEnd;

beforeAll(async () => {
  restEnd = await rest.startFrontEnd({ onFinished });
  grpcEnd = await grpc.startFrontEnd({ onFinished });
});
afterAll(async () => {
  await restEnd?.close();
  grpcEnd?.server.close();
});
beforeEach(() => {
  told.length = 0;
});

const summary = ({ method, status, arm, modelName, requestBytes, responseBytes }: FinishedRequest) => ({
  method,
  status,
  arm,
  modelName,
  requestBytes,
  responseBytes,
});

/** The one request that was told of, with its timeline's end stamped. */
async function only(): Promise<FinishedRequest> {
  await expect.poll(() => told.length).toBe(1);
  return told[0]!;
}

describe('over REST', () => {
  const text = rest.inferBody('FP32', [2], '[1,2]');

  test('an inference is told with its route, its encoding, its model and both bodies', async () => {
    const response = await restEnd.post('/v2/models/echo/versions/1/infer', text);
    const reply = await response.arrayBuffer();
    const request = await only();
    expect(summary(request)).toEqual({
      method: '/v2/models/:model/versions/:version/infer',
      status: '200',
      arm: 'rest_json',
      modelName: 'echo',
      requestBytes: text.length,
      responseBytes: reply.byteLength,
    });
    expect(request.protocol).toBe('rest');
    const { firstByte, lastByte, decoded, encoded } = request.timeline;
    expect([firstByte, lastByte, decoded, encoded]).toEqual(
      [firstByte, lastByte, decoded, encoded].sort((a, b) => a - b),
    );
    expect(firstByte).toBeGreaterThan(0);
  });

  test('bodies that are compressed count as they were on the wire', async () => {
    const long = rest.inferBody('FP32', [1000], JSON.stringify(new Array(1000).fill(1)));
    const packed = Uint8Array.from(gzipSync(long));
    const headers = { 'content-encoding': 'gzip', 'accept-encoding': 'gzip' };
    const response = await restEnd.post('/v2/models/echo/infer', packed, headers);
    const sent = Number(response.headers.get('content-length'));
    const reply = await response.arrayBuffer();
    expect(sent).toBeLessThan(reply.byteLength);
    expect(await only()).toMatchObject({ requestBytes: packed.length, responseBytes: sent });
  });

  test('a body that comes in chunks of unknown length counts without its chunks’ heads', async () => {
    const chunks = `4\r\n${text.slice(0, 4)}\r\n${(text.length - 4).toString(16)}\r\n${text.slice(4)}\r\n0\r\n\r\n`;
    await restEnd.raw(
      `POST /v2/models/echo/infer HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n${chunks}`,
    );
    expect(await only()).toMatchObject({ status: '200', requestBytes: text.length });
  });

  test('a request that could not be decoded has no encoding', async () => {
    await (await restEnd.post('/v2/models/echo/infer', 'no json')).arrayBuffer();
    expect(summary(await only())).toMatchObject({ status: '400', arm: undefined, modelName: 'echo', requestBytes: 7 });
  });

  test.each([
    ['GET', '/v2/health/live', '/v2/health/live', '200'],
    ['GET', '/v2/models/any/config', '/v2/models/:model/config', '404'],
    ['GET', '/v2/models/echo/versions/7/ready', '/v2/models/:model/versions/:version/ready', undefined],
    ['POST', '/v2/repository/models/a/load', '/v2/repository/models/:model/load', '503'],
    ['GET', '/v2/systemsharedmemory/a/b', '/v2/systemsharedmemory/*', '501'],
    ['GET', '/no/such/path', '', '404'],
    ['POST', '/v2/health/live', '', '405'],
    ['DELETE', '/v2/models/echo/infer', '', '405'],
    ['HEAD', '/v2', '/v2', '200'],
    ['GET', '/v2/models/%zz', '', '400'],
  ])('%s %s is told as %j with %s', async (method, path, route, status) => {
    const response = await fetch(restEnd.url + path, { method });
    const reply = await response.arrayBuffer();
    expect(summary(await only())).toMatchObject({
      method: route,
      status: status ?? String(response.status),
      arm: undefined,
      responseBytes: reply.byteLength,
    });
  });

  test('what Node could not read as a request is told as one of no route', async () => {
    await restEnd.raw('garbage\r\n\r\n');
    expect(summary(await only())).toMatchObject({ method: '', status: '400' });
    await restEnd.raw('CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n');
    await expect.poll(() => told.length).toBe(2);
    expect(summary(told[1]!)).toMatchObject({ method: '', status: '405' });
  });

  test('a client that leaves is told as 499, also in the middle of its body', async () => {
    const socket = await restEnd.connect();
    socket.write(`POST /v2/models/hold/infer HTTP/1.1\r\nhost: a\r\ncontent-length: ${text.length}\r\n\r\n${text}`);
    await expect.poll(() => restEnd.engine.held.length).toBe(1);
    socket.destroy();
    expect(summary(await only())).toMatchObject({ status: '499', arm: 'rest_json', responseBytes: 0 });
    const other = await restEnd.connect();
    other.write('POST /v2/models/echo/infer HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n{"in');
    await expect.poll(() => restEnd.budget.used).toBe(100);
    other.destroy();
    await expect.poll(() => told.length).toBe(2);
    expect(summary(told[1]!)).toMatchObject({ status: '499', arm: undefined, requestBytes: 4 });
  });
});

describe('over gRPC', () => {
  const message = grpc.inferBytes('echo', Buffer.alloc(8));

  test('an inference is told with its RPC, its encoding, its model and both messages', async () => {
    const raw = new grpc.RawConnection(grpcEnd.port);
    const { body } = await raw.request(grpc.INFER, grpc.frame(message));
    const request = await only();
    expect(summary(request)).toEqual({
      method: 'ModelInfer',
      status: 'OK',
      arm: 'grpc_raw',
      modelName: 'echo',
      requestBytes: message.length,
      responseBytes: body.length - 5,
    });
    expect(request.protocol).toBe('grpc');
    expect(request.timeline.encoded).toBeGreaterThan(request.timeline.firstByte);
    raw.close();
  });

  test('a message that is compressed counts as it was on the wire', async () => {
    const packed = gzipSync(grpc.inferBytes('echo', Buffer.alloc(4000)));
    const raw = new grpc.RawConnection(grpcEnd.port);
    await raw.request(grpc.INFER, grpc.frame(packed, 1), { 'grpc-encoding': 'gzip' });
    expect(await only()).toMatchObject({ status: 'OK', requestBytes: packed.length });
    raw.close();
  });

  test.each([
    ['/inference.GRPCInferenceService/ServerLive', {}, 'ServerLive', 'OK'],
    ['/inference.GRPCInferenceService/TraceSetting', {}, 'TraceSetting', 'UNIMPLEMENTED'],
    ['/no.such/Service', {}, '', 'UNIMPLEMENTED'],
    ['/inference.GRPCInferenceService/NoSuchThing', {}, '', 'UNIMPLEMENTED'],
    [grpc.INFER, { 'content-type': 'text/plain' }, '', 'UNKNOWN'],
    [grpc.INFER, { ':method': 'PUT' }, '', 'UNKNOWN'],
    [grpc.INFER, { 'grpc-timeout': '1n' }, 'ModelInfer', 'DEADLINE_EXCEEDED'],
    [grpc.INFER, {}, 'ModelInfer', 'INVALID_ARGUMENT'],
  ])('%s with %j is told as %j with %s', async (path, headers, method, status) => {
    const raw = new grpc.RawConnection(grpcEnd.port);
    const garbled = path === grpc.INFER ? grpc.inferBytes('fail', Buffer.alloc(4)) : Buffer.alloc(0);
    await raw.request(path, grpc.frame(garbled), headers as Record<string, string>);
    expect(summary(await only())).toMatchObject({ method, status });
    raw.close();
  });

  test('each message of a stream is told as a request, and what ends a stream by an error as one more', async () => {
    const raw = new grpc.RawConnection(grpcEnd.port);
    const path = '/inference.GRPCInferenceService/ModelStreamInfer';
    const { body } = await raw.request(path, Buffer.concat([grpc.frame(message), grpc.frame(message)]));
    await expect.poll(() => told.length).toBe(2);
    // Each has a budget of its own, and so a length.
    const first = body.readUInt32BE(1);
    for (const [i, responseBytes] of [first, body.length - 5 - first - 5].entries()) {
      expect(summary(told[i]!)).toEqual({
        method: 'ModelStreamInfer',
        status: 'OK',
        arm: 'grpc_raw',
        modelName: 'echo',
        requestBytes: message.length,
        responseBytes,
      });
    }
    await raw.request(path, Buffer.concat([grpc.frame(message), grpc.frame(message, 9)]));
    await expect.poll(() => told.length).toBe(4);
    expect(told.slice(2).map(({ status }) => status)).toEqual(['OK', 'INTERNAL']);
    expect(told[3]).toMatchObject({ requestBytes: 0, arm: undefined, modelName: '' });
    raw.close();
  });

  test('what grpc-js answers itself is told with how it ended', async () => {
    const raw = new grpc.RawConnection(grpcEnd.port);
    const reflection = '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo';
    await raw.request(reflection, grpc.frame(Buffer.from([0x3a, 0])));
    expect(summary(await only())).toMatchObject({ method: 'ServerReflectionInfo', status: 'OK', requestBytes: 2 });
    const watch = raw.open('/grpc.health.v1.Health/Watch');
    const response = once(watch, 'response');
    watch.end(grpc.frame(Buffer.alloc(0)));
    await response;
    watch.close(8);
    await expect.poll(() => told.length).toBe(2);
    expect(summary(told[1]!)).toMatchObject({ method: 'Watch', status: 'CANCELLED' });
    raw.close();
  });
});
