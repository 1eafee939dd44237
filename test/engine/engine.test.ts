/** The engine with real workers and models: batching in company, failures of neighbours, order, cancellation, loss of a worker. */
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { nowMs } from '../../src/base/clock.js';
import type { ServeError } from '../../src/base/errors.js';
import type { InferResponse } from '../../src/engine/types.js';
import { ask, infer, rawStrings, startEngine, type TestEngine, temporaryDirectory, tensor } from '../support/engine.js';
import { HELD_ROWS, heldWorker } from '../support/held-worker.js';
import {
  dynamicOutputModel,
  gatherModel,
  identityModel,
  intDivModel,
  scalarModel,
  slowModel,
  stringModel,
  writeModel,
  zeroSizeModel,
} from '../support/onnx.js';

const repository = temporaryDirectory();
const batching = (max: number, more = '') => `max_batch_size: ${max}\ndynamic_batching { ${more} }\n`;
writeModel(repository, 'identity', { config: batching(32), versions: { 1: identityModel('FP32', ['n']) } });
writeModel(repository, 'delayed', {
  config: batching(8, 'max_queue_delay_microseconds: 60000000'),
  versions: { 1: identityModel('FP32', ['n']) },
});
writeModel(repository, 'gather', {
  config: batching(32, 'max_queue_delay_microseconds: 30000'),
  versions: { 1: gatherModel() },
});
writeModel(repository, 'division', { versions: { 1: intDivModel() } });
writeModel(repository, 'half', { config: batching(8), versions: { 1: identityModel('FP16', ['n']) } });
writeModel(repository, 'found', { versions: { 1: dynamicOutputModel() } });
writeModel(repository, 'text', { versions: { 1: stringModel() } });
writeModel(repository, 'scalar', { versions: { 1: scalarModel() } });
writeModel(repository, 'empty', { versions: { 1: zeroSizeModel() } });
writeModel(repository, 'slow', {
  config: `${batching(1)}instance_group { count: 1 }\nparameters { key: "x" value { string_value: "y" } }\n`,
  versions: { 1: slowModel(60) },
});
writeModel(repository, 'narrow', {
  config: batching(1, 'default_queue_policy { max_queue_size: 2 }') + 'instance_group { count: 1 }',
  versions: { 1: slowModel(60) },
});
writeModel(repository, 'ordered', {
  config: batching(1, 'preserve_ordering: true'),
  versions: { 1: slowModel(3) },
});
writeModel(repository, 'levels', {
  config: `${batching(1, 'priority_levels: 2 default_priority_level: 2')}instance_group { count: 1 }`,
  versions: { 1: slowModel(60) },
});
writeModel(repository, 'warm', {
  config:
    'max_batch_size: 4 model_warmup { name: "w" batch_size: 2 inputs { key: "INPUT0" value { data_type: TYPE_FP32 dims: 3 random_data: true } } }',
  versions: { 1: identityModel('FP32', ['n']) },
});
writeModel(repository, 'broken', { versions: { 1: Buffer.from('not a model') } });
writeModel(repository, 'versions', {
  config: 'version_policy { all {} }',
  versions: { 1: identityModel('FP32', ['n']), 3: identityModel('FP32', ['n']) },
});

let running: TestEngine;
beforeAll(async () => {
  running = await startEngine(repository);
});
afterAll(async () => {
  // What still waits for company goes at once.
  const last = infer(running.engine, { modelName: 'delayed', inputs: [tensor('INPUT0', 'FP32', [1, 1], fp32(1))] });
  await running.stop();
  await last;
});

const fp32 = (...values: number[]) => new Float32Array(values);
const floats = (response: InferResponse) => [...new Float32Array(response.outputs[0]!.data.buffer)];
const slowInput = () => [tensor('INPUT0', 'FP32', [1, 16], new Float32Array(16))];

/** Of requests of the first level one waits a millisecond at most, of the second for ever. */
const IMPATIENT = `priority_levels: 2 default_priority_level: 2
  default_queue_policy { default_timeout_microseconds: 1000 } priority_queue_policy { key: 2 value { } }`;

/** Two models beside each other, of which `busy` has one worker; that is held by a request of HELD_ROWS rows. */
async function startHeld() {
  const models = temporaryDirectory();
  const versions = { 1: identityModel('FP32', ['n']) };
  writeModel(models, 'busy', { config: `${batching(4, IMPATIENT)}instance_group { count: 1 }`, versions });
  writeModel(models, 'other', { config: batching(4), versions });
  const { file, release } = heldWorker();
  const { engine, stop } = await startEngine(models, { workerFile: file });
  onTestFinished(() => {
    release();
    return stop();
  });
  const send = (modelName: string, rows: number, priority = 0) =>
    infer(engine, {
      modelName,
      inputs: [tensor('INPUT0', 'FP32', [rows, 1], new Float32Array(rows))],
      parameters: new Map([['priority', priority]]),
    });
  return { send, release };
}

