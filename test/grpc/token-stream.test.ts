import { once } from 'node:events';
import { constants } from 'node:http2';
import { gzipSync } from 'node:zlib';
import { afterEach, expect, test, vi } from 'vitest';
import { WINDOW } from './echo-engine.js';
import { connect, frame, INFER, inferBytes, LIVE, RawConnection, startFrontEnd } from './front-end.js';
import {
  closed,
  collect,
  ENDLESS,
  messagesOf,
  readReply,
  STREAM,
  stalledConnection,
  stream,
  TOKENS,
  textBytes,
  textRequest,
  until,
} from './streams.js';

const open: { close(): void }[] = [];

async function start(options: Parameters<typeof startFrontEnd>[0] = {}) {
  const front = await startFrontEnd(options);
  const raw = new RawConnection(front.port);
  const stub = connect('v1', front.port);
  open.push(raw, stub, front.server);
  return { front, raw, stub };
}

afterEach(() => {
  vi.useRealTimers();
  for (const each of open.splice(0)) each.close();
});

const STORY = 'Once upon a time there was a wörd 😀 and the end';
const MANY = Array.from({ length: 2000 }, (_, i) => `word${i}`).join(' ');

test('each word comes as a message of its own with its logit, then OK with the budget', async () => {
  const { front, stub } = await start();
  const { messages, code, trailer } = await stream(stub, STORY);
  expect(code).toBe(0);
  expect(messages.map(({ token }) => token)).toEqual(STORY.split(/(?<= )/));
  expect(messages.map(({ logits }) => logits)).toEqual(messages.map((_, i) => (i + 1) / 2));
  expect(trailer['server-timing']).toMatch(/^receive;dur=.*prefill;dur=.*total;dur=\d+\.\d{3}$/);
  expect(front.finished).toMatchObject([
    { method: 'StreamingModelInfer', modelName: 'words', arm: 'grpc_raw', status: 'OK' },
  ]);
  expect(front.budget.used).toBe(0);
});

test('the engine is asked for deltas of text and logit, for the caller by its address', async () => {
  const { front, stub } = await start();
  await collect(stub.StreamingModelInfer!(textRequest('words', 'a b', { temperature: '0.5' })), (token) => token);
  const [request] = front.engine.seen;
  expect(request).toMatchObject({
    streams: true,
    clientKey: '127.0.0.1',
    outputs: [{ name: 'text_output' }, { name: 'token_logit' }],
  });
  expect(request!.inputs).toMatchObject([{ name: 'input', datatype: 'BYTES', content: 'text' }]);
  expect(request!.parameters.get('temperature')).toBe('0.5');
});

test.each([
  ['in the middle', 'a [x] b', ['a ', 'b']],
  ['at the end', 'a b [x]', ['a ', 'b ']],
  ['everywhere', '[x] [y]', []],
])('tokens without text %s are no messages, and count as taken', async (_, text, tokens) => {
  const { front, stub } = await start();
  const { messages, code } = await stream(stub, text);
  expect(code).toBe(0);
  expect(messages.map(({ token }) => token)).toEqual(tokens);
  expect(front.engine.generations[0]!.isCancelled).toBe(false);
  const empty = Array.from({ length: 4 * WINDOW }, () => '[x]').join(' ');
  expect((await stream(stub, `${empty} end`)).messages.map(({ token }) => token)).toEqual(['end']);
});

test('text that ends a stream without a token of its own is a message without a logit', async () => {
  const { stub } = await start();
  const { messages, code } = await stream(stub, 'a {b}');
  expect(code).toBe(0);
  expect(messages).toEqual([
    { token: 'a ', logits: 0.5 },
    { token: '{b}', logits: 0 },
  ]);
});

test('text of several tokens at once is a message without a logit', async () => {
  const { stub, front } = await start();
  const { messages, code } = await stream(stub, 'a (b)');
  expect(code).toBe(0);
  expect(messages).toEqual([
    { token: 'a ', logits: 0.5 },
    { token: '(b)', logits: 0 },
  ]);
  expect(front.budget.used).toBe(0);
});

test('an error before the first token is a status alone, one behind tokens comes behind them', async () => {
  const { stub, raw } = await start();
  const early = await raw.request(TOKENS, frame(textBytes('words', 'BROKEN now')));
  expect(early.headers).toMatchObject({ 'grpc-status': '14', 'grpc-message': 'the%20worker%20was%20lost' });
  expect(early.headers['server-timing']).toContain('total;dur=');
  expect(early.body).toHaveLength(0);
  const late = await stream(stub, 'one two BROKEN four');
  expect(late).toMatchObject({ code: 14, details: 'the worker was lost' });
  expect(late.messages.map(({ token }) => token)).toEqual(['one ', 'two ']);
  expect(late.trailer['server-timing']).toContain('total;dur=');
});

