/** Nobody waits for ever: one worker, callers that keep it busy, and one request of another kind beside them. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { infer, startEngine, type TestEngine, temporaryDirectory, tensor } from '../support/engine.js';
import { gatherModel, identityModel, writeModel } from '../support/onnx.js';

const repository = temporaryDirectory();
const busyConfig = 'max_batch_size: 4\ndynamic_batching { }\n';
writeModel(repository, 'busy', { config: busyConfig, versions: { 1: identityModel('FP32', ['n']) } });
writeModel(repository, 'plain', { config: 'max_batch_size: 4', versions: { 1: identityModel('FP32', ['n']) } });
writeModel(repository, 'failing', { config: busyConfig, versions: { 1: gatherModel() } });

let running: TestEngine;
beforeAll(async () => {
  // One worker, and shared memory for one batch: everything contends.
  running = await startEngine(repository, { workerCount: 1, sharedMemoryBytes: 64 * 1024 });
});
afterAll(() => running.stop());

const row = (width: number) => tensor('INPUT0', 'FP32', [1, width], new Float32Array(width));

/** Keeps `callers` requests of one kind going until `done`, and counts the answers. */
function keepBusy(callers: number, ask: () => Promise<unknown>) {
  const state = { stop: false, answered: 0 };
  const loop = async (): Promise<void> => {
    while (!state.stop) {
      await ask().catch(() => undefined);
      state.answered++;
    }
  };
  const loops = Array.from({ length: callers }, loop);
  return { state, ended: Promise.all(loops) };
}

/** Answers the others got while one request of another kind waited for its own. */
async function answersMeanwhile(busy: () => Promise<unknown>, other: () => Promise<unknown>): Promise<number> {
  const { state, ended } = keepBusy(32, busy);
  while (state.answered < 200) await new Promise((resolve) => setImmediate(resolve));
  const before = state.answered;
  await other();
  const meanwhile = state.answered - before;
  state.stop = true;
  await ended;
  return meanwhile;
}

const busy = () => infer(running.engine, { modelName: 'busy', inputs: [row(8)] });
const failing = () =>
  infer(running.engine, {
    modelName: 'failing',
    inputs: [tensor('INPUT0', 'INT64', [1, 1], new BigInt64Array([99n]))],
  });

// Each batch has at most 4 of the 32 callers; before its turn comes all that wait now may be answered, and a few more.
test.each([
  ['another shape of the busy model', busy, () => infer(running.engine, { modelName: 'busy', inputs: [row(3)] })],
  ['a model without batching', busy, () => infer(running.engine, { modelName: 'plain', inputs: [row(8)] })],
  [
    'a model beside one whose requests all fail',
    failing,
    () => infer(running.engine, { modelName: 'plain', inputs: [row(8)] }),
  ],
])('%s has its turn', async (_, load, other) => {
  expect(await answersMeanwhile(load, other)).toBeLessThan(100);
});
