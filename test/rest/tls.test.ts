import { readFileSync } from 'node:fs';
import { request } from 'node:https';
import { expect, test } from 'vitest';
import { startFrontEnd } from './front-end.js';

const file = (name: string): Buffer => readFileSync(new URL(`../fixtures/tls/${name}`, import.meta.url));
const ca = file('authority.pem');
const server = { cert: file('server.pem'), key: file('server.key') };

/** Status of the liveness request, or the error's message. */
function live(port: number, options: { ca?: Buffer; cert?: Buffer; key?: Buffer }): Promise<number | string> {
  return new Promise((resolve) => {
    const call = request({ host: 'localhost', port, path: '/v2/health/live', agent: false, ...options }, (response) => {
      response.resume();
      resolve(response.statusCode!);
    });
    call.on('error', (error) => resolve(error.message));
    call.end();
  });
}

test('with a certificate the server speaks HTTPS and nothing else', async () => {
  const front = await startFrontEnd({ tls: server });
  expect(await live(front.port, { ca })).toBe(200);
  expect(await live(front.port, {})).toBeTypeOf('string');
  await expect(fetch(`${front.url}/v2/health/live`)).rejects.toThrow();
  await front.close();
});

test('mutual TLS lets in only clients whose certificate the authority signed', async () => {
  const front = await startFrontEnd({ tls: { ...server, ca, mutual: true } });
  expect(await live(front.port, { ca, cert: file('client.pem'), key: file('client.key') })).toBe(200);
  expect(await live(front.port, { ca })).toBeTypeOf('string');
  const stranger = { ca, cert: file('stranger-client.pem'), key: file('stranger-client.key') };
  expect(await live(front.port, stranger)).toBeTypeOf('string');
  await front.close();
});
