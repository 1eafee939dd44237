/** Models that are loaded when they are asked for and unloaded for others, with the real runtime. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { nowMs } from '../../src/base/clock.js';
import type { CreateEngineOptions } from '../../src/engine/create-engine.js';
import { dyingWorker } from '../support/dying-worker.js';
import { infer, launchEngine, startEngine, type TestEngine, temporaryDirectory, tensor } from '../support/engine.js';
import { HELD_ROWS, heldWorker, warmUp } from '../support/held-worker.js';
import { identityModel, slowModel, writeModel } from '../support/onnx.js';

/** All of one size: half a megabyte of weights, which take the same at any number of turns. */
const BYTES = slowModel(1).length;
const TURNS = { quick: 1, slow: 600 };

/** A repository of `slow` models by name; `turns` of 0.35 ms each. */
function repositoryOf(models: Readonly<Record<string, number>>, config?: string): string {
  const repository = temporaryDirectory();
  for (const [name, turns] of Object.entries(models))
    writeModel(repository, name, { versions: { 1: slowModel(turns) }, ...(config !== undefined && { config }) });
  return repository;
}

/** One worker, room for `models` of them, costs as the files say. */
async function start(repository: string, models: number, more: Partial<CreateEngineOptions> = {}): Promise<TestEngine> {
  const running = await startEngine(repository, {
    workerCount: 1,
    loadOnFirstUse: true,
    modelMemoryBytes: Math.round(models * BYTES * 1.25),
    measuresMemory: false,
    ...more,
  });
  onTestFinished(() => running.stop());
  return running;
}

/** As {@link start}, with workers that are held by a request of HELD_ROWS rows. */
async function startHeld(repository: string, models: number, more: Partial<CreateEngineOptions> = {}) {
  const { file, release } = heldWorker();
  const running = await start(repository, models, { workerFile: file, ...more });
  onTestFinished(release);
  return { running, release };
}

const inputs = (rows: number) => [tensor('INPUT0', 'FP32', [rows, 16], new Float32Array(rows * 16))];

interface More {
  readonly modelVersion?: string;
  readonly deadlineMs?: number;
  readonly rows?: number;
}
const ask = ({ engine }: TestEngine, modelName: string, { rows = 1, ...more }: More = {}) =>
  infer(engine, { modelName, inputs: inputs(rows), ...more });

const loaded = ({ engine }: TestEngine) =>
  engine
    .readyModels()
    .map(({ name }) => name)
    .sort()
    .join(' ');
const slot = ({ engine }: TestEngine, name: string) => engine.slots().find((candidate) => candidate.name === name)!;
const stateOf = ({ engine }: TestEngine, name: string) =>
  engine.repositoryIndex(false).find((entry) => entry.name === name);

test('a model is loaded by its first request, and ready before', async () => {
  const running = await start(repositoryOf({ a: 1, b: 1 }), 0, { modelMemoryBytes: 0 });
  const { engine } = running;
  expect(engine.isReady()).toBe(true);
  expect(engine.isModelReady('a', '')).toBe(true);
  expect(engine.isModelReady('a', '1')).toBe(true);
  expect(engine.isModelReady('a', '2')).toBe(false);
  expect(stateOf(running, 'a')).toMatchObject({ version: '1', state: 'READY', reason: 'is loaded on first use' });
  expect(engine.repositoryIndex(true).map(({ name }) => name)).toEqual(['a', 'b']);
  expect(engine.modelStatistics('', '').map(({ inference_count }) => inference_count)).toEqual([0, 0]);
  expect(() => engine.modelMetadata('a', '')).toThrow(expect.objectContaining({ code: 'UNAVAILABLE' }));
  expect(loaded(running)).toBe('');

  expect((await ask(running, 'a')).modelVersion).toBe('1');
  expect(loaded(running)).toBe('a');
  expect(stateOf(running, 'a')).toMatchObject({ state: 'READY', reason: '' });
});

test('who asks for metadata first loads it, too', async () => {
  const running = await start(repositoryOf({ a: 1 }), 2);
  await running.engine.whenReady('a', '', Number.POSITIVE_INFINITY);
  expect(running.engine.modelMetadata('a', '').versions).toEqual(['1']);
  expect(running.engine.modelConfig('a', '').name).toBe('a');
});

test('first requests at once share one load, and all are answered', async () => {
  const running = await start(repositoryOf({ a: 1 }), 2);
  const answers = await Promise.all(Array.from({ length: 20 }, () => ask(running, 'a')));
  expect(answers).toHaveLength(20);
  expect(slot(running, 'a').loads).toEqual({ success: 1, failure: 0 });
});

