import { randomBytes } from 'node:crypto';
import { connect as connectTcp } from 'node:net';
import { gzipSync } from 'node:zlib';
import { afterEach, expect, test, vi } from 'vitest';
import type { FinishedRequest } from '../../src/engine/finished-request.js';
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
  readReply,
  startFrontEnd,
} from './front-end.js';
import { contents, delimited, input, varint } from './wire.js';

const MIB = 1024 * 1024;
const open: { close(): void }[] = [];

/** From now on timers of one shot wait for the test: a deadline passes when what must come before it has come. */
function holdTimers(): void {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
}

async function start(
  options: Parameters<typeof startFrontEnd>[0] = {},
): Promise<{ front: FrontEnd; raw: RawConnection }> {
  const front = await startFrontEnd(options);
  const raw = new RawConnection(front.port);
  open.push(raw, front.server);
  return { front, raw };
}

afterEach(() => {
  vi.useRealTimers();
  for (const each of open.splice(0)) each.close();
});

/** When `count` calls have ended. */
async function finished(front: FrontEnd, count: number): Promise<FinishedRequest[]> {
  while (front.finished.length < count) await front.nextFinished();
  return front.finished;
}

test('a request that does not fit into the bytes in flight is refused before its body is sent', async () => {
  const { front, raw } = await start({ budgetBytes: 1000 });
  const held = raw.open(INFER);
  held.end(frame(inferBytes('hold', Buffer.alloc(600))));
  await front.engine.nextSeen();

  const second = raw.open(INFER);
  const reply = readReply(second);
  second.write(frame(inferBytes('echo', Buffer.alloc(600))).subarray(0, 5));
  const { headers } = await reply;
  expect(headers['grpc-status']).toBe('8');
  expect(decodeURI(String(headers['grpc-message']))).toMatch(
    /^request of \d+ bytes would pass the limit of bytes in flight$/,
  );

  const first = readReply(held);
  front.engine.release();
  expect((await first).headers['grpc-status']).toBe('0');
  expect((await raw.request(INFER, frame(inferBytes('echo', Buffer.alloc(600))))).headers['grpc-status']).toBe('0');
  expect(front.budget.used).toBe(0);
});

test('memory for typed contents counts too', async () => {
  const { raw } = await start({ budgetBytes: 3000 });
  const contents = { uint64_contents: Array.from({ length: 1000 }, () => 1) };
  const inputs = [{ name: 'A', datatype: 'UINT64', shape: [1000], contents }];
  const body = inferBytes('echo', Buffer.alloc(0), { inputs, raw_input_contents: [] });
  expect(body.length).toBeLessThan(2000);
  expect((await raw.request(INFER, frame(body))).headers['grpc-status']).toBe('8');
});

test('typed contents that become large are answered in a later turn', async () => {
  const { front, raw } = await start({ maxReceiveBytes: 16 * MIB });
  const count = 700_000;
  const packed = contents(delimited(3, Buffer.alloc(count, 1)));
  const body = Buffer.concat([delimited(1, 'echo'), input('A', 'INT64', delimited(3, varint(count)), packed)]);
  const reply = await raw.request(INFER, frame(body));
  expect(reply.headers['grpc-status']).toBe('0');
  expect(reply.body.subarray(-8).readBigInt64LE()).toBe(1n);
  expect(front.budget.used).toBe(0);
});

test('a reply that does not fit into the bytes in flight is refused', async () => {
  const { front, raw } = await start({ budgetBytes: MIB });
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(2 * MIB);
  const { headers } = await raw.request(INFER, frame(inferBytes('big', bytes)));
  expect(headers['grpc-status']).toBe('8');
  expect(front.budget.used).toBe(0);
});

test('a reply larger than a message may be is refused, however little was asked', async () => {
  const { front, raw } = await start({ maxReceiveBytes: MIB });
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(MIB + 1);
  const { headers } = await raw.request(INFER, frame(inferBytes('big', bytes)));
  expect(headers['grpc-status']).toBe('8');
  expect(decodeURI(String(headers['grpc-message']))).toMatch(/take 1048577 bytes, at most 1048576 are sent/);
  expect(front.budget.used).toBe(0);
});

