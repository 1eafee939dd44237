import { once } from 'node:events';
import { gzipSync } from 'node:zlib';
import { Metadata } from '@grpc/grpc-js';
import { afterEach, expect, test, vi } from 'vitest';
import { connect, frame, inferRequest, LIVE, RawConnection, startFrontEnd } from './front-end.js';
import {
  collect,
  ENDLESS,
  echoBytes,
  readReply,
  STREAM,
  type StreamMessage,
  shorten,
  stalledConnection,
  streamMessages,
  until,
  wordsBytes,
  wordsRequest,
} from './streams.js';

const open: { close(): void }[] = [];

async function start(options: Parameters<typeof startFrontEnd>[0] = {}) {
  const front = await startFrontEnd(options);
  const raw = new RawConnection(front.port);
  const stub = connect('open', front.port);
  open.push(raw, stub, front.server);
  return { front, raw, stub };
}

afterEach(() => {
  vi.useRealTimers();
  for (const each of open.splice(0)) each.close();
});

const MANY = Array.from({ length: 2000 }, (_, i) => `word${i}`).join(' ');
const ids = (messages: readonly StreamMessage[]): string[] => messages.map(({ id }) => id);
const byId = (messages: readonly StreamMessage[], id: string): StreamMessage[] => messages.filter((m) => m.id === id);

test('requests for models of all kinds share a stream, and each response says whether it is the last', async () => {
  const { front, stub } = await start();
  const call = stub.ModelStreamInfer!();
  const ended = collect(call, shorten);
  call.write(inferRequest('echo', Buffer.from('abcdefgh'), { id: 'e' }));
  call.write(wordsRequest('w', 'one two three'));
  call.write(inferRequest('later', Buffer.from('ijklmnop'), { id: 'l' }));
  call.end();
  const { messages, code, trailer } = await ended;
  expect(code).toBe(0);
  expect(trailer['server-timing']).toContain('total;dur=');
  expect(byId(messages, 'e')).toMatchObject([{ text: 'abcdefgh', final: true, error: '' }]);
  expect(byId(messages, 'l')).toMatchObject([{ text: 'ijklmnop', final: true, error: '' }]);
  expect(byId(messages, 'w').map(({ text, final }) => [text, final])).toEqual([
    ['one ', false],
    ['two ', false],
    ['three', true],
  ]);
  expect(byId(messages, 'w')[0]!.response).toMatchObject({ model_name: 'words', model_version: '3' });
  expect(messages).toHaveLength(5);
  for (const { final, timing } of messages) {
    if (final) expect(timing).toMatch(/^receive;dur=.*total;dur=\d+\.\d{3}$/);
    else expect(timing).toBeUndefined();
  }
  const told = front.finished.map(({ method, modelName, status }) => `${method} ${modelName} ${status}`);
  expect(told.sort()).toEqual(['echo', 'later', 'words'].map((name) => `ModelStreamInfer ${name} OK`));
  expect(front.budget.used).toBe(0);
});

test('a stream without requests ends with OK and nothing else', async () => {
  const { raw } = await start();
  const { headers, body } = await raw.request(STREAM, Buffer.alloc(0));
  expect(headers['grpc-status']).toBe('0');
  expect(body).toHaveLength(0);
});

test('models that answer once answer in the order of their requests, errors included; text overtakes', async () => {
  const { front, raw } = await start();
  const stream = raw.open(STREAM);
  const reply = readReply(stream);
  const requests = [
    echoBytes('1', 'hold'),
    echoBytes('2'),
    echoBytes('3', 'nothing'),
    wordsBytes('text', 'a b'),
    echoBytes('4'),
  ];
  stream.end(Buffer.concat(requests.map((bytes) => frame(bytes))));
  await until(() => front.engine.generations[0]?.isOver === true && front.engine.held.length === 1);
  front.engine.release();
  const messages = streamMessages(await reply);
  expect(ids(messages)).toEqual(['text', 'text', '1', '2', '3', '4']);
  expect(messages[4]).toMatchObject({ error: "Request for unknown model: 'nothing' is not found", final: true });
  expect(messages[4]!.response).toMatchObject({ model_name: 'nothing', model_version: '' });
  expect(front.budget.used).toBe(0);
});

