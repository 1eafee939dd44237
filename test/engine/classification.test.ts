/** The classification extension: what is ranked how, how values are spelt, and what the engine gives and refuses. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Datatype } from '../../src/base/datatype.js';
import { type Classification, classify, MAX_CLASS_STRINGS } from '../../src/engine/classification.js';
import { infer, rawStrings, startEngine, type TestEngine, temporaryDirectory, tensor } from '../support/engine.js';
import { identityModel, stringModel, writeModel } from '../support/onnx.js';

function strings(data: Uint8Array): string[] {
  const bytes = Buffer.from(data);
  const texts: string[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = bytes.readUInt32LE(at);
    texts.push(bytes.toString('utf8', at + 4, at + 4 + length));
    at += 4 + length;
  }
  return texts;
}

const ask = (classes: number, more: Partial<Classification> = {}): Classification => ({
  classes,
  batching: false,
  labels: undefined,
  modelName: 'm',
  ...more,
});

function classesOf(datatype: Datatype, elements: ArrayBufferView, asked: Classification, shape?: number[]) {
  const output = tensor('Y', datatype, shape ?? [(elements as Float32Array).length], elements);
  const result = classify({ ...output, datatype }, asked);
  return { ...result, texts: strings(result.data) };
}

const texts = (datatype: Datatype, elements: ArrayBufferView, classes = 3) =>
  classesOf(datatype, elements, ask(classes)).texts;

describe('ranking', () => {
  test('the largest come first, equals by index, and names follow where there are some', () => {
    const labels = ['zero', 'one', '', 'drei: süß'];
    const result = classesOf('FP32', Float32Array.of(0.25, 0.5, 0.25, 1, 0.1), ask(4, { labels }));
    expect(result).toMatchObject({ name: 'Y', datatype: 'BYTES', shape: [4] });
    expect(result.texts).toEqual(['1.000000:3:drei: süß', '0.500000:1:one', '0.250000:0:zero', '0.250000:2']);
  });

  test('each row of a batch is ranked over all elements of the row', () => {
    const values = Float32Array.of(1, 2, 3, 4, 8, 7, 6, 5);
    const result = classesOf('FP32', values, ask(2, { batching: true, labels: ['a'] }), [2, 2, 2]);
    expect(result.shape).toEqual([2, 2]);
    expect(result.texts).toEqual(['4.000000:3', '3.000000:2', '8.000000:0:a', '7.000000:1']);
  });

  test('more classes than there are gives all, and none where there are none', () => {
    const result = classesOf('INT32', Int32Array.of(5, -5), ask(2 ** 53), [2]);
    expect([result.shape, result.texts]).toEqual([[2], ['5:0', '-5:1']]);
    const empty = classesOf('FP32', new Float32Array(0), ask(3, { batching: true }), [2, 0]);
    expect([empty.shape, empty.texts]).toEqual([[2, 0], []]);
  });

  test('NaN comes last, behind minus infinity, in order of the index', () => {
    const values = Float64Array.of(Number.NaN, Number.NEGATIVE_INFINITY, Number.NaN, Number.POSITIVE_INFINITY, -1);
    expect(texts('FP64', values, 5)).toEqual(['inf:3', '-1.000000:4', '-inf:1', 'nan:0', 'nan:2']);
    expect(texts('FP64', values, 2)).toEqual(['inf:3', '-1.000000:4']);
  });

  test.each<[Datatype, ArrayBufferView, string[]]>([
    ['INT8', Int8Array.of(-128, 127, 0), ['127:1', '0:2', '-128:0']],
    ['INT16', Int16Array.of(-32768, 32767, 0), ['32767:1', '0:2', '-32768:0']],
    ['INT32', Int32Array.of(-(2 ** 31), 2 ** 31 - 1, 0), ['2147483647:1', '0:2', '-2147483648:0']],
    ['UINT8', Uint8Array.of(1, 255, 0), ['255:1', '1:0', '0:2']],
    ['UINT16', Uint16Array.of(1, 65535, 0), ['65535:1', '1:0', '0:2']],
    ['UINT32', Uint32Array.of(1, 2 ** 32 - 1, 0), ['4294967295:1', '1:0', '0:2']],
    [
      'INT64',
      BigInt64Array.of(2n ** 53n, 2n ** 53n + 1n, -(2n ** 63n)),
      ['9007199254740993:1', '9007199254740992:0', '-9223372036854775808:2'],
    ],
    [
      'UINT64',
      BigUint64Array.of(2n ** 64n - 2n, 2n ** 64n - 1n, 3n),
      ['18446744073709551615:1', '18446744073709551614:0', '3:2'],
    ],
    // 1.5, the least subnormal, -2, the largest, an infinity, NaN.
    [
      'FP16',
      Uint16Array.of(0x3e00, 0x0001, 0xc000, 0x7bff, 0x7c00, 0x7e00),
      ['inf:4', '65504.000000:3', '1.500000:0', '0.000000:1', '-2.000000:2', 'nan:5'],
    ],
  ])('%s is ranked by its numbers', (datatype, elements, expected) => {
    expect(texts(datatype, elements, 6)).toEqual(expected);
  });

  test.each<[string, (index: number) => number]>([
    ['rising', (index) => index],
    ['falling', (index) => -index],
    ['equal', () => 7],
    ['mixed with many equals and NaN', (index) => (index % 11 === 0 ? Number.NaN : (index * 7919) % 1009)],
  ])('of %s values far more than are asked for, it is those that a full sort puts first', (_name, value) => {
    const values = Float32Array.from({ length: 60_000 }, (_, index) => value(index));
    const order = [...values.keys()].sort((a, b) => {
      const [left, right] = [values[a]!, values[b]!];
      if (Number.isNaN(left) || Number.isNaN(right)) return Number(Number.isNaN(left)) - Number(Number.isNaN(right));
      return right - left || a - b;
    });
    for (const classes of [1, 5, 1000, MAX_CLASS_STRINGS]) {
      const indices = texts('FP32', values, classes).map((text) => Number(text.split(':')[1]));
      expect(indices, `${classes} classes`).toEqual(order.slice(0, classes));
    }
  });

  test('data that begins at an odd byte is read all the same', () => {
    const bytes = Buffer.alloc(9);
    bytes.writeFloatLE(2, 1);
    bytes.writeFloatLE(3, 5);
    const output = {
      name: 'Y',
      datatype: 'FP32' as const,
      shape: [2],
      data: new Uint8Array(bytes.buffer, bytes.byteOffset + 1, 8),
    };
    expect(strings(classify(output, ask(2)).data)).toEqual(['3.000000:1', '2.000000:0']);
  });

  test('the number of strings has a bound, whatever the classes are', () => {
    const most = classesOf('UINT8', new Uint8Array(MAX_CLASS_STRINGS), ask(MAX_CLASS_STRINGS));
    expect(most.shape).toEqual([MAX_CLASS_STRINGS]);
    const rows = [2, MAX_CLASS_STRINGS / 2 + 1];
    const beyond = new Uint8Array(2 * rows[1]!);
    const refused = () => classesOf('UINT8', beyond, ask(rows[1]!, { batching: true }), rows);
    expect(refused).toThrow(
      `classification output tensor too large: output 'Y' of model 'm' would become ${MAX_CLASS_STRINGS + 2} strings, at most ${MAX_CLASS_STRINGS} are given`,
    );
    expect(classesOf('UINT8', beyond, ask(3, { batching: true }), rows).shape).toEqual([2, 3]);
  });
});

test("floats are spelt as C's %f spells them", () => {
  const spelt: [number, string][] = [
    [0, '0.000000'],
    [-0, '-0.000000'],
    [0.1, '0.100000'],
    [1 / 3, '0.333333'],
    [2 / 3, '0.666667'],
    [-1e-9, '-0.000000'],
    [5e-7, '0.000000'],
    [1.5e-6, '0.000002'],
    [1 / 128, '0.007812'],
    [3 / 128, '0.023438'],
    [-1 / 128, '-0.007812'],
    [123456.0078125, '123456.007812'],
    [1e21, '1000000000000000000000.000000'],
    [Number.MAX_SAFE_INTEGER, '9007199254740991.000000'],
    [-1e30, '-1000000000000000019884624838656.000000'],
  ];
  for (const [value, text] of spelt) expect(texts('FP64', Float64Array.of(value), 1)).toEqual([`${text}:0`]);
  expect(texts('FP32', Float32Array.of(0.1), 1)).toEqual(['0.100000:0']);
  expect(texts('FP32', Float32Array.of(3.4028234663852886e38), 1)).toEqual([
    '340282346638528859811704183484516925440.000000:0',
  ]);
});

describe('in the engine', () => {
  const repository = temporaryDirectory();
  const batching = 'max_batch_size: 8\ndynamic_batching { max_queue_delay_microseconds: 20000 }\n';
  writeModel(repository, 'values', { config: batching, versions: { 1: identityModel('FP32', ['n']) } });
  writeModel(repository, 'wide', { config: batching, versions: { 1: identityModel('UINT8', ['n']) } });
  writeModel(repository, 'flags', { config: batching, versions: { 1: identityModel('BOOL', ['n']) } });
  writeModel(repository, 'text', { config: batching, versions: { 1: stringModel() } });

  let running: TestEngine;
  beforeAll(async () => {
    running = await startEngine(repository);
  });
  afterAll(() => running.stop());

  const asClasses = (classification: number) => [{ name: 'OUTPUT0', classification }];

  test('requests of one batch get classes, fewer classes and the tensor, each as it asked', async () => {
    const rows = [Float32Array.of(1, 3, 2), Float32Array.of(6, 5, 4), Float32Array.of(7, 8, 9)];
    const [two, one, raw] = await Promise.all(
      [asClasses(2), asClasses(1), []].map((outputs, i) =>
        infer(running.engine, { modelName: 'values', inputs: [tensor('INPUT0', 'FP32', [1, 3], rows[i]!)], outputs }),
      ),
    );
    expect(two!.outputs[0]).toMatchObject({ name: 'OUTPUT0', datatype: 'BYTES', shape: [1, 2] });
    expect(strings(two!.outputs[0]!.data)).toEqual(['3.000000:1', '2.000000:2']);
    expect(strings(one!.outputs[0]!.data)).toEqual(['6.000000:0']);
    expect(raw!.outputs[0]).toMatchObject({ datatype: 'FP32', shape: [1, 3] });
    expect(new Float32Array(raw!.outputs[0]!.data.buffer)).toEqual(rows[2]);
  });

  test.each([
    ['flags', 'BOOL', [tensor('INPUT0', 'BOOL', [1, 2], Uint8Array.of(0, 1))]],
    ['text', 'BYTES', ['INPUT0', 'INPUT1'].map((name) => tensor(name, 'BYTES', [1, 1], rawStrings('a')))],
  ])("what has no order is refused: model '%s'", async (modelName, datatype, inputs) => {
    await expect(infer(running.engine, { modelName, inputs, outputs: asClasses(1) })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: `class result not available for output due to unsupported type '${datatype}': output 'OUTPUT0' of model '${modelName}' can not be ranked`,
    });
    expect((await infer(running.engine, { modelName, inputs, outputs: asClasses(0) })).outputs).toHaveLength(1);
  });

  test('a request for too many strings fails alone, is counted as failed, and leaves the model serving', async () => {
    const inputs = [
      tensor('INPUT0', 'UINT8', [1, MAX_CLASS_STRINGS + 1], new Uint8Array(MAX_CLASS_STRINGS + 1).fill(1, 9)),
    ];
    const ask = (classification: number) =>
      infer(running.engine, { modelName: 'wide', inputs, outputs: asClasses(classification) });
    const refused = await ask(MAX_CLASS_STRINGS + 1).catch((error) => error);
    expect(refused).toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect(refused.message).toContain('classification output tensor too large');
    const [statistics] = running.engine.modelStatistics('wide', '');
    expect([statistics!.inference_stats.success.count, statistics!.inference_stats.fail.count]).toEqual([0, 1]);
    expect(strings((await ask(1)).outputs[0]!.data)).toEqual(['1:9']);
  });

  test('the extension is announced', () => {
    expect(running.engine.extensions).toContain('classification');
  });
});
