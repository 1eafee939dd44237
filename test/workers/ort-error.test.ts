import type * as Ort from 'onnxruntime-node';
import { beforeAll, describe, expect, test } from 'vitest';
import { failureOf } from '../../workers/ort-error.js';
import { buildModel, type OnnxValue } from '../support/onnx-encode.js';

let ort: typeof Ort;
beforeAll(async () => {
  process.env.ORT_DISABLE_TELEMETRY = '1';
  ort = await import('onnxruntime-node');
});

const floats = (name: string, ...shape: string[]): OnnxValue => ({ name, datatype: 'FP32', shape });
const longs = (name: string, ...shape: string[]): OnnxValue => ({ name, datatype: 'INT64', shape });
const long = (...values: bigint[]): Ort.Tensor => new ort.Tensor('int64', BigInt64Array.from(values), [values.length]);
const float = (...values: number[]): Ort.Tensor =>
  new ort.Tensor('float32', Float32Array.from(values), [values.length]);

/** What the server would say of a run of one node with inputs A, B, C and output OUT. */
async function failure(op: string, inputs: OnnxValue[], output: OnnxValue, feeds: () => Record<string, Ort.Tensor>) {
  const names = inputs.map(({ name }) => name);
  const model = buildModel({
    name: 'one_node',
    opset: 18,
    inputs,
    outputs: [output],
    nodes: [{ op, name: 'n', inputs: names, outputs: [output.name] }],
  });
  const session = await ort.InferenceSession.create(model, { logSeverityLevel: 4 });
  try {
    await session.run(feeds());
  } catch (error) {
    return failureOf(error, 'run');
  } finally {
    await session.release();
  }
  throw new Error(`${op} ran`);
}

const LEAK = /\.(cc|h):|onnxruntime::|\/|\[with |0x|operator/;

describe('a kernel that refuses what the request holds is INVALID_ARGUMENT, without places in the source', () => {
  test.each([
    [
      'Div',
      [longs('A', 'n'), longs('B', 'm')],
      longs('OUT', 'k'),
      () => ({ A: long(1n), B: long(0n) }),
      /^onnx runtime refused the data: Div node n: Integer division by zero$/,
    ],
    [
      'Mod',
      [longs('A', 'n'), longs('B', 'm')],
      longs('OUT', 'k'),
      () => ({ A: long(1n), B: long(0n) }),
      /Mod node n: Integer modulo by zero/,
    ],
    [
      'Add',
      [floats('A', 'n'), floats('B', 'm')],
      floats('OUT', 'k'),
      () => ({ A: float(1, 2), B: float(1, 2, 3) }),
      /broadcast/,
    ],
    ['Gather', [floats('A', 'n'), longs('B', 'm')], floats('OUT', 'k'), () => ({ A: float(1), B: long(7n) }), /idx=7/],
    [
      'GatherElements',
      [floats('A', 'n'), longs('B', 'm')],
      floats('OUT', 'k'),
      () => ({ A: float(1), B: long(7n) }),
      /Out of range/,
    ],
    [
      'Reshape',
      [floats('A', 'n'), longs('B', 'm')],
      floats('OUT', 'k', 'l'),
      () => ({ A: float(1), B: long(7n, 3n) }),
      /reshaped/,
    ],
    ['ConstantOfShape', [longs('A', 'n')], floats('OUT', 'k', 'l'), () => ({ A: long(-5n, 1n) }), /must be >= 0/],
    [
      'ConstantOfShape',
      [longs('A', 'n')],
      floats('OUT', 'k', 'l'),
      () => ({ A: long(2n ** 40n, 2n ** 40n) }),
      /overflow/,
    ],
    [
      'Tile',
      [floats('A', 'n'), longs('B', 'm')],
      floats('OUT', 'k'),
      () => ({ A: float(1), B: long(2n ** 50n) }),
      /4294967296/,
    ],
    [
      'Slice',
      [floats('A', 'n'), longs('B', 'm'), longs('C', 'l')],
      floats('OUT', 'k'),
      () => ({ A: float(1), B: long(0n, 1n), C: long(1n) }),
      /Starts and ends shape mismatch/,
    ],
  ] as const)('%s', async (op, inputs, output, feeds, says) => {
    const { code, message } = await failure(op, [...inputs], output, feeds as () => Record<string, Ort.Tensor>);
    expect({ code, message }).toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect(message).toMatch(says);
    expect(message).not.toMatch(LEAK);
  });
});

test('memory that can not be had is RESOURCE_EXHAUSTED', async () => {
  const feeds = () => ({ A: long(2n ** 20n, 2n ** 20n) });
  const { code, message } = await failure('ConstantOfShape', [longs('A', 'n')], floats('OUT', 'k', 'l'), feeds);
  expect(code).toBe('RESOURCE_EXHAUSTED');
  expect(message).not.toMatch(LEAK);
});

test('anything else of a run, and a load, is INTERNAL', () => {
  expect(
    failureOf(new Error('Non-zero status code returned while running X node. Status Message: CUDA failure 2'), 'run'),
  ).toMatchObject({ code: 'INTERNAL' });
  expect(failureOf(new Error('something else'), 'run')).toMatchObject({ code: 'INTERNAL' });
  expect(
    failureOf(new Error('Non-zero status code returned while running X node. Status Message: bad'), 'load'),
  ).toMatchObject({ code: 'INTERNAL' });
});
