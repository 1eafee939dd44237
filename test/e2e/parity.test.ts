/**
 * Served outputs are those of a direct `session.run`, bit for bit: in every encoding, alone and in a batch with strangers.
 *
 * Batches are made certain and not likely: a model of this file that batches waits for its eighth row, however long that takes, and
 * the statistics tell that the rows ran together.
 */
import { copyFileSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { DATATYPES, type Datatype } from '../../src/base/datatype.js';
import { temporaryDirectory } from '../support/engine.js';
import * as onnx from '../support/onnx.js';
import { startServer, type TestServer } from '../support/server.js';
import { ARMS, type ArmClient, type ArmName, createArmClient, RAW_ARMS, type RawTensor } from './arms.js';
import { createReference, type Reference } from './reference.js';
import { rawToStrings, stringsToRaw } from './tensor-text.js';

const SERVED = (Object.keys(DATATYPES) as Datatype[]).filter((datatype) => datatype !== 'BF16');
const MODELS = fileURLToPath(new URL('../../models/', import.meta.url));
const ROWS = 8;
/** Runs when it has eight rows and not before. */
const IN_COMPANY = `max_batch_size: ${ROWS}
dynamic_batching { preferred_batch_size: [ ${ROWS} ] max_queue_delay_microseconds: 600000000 }`;
const ALONE = `max_batch_size: ${ROWS}`;

const mlp = onnx.mlpModel({ inputs: 37, hidden: 129, layers: 2, outputs: 11 });
/** Above the size from which the servers here share weights between workers. */
const wide = onnx.mlpModel({ inputs: 300, hidden: 600, layers: 2, outputs: 7, seed: 9 });
const SHARED_FROM = 1_000_000;

let server: TestServer;
let client: ArmClient;
const references: Reference[] = [];

beforeAll(async () => {
  const repository = temporaryDirectory();
  const both = (name: string, bytes: Buffer): void => {
    onnx.writeModel(repository, name, { config: ALONE, versions: { 1: bytes } });
    onnx.writeModel(repository, `${name}_company`, { config: IN_COMPANY, versions: { 1: bytes } });
  };
  for (const datatype of SERVED) both(`identity_${datatype}`, onnx.identityModel(datatype, ['n']));
  both('mlp', mlp);
  both('wide', wide);
  both('digits', readFileSync(`${MODELS}digits/1/model.onnx`));
  onnx.writeModel(repository, 'identity_BF16', { versions: { 1: onnx.identityModel('BF16', ['n']) } });
  onnx.writeModel(repository, 'scalar', { versions: { 1: onnx.scalarModel() } });
  onnx.writeModel(repository, 'dynamic', { versions: { 1: onnx.dynamicOutputModel() } });
  onnx.writeModel(repository, 'strings', { versions: { 1: onnx.stringModel() } });
  onnx.writeModel(repository, 'zero', { versions: { 1: onnx.zeroSizeModel() } });
  onnx.writeModel(repository, 'fixed', {
    versions: { 1: onnx.addSubModel('FP64', [2, 3], { batching: false }) },
  });
  mkdirSync(join(repository, 'simple/1'), { recursive: true });
  for (const file of ['config.pbtxt', '1/model.onnx'])
    copyFileSync(`${MODELS}simple/${file}`, join(repository, 'simple', file));
  server = await startServer({
    repository,
    args: [
      '--worker-count=2',
      '--intra-op-thread-count=1',
      `--weight-sharing-min-byte-size=${SHARED_FROM}`,
      `--model-cache-directory=${temporaryDirectory()}`,
    ],
  });
  client = createArmClient(server);
});
afterAll(async () => {
  client?.close();
  await server?.stop();
  for (const one of references) await one.release();
});

async function reference(model: Uint8Array | string): Promise<Reference> {
  const one = await createReference(model);
  references.push(one);
  return one;
}

/** Comparable: a difference shows the datatype, the shape and the first bytes that differ. */
function readable(tensors: readonly RawTensor[]) {
  return tensors.map(({ name, datatype, shape, data }) => ({
    name,
    datatype,
    shape: [...shape],
    bytes: Buffer.from(data).toString('hex'),
  }));
}

/** How often a model ran, by rows. */
async function batchSizes(model: string): Promise<Record<number, number>> {
  const response = await fetch(`http://127.0.0.1:${server.httpPort}/v2/models/${model}/stats`);
  const { model_stats } = (await response.json()) as {
    model_stats: { batch_stats: { batch_size: number; compute_infer: { count: number } }[] }[];
  };
  return Object.fromEntries(
    model_stats[0]!.batch_stats.map(({ batch_size, compute_infer }) => [batch_size, compute_infer.count]),
  );
}

function row(tensor: RawTensor, index: number): RawTensor {
  const [count, ...dims] = tensor.shape;
  if (tensor.datatype === 'BYTES') {
    const strings = rawToStrings(tensor.data);
    const each = strings.length / count!;
    return { ...tensor, shape: [1, ...dims], data: stringsToRaw(strings.slice(index * each, (index + 1) * each)) };
  }
  const each = tensor.data.length / count!;
  return { ...tensor, shape: [1, ...dims], data: tensor.data.subarray(index * each, (index + 1) * each) };
}

/** Sends each row of `inputs` in a request of its own, all at once, in turn in each of `arms`. */
async function inCompany(
  model: string,
  inputs: readonly RawTensor[],
  arms: readonly ArmName[],
): Promise<RawTensor[][]> {
  const before = (await batchSizes(model))[ROWS] ?? 0;
  const replies = await Promise.all(
    Array.from({ length: ROWS }, (_, i) => {
      const own = inputs.map((input) => row(input, i));
      return client.infer(arms[i % arms.length]!, model, own);
    }),
  );
  expect(await batchSizes(model)).toEqual({ [ROWS]: before + 1 });
  return replies;
}

/** A generator of numbers in 0..2^32-1 that gives the same ones every time. */
function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) >>> 0;
  };
}