const failure = (promise: Promise<unknown>): Promise<ServeError> =>
  promise.then(
    () => Promise.reject(new Error('was answered')),
    (error: ServeError) => error,
  );

describe('batches', () => {
  test('requests of different rows and lengths get their own rows back', async () => {
    const answers = await Promise.all(
      Array.from({ length: 200 }, async (_, i) => {
        const rows = 1 + (i % 3);
        const width = 1 + (i % 5);
        const data = Float32Array.from({ length: rows * width }, (_, k) => i * 1000 + k);
        const { outputs } = await infer(running.engine, {
          modelName: 'identity',
          inputs: [tensor('INPUT0', 'FP32', [rows, width], data)],
        });
        expect(outputs[0]!.shape).toEqual([rows, width]);
        return Buffer.compare(outputs[0]!.data, new Uint8Array(data.buffer)) === 0;
      }),
    );
    expect(answers.every(Boolean)).toBe(true);
    const { batch_stats } = running.engine.modelStatistics('identity', '')[0]!;
    expect(Math.max(...batch_stats.map(({ batch_size }) => batch_size))).toBeGreaterThan(3);
  });

  test('a full batch does not wait for the delay, and the statistics count it once', async () => {
    await Promise.all(
      Array.from({ length: 8 }, (_, i) =>
        infer(running.engine, { modelName: 'delayed', inputs: [tensor('INPUT0', 'FP32', [1, 2], fp32(i, i))] }),
      ),
    );
    const [statistics] = running.engine.modelStatistics('delayed', '');
    expect(statistics).toMatchObject({
      inference_count: 8,
      execution_count: 1,
      inference_stats: { success: { count: 8 } },
    });
    expect(statistics!.batch_stats).toHaveLength(1);
    expect(statistics!.batch_stats[0]).toMatchObject({ batch_size: 8, compute_infer: { count: 1 } });
  });

  test('one bad request of a batch fails alone', async () => {
    const index = (value: bigint) => ({
      modelName: 'gather',
      inputs: [tensor('INPUT0', 'INT64', [1, 1], new BigInt64Array([value]))],
    });
    const results = await Promise.allSettled(
      Array.from({ length: 32 }, (_, i) => infer(running.engine, index(i === 13 ? 99n : BigInt(i % 10)))),
    );
    expect(results.flatMap(({ status }, i) => (status === 'rejected' ? [i] : []))).toEqual([13]);
    const { reason } = results[13] as PromiseRejectedResult;
    expect(reason).toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect(reason.message).toContain('out of data bounds');
    expect(reason.message).not.toMatch(/onnxruntime_src|\.cc|\//);
  });

  test('preserve_ordering answers in the order of the requests', async () => {
    const order: number[] = [];
    await Promise.all(
      Array.from({ length: 30 }, (_, i) =>
        infer(running.engine, { modelName: 'ordered', inputs: slowInput() }).then(() => order.push(i)),
      ),
    );
    expect(order).toEqual(Array.from({ length: 30 }, (_, i) => i));
  });
});

describe('tensors', () => {
  test('an output whose shape nobody knows before comes back', async () => {
    const { outputs } = await infer(running.engine, {
      modelName: 'found',
      inputs: [tensor('INPUT0', 'FP32', [6], fp32(0, 1, 0, 2, 3, 0))],
    });
    expect(outputs[0]).toMatchObject({ datatype: 'INT64', shape: [1, 3] });
    expect([...new BigInt64Array(outputs[0]!.data.buffer)]).toEqual([1n, 3n, 4n]);
  });

  test('strings go through, empty and long ones, in company', async () => {
    const words = ['', 'plain', 'žluťoučký \u{1f40e}', 'x'.repeat(100_000)];
    const answers = await Promise.all(
      words.map((word) =>
        infer(running.engine, {
          modelName: 'text',
          inputs: running.engine.modelMetadata('text', '').inputs.map(({ name }) => ({
            name,
            datatype: 'BYTES',
            shape: [1, 1],
            data: rawStrings(word),
          })),
        }),
      ),
    );
    for (const [i, { outputs }] of answers.entries()) {
      const text = Buffer.from(outputs[0]!.data).subarray(4).toString();
      expect(text.includes(words[i]!)).toBe(true);
    }
  });

  test('FP16 comes back bit for bit', async () => {
    const bits = new Uint16Array([0x3c00, 0x7e01, 0x8000, 0x0001, 0xfc00]);
    const { outputs } = await infer(running.engine, {
      modelName: 'half',
      inputs: [tensor('INPUT0', 'FP16', [1, 5], bits)],
    });
    expect([...new Uint16Array(outputs[0]!.data.buffer)]).toEqual([...bits]);
  });

  test('a scalar is one element to clients, as Triton describes it', async () => {
    const { outputs } = await infer(running.engine, {
      modelName: 'scalar',
      inputs: [tensor('INPUT0', 'FP32', [1], fp32(4))],
    });
    expect(outputs[0]!.shape).toEqual([1]);
    expect(outputs[0]!.data.byteLength).toBe(4);
  });

  test('a tensor of no elements comes back as one', async () => {
    const { outputs } = await infer(running.engine, {
      modelName: 'empty',
      inputs: [tensor('INPUT0', 'FP32', [2, 0, 4], fp32())],
    });
    expect(outputs[0]).toMatchObject({ shape: [2, 0, 4], data: new Uint8Array(0) });
  });

  test('the division that would end the process is refused, others run', async () => {
    const divide = (a: number, b: number) =>
      infer(running.engine, {
        modelName: 'division',
        inputs: [
          tensor('INPUT0', 'INT32', [1, 4], new Int32Array(4).fill(a)),
          tensor('INPUT1', 'INT32', [1, 4], new Int32Array(4).fill(b)),
        ],
      });
    expect([...new Int32Array((await divide(-6, -1)).outputs[0]!.data.buffer)]).toEqual([6, 6, 6, 6]);
    const error = await failure(divide(-(2 ** 31), -1));
    expect(error).toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect(error.message).toContain("'INPUT0'");
    expect((await failure(divide(1, 0))).code).not.toBe('UNAVAILABLE');
    expect([...new Int32Array((await divide(9, 3)).outputs[0]!.data.buffer)]).toEqual([3, 3, 3, 3]);
  });
});

describe('queues', () => {
  test("a full queue refuses with Triton's text and the others are answered", async () => {
    const results = await Promise.allSettled(
      Array.from({ length: 8 }, () => infer(running.engine, { modelName: 'narrow', inputs: slowInput() })),
    );
    const refused = results.filter((result): result is PromiseRejectedResult => result.status === 'rejected');
    // One runs, two wait; the other five are refused.
    expect(refused).toHaveLength(5);
    for (const { reason } of refused) {
      expect(reason.code).toBe('UNAVAILABLE');
      expect(reason.message).toContain('Exceeds maximum queue size');
    }
  });

  test('a queue timeout is told while the worker is still busy', async () => {
    const { send, release } = await startHeld();
    let ended = false;
    const first = send('busy', HELD_ROWS).then(() => {
      ended = true;
    });
    expect(await failure(send('busy', 1, 1))).toMatchObject({
      code: 'UNAVAILABLE',
      message: 'Request timeout expired',
    });
    expect(ended).toBe(false);
    release();
    await first;
  });

  test('a request whose deadline has passed is never run', async () => {
    const before = running.engine.modelStatistics('identity', '')[0]!.execution_count;
    const error = await failure(
      infer(running.engine, {
        modelName: 'identity',
        inputs: [tensor('INPUT0', 'FP32', [1, 1], fp32(1))],
        deadlineMs: nowMs() - 1,
      }),
    );
    expect(error.code).toBe('DEADLINE_EXCEEDED');
    expect(running.engine.modelStatistics('identity', '')[0]!.execution_count).toBe(before);
  });

  test('a cancelled request that waits is never run, and nobody is told', async () => {
    const before = running.engine.modelStatistics('slow', '')[0]!.execution_count;
    let told = 0;
    const handler = { onResponse: () => void told++, onError: () => void told++ };
    const first = infer(running.engine, { modelName: 'slow', inputs: slowInput() });
    const cancels = Array.from({ length: 5 }, () =>
      ask(running.engine, { modelName: 'slow', inputs: slowInput() }, handler),
    );
    for (const cancel of cancels) {
      cancel();
      cancel();
    }
    await first;
    await infer(running.engine, { modelName: 'slow', inputs: slowInput() });
    expect(told).toBe(0);
    expect(running.engine.modelStatistics('slow', '')[0]!.execution_count).toBe(before + 2);
  });

  test('a lower priority level waits for a higher one', async () => {
    const order: string[] = [];
    const send = (name: string, priority: number) =>
      infer(running.engine, {
        modelName: 'levels',
        inputs: slowInput(),
        parameters: new Map([['priority', priority]]),
      }).then(() => order.push(name));
    await Promise.all([send('running', 2), send('low', 2), send('low', 2), send('high', 1)]);
    expect(order).toEqual(['running', 'high', 'low', 'low']);
  });

  test('what is running does not keep another model from its turn', async () => {
    const { send, release } = await startHeld();
    const busy = Array.from({ length: 20 }, (_, i) => send('busy', i === 0 ? HELD_ROWS : 1));
    let left = busy.length;
    for (const one of busy) void one.then(() => left--);
    await send('other', 1);
    expect(left).toBe(20);
    release();
    await Promise.all(busy);
  });
});

describe('repository', () => {
  test('a model that fails to load says why and leaves the others ready', () => {
    const index = running.engine.repositoryIndex(false);
    const broken = index.find(({ name }) => name === 'broken')!;
    expect(broken.state).toBe('UNAVAILABLE');
    expect(broken.reason).not.toBe('');
    expect(broken.reason).not.toMatch(/\/|onnxruntime_src/);
    expect(index.filter(({ state }) => state !== 'READY')).toEqual([broken]);
    expect(running.engine.isReady()).toBe(false);
    expect(running.engine.isModelReady('broken', '')).toBe(false);
  });

  test('an empty version means the highest, and the answer names it', async () => {
    const inputs = [tensor('INPUT0', 'FP32', [1, 1], fp32(5))];
    expect((await infer(running.engine, { modelName: 'versions', inputs })).modelVersion).toBe('3');
    expect((await infer(running.engine, { modelName: 'versions', modelVersion: '1', inputs })).modelVersion).toBe('1');
    expect(running.engine.modelMetadata('versions', '').versions).toEqual(['1', '3']);
  });

  test.each([
    ['nobody', '', 'NOT_FOUND', "Request for unknown model: 'nobody' is not found"],
    ['no\r\nbody', '', 'INVALID_ARGUMENT', "model name 'no??body' holds control characters"],
    ['versions', '2', 'NOT_FOUND', 'version 2 is not found'],
    ['broken', '1', 'UNAVAILABLE', 'version 1 is not at ready state'],
    ['broken', '', 'UNAVAILABLE', "Request for unknown model: 'broken' has no available versions"],
    ['versions', 'abc', 'INVALID_ARGUMENT', "specified version string 'abc'"],
    ['versions', '-1', 'INVALID_ARGUMENT', 'version string'],
    ['versions', '0', 'INVALID_ARGUMENT', 'version string'],
    ['versions', '01', 'INVALID_ARGUMENT', 'version string'],
    ['versions', '1e3', 'INVALID_ARGUMENT', 'version string'],
    ['', '', 'INVALID_ARGUMENT', 'name'],
  ])('model %j version %j is %s', async (modelName, modelVersion, code, text) => {
    const error = await failure(infer(running.engine, { modelName, modelVersion, inputs: [] }));
    expect(error.code).toBe(code);
    expect(error.message).toContain(text);
  });

  test('a warm-up runs before the model is ready and is not counted', () => {
    expect(running.engine.isModelReady('warm', '1')).toBe(true);
    expect(running.engine.modelStatistics('warm', '')[0]).toMatchObject({ inference_count: 0, execution_count: 0 });
  });
});

test('the phases of the budget add up to the whole', async () => {
  const { engine } = running;
  await new Promise<void>((resolve, reject) => {
    const started = nowMs();
    let request: Parameters<typeof engine.infer>[0] | undefined;
    const handler = {
      onResponse: () => {
        const { timeline } = request!;
        timeline.encoded = nowMs();
        const sum = timeline.phases().reduce((a, b) => a + b, 0);
        try {
          expect(sum).toBeCloseTo(timeline.encoded - timeline.firstByte, 6);
          expect(timeline.phases()[5]).toBeGreaterThan(0);
          expect(timeline.firstByte).toBeGreaterThanOrEqual(started);
          resolve();
        } catch (error) {
          reject(error);
        }
      },
      onError: reject,
    };
    const capture = { infer: (own: typeof request, to: typeof handler) => engine.infer((request = own)!, to) };
    ask(capture as never, { modelName: 'identity', inputs: [tensor('INPUT0', 'FP32', [1, 1], fp32(1))] }, handler);
  });
});

test('floats come back bit for bit', async () => {
  const bits = new Uint32Array([0x7fc00001, 0x80000000, 0x00000001, 0xff800000, 0x7f800000, 0x3f800000]);
  const response = await infer(running.engine, {
    modelName: 'identity',
    inputs: [tensor('INPUT0', 'FP32', [1, 6], bits)],
  });
  expect([...new Uint32Array(response.outputs[0]!.data.buffer)]).toEqual([...bits]);
  expect(floats(response)).toHaveLength(6);
});
