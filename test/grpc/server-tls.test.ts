import { readFileSync } from 'node:fs';
import http2 from 'node:http2';
import { connect as connectTcp } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { credentials, Metadata } from '@grpc/grpc-js';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { call, connect, type FrontEnd, inferRequest, startFrontEnd } from './front-end.js';

const pem = (name: string): Buffer => readFileSync(new URL(`../fixtures/tls/${name}`, import.meta.url));
const ca = pem('authority.pem');
const tls = { cert: pem('server.pem'), key: pem('server.key'), ca };

let plain: FrontEnd;
/** Gives a connection half a second. */
let impatient: FrontEnd;
let mutual: FrontEnd;

beforeAll(async () => {
  const serverOnly = { cert: tls.cert, key: tls.key, mutual: false };
  plain = await startFrontEnd({ tls: serverOnly });
  impatient = await startFrontEnd({ tls: serverOnly, connectTimeoutMs: 500 });
  mutual = await startFrontEnd({ tls: { ...tls, mutual: true } });
});
afterAll(() => {
  plain.server.close();
  impatient.server.close();
  mutual.server.close();
});

async function infer({ port }: FrontEnd, channel: ReturnType<typeof credentials.createSsl>, metadata = new Metadata()) {
  const stub = connect('open', port, channel);
  const outcome = await call(stub, 'ModelInfer', inferRequest('echo', Buffer.alloc(100_000, 1)), {}, metadata);
  stub.close();
  return outcome;
}

test('a client that trusts the authority is served', async () => {
  const { error, response } = await infer(plain, credentials.createSsl(ca));
  expect(error).toBeNull();
  expect(response.raw_output_contents[0]).toHaveLength(100_000);
});

test('the windows are the same as without TLS', async () => {
  const session = http2.connect(`https://localhost:${plain.port}`, { ca });
  const settings = await new Promise<http2.Settings>((resolve) => session.once('remoteSettings', resolve));
  expect(settings).toMatchObject({ initialWindowSize: 8 * 1024 * 1024, maxFrameSize: 1024 * 1024 });
  session.destroy();
});

test('mutual TLS serves a client with a certificate of the authority', async () => {
  const channel = credentials.createSsl(ca, pem('client.key'), pem('client.pem'));
  expect((await infer(mutual, channel)).error).toBeNull();
});

test.each([
  ['without a certificate', credentials.createSsl(ca)],
  ['with a stranger’s certificate', credentials.createSsl(ca, pem('stranger-client.key'), pem('stranger-client.pem'))],
])('mutual TLS refuses a client %s', async (_, channel) => {
  expect((await infer(mutual, channel)).error).toMatchObject({ code: 14 });
});

test.each([
  ['says nothing', Buffer.alloc(0)],
  ['stops in its ClientHello', Buffer.from([0x16, 0x03, 0x01])],
  ['speaks plaintext HTTP/2', Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')],
])('a connection that %s is closed', async (_, bytes) => {
  const socket = connectTcp(impatient.port, '127.0.0.1', () => socket.write(bytes));
  await new Promise<void>((resolve) => {
    socket.on('error', () => {}).on('close', () => resolve());
    socket.resume();
  });
  // A handshake that this machine is too slow for is begun again, as grpc-js does it.
  const patient = new Metadata({ waitForReady: true });
  expect((await infer(impatient, credentials.createSsl(ca), patient)).error).toBeNull();
});

test('a client without HTTP/2 by ALPN, and one with TLS 1.1, get no session', async () => {
  for (const options of [
    { ALPNProtocols: ['http/1.1'] },
    { maxVersion: 'TLSv1.1' as const, minVersion: 'TLSv1' as const },
  ]) {
    const socket = connectTls({ port: plain.port, host: '127.0.0.1', ca, ...options });
    await new Promise<void>((resolve) => {
      socket.on('error', () => {}).on('close', () => resolve());
      socket.resume();
    });
  }
});

test('drain closes TLS connections too', async () => {
  const front = await startFrontEnd({ tls: { ...tls, mutual: false } });
  const socket = connectTcp(front.port, '127.0.0.1');
  const half = new Promise<void>((resolve) => socket.on('error', () => {}).on('close', () => resolve()));
  socket.resume();
  await infer(front, credentials.createSsl(ca));
  await front.server.drain();
  await half;
});