test('thirty bombs at once stay within the budget, and all are answered', async () => {
  const { front, raw } = await start({ maxReceiveBytes: 16 * MIB, budgetBytes: 64 * MIB });
  const bomb = frame(gzipSync(inferBytes('hold', Buffer.alloc(15 * MIB))), 1);
  const replies = Array.from({ length: 30 }, () => {
    const stream = raw.open(INFER, { 'grpc-encoding': 'gzip' });
    const reply = readReply(stream);
    stream.end(bomb);
    return reply;
  });
  // Those that fit are held by the engine, the rest are refused.
  const ended = await finished(front, 26);
  expect(ended.every(({ status }) => status === 'RESOURCE_EXHAUSTED')).toBe(true);
  while (front.engine.held.length < 4) await front.engine.nextSeen();
  expect(front.engine.held).toHaveLength(4);
  expect(front.budget.peak).toBeLessThanOrEqual(64 * MIB);
  for (const { handler } of front.engine.held.splice(0))
    handler.onError(Object.assign(new Error('x'), { code: 'INTERNAL' }) as never);
  const statuses = (await Promise.all(replies)).map(({ headers }) => headers['grpc-status']);
  expect(statuses.filter((status) => status === '8')).toHaveLength(26);
  expect(front.budget.used).toBe(0);
});

test('a request whose body stops coming ends by the receive timeout', async () => {
  const { front, raw } = await start({ receiveTimeoutMs: 50 });
  const stream = raw.open(INFER);
  const reply = readReply(stream);
  stream.write(frame(inferBytes('echo', Buffer.alloc(600))).subarray(0, 100));
  const { headers } = await reply;
  expect(headers['grpc-status']).toBe('4');
  expect(front.finished).toMatchObject([{ status: 'DEADLINE_EXCEEDED', arm: undefined }]);
  expect(front.budget.used).toBe(0);
});

test('a call without a body and one that never half-closes end by the receive timeout', async () => {
  const { raw } = await start({ receiveTimeoutMs: 50 });
  const bodyless = readReply(raw.open(INFER));
  const unfinished = raw.open(INFER);
  const reply = readReply(unfinished);
  unfinished.write(frame(inferBytes('echo', Buffer.alloc(4))));
  expect((await bodyless).headers['grpc-status']).toBe('4');
  expect((await reply).headers['grpc-status']).toBe('4');
});

test.each([
  ['by the write stall limit', {}, { writeStallMs: 50 }],
  ['at its deadline', { 'grpc-timeout': '100m' }, { writeStallMs: 60_000 }],
])('a reply that the client does not read is dropped %s, and its memory is back', async (_, headers, limits) => {
  // The deadline is for the reply on its way here, by the sweep: it may not end the call before there is one.
  holdTimers();
  const { front } = await start(limits);
  const stalled = new RawConnection(front.port, { settings: { initialWindowSize: 0 } });
  open.push(stalled);
  const stream = stalled.open(INFER, headers);
  const closed = new Promise<void>((resolve) => stream.on('close', resolve));
  stream.end(frame(inferBytes('echo', Buffer.alloc(1000))));
  await finished(front, 1);
  expect(front.budget.used).toBeGreaterThan(1000);
  await closed;
  expect(stream.rstCode).toBe(8);
  expect((await stalled.request(LIVE, frame(Buffer.alloc(0)), { 'grpc-timeout': '1n' })).headers['grpc-status']).toBe(
    '4',
  );
  expect(front.budget.used).toBe(0);
});