test('the configuration of a model goes before the option, either way', async () => {
  const repository = temporaryDirectory();
  const says = (value: string) => `parameters { key: "load_on_first_use" value { string_value: "${value}" } }`;
  for (const value of ['true', 'false', 'perhaps'])
    writeModel(repository, value, { config: says(value), versions: { 1: identityModel('FP32', ['n']) } });
  writeModel(repository, 'silent', { versions: { 1: identityModel('FP32', ['n']) } });
  for (const [loadOnFirstUse, expected] of [
    [true, 'false'],
    [false, 'false silent'],
  ] as const) {
    const running = await start(repository, 0, { loadOnFirstUse, modelMemoryBytes: 0 });
    expect(loaded(running)).toBe(expected);
    expect(stateOf(running, 'perhaps')).toMatchObject({
      state: 'UNAVAILABLE',
      reason: "failed to convert load_on_first_use 'perhaps' to boolean value for perhaps",
    });
  }
});

test('requests that come while the server starts wait for their models, and unknown ones are told', async () => {
  const running = launchEngine(repositoryOf({ a: 1, b: 1 }), { workerCount: 1 });
  onTestFinished(() => running.stop());
  const unknown = expect(ask(running, 'nobody')).rejects.toMatchObject({ code: 'NOT_FOUND' });
  const answers = await Promise.all([ask(running, 'a'), ask(running, 'b'), ask(running, 'a', { modelVersion: '1' })]);
  expect(answers.map(({ modelName }) => modelName)).toEqual(['a', 'b', 'a']);
  await unknown;
  await running.loading;
});

test('a deadline that passes while the model loads is told, and the load goes on', async () => {
  const { running, release } = await startHeld(repositoryOf({ a: 1 }, warmUp(HELD_ROWS)), 2);
  const patient = ask(running, 'a');
  await expect(ask(running, 'a', { deadlineMs: nowMs() + 20 })).rejects.toMatchObject({
    code: 'DEADLINE_EXCEEDED',
    message: "Deadline Exceeded while model 'a' was loading",
  });
  expect(slot(running, 'a').state).toBe('LOADING');
  expect(stateOf(running, 'a')).toMatchObject({ state: 'READY', reason: 'is being loaded' });
  release();
  await patient;
  expect(slot(running, 'a').loads.success).toBe(1);
});

test('a deadline that has passed loads nothing', async () => {
  const running = await start(repositoryOf({ a: 1 }), 2);
  await expect(ask(running, 'a', { deadlineMs: nowMs() - 1 })).rejects.toMatchObject({ code: 'DEADLINE_EXCEEDED' });
  expect(slot(running, 'a').state).toBe('ON_DEMAND');
});

test('as many wait for a load as may queue, and one more is refused with Triton’s text', async () => {
  const running = await start(repositoryOf({ a: TURNS.slow }, warmUp(1)), 2, { defaultMaxQueueSize: 3 });
  const waiting = [1, 2, 3].map(() => ask(running, 'a'));
  await expect(ask(running, 'a')).rejects.toMatchObject({
    code: 'UNAVAILABLE',
    message: "Exceeds maximum queue size (3) of model 'a'",
  });
  expect(await Promise.all(waiting)).toHaveLength(3);
});

test('the least recently used one is unloaded for another, and comes back with its counts', async () => {
  const running = await start(repositoryOf({ a: 1, b: 1, c: 1 }), 2);
  await ask(running, 'a');
  await ask(running, 'b');
  await ask(running, 'a');
  expect(loaded(running)).toBe('a b');
  await ask(running, 'c');
  expect(loaded(running)).toBe('a c');
  expect(stateOf(running, 'b')).toMatchObject({
    state: 'READY',
    reason: 'was unloaded to stay within the memory budget, is loaded again on use',
  });
  expect(running.engine.isReady()).toBe(true);
  expect(slot(running, 'b').unloads).toEqual({ memory_budget: 1, lost: 0 });
  expect(running.engine.modelStatistics('b', '1')).toMatchObject([{ inference_count: 1, memory_usage: [] }]);

  await ask(running, 'b');
  expect(loaded(running)).toBe('b c');
  const cost = { type: 'CPU', id: 0, byte_size: BYTES };
  expect(running.engine.modelStatistics('b', '')).toMatchObject([{ inference_count: 2, memory_usage: [cost] }]);
});

