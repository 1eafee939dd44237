import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import type { Datatype } from '../src/base/datatype.js';
import {
  addSubModel,
  bigModel,
  buildModel,
  dynamicOutputModel,
  gatherModel,
  identityModel,
  intDivModel,
  mlpModel,
  scalarModel,
  slowModel,
  stringModel,
  writeModel,
  zeroSizeModel,
} from './support/onnx.js';

process.env.ORT_DISABLE_TELEMETRY = '1';
const { InferenceSession, Tensor } = await import('onnxruntime-node');
type Session = Awaited<ReturnType<typeof InferenceSession.create>>;
type Feeds = Parameters<Session['run']>[0];

const sessions: Session[] = [];
afterEach(async () => {
  for (const session of sessions.splice(0)) await session.release();
});

async function load(model: Buffer): Promise<Session> {
  const session = await InferenceSession.create(model, { intraOpNumThreads: 1 });
  sessions.push(session);
  return session;
}

async function run(model: Buffer, feeds: Feeds) {
  return (await load(model)).run(feeds);
}

const float = (data: number[], shape: number[]) => new Tensor('float32', Float32Array.from(data), shape);

const ELEMENTS = {
  BOOL: ['bool', Uint8Array.of(1, 0)],
  UINT8: ['uint8', Uint8Array.of(0, 255)],
  UINT16: ['uint16', Uint16Array.of(0, 65_535)],
  UINT32: ['uint32', Uint32Array.of(0, 4_294_967_295)],
  UINT64: ['uint64', BigUint64Array.of(0n, 18_446_744_073_709_551_615n)],
  INT8: ['int8', Int8Array.of(-128, 127)],
  INT16: ['int16', Int16Array.of(-32_768, 32_767)],
  INT32: ['int32', Int32Array.of(-2_147_483_648, 2_147_483_647)],
  INT64: ['int64', BigInt64Array.of(-9_223_372_036_854_775_808n, 9_223_372_036_854_775_807n)],
  FP16: ['float16', Uint16Array.of(0x3c00, 0x7e00)],
  FP32: ['float32', Float32Array.of(1.5, Number.NaN)],
  FP64: ['float64', Float64Array.of(-0, Number.POSITIVE_INFINITY)],
} as const;

test.each(Object.keys(ELEMENTS) as (keyof typeof ELEMENTS)[])(
  'an identity model of %s returns what it got',
  async (datatype) => {
    const [type, data] = ELEMENTS[datatype];
    const tensor = new Tensor(type as 'float32', data as unknown as Float32Array, [1, 2]);
    const { OUTPUT0 } = await run(identityModel(datatype as Datatype, ['n']), { INPUT0: tensor });
    expect(OUTPUT0!.type).toBe(type);
    expect(OUTPUT0!.dims).toEqual([1, 2]);
    expect(OUTPUT0!.data).toEqual(data);
  },
);

test('an identity model of BYTES returns its strings', async () => {
  const INPUT0 = new Tensor('string', ['', 'zwölf'], [2, 1]);
  const { OUTPUT0 } = await run(identityModel('BYTES', [1]), { INPUT0 });
  expect(OUTPUT0!.data).toEqual(['', 'zwölf']);
});

test('an identity model of BF16 is one that onnxruntime-node refuses to load', async () => {
  await expect(load(identityModel('BF16', ['n']))).rejects.toThrow('Unsupported data type: 16');
});

test('shapes are written as given, symbolic and fixed, with and without a batch dimension', async () => {
  const shapeOf = async (model: Buffer) => {
    const [metadata] = (await load(model)).inputMetadata;
    return metadata!.isTensor ? metadata!.shape : undefined;
  };
  expect(await shapeOf(identityModel('FP32', ['n', 3]))).toEqual(['batch', 'n', 3]);
  expect(await shapeOf(identityModel('FP32', ['n', 3], { batching: false }))).toEqual(['n', 3]);
});

test('addSub adds and subtracts', async () => {
  const INPUT0 = new Tensor('int32', Int32Array.of(5, 6), [1, 2]);
  const INPUT1 = new Tensor('int32', Int32Array.of(1, 10), [1, 2]);
  const { OUTPUT0, OUTPUT1 } = await run(addSubModel('INT32', [2]), { INPUT0, INPUT1 });
  expect(OUTPUT0!.data).toEqual(Int32Array.of(6, 16));
  expect(OUTPUT1!.data).toEqual(Int32Array.of(4, -4));
});

test('an mlp is the same model every time and computes each row by itself', async () => {
  const options = { inputs: 8, hidden: 16, layers: 2, outputs: 3 };
  expect(mlpModel(options)).toEqual(mlpModel(options));
  expect(mlpModel({ ...options, seed: 2 })).not.toEqual(mlpModel(options));
  const session = await load(mlpModel(options));
  const rows = [Array.from({ length: 8 }, (_, i) => i / 8), Array.from({ length: 8 }, (_, i) => 1 - i)];
  const both = (await session.run({ INPUT0: float(rows.flat(), [2, 8]) })).OUTPUT0!.data as Float32Array;
  const second = (await session.run({ INPUT0: float(rows[1]!, [1, 8]) })).OUTPUT0!.data as Float32Array;
  expect(both.length).toBe(6);
  expect(new Set(both).size).toBe(6);
  for (const [i, element] of second.entries()) expect(both[3 + i]).toBeCloseTo(element, 5);
});

test('gather answers in range and fails out of range', async () => {
  const session = await load(gatherModel());
  const indices = (values: bigint[]) => ({
    INPUT0: new Tensor('int64', BigInt64Array.from(values), [1, values.length]),
  });
  expect((await session.run(indices([3n, -1n]))).OUTPUT0!.data).toEqual(Float32Array.of(3, 9));
  await expect(session.run(indices([10n]))).rejects.toThrow('out of');
});