test('the deadline ends a call that the engine holds: DEADLINE_EXCEEDED with a budget, engine cancelled', async () => {
  holdTimers();
  const { front } = await start();
  const stub = connect('open', front.port);
  open.push(stub);
  const seen = front.engine.nextSeen();
  const cancelled = front.engine.nextCancelled();
  const calling = call(stub, 'ModelInfer', inferRequest('hold', Buffer.alloc(4)), { deadline: Date.now() + 30_000 });
  await seen;
  vi.advanceTimersByTime(30_000);
  expect((await calling).error!.code).toBe(4);
  await cancelled;
  front.engine.release();
  // The client's reset at its own deadline may come before the server's, which began later.
  expect(['DEADLINE_EXCEEDED', 'CANCELLED']).toContain((await finished(front, 1))[0]!.status);
  expect(front.budget.used).toBe(0);
});

test('the server sends the deadline status itself, with the trailer', async () => {
  holdTimers();
  const { front, raw } = await start();
  const seen = front.engine.nextSeen();
  const reply = raw.request(INFER, frame(inferBytes('hold', Buffer.alloc(4))), { 'grpc-timeout': '20m' });
  await seen;
  vi.advanceTimersByTime(20);
  const { headers } = await reply;
  expect(headers['grpc-status']).toBe('4');
  expect(headers['server-timing']).toContain('total;dur=');
  expect(front.engine.cancelled).toBe(1);
});

test.each([
  ['before its body', 0],
  ['mid-upload', 100],
  ['right after the end of the stream', Number.POSITIVE_INFINITY],
])('a caller that resets %s leaves nothing behind', async (_, bytes) => {
  const { front, raw } = await start();
  const body = frame(inferBytes('hold', Buffer.alloc(2000)));
  const stream = raw.open(INFER);
  const closed = new Promise<void>((resolve) => stream.on('close', resolve));
  if (bytes === 0) await raw.request(LIVE, frame(Buffer.alloc(0)));
  else if (bytes < body.length) await new Promise((resolve) => stream.write(body.subarray(0, bytes), resolve));
  else stream.end(body);
  // close() would send END_STREAM first.
  stream.destroy();
  await closed;
  // The reset has arrived when a later call is answered.
  await raw.request(LIVE, frame(Buffer.alloc(0)));
  const infer = (await finished(front, front.finished.length)).filter(({ method }) => method === 'ModelInfer');
  expect(infer.every(({ status }) => status === 'CANCELLED')).toBe(true);
  expect(front.engine.cancelled).toBe(front.engine.held.length);
  front.engine.release();
  expect(front.budget.used).toBe(0);
});

test('a cancel of a held call reaches the engine once; its late answer is ignored', async () => {
  const { front } = await start();
  const stub = connect('open', front.port);
  open.push(stub);
  const seen = front.engine.nextSeen();
  const cancelled = front.engine.nextCancelled();
  const emitter = stub.ModelInfer!(inferRequest('hold', Buffer.alloc(4)), () => {});
  await seen;
  emitter.cancel();
  await cancelled;
  front.engine.release();
  expect((await call(stub, 'ModelInfer', inferRequest('echo', randomBytes(8)))).error).toBeNull();
  expect(front.finished.map(({ status }) => status)).toEqual(['CANCELLED', 'OK']);
  expect(front.engine.cancelled).toBe(1);
  expect(front.budget.used).toBe(0);
});

test('a lost connection cancels all its calls', async () => {
  const { front, raw } = await start();
  for (let i = 0; i < 5; i++) {
    const seen = front.engine.nextSeen();
    raw.open(INFER).end(frame(inferBytes('hold', Buffer.alloc(100))));
    await seen;
  }
  raw.close();
  await finished(front, 5);
  expect(front.engine.cancelled).toBe(5);
  expect(front.budget.used).toBe(0);
});

/** Sends `bytes` on a bare TCP connection, and then says when the server has closed it; what it sends is thrown away. */
async function bareConnection(port: number, bytes: Buffer): Promise<{ readonly closed: Promise<void> }> {
  const socket = connectTcp(port, '127.0.0.1');
  const closed = new Promise<void>((resolve) => socket.on('error', () => {}).on('close', () => resolve()));
  await new Promise((resolve) => socket.resume().write(bytes, resolve));
  return { closed };
}

