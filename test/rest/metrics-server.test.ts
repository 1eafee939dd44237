import { once } from 'node:events';
import { createConnection } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createMetricsServer } from '../../src/rest/metrics-server.js';
import { readAll } from './front-end.js';

let render = async (): Promise<{ contentType: string; body: string }> => ({
  contentType: 'text/plain',
  body: 'up 1\n',
});
const server = createMetricsServer({ host: '127.0.0.1', port: 0, render: () => render() });
let port = 0;
beforeAll(async () => {
  port = (await server.listen()).port;
});
afterAll(() => server.close());

async function raw(bytes: string): Promise<string> {
  const socket = createConnection({ port, host: '127.0.0.1', allowHalfOpen: true });
  await once(socket, 'connect');
  socket.on('error', () => {});
  socket.write(bytes);
  return readAll(socket);
}

const request = (line: string): string => `${line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`;

test.each([
  ['GET /metrics', 200],
  ['GET /metrics?x=1', 200],
  ['GET http://h:1/metrics', 200],
  ['HEAD /metrics', 200],
  ['POST /metrics', 405],
  ['GET /', 404],
  ['GET http://[', 404],
  ['GET //', 404],
  ['GET /metrics%00', 404],
  ['GET ?', 400],
  ['OPTIONS *', 404],
])('%s answers %i', async (line, status) => {
  const output = await raw(request(line));
  expect(output).toContain(`HTTP/1.1 ${status} `);
  if (line === 'GET /metrics') expect(output).toContain('up 1');
});

test('garbage gets 400, and the next request its answer', async () => {
  expect(await raw('\x16\x03\x01\x00garbage\r\n\r\n')).toContain('HTTP/1.1 400 ');
  expect(await raw(request('GET /metrics'))).toContain('up 1');
});

test('a renderer that fails answers 500 without detail', async () => {
  const working = render;
  render = () => Promise.reject(new Error('secret'));
  const output = await raw(request('GET /metrics'));
  expect(output).toContain('HTTP/1.1 500 ');
  expect(output).not.toContain('secret');
  render = working;
});
