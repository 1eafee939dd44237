/** Requests on their way to the queue, with the real runtime: what waits for a model or a preprocess worker. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { BroadcastChannel } from 'node:worker_threads';
import { expect, onTestFinished, test } from 'vitest';
import type { CreateEngineOptions } from '../../src/engine/create-engine.js';
import { dyingWorker } from '../support/dying-worker.js';
import { ask, infer, rawStrings, startEngine, type TestEngine, temporaryDirectory, tensor } from '../support/engine.js';
import { writeTextModel } from '../support/huggingface.js';
import { identityModel, slowModel, writeModel } from '../support/onnx.js';

async function start(repository: string, options: Partial<CreateEngineOptions> = {}): Promise<TestEngine> {
  const running = await startEngine(repository, { workerCount: 1, ...options });
  onTestFinished(() => running.stop());
  return running;
}

/** A file with the real preprocess worker, whose answers to tasks come once `release` has said so. */
function holdingWorker(): string {
  const file = join(temporaryDirectory(), 'hold.mjs');
  const real = join(import.meta.dirname, '../../dist/workers/preprocess-worker.js');
  writeFileSync(
    file,
    `import { BroadcastChannel, MessageChannel } from 'node:worker_threads';
import serve from ${JSON.stringify(real)};
export default ({ port }) => {
  const { port1: inner, port2 } = new MessageChannel();
  const channel = new BroadcastChannel('release admission');
  const held = [];
  let released = false;
  channel.onmessage = () => {
    released = true;
    for (const message of held.splice(0)) port.postMessage(message);
  };
  channel.unref();
  port.on('message', (message) => inner.postMessage(message));
  inner.on('message', (message) => { if (Array.isArray(message) && !released) held.push(message); else port.postMessage(message); });
  return serve({ port: port2 }).finally(() => { channel.close(); port.close(); inner.close(); });
};\n`,
  );
  return file;
}

function release(): void {
  const channel = new BroadcastChannel('release admission');
  channel.postMessage('go on');
  channel.close();
}

/** A load that takes as long as 600 turns of its warm-up. */
const SLOW = `max_batch_size: 4
model_warmup { name: "slow" batch_size: 1 inputs { key: "INPUT0" value { data_type: TYPE_FP32 dims: 16 zero_data: true } } }`;

test('who leaves while its model loads waits no longer, and its place is free', async () => {
  const repository = temporaryDirectory();
  writeModel(repository, 'slow', { config: SLOW, versions: { 1: slowModel(600) } });
  const { engine } = await start(repository, { loadOnFirstUse: true, defaultMaxQueueSize: 3 });
  const input = () => tensor('INPUT0', 'FP32', [1, 16], new Float32Array(16));
  const heard: unknown[] = [];
  const handler = { onResponse: () => heard.push('response'), onError: (error: unknown) => heard.push(error) };
  const stays = infer(engine, { modelName: 'slow', inputs: [input()] });
  for (let i = 0; i < 10; i++) ask(engine, { modelName: 'slow', inputs: [input()] }, handler)();
  const [slot] = engine.slots();
  expect(slot!.waiters.count).toBe(1);
  expect(engine.inFlight).toBe(1);
  await stays;
  expect(heard).toEqual([]);
});

test('a text that is being prepared when its model is lost is told so, and does not wait for ever', async () => {
  const repository = temporaryDirectory();
  const { onnxFile } = writeTextModel(repository, 'text', { head: 'hidden', pooling: ['mean'] });
  writeModel(repository, 'other', { config: 'max_batch_size: 16', versions: { 1: identityModel('FP32', ['n']) } });
  const { engine } = await start(repository, { workerFile: dyingWorker(), preprocessWorkerFile: holdingWorker() });
  const text = { name: 'text', datatype: 'BYTES', shape: [1, 1], data: rawStrings('a cat') };
  const held = infer(engine, { modelName: 'text', inputs: [text] });
  const told = expect(held).rejects.toMatchObject({
    code: 'UNAVAILABLE',
    message: expect.stringContaining('was lost'),
  });
  writeFileSync(onnxFile, 'gone');
  const rows = (count: number) =>
    infer(engine, { modelName: 'other', inputs: [tensor('INPUT0', 'FP32', [count, 1], new Float32Array(count))] });
  await expect(rows(13)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  await rows(1);
  await expect.poll(() => engine.isModelReady('text', '')).toBe(false);
  release();
  await told;
  expect(engine.inFlight).toBe(0);
});
