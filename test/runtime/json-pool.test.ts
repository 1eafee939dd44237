import { afterAll, beforeAll, expect, test } from 'vitest';
import { createJsonPool, type JsonPool } from '../../src/runtime/json-pool.js';

const workerUrl = new URL('../../dist/workers/json-worker.js', import.meta.url);
let pool: JsonPool;
beforeAll(async () => {
  pool = createJsonPool({ workerUrl, size: 2 });
  await pool.ready();
});
afterAll(() => pool.close());

function body(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text);
}

const request = (values: string): string => `{"inputs":[{"name":"X","datatype":"INT32","shape":[2],"data":${values}}]}`;

test('what is parsed arrives as it was, and the body is moved away', async () => {
  const sent = body(request('[1,-2]').replace('{', '{"parameters":{"big":9223372036854775807},'));
  const parsing = pool.parse(sent);
  expect(sent.byteLength).toBe(0);
  const parsed = await parsing;
  expect(new Int32Array(parsed.inputs[0]!.data!.buffer)).toEqual(Int32Array.of(1, -2));
  expect(parsed.parameters.get('big')).toBe(9223372036854775807n);
});

test('a view on larger memory is copied, not taken', async () => {
  const whole = body(`....${request('[1,2]')}....`);
  await pool.parse(whole.subarray(4, -4));
  expect(whole.byteLength).toBeGreaterThan(8);
});

test('responses of every size are printed', async () => {
  for (const count of [0, 1, 1000, 300_000]) {
    const data = new Uint8Array(Int32Array.from({ length: count }, (_, i) => i).buffer);
    const outputs = [{ name: 'Y', datatype: 'INT32' as const, shape: [count], data, binaryDataSize: 0 }];
    const text = await pool.print({ id: '', modelName: 'm', modelVersion: '1', outputs });
    const printed = JSON.parse(Buffer.from(text).toString());
    expect(printed.outputs[0].data).toHaveLength(count);
    expect(printed.outputs[0].data.at(-1)).toBe(count > 0 ? count - 1 : undefined);
  }
});

test('embeddings are parsed and printed in memory that is moved', async () => {
  const sent = body('{"model":"m","input":["one","two"]}');
  const parsing = pool.parseEmbeddings(sent);
  expect(sent.byteLength).toBe(0);
  const parsed = await parsing;
  expect(parsed).toMatchObject({ ok: true, request: { model: 'm', kind: 'text', ends: [7, 14] } });
  expect(await pool.parseEmbeddings(body('{"model":"m","input":""}'))).toMatchObject({
    ok: false,
    refusal: { param: 'input' },
  });
  const vectors = Float32Array.of(0.5, 1, 1.5, 2);
  const printing = pool.printEmbeddings({ model: 'm', vectors, count: 2, encodingFormat: 'float', promptTokens: 3 });
  expect(vectors.byteLength).toBe(0);
  const printed = JSON.parse(Buffer.from(await printing).toString());
  expect(printed.data.map(({ embedding }: { embedding: number[] }) => embedding)).toEqual([
    [0.5, 1],
    [1.5, 2],
  ]);
  const nothing = { model: 'm', vectors: Float32Array.of(Number.NaN), count: 1, promptTokens: 1 } as const;
  await expect(pool.printEmbeddings({ ...nothing, encodingFormat: 'float' })).rejects.toMatchObject({
    code: 'INTERNAL',
    message: expect.stringContaining('holds NaN'),
  });
});

test('a refusal keeps its code and words', async () => {
  await expect(pool.parse(body(request('[1]')))).rejects.toMatchObject({
    name: 'ServeError',
    code: 'INVALID_ARGUMENT',
    message: expect.stringContaining("Shape does not match true shape of 'data' field"),
  });
});

test('what waits is bounded in bytes and in tasks', async () => {
  const small = createJsonPool({ workerUrl, maxBytes: 1000, maxTasks: 2 });
  const refused = { code: 'RESOURCE_EXHAUSTED' };
  await expect(small.parse(new Uint8Array(1001))).rejects.toMatchObject(refused);
  const accepted = [small.parse(body(request('[1,2]'))), small.parse(body(request('[3,4]')))];
  await expect(small.parse(body('{}'))).rejects.toMatchObject(refused);
  await Promise.all(accepted);
  await small.parse(body('{}'));
  await small.close();
});

test('close finishes what was accepted and refuses more', async () => {
  const closing = createJsonPool({ workerUrl, size: 2 });
  const accepted = Array.from({ length: 20 }, () => closing.parse(body(request('[1,2]'))));
  const closed = closing.close();
  await expect(closing.parse(body('{}'))).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  expect(await Promise.all(accepted)).toHaveLength(20);
  await closed;
});

test('a worker that does not load is the error of ready, and the pool closes all the same', async () => {
  const broken = createJsonPool({ workerUrl: new URL('./no-such-worker.js', import.meta.url), startTimeoutMs: 1_000 });
  await expect(broken.ready()).rejects.toMatchObject({ code: 'INTERNAL' });
  await broken.close();
});

test.each<[string, () => Uint8Array<ArrayBuffer>]>([
  ['16 MB of brackets', () => new Uint8Array(16_000_000).fill(0x5b)],
  ['16 MB of nested objects', () => new Uint8Array(Buffer.alloc(16_000_000, '{"a":'))],
  ['48 MB of empty arrays', () => new Uint8Array(Buffer.alloc(48_000_000, '[],'))],
  [
    'empty arrays as data',
    () => body(`{"inputs":[{"name":"X","datatype":"INT8","shape":[9,0],"data":[${'[],'.repeat(5_000_000)}[]]}]}`),
  ],
])('%s is refused while the caller goes on', async (_name, make) => {
  let turns = 0;
  // On a busy machine the other thread may be done before this one gets its first turn: then it is asked again.
  for (let attempt = 0; attempt < 20 && turns === 0; attempt++) {
    let running = true;
    const turn = (): void => {
      if (!running) return;
      turns++;
      setImmediate(turn);
    };
    setImmediate(turn);
    await expect(pool.parse(make())).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    running = false;
  }
  expect(turns).toBeGreaterThan(0);
});