test('a model that turns out to generate text holds nobody up behind it', async () => {
  const { raw } = await start();
  const requests = [wordsBytes('text', MANY, { model_name: 'lazy' }), echoBytes('1'), echoBytes('2', 'later')];
  const messages = streamMessages(await raw.request(STREAM, Buffer.concat(requests.map((bytes) => frame(bytes)))));
  const order = ids(messages);
  expect(order.indexOf('1')).toBeLessThan(order.indexOf('2'));
  expect(order.indexOf('2')).toBeLessThan(order.lastIndexOf('text'));
  expect(
    byId(messages, 'text')
      .map(({ text }) => text)
      .join(''),
  ).toBe(MANY);
});

test('an error is a message, and the stream goes on', async () => {
  const { front, raw } = await start();
  const noData = wordsBytes('no data', '', { raw_input_contents: [] });
  const requests = [noData, Buffer.from([0x1a, 1, 0x41, 0xff]), wordsBytes('b', 'one BROKEN two'), echoBytes('z')];
  const messages = streamMessages(await raw.request(STREAM, Buffer.concat(requests.map((bytes) => frame(bytes)))));
  expect(byId(messages, 'no data')[0]!.error).toContain("unable to find data for input tensor 'text_input'");
  expect(byId(messages, 'A')[0]!.error).toContain('malformed ModelInferRequest');
  expect(byId(messages, 'b')).toMatchObject([
    { text: 'one ', final: false },
    { error: 'the worker was lost', final: true },
  ]);
  expect(byId(messages, 'z')).toMatchObject([{ text: 'z.......', final: true }]);
  expect(front.finished.map(({ status }) => status).sort()).toEqual([
    'INTERNAL',
    'INVALID_ARGUMENT',
    'OK',
    'UNAVAILABLE',
  ]);
  expect(front.budget.used).toBe(0);
});

test('with triton_grpc_error the first error is the status, and what else runs is cancelled', async () => {
  const { front, stub } = await start();
  const metadata = new Metadata();
  metadata.set('triton_grpc_error', 'true');
  const call = stub.ModelStreamInfer!(metadata);
  const ended = collect(call, shorten);
  call.write(wordsRequest('w', ENDLESS));
  call.write(inferRequest('echo', Buffer.from('abcdefgh'), { id: 'e' }));
  call.write(inferRequest('nothing', Buffer.from('abcdefgh'), { id: 'n' }));
  const { messages, code, details, trailer } = await ended;
  expect(code).toBe(5);
  expect(details).toBe("Request for unknown model: 'nothing' is not found");
  expect(trailer['server-timing']).toContain('total;dur=');
  expect(byId(messages, 'e')).toHaveLength(1);
  expect(byId(messages, 'n')).toHaveLength(0);
  expect(front.engine.generations[0]!.isCancelled).toBe(true);
  await until(() => front.finished.length === 3);
  expect(front.finished.map(({ status }) => status).sort()).toEqual(['CANCELLED', 'NOT_FOUND', 'OK']);
  await until(() => front.budget.used === 0);
});

test('an empty final response is not sent besides, and the wish for one is the only reserved parameter', async () => {
  const { front, raw } = await start();
  const wish = (value: object) => ({ parameters: { triton_enable_empty_final_response: value } });
  const requests = [
    wordsBytes('w', 'a b', wish({ bool_param: true })),
    wordsBytes('x', 'a', wish({ string_param: 'true' })),
  ];
  const messages = streamMessages(await raw.request(STREAM, Buffer.concat(requests.map((bytes) => frame(bytes)))));
  expect(byId(messages, 'w').map(({ final }) => final)).toEqual([false, true]);
  expect(byId(messages, 'x')[0]!.error).toContain(
    "'triton_enable_empty_final_response' parameter, expected bool_param",
  );
  expect(front.engine.seen.map(({ parameters }) => parameters.size)).toEqual([0]);
});

test('a cancel ends all generations of the stream and drops what is queued', async () => {
  const { front, stub } = await start();
  const call = stub.ModelStreamInfer!();
  call.on('error', () => undefined);
  call.write(wordsRequest('1', ENDLESS));
  call.write(wordsRequest('2', ENDLESS));
  call.write(inferRequest('hold', Buffer.alloc(8), { id: '3' }));
  await once(call, 'data');
  await until(() => front.engine.held.length === 1);
  call.cancel();
  await until(() => front.engine.cancelled === 3);
  expect(front.engine.generations.every(({ isCancelled }) => isCancelled)).toBe(true);
  front.engine.release();
  await until(() => front.finished.length === 3);
  expect(front.finished.map(({ status }) => status)).toEqual(['CANCELLED', 'CANCELLED', 'CANCELLED']);
  expect(front.budget.used).toBe(0);
});

