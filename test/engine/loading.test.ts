/** Loading with the real runtime: shared weights, external data, providers that are not there, workers that die. */
import { existsSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { createEngine } from '../../src/engine/create-engine.js';
import { dyingWorker } from '../support/dying-worker.js';
import { infer, startEngine, temporaryDirectory, tensor } from '../support/engine.js';
import { bigModel, buildModel, identityModel, writeModel } from '../support/onnx.js';

const row = (width: number) => [
  tensor(
    'INPUT0',
    'FP32',
    [1, width],
    Float32Array.from({ length: width }, (_, i) => i / width),
  ),
];

test('a large model is saved once, shared by all workers, and answers as before', async () => {
  const repository = temporaryDirectory();
  const cache = join(temporaryDirectory(), 'cache');
  writeModel(repository, 'big', { versions: { 1: bigModel(8) } });
  const plain = await startEngine(repository, { modelCacheDirectory: cache, weightSharingMinBytes: 2 ** 40 });
  const expected = await infer(plain.engine, { modelName: 'big', inputs: row(1024) });
  await plain.stop();
  expect(existsSync(cache)).toBe(false);

  for (const start of ['first', 'second']) {
    const shared = await startEngine(repository, { modelCacheDirectory: cache, weightSharingMinBytes: 1 << 20 });
    const answers = await Promise.all(
      Array.from({ length: 6 }, () => infer(shared.engine, { modelName: 'big', inputs: row(1024) })),
    );
    await shared.stop();
    for (const answer of answers) expect(answer.outputs, start).toEqual(expected.outputs);
    expect(shared.logged.join('\n')).toContain('"sharedWeights":true');
  }
  const entries = readdirSync(cache);
  expect(entries).toHaveLength(1);
  expect(readdirSync(join(cache, entries[0]!)).sort()).toEqual(['model.onnx', 'model.onnx_data', 'scan.json']);
});

test('models of the same content that load at once share one entry', async () => {
  const repository = temporaryDirectory();
  const cache = join(temporaryDirectory(), 'cache');
  const names = ['one', 'two', 'three', 'four'];
  for (const name of names) writeModel(repository, name, { versions: { 1: bigModel(8) } });
  const { logged, stop } = await startEngine(repository, {
    modelCacheDirectory: cache,
    weightSharingMinBytes: 1 << 20,
  });
  await stop();
  expect(logged.filter((line) => line.startsWith('warn'))).toEqual([]);
  expect(logged.filter((line) => line.includes('"sharedWeights":true'))).toHaveLength(names.length);
  expect(readdirSync(cache)).toHaveLength(1);
});

test('a cache that can not be written costs memory, not the model', async () => {
  const repository = temporaryDirectory();
  const file = join(temporaryDirectory(), 'file');
  writeFileSync(file, '');
  writeModel(repository, 'big', { versions: { 1: bigModel(8) } });
  const { engine, stop, logged } = await startEngine(repository, {
    modelCacheDirectory: join(file, 'cache'),
    weightSharingMinBytes: 1,
  });
  expect((await infer(engine, { modelName: 'big', inputs: row(1024) })).outputs).toHaveLength(1);
  expect(logged.filter((line) => line.startsWith('warn weights are not shared'))).toHaveLength(1);
  await stop();
});

function externalModel(location: string): Buffer {
  const weights = { name: 'w', datatype: 'FP32' as const, shape: [4], external: { location, offset: 0, length: 16 } };
  return buildModel({
    name: 'external',
    inputs: [{ name: 'INPUT0', datatype: 'FP32', shape: ['batch', 4] }],
    outputs: [{ name: 'OUTPUT0', datatype: 'FP32', shape: ['batch', 4] }],
    nodes: [{ op: 'Mul', inputs: ['INPUT0', 'w'], outputs: ['OUTPUT0'] }],
    initializers: [weights],
  });
}

test('external weights are served from a private copy: the repository may change under it', async () => {
  const repository = temporaryDirectory();
  const weights = new Uint8Array(new Float32Array([1, 2, 3, 4]).buffer);
  writeModel(repository, 'external', { versions: { 1: externalModel('w.bin') }, files: { '1/w.bin': weights } });
  const { engine, stop } = await startEngine(repository);
  truncateSync(join(repository, 'external/1/w.bin'), 0);
  const { outputs } = await infer(engine, {
    modelName: 'external',
    inputs: [tensor('INPUT0', 'FP32', [1, 4], new Float32Array([1, 1, 1, 1]))],
  });
  expect([...new Float32Array(outputs[0]!.data.buffer)]).toEqual([1, 2, 3, 4]);
  await stop();
});

test('files beside a model that are no weights of it do not make it one to be saved again', async () => {
  const repository = temporaryDirectory();
  const cache = join(temporaryDirectory(), 'cache');
  writeModel(repository, 'plain', {
    versions: { 1: identityModel('FP32', ['n']) },
    files: { '1/config.json': '{}', '1/model_fp16.onnx': identityModel('FP16', ['n']), '1/model_fp16.onnx_data': 'x' },
  });
  const { engine, stop, logged } = await startEngine(repository, { modelCacheDirectory: cache });
  expect(engine.repositoryIndex(false)).toMatchObject([{ name: 'plain', state: 'READY' }]);
  expect(logged.filter((line) => line.startsWith('warn'))).toEqual([]);
  expect(existsSync(cache)).toBe(false);
  await stop();
});

test('external weights in a folder below the model are served from a private copy, too', async () => {
  const repository = temporaryDirectory();
  const cache = join(temporaryDirectory(), 'cache');
  const weights = new Uint8Array(new Float32Array([1, 2, 3, 4]).buffer);
  writeModel(repository, 'deep', { versions: { 1: externalModel('data/w.bin') }, files: { '1/data/w.bin': weights } });
  const { stop, logged } = await startEngine(repository, { modelCacheDirectory: cache });
  await stop();
  expect(logged.join('\n')).toContain('"sharedWeights":true');
  expect(readdirSync(cache)).toHaveLength(1);
});

test('external weights outside the model are refused with the reason in the index', async () => {
  const repository = temporaryDirectory();
  writeFileSync(join(repository, 'outside.bin'), new Uint8Array(16));
  writeModel(repository, 'escape', { versions: { 1: externalModel('../../outside.bin') } });
  const { engine, stop } = await startEngine(repository);
  expect(engine.repositoryIndex(false)).toMatchObject([
    { name: 'escape', state: 'UNAVAILABLE', reason: expect.stringContaining('outside.bin') },
  ]);
  await stop();
});

test('a GPU instance on a machine without one fails to load with a clear reason', async () => {
  const repository = temporaryDirectory();
  const config = 'max_batch_size: 4 instance_group { kind: KIND_GPU }';
  writeModel(repository, 'gpu', { config, versions: { 1: identityModel('FP32', ['n']) } });
  writeModel(repository, 'cpu', { versions: { 1: identityModel('FP32', ['n']) } });
  const { engine, stop } = await startEngine(repository);
  const [cpu, gpu] = engine.repositoryIndex(false);
  expect(cpu!.state).toBe('READY');
  // Where CUDA is installed this model simply works.
  if (gpu!.state !== 'READY') {
    expect(gpu!.reason).toContain("execution provider 'cuda' is not available on this machine");
    expect(gpu!.reason).not.toMatch(/\.so|\.cc|\//);
  }
  await stop();
});

test('a provider that this build lacks is an error and not a silent fall back to the CPU', async () => {
  const repository = temporaryDirectory();
  const accelerator = (name: string) =>
    `instance_group { kind: KIND_GPU } optimization { execution_accelerators { gpu_execution_accelerator { name: "${name}" } } }`;
  // No platform has both.
  for (const name of ['directml', 'coreml', 'webgpu', 'warp']) {
    writeModel(repository, name, { config: accelerator(name), versions: { 1: identityModel('FP32', ['n']) } });
  }
  const { engine, stop } = await startEngine(repository);
  const reasons = Object.fromEntries(engine.repositoryIndex(false).map(({ name, reason }) => [name, reason]));
  await stop();
  expect([reasons.directml, reasons.coreml].join('\n')).toContain('is not part of ONNX Runtime on this platform');
  expect(reasons.warp).toContain("unknown execution accelerator 'warp'");
  // Where there is an adapter, it works.
  if (reasons.webgpu) expect(reasons.webgpu).toContain("execution provider 'webgpu' is not available on this machine");
});

test('instance_group places a model on as many workers as it says', async () => {
  const repository = temporaryDirectory();
  writeModel(repository, 'one', {
    config: 'max_batch_size: 4 instance_group { count: 1 }',
    versions: { 1: identityModel('FP32', ['n']) },
  });
  writeModel(repository, 'all', { versions: { 1: identityModel('FP32', ['n']) } });
  const { engine, stop } = await startEngine(repository, { workerCount: 3 });
  const counts = Object.fromEntries(engine.readyModels().map(({ name, workers }) => [name, workers.size]));
  expect(counts).toEqual({ one: 1, all: 3 });
  await stop();
});

test('a worker that dies is replaced, with its models, and the server goes on', async () => {
  const repository = temporaryDirectory();
  writeModel(repository, 'identity', { config: 'max_batch_size: 16', versions: { 1: identityModel('FP32', ['n']) } });
  const { engine, stop, logged } = await startEngine(repository, { workerFile: dyingWorker() });
  const ask = (rows: number) =>
    infer(engine, {
      modelName: 'identity',
      inputs: [tensor('INPUT0', 'FP32', [rows, 1], new Float32Array(rows).fill(rows))],
    });
  await ask(2);
  await expect(ask(13)).rejects.toMatchObject({ code: 'UNAVAILABLE', message: expect.stringContaining('was lost') });
  for (let i = 1; i < 8; i++) expect((await ask(i)).outputs[0]!.shape).toEqual([i, 1]);
  expect(logged.some((line) => line.includes('an inference worker was lost'))).toBe(true);
  await stop();
});

test('a worker that comes back loads each model once, also one that is asked for the first time meanwhile', async () => {
  const repository = temporaryDirectory();
  const names = ['a', 'b', 'c', 'd', 'e', 'f'];
  const config = 'max_batch_size: 16';
  const versions = { 1: identityModel('FP32', ['n']) };
  for (const name of names) writeModel(repository, name, { config, versions });
  const onDemand = `${config} parameters { key: "load_on_first_use" value { string_value: "true" } }`;
  writeModel(repository, 'late', { config: onDemand, versions });
  const loads = join(temporaryDirectory(), 'loads');
  const { engine, stop } = await startEngine(repository, { workerFile: dyingWorker(loads), workerCount: 1 });
  const ask = (modelName: string, rows: number) =>
    infer(engine, { modelName, inputs: [tensor('INPUT0', 'FP32', [rows, 1], new Float32Array(rows))] });
  const dead = expect(ask('a', 13)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  await dead;
  await ask('late', 1);
  for (const name of names) await ask(name, 1);
  await stop();
  // Each line is a thread and the number of a session.
  const lines = readFileSync(loads, 'utf8').trim().split('\n');
  expect(lines.filter((line, i) => lines.indexOf(line) !== i)).toEqual([]);
  expect(lines).toHaveLength(2 * names.length + 1);
});

test('a load that fails on one worker is undone on those that are still at it', async () => {
  const repository = temporaryDirectory();
  writeModel(repository, 'identity', { versions: { 1: identityModel('FP32', ['n']) } });
  const directory = temporaryDirectory();
  const notes = join(directory, 'notes');
  const workerFile = join(directory, 'worker.mjs');
  // The first load goes well, the thread of the second ends, the third takes until that has been noticed.
  writeFileSync(
    workerFile,
    `import { appendFileSync, mkdirSync } from 'node:fs';
import serve from ${JSON.stringify(join(import.meta.dirname, '../../dist/workers/inference-worker.js'))};
const turn = () => {
  for (let n = 1; ; n++) try { mkdirSync(${JSON.stringify(join(directory, 'turn'))} + n); return n; } catch {}
};
export default ({ port }) => {
  let own = 0;
  port.on('message', ({ type, session }) => {
    if (type === 'load') own = turn();
    if (own === 2) process.exit(3);
    if (own === 3 && type === 'load') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500);
    if (type === 'unload') appendFileSync(${JSON.stringify(notes)}, own + ' unload ' + session + '\\n');
  });
  return serve({ port });
};\n`,
  );
  const { engine, stop } = await startEngine(repository, { workerFile, workerCount: 3 });
  await stop();
  expect(engine.repositoryIndex(false)).toMatchObject([{ name: 'identity', state: 'UNAVAILABLE' }]);
  const lines = readFileSync(notes, 'utf8').trim().split('\n');
  expect(lines.filter((line) => !line.startsWith('0')).sort()).toEqual(['1 unload 0', '3 unload 0']);
});

test('models that load at the same time spread over the workers', async () => {
  const repository = temporaryDirectory();
  const config = 'max_batch_size: 4 instance_group { count: 1 }';
  for (const name of ['a', 'b', 'c'])
    writeModel(repository, name, { config, versions: { 1: identityModel('FP32', ['n']) } });
  const { engine, stop } = await startEngine(repository, { workerCount: 3 });
  const used = engine.readyModels().flatMap(({ workers }) => [...workers]);
  await stop();
  expect(used.sort()).toEqual([0, 1, 2]);
});

test('a model that no worker can load again is withdrawn, and its requests are told', async () => {
  const repository = temporaryDirectory();
  writeModel(repository, 'identity', { config: 'max_batch_size: 16', versions: { 1: identityModel('FP32', ['n']) } });
  const { engine, stop } = await startEngine(repository, { workerFile: dyingWorker(), workerCount: 1 });
  const ask = (rows: number) =>
    infer(engine, { modelName: 'identity', inputs: [tensor('INPUT0', 'FP32', [rows, 1], new Float32Array(rows))] });
  await ask(1);
  writeFileSync(join(repository, 'identity/1/model.onnx'), 'gone');
  const waiting = Promise.allSettled([ask(13), ask(1), ask(2)]);
  for (const result of await waiting)
    expect(result).toMatchObject({ status: 'rejected', reason: { code: 'UNAVAILABLE' } });
  expect(engine.repositoryIndex(false)).toMatchObject([{ name: 'identity', state: 'UNAVAILABLE' }]);
  await expect(ask(1)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  await stop();
});

test('workers that can not start fail the load with the reason, and nothing hangs', async () => {
  const repository = temporaryDirectory();
  const broken = join(temporaryDirectory(), 'broken.mjs');
  writeFileSync(broken, "throw new Error('no such binding');\n");
  writeModel(repository, 'identity', { versions: { 1: identityModel('FP32', ['n']) } });
  const { engine, stop } = await startEngine(repository, { workerFile: broken });
  expect(engine.repositoryIndex(false)).toMatchObject([
    { name: 'identity', state: 'UNAVAILABLE', reason: expect.stringContaining('inference worker') },
  ]);
  await stop();
});

test('the engine is not ready before its models are', () => {
  const running = createEngine({
    serverName: 'x',
    serverVersion: '0',
    log: {
      trace() {},
      debug() {},
      info() {},
      warn() {},
      error() {},
      child: () => {
        throw new Error('unused');
      },
    },
    strictReadiness: true,
    sessionDefaults: { intraOpNumThreads: 1, configEntries: {} },
    autoComplete: true,
    defaultMaxBatchSize: 4,
    defaultMaxQueueSize: 1,
    defaultMaxQueueBytes: 1,
    workerCount: 1,
    workerFile: join(import.meta.dirname, '../../dist/workers/inference-worker.js'),
    preprocessWorkerCount: 1,
    preprocessWorkerFile: join(import.meta.dirname, '../../dist/workers/preprocess-worker.js'),
    tokenStreamWorkerFile: '',
    generation: {
      maxSequences: 1,
      kvCacheBytes: 1,
      prefixCacheBytes: 0,
      maxSequenceLength: 0,
      intraOpNumThreads: 1,
    },
    stallTimeoutMs: 1,
    modelMemoryBytes: 0,
    loadOnFirstUse: false,
    maxTextBytes: 1,
    maxImagePixels: 1,
    sharedMemoryBytes: 1 << 20,
    modelCacheDirectory: temporaryDirectory(),
    weightSharingMinBytes: 1,
  });
  expect(running.engine.isReady()).toBe(false);
  return running.close();
});

test('a BF16 model is refused with the type and what to do, and nothing else suffers', async () => {
  const repository = temporaryDirectory();
  writeModel(repository, 'half', { versions: { 1: identityModel('BF16', ['n']) } });
  writeModel(repository, 'whole', { versions: { 1: identityModel('FP32', ['n']) } });
  const { engine, stop } = await startEngine(repository);
  const [half, whole] = engine.repositoryIndex(false);
  await stop();
  expect(half).toMatchObject({ name: 'half', state: 'UNAVAILABLE' });
  expect(half!.reason).toBe(
    "an input or output is of ONNX type BFLOAT16 (BF16), which ONNX Runtime's JavaScript API has no tensors for: cast it in the graph",
  );
  expect(whole).toMatchObject({ name: 'whole', state: 'READY' });
});