test.each([
  ['echo', 3, "model 'echo' generates no text"],
  ['nothing', 5, "Request for unknown model: 'nothing' is not found"],
])('a stream of the model %s is refused', async (model, code, details) => {
  const { front, stub } = await start();
  const ended = await stream(stub, 'text', model);
  expect(ended.code).toBe(code);
  expect(ended.details).toContain(details);
  expect(ended.messages).toEqual([]);
  expect(front.budget.used).toBe(0);
});

test('a cancel in the middle reaches the engine, and the budget is whole', async () => {
  const { front, stub } = await start();
  const call = stub.StreamingModelInfer!(textRequest('words', ENDLESS));
  call.on('error', () => undefined);
  await once(call, 'data');
  const cancelled = front.engine.nextCancelled();
  call.cancel();
  await cancelled;
  const [generation] = front.engine.generations;
  expect(generation!.isCancelled).toBe(true);
  expect(generation!.sent).toBeLessThan(generation!.words.length);
  await until(() => front.finished.length > 0);
  expect(front.finished).toMatchObject([{ status: 'CANCELLED' }]);
  expect(front.budget.used).toBe(0);
});

test('the deadline in the middle ends the stream with its status behind the tokens', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  const { front, raw } = await start();
  const reader = raw.open(TOKENS, { 'grpc-timeout': '100m' });
  const reply = readReply(reader);
  reader.end(frame(textBytes('words', ENDLESS)));
  await until(() => (front.engine.generations[0]?.sent ?? 0) > 0);
  vi.advanceTimersByTime(100);
  const { headers, body } = await reply;
  expect(headers['grpc-status']).toBe('4');
  expect(headers['server-timing']).toContain('total;dur=');
  expect(messagesOf(body, 'StreamingModelInfer').length).toBeGreaterThan(0);
  expect(front.engine.generations[0]!.isCancelled).toBe(true);
  expect(front.finished).toMatchObject([{ status: 'DEADLINE_EXCEEDED' }]);
  await until(() => front.budget.used === 0);
});

test('a compressed request is inflated, a second message is refused', async () => {
  const { front, raw } = await start();
  const zipped = frame(gzipSync(textBytes('words', 'a b')), 1);
  const reply = await raw.request(TOKENS, zipped, { 'grpc-encoding': 'gzip' });
  expect(reply.headers['grpc-status']).toBe('0');
  expect(messagesOf(reply.body, 'StreamingModelInfer')).toHaveLength(2);
  const unlabelled = await raw.request(TOKENS, zipped);
  expect(unlabelled.headers['grpc-status']).toBe('13');
  const two = await raw.request(
    TOKENS,
    Buffer.concat([frame(textBytes('words', 'a')), frame(textBytes('words', 'b'))]),
  );
  expect(two.headers['grpc-status']).toBe('12');
  expect((await raw.request(TOKENS, Buffer.alloc(0))).headers['grpc-status']).toBe('12');
  expect((await raw.request(TOKENS, frame(textBytes('words', 'a')).subarray(0, 9))).headers['grpc-status']).toBe('13');
  expect(front.engine.generations).toHaveLength(1);
  expect(front.budget.used).toBe(0);
});

test('a caller that reads nothing gets no more than its window; others go on; when it reads, nothing is missing', async () => {
  const { front, stub } = await start();
  const slow = stalledConnection(front.port);
  open.push(slow);
  const reader = slow.open(TOKENS);
  const reply = readReply(reader);
  reader.end(frame(textBytes('words', MANY)));
  await until(() => front.engine.generations[0]?.sent === WINDOW);
  const other = await stream(stub, MANY);
  expect(other.messages).toHaveLength(2000);
  const [generation] = front.engine.generations;
  expect(generation).toMatchObject({ sent: WINDOW, takenCount: 0 });
  slow.session.settings({ initialWindowSize: 1 << 20 });
  const { headers, body } = await reply;
  expect(headers['grpc-status']).toBe('0');
  const tokens = messagesOf(body, 'StreamingModelInfer') as { token: string }[];
  expect(tokens.map(({ token }) => token).join('')).toBe(MANY);
  expect(front.budget.used).toBe(0);
});