test('a cancel is seen also while the stream is not read', async () => {
  const { front, raw } = await start();
  const stream = raw.open(STREAM);
  stream.write(Buffer.concat(Array.from({ length: 300 }, (_, i) => frame(echoBytes(`${i}`, 'hold')))));
  await until(() => front.engine.held.length >= 128);
  // More arrives than is read.
  stream.write(Buffer.concat(Array.from({ length: 300 }, (_, i) => frame(echoBytes(`${i}`, 'hold')))));
  await raw.request(LIVE, frame(Buffer.alloc(0)));
  expect(front.engine.held).toHaveLength(128);
  stream.close(8);
  await until(() => front.engine.cancelled === 128);
  await until(() => front.budget.used === 0);
});

test('a caller that resets its stream without an error is found gone', async () => {
  const { front, raw } = await start();
  const stream = raw.open(STREAM);
  stream.write(Buffer.concat(Array.from({ length: 300 }, (_, i) => frame(echoBytes(`${i}`, 'hold')))));
  await until(() => front.engine.held.length === 128);
  stream.close(0);
  await until(() => front.engine.cancelled === 128);
  await until(() => front.budget.used === 0);
});

test('the deadline of the stream ends it with its status and cancels what runs', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  const { front, raw } = await start();
  const stream = raw.open(STREAM, { 'grpc-timeout': '50m' });
  const reply = readReply(stream);
  stream.write(frame(echoBytes('e')));
  stream.write(frame(echoBytes('h', 'hold')));
  await until(() => front.engine.held.length === 1);
  vi.advanceTimersByTime(50);
  const ended = await reply;
  expect(ended.headers['grpc-status']).toBe('4');
  expect(ids(streamMessages(ended))).toEqual(['e']);
  expect(front.engine.cancelled).toBe(1);
  await until(() => front.budget.used === 0);
});

test('requests wait unread beyond the bound on a stream, and none is lost, doubled or refused', async () => {
  const { front, raw } = await start();
  const stream = raw.open(STREAM);
  const reply = readReply(stream);
  const count = 5000;
  stream.end(Buffer.concat(Array.from({ length: count }, (_, i) => frame(echoBytes(`r${i}`, 'hold')))));
  let most = 0;
  let answered = 0;
  while (answered < count) {
    await until(() => front.engine.held.length > 0);
    most = Math.max(most, front.engine.held.length);
    answered += front.engine.held.length;
    front.engine.release();
  }
  const ended = await reply;
  expect(ended.headers['grpc-status']).toBe('0');
  expect(most).toBeLessThanOrEqual(128);
  expect(ids(streamMessages(ended))).toEqual(Array.from({ length: count }, (_, i) => `r${i}`));
  expect(front.budget.used).toBe(0);
});

test('ten thousand tiny messages in one packet do not hold up the others', async () => {
  const { front, raw } = await start();
  const flood = raw.open(STREAM);
  const reply = readReply(flood);
  flood.end(Buffer.alloc(50_000));
  const other = await raw.request(LIVE, frame(Buffer.alloc(0)));
  expect(other.headers['grpc-status']).toBe('0');
  const ended = await reply;
  // When the server answered it, not when it was read.
  expect(front.finished.findIndex(({ method }) => method === 'ServerLive')).toBeLessThan(10_000);
  expect(ended.headers['grpc-status']).toBe('0');
  expect(streamMessages(ended)).toHaveLength(10_000);
  expect(front.budget.used).toBe(0);
});

test('what comes while a stream is not read is counted, and refused where there is no room', async () => {
  const { front, raw } = await start({ budgetBytes: 200_000 });
  const stream = raw.open(STREAM);
  const reply = readReply(stream);
  const held = Buffer.concat(Array.from({ length: 128 }, (_, i) => frame(echoBytes(`${i}`, 'hold'))));
  stream.write(held);
  await until(() => front.engine.held.length === 128);
  stream.write(Buffer.alloc(250_000));
  const { headers } = await reply;
  expect(headers['grpc-status']).toBe('8');
  expect(front.budget.peak).toBeLessThanOrEqual(200_000);
  await until(() => front.budget.used === 0 && front.engine.cancelled === 128);
});