const bits32 = (...values: number[]): Buffer => Buffer.from(Uint32Array.from(values).buffer);
const bits64 = (...values: bigint[]): Buffer => Buffer.from(BigUint64Array.from(values).buffer);
const bits16 = (...values: number[]): Buffer => Buffer.from(Uint16Array.from(values).buffer);

const STRINGS = [
  '',
  'a',
  ' ',
  'é',
  '日本語',
  '😀',
  '"quoted" \\ and\n\r\t',
  '\u0001\u001f\u007f\u2028',
  '</script>',
  'null',
  '\ufeffmark',
  'x'.repeat(70_000),
];

/** The values at which a datatype's encodings go wrong first. Eight or a multiple of it. */
const EXTREMES: Readonly<Record<Exclude<Datatype, 'BF16'>, Buffer>> = {
  BOOL: Buffer.from([0, 1, 1, 0, 0, 0, 1, 1]),
  UINT8: Buffer.from([0, 1, 127, 128, 129, 200, 254, 255]),
  INT8: Buffer.from([0, 1, 127, 128, 129, 200, 254, 255]),
  UINT16: bits16(0, 1, 0x7fff, 0x8000, 0x8001, 0x00ff, 0xfffe, 0xffff),
  INT16: bits16(0, 1, 0x7fff, 0x8000, 0x8001, 0x00ff, 0xfffe, 0xffff),
  UINT32: bits32(0, 1, 0x7fffffff, 0x80000000, 0x80000001, 0xffff, 0xfffffffe, 0xffffffff),
  INT32: bits32(0, 1, 0x7fffffff, 0x80000000, 0x80000001, 0xffff, 0xfffffffe, 0xffffffff),
  UINT64: bits64(0n, 1n, 2n ** 53n - 1n, 2n ** 53n + 1n, 2n ** 63n - 1n, 2n ** 63n, 2n ** 64n - 2n, 2n ** 64n - 1n),
  INT64: bits64(
    0n,
    1n,
    2n ** 53n + 1n,
    2n ** 63n - 1n,
    2n ** 63n,
    2n ** 64n - 1n,
    2n ** 64n - 2n ** 53n - 1n,
    10n ** 18n,
  ),
  // Zeros, one, the largest, the least subnormal, infinities, NaN.
  FP16: bits16(0, 0x8000, 0x3c00, 0x7bff, 0x0001, 0x7c00, 0xfc00, 0x7e00),
  // Also the least normal and the largest subnormal number, and the neighbours of one and of a tenth.
  FP32: bits32(
    ...[0, 0x80000000, 0x3f800000, 0x7f7fffff, 0xff7fffff, 1, 0x80000001, 0x007fffff],
    ...[0x00800000, 0x7f800000, 0xff800000, 0x7fc00000, 0x3f800001, 0x3f7fffff, 0x3dcccccd, 0x3dcccccc],
  ),
  FP64: bits64(
    ...[
      0n,
      1n << 63n,
      0x3ff0000000000000n,
      0x7fefffffffffffffn,
      0xffefffffffffffffn,
      1n,
      (1n << 63n) + 1n,
      0xfffffffffffffn,
    ],
    ...[
      0x10000000000000n,
      0x7ff0000000000000n,
      0xfff0000000000000n,
      0x7ff8000000000000n,
      0x3ff0000000000001n,
      0x3fefffffffffffffn,
      0x3fb999999999999an,
      0x3fb9999999999999n,
    ],
  ),
  BYTES: stringsToRaw([...STRINGS, 'b', 'c', 'd', 'e']),
};

