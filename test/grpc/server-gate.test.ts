import { randomBytes } from 'node:crypto';
import { deflateSync, gzipSync } from 'node:zlib';
import { compressionAlgorithms } from '@grpc/grpc-js';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  call,
  connect,
  type FrontEnd,
  frame,
  INFER,
  inferBytes,
  inferRequest,
  LIVE,
  RawConnection,
  startFrontEnd,
} from './front-end.js';

let front: FrontEnd;
let raw: RawConnection;
const MAX = 1024 * 1024;

beforeAll(async () => {
  front = await startFrontEnd({ maxReceiveBytes: MAX });
  raw = new RawConnection(front.port);
});

afterAll(() => {
  raw.close();
  front.server.close();
});

const empty = frame(Buffer.alloc(0));
const data = Buffer.alloc(400, 7);
const echo = inferBytes('echo', data);

test.each(['GET', 'PUT', 'DELETE'])('method %s is HTTP 405', async (method) => {
  const { headers } = await raw.request(LIVE, empty, { ':method': method });
  expect(headers[':status']).toBe(405);
});

test.each([undefined, 'text/plain', 'application/grpcX', 'application/grpc-foo', 'application/grpc+json'])(
  'content type %s is HTTP 415',
  async (type) => {
    const { headers } = await raw.request(LIVE, empty, { 'content-type': type });
    expect(headers[':status']).toBe(415);
  },
);

test.each([
  'application/grpc',
  'application/grpc+proto',
  'application/grpc;charset=utf-8',
  'application/grpc+proto; x=y',
  'Application/GRPC',
])('content type %s is taken', async (type) => {
  const { headers } = await raw.request(LIVE, empty, { 'content-type': type });
  expect(headers).toMatchObject({ ':status': 200, 'grpc-status': '0' });
});

test('a request without te is taken', async () => {
  expect((await raw.request(LIVE, empty, { te: undefined })).headers['grpc-status']).toBe('0');
});

test.each([
  '/inference.GRPCInferenceService/Nope',
  '/nope/ModelInfer',
  `${LIVE}/`,
  `${LIVE}?x`,
  '//',
  '/__proto__',
  '/%73erver',
])('path %s is UNIMPLEMENTED', async (path) => {
  expect((await raw.request(path, empty)).headers['grpc-status']).toBe('12');
});

test.each(['abc', '', '-1S', 'junk1Sx', '999999999S', '1.5S', '1 S', '1s', 'S'])(
  'grpc-timeout "%s" is INTERNAL and runs nothing',
  async (timeout) => {
    const seen = front.engine.seen.length;
    const { headers } = await raw.request(INFER, frame(echo), { 'grpc-timeout': timeout });
    expect(headers['grpc-status']).toBe('13');
    expect(front.engine.seen.length).toBe(seen);
  },
);

test.each(['0m', '0H', '1n', '1u', '999u'])(
  'grpc-timeout %s has passed: DEADLINE_EXCEEDED, not run',
  async (timeout) => {
    const seen = front.engine.seen.length;
    const { headers } = await raw.request(INFER, frame(echo), { 'grpc-timeout': timeout });
    expect(headers['grpc-status']).toBe('4');
    expect(front.engine.seen.length).toBe(seen);
  },
);

test.each([
  ['1000H', 1000 * 3_600_000],
  ['99999999H', 99_999_999 * 3_600_000],
  ['597H', 597 * 3_600_000],
  ['60S', 60_000],
  ['99999999u', 99_999.999],
])('grpc-timeout %s is that long', async (timeout, ms) => {
  const { headers } = await raw.request(INFER, frame(inferBytes('later', data)), { 'grpc-timeout': timeout });
  expect(headers['grpc-status']).toBe('0');
  const { deadlineMs, timeline } = front.engine.seen.at(-1)!;
  expect(deadlineMs - timeline.firstByte).toBeCloseTo(ms, 3);
});