test('a message that does not fit beside others of its stream waits for them; alone it is refused', async () => {
  const { front, raw } = await start({ budgetBytes: 10_000 });
  const stream = raw.open(STREAM);
  const reply = readReply(stream);
  stream.end(Buffer.concat(['a', 'b', 'c'].map((id) => frame(echoBytes(id, 'hold', Buffer.alloc(4000, id))))));
  await until(() => front.engine.held.length === 2);
  await raw.request(LIVE, frame(Buffer.alloc(0)));
  expect(front.engine.held).toHaveLength(2);
  // In turns of their own: the third takes the place of the first.
  for (const { request, handler } of front.engine.held.splice(0)) {
    const { modelName, id } = request;
    handler.onResponse({ modelName, modelVersion: '3', id, outputs: [] });
    await new Promise((resolve) => setImmediate(resolve));
  }
  await until(() => front.engine.held.length === 1);
  front.engine.release();
  const ended = await reply;
  expect(ended.headers['grpc-status']).toBe('0');
  expect(ids(streamMessages(ended))).toEqual(['a', 'b', 'c']);
  const alone = await raw.request(STREAM, frame(echoBytes('x', 'echo', Buffer.alloc(11_000))));
  expect(alone.headers['grpc-status']).toBe('8');
  expect(front.budget.used).toBe(0);
});

test.each([
  ['ends inside a message', Buffer.concat([frame(echoBytes('g')), frame(echoBytes('h')).subarray(0, 20)]), '13'],
  ['ends inside a head', Buffer.concat([frame(echoBytes('g')), Buffer.from([0, 0])]), '13'],
  ['has an unknown flag', Buffer.concat([frame(echoBytes('g')), frame(echoBytes('h'), 7)]), '13'],
  ['is compressed without an encoding', Buffer.concat([frame(echoBytes('g')), frame(gzipSync('x'), 1)]), '13'],
  ['announces too much', Buffer.concat([frame(echoBytes('g')), Buffer.from([0, 0xff, 0, 0, 0])]), '8'],
])('a stream that %s ends with a status behind what was answered', async (_, body, status) => {
  const { front, raw } = await start();
  const ended = await raw.request(STREAM, body);
  expect(ended.headers['grpc-status']).toBe(status);
  expect(ids(streamMessages(ended))).toEqual(['g']);
  await until(() => front.budget.used === 0);
});

test('messages are whole however they are cut, compressed or not', async () => {
  const { front, raw } = await start();
  const large = Buffer.alloc(300_000, 'x');
  const messages = [echoBytes('1'), echoBytes('2', 'echo', large), echoBytes('3'), echoBytes('4', 'echo', large)];
  const body = Buffer.concat(messages.map((bytes, i) => (i < 2 ? frame(bytes) : frame(gzipSync(bytes), 1))));
  for (const step of [7_001, 65_536, body.length]) {
    const stream = raw.open(STREAM, { 'grpc-encoding': 'gzip' });
    const reply = readReply(stream);
    for (let at = 0; at < body.length; at += step) {
      if (!stream.write(body.subarray(at, at + step))) await once(stream, 'drain');
      await new Promise((resolve) => setImmediate(resolve));
    }
    stream.end();
    const ended = await reply;
    expect(ended.headers['grpc-status']).toBe('0');
    expect(streamMessages(ended).map(({ text }) => text.length)).toEqual([8, large.length, 8, large.length]);
  }
  expect(front.budget.used).toBe(0);
});

test('a message that stops coming ends its stream by the receive timeout; an idle stream may stay', async () => {
  const { front, raw } = await start({ receiveTimeoutMs: 50 });
  const idle = raw.open(STREAM);
  const idleReply = readReply(idle);
  idle.write(frame(echoBytes('first')));
  const stuck = raw.open(STREAM);
  stuck.write(frame(echoBytes('x')).subarray(0, 12));
  expect((await readReply(stuck)).headers['grpc-status']).toBe('4');
  idle.end(frame(echoBytes('last')));
  expect(ids(streamMessages(await idleReply))).toEqual(['first', 'last']);
  expect(front.budget.used).toBe(0);
});

test('a caller that reads no replies is ended, and its memory is back though it reads nothing', async () => {
  // The server's clock stands still until all requests are there.
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] });
  const { front } = await start({ writeStallMs: 50 });
  const slow = stalledConnection(front.port);
  open.push(slow);
  const stream = slow.open(STREAM);
  stream.write(Buffer.concat(Array.from({ length: 50 }, (_, i) => frame(echoBytes(`${i}`)))));
  await until(() => front.engine.seen.length === 50);
  await until(() => vi.advanceTimersByTime(50) && stream.closed);
  expect(front.engine.seen).toHaveLength(50);
  await until(() => front.budget.used === 0);
});