test('at start models are loaded while there is room, none is unloaded for another, and the rest comes on use', async () => {
  const running = await start(repositoryOf({ a: 1, b: 1, c: 1, d: 1 }), 2, { loadOnFirstUse: false });
  expect(loaded(running)).toBe('a b');
  expect(running.engine.isReady()).toBe(true);
  expect(stateOf(running, 'd')).toMatchObject({
    state: 'READY',
    reason: 'is loaded on first use: the memory budget is used up',
  });
  await ask(running, 'd');
  expect(loaded(running)).toBe('b d');
});

test('a busy one is never unloaded, however long ago it was used', async () => {
  const { running, release } = await startHeld(repositoryOf({ a: 1, b: 1, c: 1 }), 4, { workerCount: 2 });
  await running.engine.whenReady('a', '', Number.POSITIVE_INFINITY);
  await ask(running, 'b');
  const busy = ask(running, 'a', { rows: HELD_ROWS });
  await ask(running, 'b');
  const other = ask(running, 'c');
  await expect.poll(() => slot(running, 'b').unloads.memory_budget).toBe(1);
  release();
  await Promise.all([busy, other]);
  expect(slot(running, 'a').unloads.memory_budget).toBe(0);
  expect(loaded(running)).toBe('a c');
});

test('while all are busy a request waits until one is not', async () => {
  const { running, release } = await startHeld(repositoryOf({ a: 1, b: 1 }), 1);
  await running.engine.whenReady('a', '', Number.POSITIVE_INFINITY);
  const ended: string[] = [];
  const end = (name: string) => () => void ended.push(name);
  const busy = [HELD_ROWS, 1, 1].map((rows) => ask(running, 'a', { rows }).then(end('a')));
  const late = expect(ask(running, 'b', { deadlineMs: nowMs() + 20 })).rejects.toMatchObject({
    code: 'DEADLINE_EXCEEDED',
  });
  const other = ask(running, 'b').then(end('b'));
  await late;
  expect(ended).toEqual([]);
  expect(loaded(running)).toBe('a');
  release();
  await Promise.all([...busy, other]);
  expect(ended).toEqual(['a', 'a', 'a', 'b']);
  expect(loaded(running)).toBe('b');
});

test('a model larger than the budget is refused with both numbers, and the others serve on', async () => {
  const running = await start(repositoryOf({ a: 1 }), 0.5);
  const budget = Math.round(0.5 * BYTES * 1.25);
  const told = {
    code: 'RESOURCE_EXHAUSTED',
    message: `model 'a' failed to load: model 'a' takes ${BYTES} bytes of memory, more than --model-memory-budget ${budget}`,
  };
  await expect(ask(running, 'a')).rejects.toMatchObject(told);
  // Until it is tried again.
  await expect(ask(running, 'a')).rejects.toMatchObject(told);
  expect(stateOf(running, 'a')).toMatchObject({ state: 'UNAVAILABLE' });
});

test('what is measured counts under a budget, and never less than the weights', async () => {
  const running = await start(repositoryOf({ a: 1 }), 500, { measuresMemory: true });
  await ask(running, 'a');
  expect(running.engine.memoryBytesOf(slot(running, 'a'))).toBeGreaterThanOrEqual(BYTES);
});

test('a version that was unloaded is still the highest', async () => {
  const repository = temporaryDirectory();
  const config = 'version_policy { all { } }';
  writeModel(repository, 'a', { config, versions: { 1: slowModel(1), 2: slowModel(1) } });
  const running = await start(repository, 1);
  expect((await ask(running, 'a')).modelVersion).toBe('2');
  expect((await ask(running, 'a', { modelVersion: '1' })).modelVersion).toBe('1');
  expect(running.engine.readyModels().map(({ version }) => version)).toEqual(['1']);
  expect((await ask(running, 'a')).modelVersion).toBe('2');
  expect(running.engine.modelMetadata('a', '').versions).toEqual(['1', '2']);
});

test('a load that fails tells all who wait why, is not tried again at once, and does not keep the server from being ready', async () => {
  const repository = repositoryOf({ b: 1 });
  writeModel(repository, 'a', { versions: { 1: Buffer.from('no model') } });
  const running = await start(repository, 2, { loadRetryMs: 3_600_000 });
  const told = { code: 'UNAVAILABLE', message: expect.stringContaining("model 'a' failed to load: ") };
  const both = [ask(running, 'a'), ask(running, 'a')].map((answer) => expect(answer).rejects.toMatchObject(told));
  await Promise.all(both);
  await expect(ask(running, 'a', { modelVersion: '1' })).rejects.toMatchObject(told);
  expect(slot(running, 'a').loads).toEqual({ success: 0, failure: 1 });
  expect(stateOf(running, 'a')).toMatchObject({ state: 'UNAVAILABLE', reason: expect.stringMatching(/./) });
  expect(running.engine.isModelReady('a', '')).toBe(false);
  expect(running.engine.isReady()).toBe(true);
  await ask(running, 'b');
});

