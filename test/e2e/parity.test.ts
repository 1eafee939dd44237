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
import { arbitrary, EXTREMES, NAN_PAYLOADS, random, STRINGS, vector } from './extremes.js';
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

function armsFor(datatype: Datatype): readonly ArmName[] {
  return datatype === 'FP16' ? RAW_ARMS : ARMS;
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
