import http2 from 'node:http2';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type FrontEnd, frame, INFER, inferBytes, RawConnection, readReply, startFrontEnd } from './front-end.js';

let front: FrontEnd;
const { createServer, createSecureServer } = http2;

beforeAll(async () => {
  front = await startFrontEnd({ maxConcurrentStreams: 123 });
});

afterAll(() => front.server.close());

test('a client sees the windows, the frame size and the stream limit on the wire', async () => {
  const session = http2.connect(`http://127.0.0.1:${front.port}`);
  const settings = await new Promise<http2.Settings>((resolve) => session.once('remoteSettings', resolve));
  expect(settings).toMatchObject({
    initialWindowSize: 8 * 1024 * 1024,
    maxFrameSize: 1024 * 1024,
    maxConcurrentStreams: 123,
  });
  // The WINDOW_UPDATE of the connection follows the settings; a ping comes back behind both.
  await new Promise((resolve) => session.ping(resolve));
  expect(session.state.remoteWindowSize).toBe(16 * 1024 * 1024);
  session.destroy();
});

test('thousands of calls given up on a connection leave the others on it alone', async () => {
  const raw = new RawConnection(front.port);
  const held = raw.open(INFER);
  const reply = readReply(held);
  held.end(frame(inferBytes('hold', Buffer.alloc(16))));
  await front.engine.nextSeen();
  // Few at a time: a new call may overtake the reset of an old one, and past the limit of 123 calls are refused, which is another limit.
  for (let round = 0; round < 75; round++) {
    const closed = Array.from({ length: 40 }, () => {
      const stream = raw.open(INFER);
      stream.on('error', () => undefined);
      stream.close(http2.constants.NGHTTP2_CANCEL);
      return new Promise((resolve) => stream.once('close', resolve));
    });
    await Promise.all(closed);
  }
  front.engine.release();
  expect((await reply).headers['grpc-status']).toBe('0');
  raw.close();
});

test('the functions of node:http2 are as they were', () => {
  expect(http2.createServer).toBe(createServer);
  expect(http2.createSecureServer).toBe(createSecureServer);
});