test('metadata over 16 KiB is RESOURCE_EXHAUSTED, below it is taken', async () => {
  const over = await raw.request(LIVE, empty, { 'x-a': 'a'.repeat(9000), 'x-b': 'b'.repeat(9000) });
  expect(over.headers['grpc-status']).toBe('8');
  const under = await raw.request(LIVE, empty, { 'x-a': 'a'.repeat(7500), 'x-b': 'b'.repeat(7500) });
  expect(under.headers['grpc-status']).toBe('0');
  const pairs = Object.fromEntries(Array.from({ length: 110 }, (_, i) => [`x-${i}`, 'v'.repeat(150)]));
  expect((await raw.request(LIVE, empty, pairs)).headers['grpc-status']).toBe('8');
});

test('half-close without a message, and a second message, are UNIMPLEMENTED', async () => {
  expect((await raw.request(LIVE, Buffer.alloc(0))).headers['grpc-status']).toBe('12');
  expect((await raw.request(LIVE, Buffer.concat([empty, empty]))).headers['grpc-status']).toBe('12');
  expect((await raw.request(INFER, Buffer.concat([frame(echo), frame(echo)]))).headers['grpc-status']).toBe('12');
});

test.each([
  ['3 bytes of a head', empty.subarray(0, 3)],
  ['3 of 100 bytes', frame(Buffer.alloc(100)).subarray(0, 8)],
])('a body that ends after %s is INTERNAL', async (_, body) => {
  expect((await raw.request(INFER, body)).headers['grpc-status']).toBe('13');
});

test('a message in one-byte chunks is put together', async () => {
  const stream = raw.open(INFER);
  const status = new Promise((resolve) => stream.on('trailers', (headers) => resolve(headers['grpc-status'])));
  stream.resume();
  for (const byte of frame(echo)) {
    await new Promise((resolve) => stream.write(Buffer.of(byte), resolve));
  }
  stream.end();
  expect(await status).toBe('0');
});

test('bytes that are no ModelInferRequest are INTERNAL', async () => {
  expect((await raw.request(INFER, frame(Buffer.from([0x0f])))).headers['grpc-status']).toBe('13');
  expect(
    (await raw.request('/inference.GRPCInferenceService/ModelReady', frame(Buffer.from([0x0a, 0xff])))).headers[
      'grpc-status'
    ],
  ).toBe('13');
});

test('a declared length of 4 GB is refused at once and the stream closed, so that no more is read', async () => {
  const stream = raw.open(INFER);
  const answered = new Promise<Record<string, unknown>>((resolve) => stream.on('response', resolve));
  let sent = 0;
  const closed = new Promise<void>((resolve) => stream.on('close', resolve));
  const pump = (): void => {
    while (!stream.destroyed) {
      sent += 65_536;
      if (!stream.write(Buffer.alloc(65_536))) {
        stream.once('drain', pump);
        return;
      }
    }
  };
  stream.write(Buffer.from([0, 0xff, 0xff, 0xff, 0xff]));
  pump();
  expect((await answered)['grpc-status']).toBe('8');
  stream.resume();
  await closed;
  expect(stream.rstCode).toBe(0);
  // What the client could write before the RST arrived: its own socket buffers, not a window's worth per second.
  expect(sent).toBeLessThan(32 * 1024 * 1024);
  expect(front.budget.used).toBe(0);
});

test('a message of the limit is taken, of the limit + 1 refused', async () => {
  const overhead = inferBytes('echo', Buffer.alloc(MAX - 100)).length - (MAX - 100);
  const exact = inferBytes('echo', Buffer.alloc(MAX - overhead));
  expect(exact.length).toBe(MAX);
  expect((await raw.request(INFER, frame(exact))).headers['grpc-status']).toBe('0');
  const over = await raw.request(INFER, frame(Buffer.alloc(MAX + 1)));
  expect(over.headers['grpc-status']).toBe('8');
  expect(decodeURI(String(over.headers['grpc-message']))).toBe(
    `Received message larger than max (${MAX + 1} vs ${MAX})`,
  );
});

test('a grpc-js client is told the size limit, and its connection goes on', async () => {
  const stub = connect('open', front.port);
  const big = await call(stub, 'ModelInfer', inferRequest('echo', Buffer.alloc(3 * MAX)));
  expect(big.error).toMatchObject({ code: 8 });
  expect((await call(stub, 'ModelInfer', inferRequest('echo', data))).error).toBeNull();
  stub.close();
});

