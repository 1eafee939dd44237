import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { request } from 'node:https';
import { expect, test } from 'vitest';
import { startFrontEnd } from './front-end.js';
import { TokenEngine } from './token-engine.js';

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

test('events come over HTTPS as they do without, and are taken as they are sent', async () => {
  const engine = new TokenEngine();
  const front = await startFrontEnd({ engine, tls: server });
  const { port } = front;
  const call = request({ host: 'localhost', port, method: 'POST', path: '/v1/completions', agent: false, ca });
  call.end(JSON.stringify({ model: 'words', prompt: 'w '.repeat(200), max_tokens: 500, stream: true }));
  const [response] = (await once(call, 'response')) as [IncomingMessage];
  let text = '';
  response.setEncoding('utf8').on('data', (part: string) => {
    text += part;
  });
  await once(response, 'end');
  expect(text.match(/^data: /gm)).toHaveLength(202);
  expect(response.trailers['server-timing']).toMatch(/total;dur=/);
  // The last ones may be on their way back.
  await expect.poll(() => engine.taken).toBe(201);
  await front.close();
});
