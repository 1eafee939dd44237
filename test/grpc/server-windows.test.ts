import http2 from 'node:http2';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type FrontEnd, startFrontEnd } from './front-end.js';

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

test('the functions of node:http2 are as they were', () => {
  expect(http2.createServer).toBe(createServer);
  expect(http2.createSecureServer).toBe(createSecureServer);
});