/** NaNs that say more than that they are: a signalling one, a negative one, one with a payload. JSON and typed contents can't. */
const NAN_PAYLOADS: Partial<Record<Datatype, Buffer>> = {
  FP16: bits16(0x7d01, 0xfe00, 0x7fff),
  FP32: bits32(0x7fa00001, 0xffc00000, 0x7fc12345),
  FP64: bits64(0x7ff4000000000001n, 0xfff8000000000000n, 0x7ff8000000012345n),
};

function armsFor(datatype: Datatype): readonly ArmName[] {
  return datatype === 'FP16' ? RAW_ARMS : ARMS;
}

function count(datatype: Datatype, data: Uint8Array): number {
  return datatype === 'BYTES' ? rawToStrings(data).length : data.length / DATATYPES[datatype].byteSize;
}

function vector(datatype: Datatype, data: Uint8Array, rows = 1): RawTensor {
  return { name: 'INPUT0', datatype, shape: [rows, count(datatype, data) / rows], data };
}

/** Numbers of every size for FP32 and FP64, none of them NaN; any bits at all for integers. */
function arbitrary(datatype: Datatype, elements: number, seed: number): Buffer {
  const next = random(seed);
  if (datatype === 'BYTES') {
    return stringsToRaw(
      Array.from({ length: elements }, () =>
        '😀é"\\z'
          .repeat(next() % 9)
          .slice(0, next() % 20)
          .toWellFormed(),
      ),
    );
  }
  const { byteSize } = DATATYPES[datatype];
  const raw = Buffer.from(Array.from({ length: elements * byteSize }, next));
  for (let i = 0; i < raw.length; i += byteSize) {
    const high = i + byteSize - 1;
    if (datatype === 'BOOL') raw[i]! &= 1;
    // An exponent of all ones is NaN or infinite; this clears one of its bits.
    if (datatype === 'FP16' || datatype === 'FP32' || datatype === 'FP64') raw[high]! &= 0xbf;
  }
  return raw;
}

const CASES = SERVED.flatMap((datatype) => armsFor(datatype).map((arm): [Datatype, ArmName] => [datatype, arm]));

describe('identity, alone', () => {
  test.each(CASES)('%s over %s keeps the extremes', async (datatype, arm) => {
    const input = vector(datatype, EXTREMES[datatype as 'BOOL']);
    const session = await reference(onnx.identityModel(datatype, ['n']));
    const expected = await session.run([input]);
    expect(readable(expected)).toEqual(readable([{ ...input, name: 'OUTPUT0' }]));
    expect(readable(await client.infer(arm, `identity_${datatype}`, [input]))).toEqual(readable(expected));
  });

  test.each(CASES)('%s over %s keeps a tensor too large for the main thread to parse', async (datatype, arm) => {
    const input = vector(datatype, arbitrary(datatype, 6_000, 7), 3);
    const [output] = await client.infer(arm, `identity_${datatype}`, [input]);
    expect(output).toMatchObject({ name: 'OUTPUT0', datatype, shape: [3, 2_000] });
    expect(Buffer.compare(output!.data, input.data)).toBe(0);
  });

  test.each(CASES)('%s over %s keeps a tensor without elements', async (datatype, arm) => {
    const input = vector(datatype, Buffer.alloc(0));
    expect(readable(await client.infer(arm, `identity_${datatype}`, [input]))).toEqual(
      readable([{ ...input, name: 'OUTPUT0' }]),
    );
  });

  test.each(
    Object.keys(NAN_PAYLOADS).flatMap((datatype) => RAW_ARMS.map((arm) => [datatype as Datatype, arm] as const)),
  )('%s over %s keeps the payload of a NaN', async (datatype, arm) => {
    const input = vector(datatype, NAN_PAYLOADS[datatype]!);
    const session = await reference(onnx.identityModel(datatype, ['n']));
    const expected = await session.run([input]);
    expect(readable(await client.infer(arm, `identity_${datatype}`, [input]))).toEqual(readable(expected));
    expect(readable(expected)[0]!.bytes).toBe(Buffer.from(input.data).toString('hex'));
  });
});