test('replies that nobody reads stop the reading of requests', async () => {
  const { front } = await start();
  const slow = stalledConnection(front.port);
  open.push(slow);
  const stream = slow.open(STREAM);
  const reply = readReply(stream);
  stream.end(Buffer.concat(Array.from({ length: 3000 }, (_, i) => frame(echoBytes(`${i}`)))));
  await until(() => front.engine.seen.length >= 1024);
  for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve));
  expect(front.engine.seen.length).toBeLessThan(1200);
  slow.session.settings({ initialWindowSize: 1 << 24 });
  expect(ids(streamMessages(await reply))).toEqual(Array.from({ length: 3000 }, (_, i) => `${i}`));
  expect(front.budget.used).toBe(0);
});

test('generations of a stream whose replies nobody reads pause by their windows and go on when it reads', async () => {
  const { front } = await start();
  const slow = stalledConnection(front.port);
  open.push(slow);
  const stream = slow.open(STREAM);
  const reply = readReply(stream);
  const texts = Array.from({ length: 16 }, (_, i) => MANY.replaceAll('word', `s${i}w`));
  stream.end(Buffer.concat(texts.map((text, i) => frame(wordsBytes(`${i}`, text)))));
  await until(
    () => front.engine.generations.length === 16 && front.engine.generations.every(({ sent }) => sent === 16),
  );
  expect(front.engine.generations.every(({ takenCount }) => takenCount === 0)).toBe(true);
  slow.session.settings({ initialWindowSize: 1 << 24 });
  const messages = streamMessages(await reply);
  for (const [i, text] of texts.entries()) {
    const own = byId(messages, `${i}`);
    expect(own.map((message) => message.text).join('')).toBe(text);
    expect(own.map(({ final }) => final)).toEqual(own.map((_, at) => at === own.length - 1));
  }
  expect(front.budget.used).toBe(0);
});

test('a hundred streams on one connection mix nothing up', async () => {
  const { front, raw } = await start();
  const replies = Array.from({ length: 100 }, (_, s) => {
    const requests = Array.from({ length: 20 }, (_, i) =>
      i % 4 === 0 ? wordsBytes(`${s}/${i}`, `s${s} i${i}`) : echoBytes(`${s}/${i}`, i % 2 ? 'echo' : 'later'),
    );
    return raw.request(STREAM, Buffer.concat(requests.map((bytes) => frame(bytes))));
  });
  for (const [s, reply] of (await Promise.all(replies)).entries()) {
    const messages = streamMessages(reply);
    expect(messages).toHaveLength(25);
    const ordinary = ids(messages.filter(({ response }) => response.model_name !== 'words'));
    expect(ordinary).toEqual([...Array(20).keys()].filter((i) => i % 4 !== 0).map((i) => `${s}/${i}`));
    for (let i = 0; i < 20; i += 4)
      expect(byId(messages, `${s}/${i}`).map(({ text }) => text)).toEqual([`s${s} `, `i${i}`]);
  }
  expect(front.budget.used).toBe(0);
});

test('draining, what is accepted is answered, what comes is refused in the stream, then the stream ends', async () => {
  const { front, raw } = await start();
  const stream = raw.open(STREAM);
  const reply = readReply(stream);
  stream.write(Buffer.concat([frame(echoBytes('h', 'hold')), frame(wordsBytes('w', MANY))]));
  const idle = readReply(raw.open(STREAM));
  await until(() => front.engine.held.length === 1);
  const drained = front.server.drain();
  stream.write(frame(echoBytes('late', 'hold')));
  await until(() => front.finished.some(({ status }) => status === 'UNAVAILABLE'));
  front.engine.release();
  const ended = await reply;
  expect(ended.headers['grpc-status']).toBe('14');
  const messages = streamMessages(ended);
  expect(byId(messages, 'h')).toMatchObject([{ text: 'h.......', final: true }]);
  expect(
    byId(messages, 'w')
      .map(({ text }) => text)
      .join(''),
  ).toBe(MANY);
  const refusal = 'GRPC server is shutting down and has stopped accepting new requests.';
  expect(byId(messages, 'late')).toMatchObject([{ error: refusal }]);
  expect((await idle).headers['grpc-status']).toBe('14');
  raw.close();
  await drained;
  expect(front.budget.used).toBe(0);
});