test.each([
  ['flag 1 without grpc-encoding', 1, {}],
  ['flag 1 with identity', 1, { 'grpc-encoding': 'identity' }],
  ['flag 2', 2, { 'grpc-encoding': 'gzip' }],
  ['flag 255', 255, {}],
])('%s is INTERNAL', async (_, flag, headers) => {
  expect((await raw.request(INFER, frame(gzipSync(echo), flag), headers)).headers['grpc-status']).toBe('13');
});

test.each(['br', 'snappy', 'gzip,gzip', ''])(
  'grpc-encoding "%s" is UNIMPLEMENTED and the accepted ones are named',
  async (encoding) => {
    const { headers } = await raw.request(INFER, frame(echo, 1), { 'grpc-encoding': encoding });
    expect(headers).toMatchObject({ 'grpc-status': '12', 'grpc-accept-encoding': 'identity,deflate,gzip' });
  },
);

const large = inferBytes('echo', randomBytes(200_000));
test.each([
  ['gzip', 'small', gzipSync(echo), echo],
  ['deflate', 'small', deflateSync(echo), echo],
  ['gzip', 'large', gzipSync(large), large],
  ['deflate', 'large', deflateSync(large), large],
  [
    'gzip',
    'much smaller than its content',
    gzipSync(inferBytes('echo', Buffer.alloc(900_000))),
    inferBytes('echo', Buffer.alloc(900_000)),
  ],
])('%s request, %s', async (encoding, _, compressed, plain) => {
  const { headers, body } = await raw.request(INFER, frame(compressed, 1), { 'grpc-encoding': encoding });
  expect(headers['grpc-status']).toBe('0');
  const expected = await raw.request(INFER, frame(plain), { 'grpc-encoding': encoding });
  expect(body.equals(expected.body)).toBe(true);
});

test('a control RPC takes compressed requests too', async () => {
  expect(
    (await raw.request(LIVE, frame(gzipSync(Buffer.alloc(0)), 1), { 'grpc-encoding': 'gzip' })).headers['grpc-status'],
  ).toBe('0');
});

test('a grpc-js client may compress by channel', async () => {
  const stub = connect('open', front.port, undefined, {
    'grpc.default_compression_algorithm': compressionAlgorithms.gzip,
  });
  const { error, response } = await call(stub, 'ModelInfer', inferRequest('echo', data));
  expect(error).toBeNull();
  expect(data.equals(response.raw_output_contents[0])).toBe(true);
  stub.close();
});

const zipped = gzipSync(large);
test.each([
  ['corrupt', Buffer.concat([zipped.subarray(0, 1000), Buffer.alloc(100), zipped.subarray(1100)])],
  ['truncated', zipped.subarray(0, zipped.length - 9)],
  ['followed by garbage', Buffer.concat([zipped, Buffer.from('garbage')])],
  ['small and corrupt', Buffer.from([0x1f, 0x8b, 8, 0, 1, 2, 3])],
  ['small and truncated', gzipSync(echo).subarray(0, 40)],
  ['small and followed by garbage', Buffer.concat([gzipSync(echo), Buffer.from('garbage')])],
  ['empty', Buffer.alloc(0)],
])('gzip that is %s is INTERNAL', async (_, body) => {
  const { headers } = await raw.request(INFER, frame(body, 1), { 'grpc-encoding': 'gzip' });
  expect(headers['grpc-status']).toBe('13');
});

test('a bomb of 100 MB is RESOURCE_EXHAUSTED', async () => {
  const bomb = gzipSync(Buffer.alloc(100 * MAX));
  const { headers } = await raw.request(INFER, frame(bomb, 1), { 'grpc-encoding': 'gzip' });
  expect(headers['grpc-status']).toBe('8');
});

test('the budget is whole again and no call is left', () => {
  expect(front.budget.used).toBe(0);
  expect(front.engine.cancelled).toBe(0);
});