describe('identity, in company', () => {
  test.each(SERVED)('%s: each of eight callers gets its own row back, whatever the encodings', async (datatype) => {
    const input = vector(datatype, EXTREMES[datatype as 'BOOL'], ROWS);
    const replies = await inCompany(`identity_${datatype}_company`, [input], armsFor(datatype));
    expect(replies.map(readable)).toEqual(
      Array.from({ length: ROWS }, (_, i) => readable([{ ...row(input, i), name: 'OUTPUT0' }])),
    );
  });

  test.each(SERVED)('%s: rows too large for the main thread to parse', async (datatype) => {
    const input = vector(datatype, arbitrary(datatype, ROWS * 6_000, 11), ROWS);
    const replies = await inCompany(`identity_${datatype}_company`, [input], armsFor(datatype));
    for (let i = 0; i < ROWS; i++) expect(Buffer.compare(replies[i]![0]!.data, row(input, i).data)).toBe(0);
  });

  test.each(SERVED)('%s: rows without elements', async (datatype) => {
    const input: RawTensor = { name: 'INPUT0', datatype, shape: [ROWS, 0], data: Buffer.alloc(0) };
    const replies = await inCompany(`identity_${datatype}_company`, [input], armsFor(datatype));
    for (const reply of replies)
      expect(readable(reply)).toEqual(readable([{ ...input, name: 'OUTPUT0', shape: [1, 0] }]));
  });

  test.each(Object.keys(NAN_PAYLOADS) as Datatype[])('%s: NaN payloads in raw encodings', async (datatype) => {
    const [first] = [NAN_PAYLOADS[datatype]!];
    const data = Buffer.concat(Array.from({ length: ROWS }, () => first));
    const replies = await inCompany(`identity_${datatype}_company`, [vector(datatype, data, ROWS)], RAW_ARMS);
    for (const [output] of replies) expect(Buffer.from(output!.data).toString('hex')).toBe(first.toString('hex'));
  });
});