test.each(['Div', 'Mod'] as const)('integer %s computes, and fails cleanly by zero', async (op) => {
  const session = await load(intDivModel('INT32', op, [1]));
  const feeds = (a: number, b: number) => ({
    INPUT0: new Tensor('int32', Int32Array.of(a), [1, 1]),
    INPUT1: new Tensor('int32', Int32Array.of(b), [1, 1]),
  });
  expect((await session.run(feeds(17, 5))).OUTPUT0!.data).toEqual(Int32Array.of(op === 'Div' ? 3 : 2));
  await expect(session.run(feeds(17, 0))).rejects.toThrow('zero');
});

test('the slow model keeps its rows apart and does as many iterations as asked for', async () => {
  const INPUT0 = float(
    Array.from({ length: 32 }, (_, i) => i),
    [2, 16],
  );
  const results = [];
  for (const iterations of [0, 1, 2, 100]) {
    const data = (await run(slowModel(iterations), { INPUT0 })).OUTPUT0!.data as Float32Array;
    expect(data.length).toBe(32);
    expect(data[17]! - data[0]!).toBeCloseTo(17, 3);
    results.push(data[0]);
  }
  // Each turn of the loop moves the added constant, so equal results would mean turns not taken.
  expect(new Set(results).size).toBe(results.length);
});

test('the dynamic model decides its output shape by the values', async () => {
  const session = await load(dynamicOutputModel());
  expect((await session.run({ INPUT0: float([0, 2, 0, 4], [4]) })).OUTPUT0!.data).toEqual(BigInt64Array.of(1n, 3n));
  expect((await session.run({ INPUT0: float([0, 0], [2]) })).OUTPUT0!.dims).toEqual([1, 0]);
});

test('the string model joins strings', async () => {
  const INPUT0 = new Tensor('string', ['a', 'ü'], [1, 2]);
  const INPUT1 = new Tensor('string', ['b', ''], [1, 2]);
  expect((await run(stringModel(), { INPUT0, INPUT1 })).OUTPUT0!.data).toEqual(['ab', 'ü']);
});

test('the scalar model doubles a tensor without dimensions', async () => {
  const { OUTPUT0 } = await run(scalarModel(), { INPUT0: float([21], []) });
  expect(OUTPUT0!.dims).toEqual([]);
  expect(OUTPUT0!.data).toEqual(Float32Array.of(42));
});

test('the zero-size model passes tensors of no bytes', async () => {
  const { OUTPUT0 } = await run(zeroSizeModel(), { INPUT0: float([], [3, 0, 4]) });
  expect(OUTPUT0!.dims).toEqual([3, 0, 4]);
});

test('the big model has about the size asked for and finite outputs', async () => {
  const model = bigModel(16);
  expect(model.byteLength / 2 ** 20).toBeCloseTo(16, 1);
  const { OUTPUT0 } = await run(model, { INPUT0: float(new Array(1024).fill(1), [1, 1024]) });
  const data = OUTPUT0!.data as Float32Array;
  expect(data.every(Number.isFinite)).toBe(true);
  expect(data.some((element) => Math.abs(element) > 1e-3)).toBe(true);
});

test('functions, attributes of all kinds and value infos reach ONNX Runtime', async () => {
  const model = buildModel({
    name: 'mixed',
    inputs: [{ name: 'x', datatype: 'FP32', shape: [2, 2] }],
    outputs: [
      { name: 'y', datatype: 'FP32', shape: [2, 2] },
      { name: 'z', datatype: 'FP32', shape: [2, 2] },
    ],
    valueInfo: [{ name: 't', datatype: 'FP32', shape: [2, 2] }],
    nodes: [
      { op: 'Transpose', inputs: ['x'], outputs: ['t'], attributes: { perm: [1, 0] } },
      { op: 'LeakyRelu', inputs: ['t'], outputs: ['y'], attributes: { alpha: { float: 0.5 } } },
      { op: 'Twice', domain: 'local', inputs: ['t'], outputs: ['z'] },
    ],
    functions: [
      {
        name: 'Twice',
        domain: 'local',
        inputs: ['a'],
        outputs: ['b'],
        nodes: [{ op: 'Add', inputs: ['a', 'a'], outputs: ['b'] }],
      },
    ],
  });
  const { y, z } = await run(model, { x: float([1, 2, -4, 3], [2, 2]) });
  expect(y!.data).toEqual(Float32Array.of(1, -2, 2, 3));
  expect(z!.data).toEqual(Float32Array.of(2, -8, 4, 6));
});

test('writeModel lays a model out as Triton does', () => {
  const repository = mkdtempSync(join(tmpdir(), 'tensorwire-'));
  try {
    const model = scalarModel();
    const dir = writeModel(repository, 'm', {
      config: 'name: "m"',
      versions: { 1: model, 3: model },
      files: { 'labels.txt': 'a\nb\n' },
    });
    expect(dir).toBe(join(repository, 'm'));
    expect(readFileSync(join(dir, 'config.pbtxt'), 'utf8')).toBe('name: "m"');
    expect(readFileSync(join(dir, '3', 'model.onnx'))).toEqual(model);
    expect(readFileSync(join(dir, 'labels.txt'), 'utf8')).toBe('a\nb\n');
    writeModel(repository, 'bare', { versions: { 1: model } });
    expect(existsSync(join(repository, 'bare', 'config.pbtxt'))).toBe(false);
  } finally {
    rmSync(repository, { recursive: true });
  }
});
