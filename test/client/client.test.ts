import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { expect, test } from 'vitest';
import { ClientError, connect } from '../../src/client/client.js';
import type { ClientOptions } from '../../src/client/types.js';

const REFUSED = { code: 'INVALID_ARGUMENT', local: true };
const GRPC: ClientOptions = { protocol: 'grpc', addresses: ['localhost:8001'] };

test('connect gives a client of the protocol asked for, without a server there', async () => {
  for (const protocol of ['grpc', 'rest'] as const) {
    const client = connect({ protocol, addresses: ['localhost:8001', '[::1]:8001', 'one.example:443'] });
    expect(client.protocol).toBe(protocol);
    await client.close();
  }
});

test.each<[Partial<Record<keyof ClientOptions, unknown>>, string]>([
  [{ protocol: 'http' }, "protocol is 'http', expected 'grpc' or 'rest'"],
  [{ protocol: undefined }, "protocol is undefined, expected 'grpc' or 'rest'"],
  [{ addresses: [] }, 'addresses is none, expected at least one host:port'],
  [{ addresses: 'localhost:8001' }, "addresses is 'localhost:8001', expected at least one host:port"],
  [
    { addresses: ['http://localhost:8001'] },
    "addresses is 'http://localhost:8001', expected host:port without a scheme, as localhost:8001",
  ],
  [{ addresses: ['localhost'] }, "addresses is 'localhost', expected host:port without a scheme, as localhost:8001"],
  [
    { addresses: ['localhost:0'] },
    "addresses is 'localhost:0', expected host:port without a scheme, as localhost:8001",
  ],
  [
    { addresses: ['localhost:65536'] },
    "addresses is 'localhost:65536', expected host:port without a scheme, as localhost:8001",
  ],
  ...['localhost:8000/v2', 'a b:1', ':8000', 'u@h:1'].map((address): [object, string] => [
    { addresses: [address] },
    `addresses is '${address}', expected host:port without a scheme, as localhost:8001`,
  ]),
  [{ connections: 0 }, 'connections is 0, expected a whole number of at least 1'],
  [{ connections: 1.5 }, 'connections is 1.5, expected a whole number of at least 1'],
  [{ timeoutMs: -1 }, 'timeoutMs is -1, expected a number of at least 0'],
  [{ timeoutMs: '5' }, "timeoutMs is '5', expected a number of at least 0"],
  [{ keepaliveMs: Number.NaN }, 'keepaliveMs is NaN, expected a number of at least 0'],
  [{ maxReceiveBytes: 0 }, 'maxReceiveBytes is 0, expected a whole number of at least 1'],
  [{ retry: { attempts: 0 } }, 'retry.attempts is 0, expected a whole number of at least 1'],
  [{ retry: { maxBackoffMs: -5 } }, 'retry.maxBackoffMs is -5, expected a number of at least 0'],
  [{ compression: 'br' }, "compression is 'br', expected 'none' or 'gzip'"],
  [{ encoding: 'json' }, "encoding is 'json', over gRPC it is 'raw' or 'typed'"],
  [{ tls: { key: 'k' } }, 'tls has a key but no cert, expected both or none'],
  [{ tls: { cert: 'c' } }, 'tls has a cert but no key, expected both or none'],
  [{ tls: { ca: 'authority.pem' } }, 'tls.ca is no PEM, expected what is in the file, not its name'],
  [{ protocol: 'rest', tls: { ca: '' } }, 'tls.ca is no PEM, expected what is in the file, not its name'],
  [{ tls: { ca: null } }, 'tls.ca is null, expected PEM as a text or bytes'],
  [{ tls: null }, 'tls is null, expected true or an object'],
  [{ headers: { 'no name': 'x' } }, 'header \'no name\': Metadata key "no name" contains illegal characters'],
])('an option that can not be is refused, saying which: %#', (change, message) => {
  let error: unknown;
  try {
    connect({ ...GRPC, ...change } as ClientOptions);
  } catch (thrown) {
    error = thrown;
  }
  expect(error).toBeInstanceOf(ClientError);
  expect(error).toMatchObject({ ...REFUSED, message });
});

test.each(['grpc', 'rest'] as const)('over %s, a server that never answers holds back no close', async (protocol) => {
  const sockets: Socket[] = [];
  const server = createServer((socket) => sockets.push(socket.on('error', () => undefined).resume()));
  await once(server.listen(0, '127.0.0.1'), 'listening');
  // No deadline of the client's own: what it asks of the model, beside the call, would be waited for for ever.
  const addresses = [`127.0.0.1:${(server.address() as AddressInfo).port}`];
  const client = connect({ protocol, addresses, timeoutMs: 0 });
  const request = { model: 'm', inputs: [{ name: 'x', shape: [1], data: Float32Array.of(1) }] };
  await expect(client.infer(request, { timeoutMs: 20 })).rejects.toMatchObject({ code: 'DEADLINE_EXCEEDED' });
  await client.close();
  for (const socket of sockets) socket.destroy();
  server.close();
});

test.each(['grpc', 'rest'] as const)('over %s, an option of a call that can not be is refused', async (protocol) => {
  const client = connect({ protocol, addresses: ['127.0.0.1:1'] });
  const calls: [object, string][] = [
    [{ timeoutMs: Number.NaN }, 'timeoutMs is NaN, expected a number of at least 0'],
    [{ timeoutMs: -1 }, 'timeoutMs is -1, expected a number of at least 0'],
    [{ timeoutMs: '5' }, "timeoutMs is '5', expected a number of at least 0"],
    [{ timeoutMs: null }, 'timeoutMs is null, expected a number of at least 0'],
    [{ compression: 'br' }, "compression is 'br', expected 'none' or 'gzip'"],
    [{ signal: 5 }, 'signal is no AbortSignal'],
    [null as never, 'options is null, expected an object'],
  ];
  for (const [options, message] of calls)
    await expect(client.isLive(options)).rejects.toMatchObject({ ...REFUSED, message });
  await client.close();
});

test.each([
  ['grpc', true],
  ['grpc', false],
  ['rest', true],
  ['rest', false],
] as const)('over %s, checked %s, what is no request is refused and not sent', async (protocol, checkRequests) => {
  const client = connect({ protocol, addresses: ['127.0.0.1:1'], checkRequests });
  const none = 'the request has no inputs, expected an array of tensors';
  const requests: [unknown, string][] = [
    [undefined, 'the request names no model'],
    [{ inputs: [] }, 'the request names no model'],
    [{ model: 'm' }, none],
    [{ model: 'm', inputs: { x: [1] } }, none],
    [{ model: 'm', inputs: [null] }, 'an input has no name'],
  ];
  for (const [request, message] of requests)
    await expect(client.infer(request as never)).rejects.toMatchObject({ ...REFUSED, message });
  const texts = [() => client.generate(undefined as never), () => readAll(client.generateStream(null as never))];
  for (const ask of texts)
    await expect(ask()).rejects.toMatchObject({ ...REFUSED, message: 'the request names no model' });
  await client.close();
});

async function readAll(stream: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of stream);
}