test('a stalled caller whom the engine gives up is reset, and its memory is back though it reads nothing', async () => {
  const { front } = await start({ writeStallMs: 50 });
  const slow = stalledConnection(front.port);
  open.push(slow);
  const reader = slow.open(TOKENS);
  const reset = closed(reader);
  reader.end(frame(textBytes('words', MANY)));
  await until(() => front.engine.generations[0]?.sent === WINDOW);
  expect(front.budget.used).toBeGreaterThan(0);
  front.engine.generations[0]!.stall();
  await reset;
  await until(() => front.budget.used === 0);
  expect(front.finished).toMatchObject([{ status: 'RESOURCE_EXHAUSTED' }]);
  // The connection itself goes on: its next call is let in.
  expect((await slow.request(LIVE, frame(Buffer.alloc(0)), { 'grpc-timeout': '1n' })).headers['grpc-status']).toBe('4');
});

test.each([
  ['while it is written', TOKENS, textBytes('words', MANY), true],
  ['once all of it is written', TOKENS, textBytes('words', 'a b'), true],
  ['of a unary call', INFER, inferBytes('echo', Buffer.alloc(64)), true],
  ['of a stream both ways', STREAM, inferBytes('echo', Buffer.alloc(64)), false],
  ['of a stream both ways that has ended', STREAM, inferBytes('echo', Buffer.alloc(64)), true],
])(
  'a reply that nobody reads %s is let go when its caller resets it without an error',
  async (_, path, message, ends) => {
    const { front } = await start();
    const slow = stalledConnection(front.port);
    open.push(slow);
    const reader = slow.open(path);
    const reset = closed(reader);
    reader.write(frame(message));
    if (ends) reader.end();
    await once(reader, 'response');
    await until(() => front.engine.generations.every(({ sent, words }) => sent === Math.min(WINDOW, words.length)));
    // Neither an error nor a half-close: Node's server goes on waiting for the reply to be read.
    reader.close(constants.NGHTTP2_NO_ERROR);
    await reset;
    await until(() => front.budget.used === 0 && front.finished.length === 1);
    await until(() => front.engine.generations.every(({ isOver }) => isOver));
    // With streams that have not closed, the connection could not end.
    slow.close();
    await front.server.drain();
  },
);

test('a hundred streams on one connection, none loses or doubles a word', async () => {
  const { front, stub } = await start();
  const texts = Array.from({ length: 100 }, (_, i) => Array.from({ length: 60 }, (_, j) => `s${i}w${j}`).join(' '));
  const ended = await Promise.all(texts.map((text) => stream(stub, text)));
  for (const [i, { messages, code }] of ended.entries()) {
    expect(code).toBe(0);
    expect(messages.map(({ token }) => token).join('')).toBe(texts[i]);
    expect(messages).toHaveLength(60);
  }
  expect(front.finished).toHaveLength(100);
  expect(front.budget.used).toBe(0);
});

test('a lost connection cancels all its streams', async () => {
  const { front, raw } = await start();
  for (let i = 0; i < 5; i++) {
    const seen = front.engine.nextSeen();
    raw.open(TOKENS).end(frame(textBytes('words', ENDLESS)));
    await seen;
  }
  raw.close();
  await until(() => front.engine.generations.every(({ isCancelled }) => isCancelled));
  await until(() => front.finished.length === 5);
  expect(front.budget.used).toBe(0);
});

test('draining, a running stream finishes and a new one is refused', async () => {
  const { front, raw, stub } = await start();
  const call = stub.StreamingModelInfer!(textRequest('words', MANY));
  const ended = collect(call, (token: never) => (token as { token: string }).token);
  await once(call, 'data');
  const drained = front.server.drain();
  await raw.request(TOKENS, frame(textBytes('words', 'a')));
  expect(front.engine.generations).toHaveLength(1);
  const { messages, code } = await ended;
  expect(code).toBe(0);
  expect(messages.join('')).toBe(MANY);
  stub.close();
  raw.close();
  await drained;
  expect(front.budget.used).toBe(0);
});

test('a stream that does not fit into the bytes in flight is ended, and the engine told', async () => {
  const { front, raw } = await start({ budgetBytes: 300 });
  const reply = await raw.request(TOKENS, frame(textBytes('words', 'x'.repeat(260))));
  expect(reply.headers['grpc-status']).toBe('8');
  expect(front.budget.used).toBe(0);
});
