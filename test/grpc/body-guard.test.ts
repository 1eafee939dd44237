import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type FrontEnd, frame, INFER, inferBytes, LIVE, RawConnection, readReply, startFrontEnd } from './front-end.js';

let front: FrontEnd;
let raw: RawConnection;
beforeAll(async () => {
  front = await startFrontEnd();
  raw = new RawConnection(front.port);
});
afterAll(() => {
  raw.close();
  front.server.close();
});

/** Sends `body` cut at `cuts`, each part written when the one before has left this process. */
async function sendInParts(body: Buffer, cuts: readonly number[], headers: Record<string, string> = {}) {
  const stream = raw.open(INFER, headers);
  const reply = readReply(stream);
  let from = 0;
  for (const to of [...cuts, body.length]) {
    if (!stream.write(body.subarray(from, to))) await once(stream, 'drain');
    await new Promise((resolve) => setImmediate(resolve));
    from = to;
  }
  stream.end();
  return reply;
}

const data = randomBytes(400);
const small = frame(inferBytes('echo', data));

test.each([
  ['in one piece', []],
  ['byte by byte', Array.from({ length: small.length - 1 }, (_, i) => i + 1)],
  ['cut inside its head', [3]],
  ['cut behind its head', [5]],
  ['cut before its last byte', [small.length - 1]],
])('a message that comes %s is whole', async (_, cuts) => {
  const { headers, body } = await sendInParts(small, cuts);
  expect(headers['grpc-status']).toBe('0');
  expect(body.subarray(-400)).toEqual(data);
});

test('a message of many chunks is whole, however they are cut', async () => {
  const large = randomBytes(1_200_000);
  const body = frame(inferBytes('echo', large));
  for (const step of [16_384, 99_991, 5_000]) {
    const cuts = Array.from({ length: Math.floor(body.length / step) }, (_, i) => (i + 1) * step);
    const reply = await sendInParts(body, cuts);
    expect(reply.headers['grpc-status']).toBe('0');
    expect(reply.body.subarray(-large.length).equals(large)).toBe(true);
  }
});

test('a compressed message of several chunks is whole', async () => {
  const body = frame(gzipSync(inferBytes('echo', data)), 1);
  const reply = await sendInParts(body, [2, 7, 50, 200], { 'grpc-encoding': 'gzip' });
  expect(reply.headers['grpc-status']).toBe('0');
  expect(reply.body.subarray(-400)).toEqual(data);
});

test('an empty message is a message', async () => {
  expect((await raw.request(LIVE, frame(Buffer.alloc(0)))).headers['grpc-status']).toBe('0');
});

test('messages of many calls that share chunks do not mix', async () => {
  const sent = Array.from({ length: 64 }, (_, i) => randomBytes(i % 2 === 0 ? 40 : 4 * (500 + 700 * i)));
  const replies = await Promise.all(sent.map((bytes) => raw.request(INFER, frame(inferBytes('later', bytes)))));
  for (const [i, { body }] of replies.entries()) expect(body.subarray(-sent[i]!.length)).toEqual(sent[i]);
  expect(front.budget.used).toBe(0);
});
