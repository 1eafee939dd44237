/** The server with --latency-budget false: the same answers, no budget on any reply, no histogram of requests. */
import { createConnection } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { call, connect, frame, RawConnection } from '../grpc/front-end.js';
import { readAll } from '../rest/front-end.js';
import { temporaryDirectory } from '../support/engine.js';
import { identityModel, writeModel } from '../support/onnx.js';
import { startServer, type TestServer } from '../support/server.js';
import { ARMS, type ArmClient, createArmClient, type RawTensor } from './arms.js';

let server: TestServer;
let client: ArmClient;

beforeAll(async () => {
  const repository = temporaryDirectory();
  writeModel(repository, 'identity', { versions: { 1: identityModel('FP32', ['n']) } });
  server = await startServer({ repository, args: ['--latency-budget', 'false'] });
  client = createArmClient(server);
});
afterAll(async () => {
  client?.close();
  await server?.stop();
});

const tensor: RawTensor = { name: 'INPUT0', datatype: 'FP32', shape: [1, 4], data: Buffer.alloc(16, 1) };

test('every encoding is answered', async () => {
  for (const arm of ARMS) {
    const [output] = await client.infer(arm, 'identity', [tensor]);
    expect(Buffer.from(output!.data)).toEqual(tensor.data);
  }
});

test('no reply over REST carries a budget, whatever it answers', async () => {
  const url = `http://127.0.0.1:${server.httpPort}`;
  const body = JSON.stringify({ inputs: [{ name: 'INPUT0', datatype: 'FP32', shape: [1, 1], data: [1] }] });
  for (const [method, path, status] of [
    ['POST', '/v2/models/identity/infer', 200],
    ['POST', '/v2/models/unknown/infer', 404],
    ['GET', '/v2', 200],
    ['GET', '/nowhere', 404],
  ] as const) {
    const response = await fetch(url + path, { method, ...(method === 'POST' && { body }) });
    await response.arrayBuffer();
    expect(response.status).toBe(status);
    expect(response.headers.get('server-timing')).toBeNull();
  }
  const socket = createConnection({ port: server.httpPort, host: '127.0.0.1', allowHalfOpen: true });
  socket.end('garbage\r\n\r\n');
  const reply = await readAll(socket);
  expect(reply).toMatch(/^HTTP\/1\.1 400 /);
  expect(reply).not.toMatch(/server-timing/i);
});

test('no reply over gRPC carries a budget, neither in trailers nor in a stream’s messages', async () => {
  const stub = connect('open', server.grpcPort);
  const request = { model_name: 'identity', inputs: [{ name: 'INPUT0', datatype: 'FP32', shape: [1, 4] }] };
  const ok = await call(stub, 'ModelInfer', { ...request, raw_input_contents: [tensor.data] });
  expect(ok.error).toBeNull();
  const refused = await call(stub, 'ModelInfer', { model_name: 'unknown' });
  expect(refused.error?.code).toBe(5);
  for (const { trailer } of [ok, refused]) expect(trailer!.get('server-timing')).toEqual([]);
  // biome-ignore lint/suspicious/noExplicitAny: as proto-loader gives it
  const message = await new Promise<any>((resolve, reject) => {
    const stream = stub.ModelStreamInfer!();
    stream.on('data', resolve).on('error', reject);
    stream.write({ ...request, raw_input_contents: [tensor.data] });
    stream.end();
  });
  expect(message.error_message).toBe('');
  expect(Object.keys(message.infer_response.parameters)).toEqual(['triton_final_response']);
  stub.close();
  const raw = new RawConnection(server.grpcPort);
  const { headers } = await raw.request('/no.such/Method', frame(Buffer.alloc(0)));
  expect(headers['grpc-status']).toBe('12');
  expect(headers['server-timing']).toBeUndefined();
  raw.close();
});

test('requests make no histograms; what is counted anyway is there', async () => {
  const text = await (await fetch(`http://127.0.0.1:${server.metricsPort}/metrics`)).text();
  expect(text).not.toMatch(/^(tensorwire_(request|phase)_duration_ms|(rest|grpc)_request_duration_ms)/m);
  expect(text).toMatch(/^nv_inference_request_success\{model="identity",version="1"\} [1-9]/m);
  expect(text).toMatch(/^tensorwire_connections_opened_total\{protocol="grpc"\} [1-9]/m);
  expect(text).toMatch(/^grpc_active_connections \d/m);
});
