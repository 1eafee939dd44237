/** TLS and mutual TLS on both ports of the real server, by the options' names. */

import { readFileSync } from 'node:fs';
import { request } from 'node:https';
import { fileURLToPath } from 'node:url';
import { credentials } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { call, connect, inferRequest } from '../grpc/front-end.js';
import { temporaryDirectory } from '../support/engine.js';
import { identityModel, writeModel } from '../support/onnx.js';
import { startServer, type TestServer } from '../support/server.js';

const path = (name: string): string => fileURLToPath(new URL(`../fixtures/tls/${name}`, import.meta.url));
const pem = (name: string): Buffer => readFileSync(path(name));
const ca = pem('authority.pem');

/** What a client brings: nothing, a certificate of the authority, or one of somebody else. */
const NOBODY = {};
const CLIENT = { cert: pem('client.pem'), key: pem('client.key') };
const STRANGER = { cert: pem('stranger-client.pem'), key: pem('stranger-client.key') };
type Identity = { readonly cert?: Buffer; readonly key?: Buffer };

async function start(mutual: boolean): Promise<TestServer> {
  const repository = temporaryDirectory();
  writeModel(repository, 'identity', { versions: { 1: identityModel('FP32', ['n']) } });
  const args = ['http', 'grpc'].flatMap((port) => [
    mutual ? `--${port}-use-ssl-mutual=true` : `--${port}-use-ssl=true`,
    `--${port}-server-cert=${path('server.pem')}`,
    `--${port}-server-key=${path('server.key')}`,
    ...(mutual ? [`--${port}-root-cert=${path('authority.pem')}`] : []),
  ]);
  return startServer({ repository, args });
}

/** The outcome of an inference over HTTPS: the output, or the reason why there is none. */
function overHttps({ httpPort }: TestServer, identity: Identity): Promise<unknown> {
  return new Promise((resolve) => {
    const options = { host: 'localhost', port: httpPort, path: '/v2/models/identity/infer', method: 'POST' };
    const post = request({ ...options, agent: false, ca, ...identity }, async (response) => {
      const text = Buffer.concat(await response.toArray()).toString();
      resolve(response.statusCode === 200 ? JSON.parse(text).outputs[0].data : text);
    });
    post.on('error', (error: NodeJS.ErrnoException) => resolve(error));
    post.end('{"inputs":[{"name":"INPUT0","datatype":"FP32","shape":[1,2],"data":[1.5,-2]}]}');
  });
}

/** The same over gRPC. */
async function overGrpc({ grpcPort }: TestServer, identity: Identity): Promise<unknown> {
  const channel = credentials.createSsl(ca, identity.key ?? null, identity.cert ?? null);
  const stub = connect('open', grpcPort, channel);
  const { error, response } = await call(
    stub,
    'ModelInfer',
    inferRequest('identity', Buffer.from(Float32Array.of(1.5, -2).buffer)),
  );
  stub.close();
  if (error) return error;
  const raw = Uint8Array.from(response.raw_output_contents[0]);
  return [...new Float32Array(raw.buffer)];
}

describe.each([
  ['TLS', false],
  ['mutual TLS', true],
])('%s', (_, mutual) => {
  let server: TestServer;
  beforeAll(async () => {
    server = await start(mutual);
  });
  afterAll(() => server?.stop());

  test.each([
    ['without a certificate', NOBODY, !mutual],
    ['with a certificate of the authority', CLIENT, true],
    ['with a certificate of a stranger', STRANGER, !mutual],
  ])('a client %s: served %s', async (_name, identity, served) => {
    const outcomes = await Promise.all([overHttps(server, identity), overGrpc(server, identity)]);
    if (served)
      expect(outcomes).toEqual([
        [1.5, -2],
        [1.5, -2],
      ]);
    else expect(outcomes).toEqual([expect.any(Error), expect.objectContaining({ code: 14 })]);
  });

  test('a client that does not speak TLS gets nothing', async () => {
    await expect(fetch(`http://127.0.0.1:${server.httpPort}/v2/health/live`)).rejects.toThrow();
    const stub = connect('open', server.grpcPort);
    expect((await call(stub, 'ServerLive', {})).error).toMatchObject({ code: 14 });
    stub.close();
  });

  test('a client that does not know the authority takes the server for a fraud', async () => {
    const stub = connect('open', server.grpcPort, credentials.createSsl());
    expect((await call(stub, 'ServerLive', {})).error).toMatchObject({ code: 14 });
    stub.close();
    await expect(fetch(`https://localhost:${server.httpPort}/v2/health/live`)).rejects.toThrow();
  });

  test('the banner says https, and metrics stay in plain text', async () => {
    expect(server.stdout).toMatch(/REST +https:\/\//);
    expect((await fetch(`http://127.0.0.1:${server.metricsPort}/metrics`)).status).toBe(200);
  });
});
