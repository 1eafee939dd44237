/** A repository of 200 models under a memory budget for a tenth of them: all answer, over both protocols, and the budget holds. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { call, connect } from '../grpc/front-end.js';
import { temporaryDirectory } from '../support/engine.js';
import { buildModel, writeModel } from '../support/onnx.js';
import { startServer, type TestServer } from '../support/server.js';
import { ARMS, type ArmClient, createArmClient } from './arms.js';

const MODELS = 200;
const WIDTH = 384;
const WORKERS = 2;
const WEIGHT_BYTES = 4 * WIDTH * WIDTH;
/** For about twenty: a session of each on every worker, and a fifth for what a session holds beside its weights. */
const BUDGET = Math.round(20 * WORKERS * WEIGHT_BYTES * 1.2);

const names = Array.from({ length: MODELS }, (_, i) => `model-${String(i).padStart(3, '0')}`);

/** OUTPUT0 = INPUT0 * (i + 1) + i, by a matrix of weights of its own. */
function scaledModel(i: number): Buffer {
  const w = new Float32Array(WIDTH * WIDTH);
  for (let row = 0; row < WIDTH; row++) w[row * WIDTH + row] = i + 1;
  const shape = ['batch', WIDTH];
  return buildModel({
    name: 'scaled',
    inputs: [{ name: 'INPUT0', datatype: 'FP32', shape }],
    outputs: [{ name: 'OUTPUT0', datatype: 'FP32', shape }],
    nodes: [
      { op: 'MatMul', inputs: ['INPUT0', 'w'], outputs: ['z'] },
      { op: 'Add', inputs: ['z', 'b'], outputs: ['OUTPUT0'] },
    ],
    initializers: [
      { name: 'w', datatype: 'FP32', shape: [WIDTH, WIDTH], data: w },
      { name: 'b', datatype: 'FP32', shape: [WIDTH], data: new Float32Array(WIDTH).fill(i) },
    ],
  });
}

let server: TestServer;
let client: ArmClient;

beforeAll(async () => {
  const repository = temporaryDirectory();
  for (const [i, name] of names.entries()) writeModel(repository, name, { versions: { 1: scaledModel(i) } });
  const args = ['--model-memory-budget', BUDGET, '--worker-count', WORKERS, '--intra-op-thread-count', 1].map(String);
  server = await startServer({ repository, args });
  client = createArmClient(server);
});
afterAll(async () => {
  client.close();
  await server.stop();
});

async function metrics(): Promise<Map<string, number>> {
  const text = await (await fetch(`http://127.0.0.1:${server.metricsPort}/metrics`)).text();
  const lines = text.matchAll(/^((?:tensorwire_model|nv_inference_count)\S*) (\S+)$/gm);
  return new Map([...lines].map(([, name, value]) => [name!, Number(value)]));
}

function sum(of: ReadonlyMap<string, number>, start: string): number {
  return [...of].reduce((total, [name, value]) => (name.startsWith(start) ? total + value : total), 0);
}

function expectWithinBudget(of: ReadonlyMap<string, number>): void {
  expect(sum(of, 'tensorwire_model_memory_bytes')).toBeLessThanOrEqual(BUDGET);
}

async function askAndCompare(model: number, request: number): Promise<void> {
  const value = request % 1000;
  const data = new Uint8Array(new Float32Array(WIDTH).fill(value).buffer);
  const inputs = [{ name: 'INPUT0', datatype: 'FP32' as const, shape: [1, WIDTH], data }];
  const [output] = await client.infer(ARMS[request % ARMS.length]!, names[model]!, inputs);
  const expected = new Float32Array(WIDTH).fill(value * (model + 1) + model);
  expect(new Float32Array(Uint8Array.from(output!.data).buffer), names[model]).toEqual(expected);
}

/** Every model, in an order of the client's own. */
function shuffled(seed: number): number[] {
  let state = seed;
  const order = names.map((_, i) => i);
  for (let i = order.length - 1; i > 0; i--) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    const j = state % (i + 1);
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return order;
}

test('at start models are loaded until the budget is used up, and the others are ready too', async () => {
  const started = await metrics();
  expectWithinBudget(started);
  const loaded = [...started.keys()].filter((name) => name.startsWith('tensorwire_model_memory_bytes')).length;
  expect(loaded).toBeGreaterThan(5);
  expect(loaded).toBeLessThanOrEqual(20 * 1.2);
  expect(sum(started, 'tensorwire_model_unloads_total')).toBe(0);
  const ready = await fetch(`http://127.0.0.1:${server.httpPort}/v2/health/ready`);
  expect(ready.status).toBe(200);
  const last = await fetch(`http://127.0.0.1:${server.httpPort}/v2/models/${names.at(-1)}/ready`);
  expect(last.status).toBe(200);
  expect(server.stdout).toContain(`... and ${MODELS - 12} more`);
  expect(server.stdout).not.toContain('UNAVAILABLE');
});

test('all answer rightly, asked by several clients in orders of their own, within the budget at every look', async () => {
  let asked = 0;
  await Promise.all(
    [1, 2, 3].map(async (seed) => {
      for (const model of shuffled(seed)) {
        await askAndCompare(model, ++asked);
        if (asked % 25 === 0) expectWithinBudget(await metrics());
      }
    }),
  );
  const after = await metrics();
  expectWithinBudget(after);
  expect(sum(after, 'nv_inference_count')).toBe(3 * MODELS);
  // It is counted on, whatever was unloaded in between.
  for (const name of names) expect(after.get(`nv_inference_count{model="${name}",version="1"}`)).toBe(3);
  expect(sum(after, 'tensorwire_model_loads_total')).toBeGreaterThan(MODELS);
  expect([...after.keys()].filter((name) => name.includes('outcome="failure"'))).toEqual([]);
});

test('metadata, configuration and a bare tensor load the model they need; ready calls and statistics load nothing', async () => {
  const url = `http://127.0.0.1:${server.httpPort}/v2/models`;
  const stub = connect('open', server.grpcPort);
  const before = await metrics();
  const unloaded = names.filter((name) => !before.has(`tensorwire_model_memory_bytes{model="${name}",version="1"}`));
  const [a, b, c, d, e, f] = unloaded;
  const loads = async () => sum(await metrics(), 'tensorwire_model_loads_total');

  const count = await loads();
  expect((await fetch(`${url}/${e}/ready`)).status).toBe(200);
  expect((await call(stub, 'ModelReady', { name: f })).response).toEqual({ ready: true });
  expect((await fetch(`${url}/${e}/stats`)).status).toBe(200);
  expect((await call(stub, 'ModelStatistics', { name: f })).response.model_stats).toHaveLength(1);
  expect(await loads()).toBe(count);

  expect(await (await fetch(`${url}/${a}`)).json()).toMatchObject({ name: a, versions: ['1'] });
  expect((await call(stub, 'ModelMetadata', { name: b })).response).toMatchObject({ name: b, versions: ['1'] });
  expect((await call(stub, 'ModelConfig', { name: c })).response.config).toMatchObject({ name: c });
  const bare = await fetch(`${url}/${d}/infer`, {
    method: 'POST',
    headers: { 'inference-header-content-length': '0' },
    body: new Uint8Array(4 * WIDTH),
  });
  expect(bare.status).toBe(200);
  expect(await loads()).toBe(count + 4);
  stub.close();
});
