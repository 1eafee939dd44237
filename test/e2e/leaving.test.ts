/** Clients that go while their model loads, over both protocols: nobody may hold a place, or bytes, for them. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { connect, type FrontEnd as Grpc, startFrontEnd as startGrpc } from '../grpc/front-end.js';
import { type FrontEnd as Rest, startFrontEnd as startRest } from '../rest/front-end.js';
import { startEngine, type TestEngine, temporaryDirectory } from '../support/engine.js';
import { HELD_ROWS, heldWorker, warmUp } from '../support/held-worker.js';
import { identityModel, writeModel } from '../support/onnx.js';

/** Nothing is loaded before all clients have gone. */
const worker = heldWorker();
let running: TestEngine;
let rest: Rest;
let grpc: Grpc;
beforeAll(async () => {
  const repository = temporaryDirectory();
  for (const name of ['metadata', 'config', 'bare', 'embeddings', 'grpc-metadata', 'grpc-config'])
    writeModel(repository, name, { config: warmUp(HELD_ROWS), versions: { 1: identityModel('FP32', [16]) } });
  running = await startEngine(repository, { workerCount: 1, workerFile: worker.file, loadOnFirstUse: true });
  rest = await startRest({ engine: running.engine });
  grpc = await startGrpc({ engine: running.engine });
});
afterAll(async () => {
  worker.release();
  await rest.close();
  grpc.server.close();
  await running.stop();
});

const waiting = (name: string): number => running.engine.slots().find((slot) => slot.name === name)!.waiters.count;

async function comesAndGoes(name: string, go: () => void): Promise<void> {
  await expect.poll(() => waiting(name)).toBe(1);
  go();
  await expect.poll(() => waiting(name)).toBe(0);
  expect(running.engine.readyModels()).toEqual([]);
}

test.each([
  ['metadata', '/v2/models/metadata', undefined, {}],
  ['config', '/v2/models/config/config', undefined, {}],
  ['bare', '/v2/models/bare/infer', new Uint8Array(64), { 'inference-header-content-length': '0' }],
  ['embeddings', '/v1/embeddings', JSON.stringify({ model: 'embeddings', input: 'a' }), {}],
] as const)('REST: %s', async (name, path, body, headers) => {
  const client = new AbortController();
  const method = body === undefined ? 'GET' : 'POST';
  const reply = fetch(`${rest.url}${path}`, { method, headers, body: body ?? null, signal: client.signal });
  const left = expect(reply).rejects.toThrow('aborted');
  await comesAndGoes(name, () => client.abort());
  await left;
  await expect.poll(() => rest.budget.used).toBe(0);
});

test.each([
  ['ModelMetadata', 'grpc-metadata'],
  ['ModelConfig', 'grpc-config'],
])('gRPC: %s', async (rpc, name) => {
  const stub = connect('open', grpc.port);
  const call = (stub as never as Record<string, (message: object, done: () => void) => { cancel(): void }>)[rpc]!(
    { name },
    () => undefined,
  );
  await comesAndGoes(name, () => call.cancel());
  stub.close();
});