/** The server's patience with such a connection is over once it has it, and no later; `raw` has greeted by then. */
async function closedByPatience({ port }: FrontEnd, raw: RawConnection, bytes: Buffer): Promise<void> {
  const { closed } = await bareConnection(port, bytes);
  expect(await isLive(raw)).toBe(true);
  vi.advanceTimersByTime(CONNECT_MS);
  await closed;
}

const CONNECT_MS = 50;
const isLive = async (raw: RawConnection): Promise<boolean> =>
  (await raw.request(LIVE, frame(Buffer.alloc(0)))).headers['grpc-status'] === '0';

test.each([
  ['sends nothing', Buffer.alloc(0)],
  ['sends half a preface', Buffer.from('PRI * HTTP/2.0\r\n')],
  ['sends a preface and no SETTINGS', Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')],
  ['speaks HTTP/1.1', Buffer.from('GET / HTTP/1.1\r\nhost: x\r\n\r\n')],
  ['sends noise', randomBytes(500)],
])('a connection that %s is closed', async (_, bytes) => {
  holdTimers();
  const { front, raw } = await start({ connectTimeoutMs: CONNECT_MS });
  await closedByPatience(front, raw, bytes);
  expect(await isLive(raw)).toBe(true);
});

test('a connection that has greeted may stay idle', async () => {
  holdTimers();
  const { front, raw } = await start({ connectTimeoutMs: CONNECT_MS });
  await closedByPatience(front, raw, Buffer.alloc(0));
  expect(raw.session.destroyed).toBe(false);
  expect(await isLive(raw)).toBe(true);
});

test('drain finishes what is accepted, takes nothing new, then resolves', async () => {
  const { front, raw } = await start();
  const seen = front.engine.nextSeen();
  const stream = raw.open(INFER);
  const reply = readReply(stream);
  stream.end(frame(inferBytes('hold', Buffer.alloc(8))));
  await seen;
  const goaway = new Promise((resolve) => raw.session.on('goaway', resolve));
  let drained = false;
  const done = front.server.drain().then(() => {
    drained = true;
  });
  await goaway;
  await (await bareConnection(front.port, Buffer.alloc(0))).closed;
  expect(drained).toBe(false);
  front.engine.release();
  expect((await reply).headers['grpc-status']).toBe('0');
  await done;
  expect(front.budget.used).toBe(0);
});

test('drain does not wait for a peer that never closes its connection', async () => {
  const { front } = await start();
  const socket = connectTcp({ port: front.port, host: '127.0.0.1', allowHalfOpen: true });
  // The preface and an empty SETTINGS frame; then a host that is there and says nothing more.
  socket.write(
    Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0])]),
  );
  await new Promise((resolve) => socket.once('data', resolve));
  socket.on('error', () => undefined);
  await front.server.drain();
  socket.destroy();
});

test('drain cuts calls that outlast its grace, and tells the engine', async () => {
  const { front, raw } = await start({ closeGraceMs: 1 });
  const seen = front.engine.nextSeen();
  const reply = readReply(raw.open(INFER).end(frame(inferBytes('hold', Buffer.alloc(8)))));
  await seen;
  await front.server.drain();
  await reply;
  expect(front.engine.cancelled).toBe(1);
  expect(front.budget.used).toBe(0);
});

test('close drops calls in flight and tells the engine', async () => {
  const { front, raw } = await start();
  const seen = front.engine.nextSeen();
  const reply = readReply(raw.open(INFER).end(frame(inferBytes('hold', Buffer.alloc(8)))));
  await seen;
  front.server.close();
  await reply;
  await finished(front, 1);
  expect(front.engine.cancelled).toBe(1);
  expect(front.budget.used).toBe(0);
});

test('a taken port is a clear error', async () => {
  const { front } = await start();
  await expect(startFrontEnd({ port: front.port })).rejects.toMatchObject({ code: 'EADDRINUSE' });
});