test('after a while the next request tries again', async () => {
  const repository = temporaryDirectory();
  writeModel(repository, 'a', { versions: { 1: Buffer.from('no model') } });
  const running = await start(repository, 2, { loadRetryMs: 0 });
  await expect(ask(running, 'a')).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  expect(running.engine.isModelReady('a', '')).toBe(true);
  writeFileSync(join(repository, 'a/1/model.onnx'), slowModel(1));
  await ask(running, 'a');
  expect(slot(running, 'a').loads).toEqual({ success: 1, failure: 1 });
});

test('a model that fails at start is not tried again by requests', async () => {
  const repository = temporaryDirectory();
  writeModel(repository, 'a', { versions: { 1: Buffer.from('no model') } });
  const running = await start(repository, 2, { loadOnFirstUse: false, loadRetryMs: 0 });
  await expect(ask(running, 'a')).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  expect(slot(running, 'a').loads.failure).toBe(1);
  expect(running.engine.isReady()).toBe(false);
});

test('a request that waits for its model is answered while the server stops, and none comes in', async () => {
  const running = await start(repositoryOf({ a: TURNS.slow, b: 1 }, warmUp(1)), 2);
  const accepted = ask(running, 'a');
  const drained = running.engine.drain(60_000);
  await expect(ask(running, 'b')).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  await expect(running.engine.whenReady('b', '', Number.POSITIVE_INFINITY)).rejects.toMatchObject({
    code: 'UNAVAILABLE',
  });
  expect((await accepted).modelName).toBe('a');
  await drained;
});

test('a worker that is lost brings back what was loaded, and not what had been unloaded', async () => {
  const repository = temporaryDirectory();
  const config = 'max_batch_size: 16';
  for (const name of ['a', 'b'])
    writeModel(repository, name, { config, versions: { 1: identityModel('FP32', ['n']) } });
  const size = identityModel('FP32', ['n']).length;
  const modelMemoryBytes = Math.round(1.5 * size);
  const running = await start(repository, 1, { workerFile: dyingWorker(), loadRetryMs: 0, modelMemoryBytes });
  const rows = (modelName: string, count: number) =>
    infer(running.engine, {
      modelName,
      inputs: [tensor('INPUT0', 'FP32', [count, 1], new Float32Array(count))],
    });
  await rows('a', 1);
  await rows('b', 1);
  expect(loaded(running)).toBe('b');
  await expect(rows('b', 13)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  await rows('b', 2);
  expect(loaded(running)).toBe('b');
  expect(slot(running, 'b').loads.success).toBe(1);
  await rows('a', 2);
  expect(loaded(running)).toBe('a');

  // One that can't come back is lost, until a request finds that it can be loaded again.
  writeFileSync(join(repository, 'a/1/model.onnx'), 'gone');
  await expect(rows('a', 13)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  await expect(rows('a', 2)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  expect(slot(running, 'a').unloads).toEqual({ memory_budget: 1, lost: 1 });
  expect(running.engine.memoryBytesOf(slot(running, 'a'))).toBe(0);
  writeFileSync(join(repository, 'a/1/model.onnx'), identityModel('FP32', ['n']));
  await rows('a', 2);
  expect(loaded(running)).toBe('a');
});

test('many clients over many models in room for a few: every answer is right, and the sum of costs holds', async () => {
  const names = Array.from({ length: 12 }, (_, i) => `m${i}`);
  const room = 3;
  const running = await start(repositoryOf(Object.fromEntries(names.map((name) => [name, 1]))), room, {
    workerCount: 2,
    modelMemoryBytes: Math.round(room * 2 * BYTES * 1.25),
  });
  const { engine } = running;
  const first = await ask(running, 'm0');
  let state = 3;
  await Promise.all(
    Array.from({ length: 6 }, async () => {
      for (let i = 0; i < 30; i++) {
        state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
        const answer = await ask(running, names[state % names.length]!);
        expect(answer.outputs).toEqual(first.outputs);
        const sum = engine.slots().reduce((total, each) => total + engine.memoryBytesOf(each), 0);
        expect(sum).toBeLessThanOrEqual(room * 2 * BYTES * 1.25);
      }
    }),
  );
  const count = engine.modelStatistics('', '').reduce((total, each) => total + each.inference_count, 0);
  expect(count).toBe(181);
  expect(engine.slots().reduce((total, { unloads }) => total + unloads.memory_budget, 0)).toBeGreaterThan(5);
});
