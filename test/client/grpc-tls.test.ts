/** The client over gRPC with TLS, and with certificates on both sides. */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { createServer, type TLSSocket } from 'node:tls';
import { afterEach, expect, test } from 'vitest';
import { type ClientError, connect as connectTo } from '../../src/client/client.js';
import type { ClientOptions, InferenceClient } from '../../src/client/types.js';
import { type FrontEnd, startFrontEnd } from '../grpc/front-end.js';

const file = (name: string): Buffer => readFileSync(new URL(`../fixtures/tls/${name}`, import.meta.url));
const ca = file('authority.pem');
const tls = { cert: file('server.pem'), key: file('server.key') };

let front: FrontEnd | undefined;
const clients: InferenceClient[] = [];
afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.close()));
  front?.server.close();
});

async function start(mutual: boolean): Promise<void> {
  front = await startFrontEnd({ tls: { ...tls, ca, mutual } });
}

function connect(host: string, options: ClientOptions['tls']): InferenceClient {
  const client = connectTo({
    protocol: 'grpc',
    addresses: [`${host}:${front?.port ?? 1}`],
    tls: options!,
    retry: { attempts: 1 },
    timeoutMs: 10_000,
  });
  clients.push(client);
  return client;
}

const refusal = { name: 'ClientError', code: 'UNAVAILABLE' };
const REQUEST = { model: 'echo', inputs: [{ name: 'INPUT0', shape: [1, 4], data: Float32Array.of(1, 2, 3, 4) }] };

test('a server is believed by its authority and its name', async () => {
  await start(false);
  expect((await connect('localhost', { ca }).infer(REQUEST)).outputs[0]!.data).toEqual(Float32Array.of(1, 2, 3, 4));
  expect(await connect('127.0.0.1', { ca: ca.toString() }).isLive()).toBe(true);
  await expect(connect('localhost', true).isLive()).rejects.toMatchObject({
    ...refusal,
    message: expect.stringContaining('certificate'),
  });
  await expect(connect('localhost', { ca, serverName: 'other.example' }).isLive()).rejects.toMatchObject({
    ...refusal,
    message: expect.stringMatching(/^no connection to [\w.:]+: Hostname.* other\.example\. /),
  });
  await expect(connect('localhost', false).isLive()).rejects.toMatchObject(refusal);
});

test('a name that is not the address is checked in its place', async () => {
  await start(false);
  expect(await connect('127.0.0.1', { ca, serverName: 'localhost' }).isLive()).toBe(true);
});

test('with mutual TLS only a client with a certificate of the authority gets in', async () => {
  await start(true);
  const own = { cert: file('client.pem'), key: file('client.key') };
  expect(await connect('localhost', { ca, ...own }).isLive()).toBe(true);
  const stranger = { cert: file('stranger-client.pem'), key: file('stranger-client.key') };
  await expect(connect('localhost', { ca, ...stranger }).isLive()).rejects.toMatchObject(refusal);
  await expect(connect('localhost', { ca }).isLive()).rejects.toMatchObject(refusal);
});

test('a key of another certificate is refused at once', () => {
  expect(() => connect('localhost', { ca, cert: file('client.pem'), key: file('server.key') })).toThrow(
    expect.objectContaining({ code: 'INVALID_ARGUMENT', local: true, message: expect.stringContaining('key') }),
  );
});

test('a server without TLS is told of on one line, without places in sources', async () => {
  front = await startFrontEnd({});
  const message = `no connection to localhost:${front.port}: SSL routines: wrong version number`;
  await expect(connect('localhost', { ca }).isLive()).rejects.toMatchObject({ ...refusal, message });
});

test('no certificate of an IP address is asked for by name, which Node 26 refuses', async () => {
  const server = createServer({ ...tls, ALPNProtocols: ['h2'] });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const accepted = once(server, 'secureConnection');
  const call = connectTo({
    protocol: 'grpc',
    addresses: [`127.0.0.1:${(server.address() as AddressInfo).port}`],
    tls: { ca },
    retry: { attempts: 1 },
  });
  clients.push(call);
  const live = call.isLive().catch((error: ClientError) => error.code);
  const [socket] = (await accepted) as [TLSSocket];
  expect(socket.servername).toBe(false);
  socket.destroy();
  server.close();
  expect(await live).toBe('UNAVAILABLE');
});