describe('models that compute', () => {
  test.each(ARMS)('simple adds and subtracts over %s, and wraps where INT32 does', async (arm) => {
    const session = await reference(`${MODELS}simple/1/model.onnx`);
    const inputs = ['INPUT0', 'INPUT1'].map((name, i): RawTensor => {
      return { name, datatype: 'INT32', shape: [4, 16], data: arbitrary('INT32', 64, 20 + i) };
    });
    expect(readable(await client.infer(arm, 'simple', inputs))).toEqual(readable(await session.run(inputs)));
  });

  test.each(ARMS)('digits reads the held-out seven over %s', async (arm) => {
    const sample = JSON.parse(readFileSync(`${MODELS}digits/sample.json`, 'utf8')).inputs[0];
    const data = Buffer.from(Float32Array.from(sample.data).buffer);
    const image: RawTensor = { name: 'image', datatype: 'FP32', shape: [1, 64], data };
    const session = await reference(`${MODELS}digits/1/model.onnx`);
    const outputs = await client.infer(arm, 'digits', [image]);
    expect(readable(outputs)).toEqual(readable(await session.run([image])));
    const label = outputs.find(({ name }) => name === 'label')!;
    expect(Buffer.from(label.data).readBigInt64LE()).toBe(7n);
  });

  /*
   * FP32 arithmetic: the bits of a row are promised for the batch that it ran in, not across batch sizes, since ONNX Runtime may
   * choose another kernel for a single row than for several, and so add its products up in another order. Measured with ONNX Runtime
   * 1.30 on an AMD EPYC with AVX-512: none of 64 rows of these three models differed in one bit between batches of 1, 2 to 8, 16 and
   * 32. So what is compared is the same composition, which holds everywhere. The place of a row within a batch must not matter
   * either, as requests sent at once may be queued in any order: the test holds that of ONNX Runtime first.
   */
  test.each([
    ['mlp', mlp, 'INPUT0', 37],
    ['wide', wide, 'INPUT0', 300],
    ['digits', readFileSync(`${MODELS}digits/1/model.onnx`), 'image', 64],
  ] as const)(
    '%s gives in company what session.run gives for the same batch, and alone what it gives for one row',
    async (name, bytes, inputName, features) => {
      const next = random(31);
      const values = Float32Array.from({ length: ROWS * features }, () => (next() / 2 ** 31 - 1) * 16);
      const input: RawTensor = {
        name: inputName,
        datatype: 'FP32',
        shape: [ROWS, features],
        data: Buffer.from(values.buffer),
      };
      const session = await reference(bytes);
      const together = await session.run([input]);
      const rowsOf = (outputs: readonly RawTensor[]) =>
        Array.from({ length: ROWS }, (_, i) => readable(outputs.map((output) => row(output, i))));

      const reversed = {
        ...input,
        data: Buffer.concat(Array.from({ length: ROWS }, (_, i) => row(input, ROWS - 1 - i).data)),
      };
      expect(rowsOf(await session.run([reversed])).reverse()).toEqual(rowsOf(together));

      const replies = await inCompany(`${name}_company`, [input], ARMS);
      expect(replies.map(readable)).toEqual(rowsOf(together));

      for (const arm of ARMS) {
        expect(readable(await client.infer(arm, name, [input]))).toEqual(readable(together));
        const alone = row(input, 5);
        expect(readable(await client.infer(arm, name, [alone]))).toEqual(readable(await session.run([alone])));
      }
    },
  );

  test('the wide model ran on weights that the workers share', () => {
    expect(server.stderr).toMatch(/"model":"wide"[^\n]*"sharedWeights":true/);
  });

  test.each(ARMS)('a tensor without dimensions is served as one element over %s', async (arm) => {
    const data = Buffer.from(Float32Array.of(1.1).buffer);
    const session = await reference(onnx.scalarModel());
    const [expected] = await session.run([{ name: 'INPUT0', datatype: 'FP32', shape: [], data }]);
    const outputs = await client.infer(arm, 'scalar', [{ name: 'INPUT0', datatype: 'FP32', shape: [1], data }]);
    expect(readable(outputs)).toEqual(readable([{ ...expected!, shape: [1] }]));
  });

  test.each(ARMS)('an output whose size only the run tells comes whole over %s', async (arm) => {
    const session = await reference(onnx.dynamicOutputModel());
    for (const values of [[0, 3, 0, 5, 6], [0, 0], [1]]) {
      const data = Buffer.from(Float32Array.from(values).buffer);
      const input: RawTensor = { name: 'INPUT0', datatype: 'FP32', shape: [values.length], data };
      expect(readable(await client.infer(arm, 'dynamic', [input]))).toEqual(readable(await session.run([input])));
    }
  });

  test.each(ARMS)('strings are joined over %s', async (arm) => {
    const session = await reference(onnx.stringModel());
    const inputs = [STRINGS, STRINGS.toReversed()].map((strings, i): RawTensor => {
      return { name: `INPUT${i}`, datatype: 'BYTES', shape: [2, strings.length / 2], data: stringsToRaw(strings) };
    });
    expect(readable(await client.infer(arm, 'strings', inputs))).toEqual(readable(await session.run(inputs)));
  });

  test.each(ARMS)('a zero dimension between others is kept over %s', async (arm) => {
    const input: RawTensor = { name: 'INPUT0', datatype: 'FP32', shape: [2, 0, 4], data: Buffer.alloc(0) };
    expect(readable(await client.infer(arm, 'zero', [input]))).toEqual(readable([{ ...input, name: 'OUTPUT0' }]));
  });

  test.each(ARMS)('a model that does not batch computes FP64 over %s', async (arm) => {
    const session = await reference(onnx.addSubModel('FP64', [2, 3], { batching: false }));
    const inputs = ['INPUT0', 'INPUT1'].map((name, i): RawTensor => {
      return { name, datatype: 'FP64', shape: [2, 3], data: arbitrary('FP64', 6, 40 + i) };
    });
    expect(readable(await client.infer(arm, 'fixed', inputs))).toEqual(readable(await session.run(inputs)));
  });
});

describe('what is not served', () => {
  test('a BF16 model is refused at load, the index says why, and the others serve', async () => {
    const response = await fetch(`http://127.0.0.1:${server.httpPort}/v2/repository/index`, { method: 'POST' });
    const index = (await response.json()) as { name: string; state: string; reason?: string }[];
    const refused = index.filter(({ state }) => state !== 'READY');
    expect(refused).toEqual([
      { name: 'identity_BF16', version: '1', state: 'UNAVAILABLE', reason: expect.stringMatching(/BF16|bfloat16/i) },
    ]);
    expect(index.length).toBeGreaterThan(SERVED.length * 2);
  });

  test('FP16 has no JSON form, in or out, and the error says what to use', async () => {
    const post = async (body: object) => {
      const response = await fetch(`http://127.0.0.1:${server.httpPort}/v2/models/identity_FP16/infer`, {
        method: 'POST',
        body: JSON.stringify(body),
      });
      return [response.status, ((await response.json()) as { error: string }).error];
    };
    const input = { name: 'INPUT0', datatype: 'FP16', shape: [1, 1], data: [1] };
    expect(await post({ inputs: [input] })).toEqual([
      400,
      expect.stringContaining(
        'receiving FP16 data via JSON is not supported. Please use the binary data format for input',
      ),
    ]);
  });
});
