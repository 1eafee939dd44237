import { Tensor } from 'onnxruntime-node';
import { describe, expect, test } from 'vitest';
import type { PoolingSpec, SessionTensor } from '../../src/runtime/messages.js';
import { createPooling, Pooling, PoolingSurprise } from '../../workers/pooling.js';

const SOURCE: SessionTensor = { name: 'last_hidden_state', ortType: 'float32', dims: ['batch', 'tokens', 3] };
const HIDDEN = 3;

/** Of two rows, three real tokens and two; numbers that FP32 and FP16 hold exactly. */
const VECTORS = [
  [
    [1, -2, 3],
    [4, 5, -6],
    [-7, 8, 0.5],
    [100, 100, 100],
  ],
  [
    [0.25, -1, -2],
    [-3, 0.5, -4],
    [100, -100, 100],
    [-100, 100, -100],
  ],
];
const RIGHT = [
  [1, 1, 1, 0],
  [1, 1, 0, 0],
];
const LEFT = RIGHT.map((row) => [...row].reverse());
const turned = VECTORS.map((row, i) => {
  const real = RIGHT[i]!.filter((mask) => mask === 1).length;
  return [...row.slice(real), ...row.slice(0, real)];
});

const tensorOf = (rows: number[][][]) =>
  new Tensor('float32', Float32Array.from(rows.flat(2)), [rows.length, rows[0]!.length, HIDDEN]);
const int64 = (rows: number[][]) =>
  new Tensor('int64', BigInt64Array.from(rows.flat(), BigInt), [rows.length, rows[0]!.length]);

const MODES: Record<PoolingSpec['modes'][number], (real: number[][], dimension: number) => number> = {
  cls: (real, d) => real[0]![d]!,
  lasttoken: (real, d) => real.at(-1)![d]!,
  max: (real, d) => Math.max(...real.map((vector) => vector[d]!)),
  mean: (real, d) => real.reduce((sum, vector) => sum + vector[d]!, 0) / real.length,
  mean_sqrt_len: (real, d) => real.reduce((sum, vector) => sum + vector[d]!, 0) / Math.sqrt(real.length),
  weightedmean: (real, d) =>
    real.reduce((sum, vector, i) => sum + (i + 1) * vector[d]!, 0) / real.reduce((sum, _, i) => sum + i + 1, 0),
};

function expected({ modes, normalize }: PoolingSpec): number[] {
  return VECTORS.flatMap((row, i) => {
    const real = row.filter((_, token) => RIGHT[i]![token] === 1);
    const vector = modes.flatMap((mode) => [0, 1, 2].map((d) => MODES[mode](real, d)));
    const length = normalize ? Math.hypot(...vector) : 1;
    return vector.map((value) => Math.fround(value / length));
  });
}

function close(actual: Float32Array, wanted: readonly number[]): void {
  expect(actual.length).toBe(wanted.length);
  for (const [i, value] of wanted.entries()) expect(actual[i]).toBeCloseTo(value, 6);
}

describe.each(Object.keys(MODES) as PoolingSpec['modes'][number][])('%s', (mode) => {
  test.each([false, true])('is what its formula says, normalized: %s', (normalize) => {
    const spec = { modes: [mode], normalize };
    const { data, dims } = new Pooling(spec, SOURCE).run(tensorOf(VECTORS), int64(RIGHT));
    expect(dims).toEqual([2, HIDDEN]);
    close(data, expected(spec));
  });

  test('is the same with padding on the left', () => {
    const spec = { modes: [mode], normalize: false };
    close(new Pooling(spec, SOURCE).run(tensorOf(turned), int64(LEFT)).data, expected(spec));
  });

  test('of a row without a real token is a number', () => {
    const { data } = new Pooling({ modes: [mode], normalize: true }, SOURCE).run(
      tensorOf(VECTORS),
      int64([
        [0, 0, 0, 0],
        [1, 1, 0, 0],
      ]),
    );
    expect([...data].every(Number.isFinite)).toBe(true);
  });
});

test('several modes are put one behind the other and normalized together', () => {
  const spec: PoolingSpec = { modes: ['mean', 'max', 'cls'], normalize: true };
  const pooling = new Pooling(spec, SOURCE);
  expect(pooling.output).toEqual({ name: 'sentence_embedding', ortType: 'float32', dims: ['batch', 9] });
  close(pooling.run(tensorOf(VECTORS), int64(RIGHT)).data, expected(spec));
});

test('masks of every type are read, and without one every token is real', () => {
  const pooling = new Pooling({ modes: ['mean'], normalize: false }, SOURCE);
  const mean = (mask: Tensor | undefined) => [...pooling.run(tensorOf(VECTORS), mask).data];
  const reference = mean(int64(RIGHT));
  expect(mean(new Tensor('int32', Int32Array.from(RIGHT.flat()), [2, 4]))).toEqual(reference);
  expect(mean(new Tensor('float32', Float32Array.from(RIGHT.flat()), [2, 4]))).toEqual(reference);
  expect(mean(new Tensor('bool', Uint8Array.from(RIGHT.flat()), [2, 4]))).toEqual(reference);
  expect(mean(undefined)).toEqual(
    mean(
      int64([
        [1, 1, 1, 1],
        [1, 1, 1, 1],
      ]),
    ),
  );
  expect(mean(undefined)).not.toEqual(reference);
});

test('a 64-bit mask counts whatever is not 0, in its upper half, too', () => {
  const pooling = new Pooling({ modes: ['lasttoken'], normalize: false }, SOURCE);
  const mask = new Tensor('int64', BigInt64Array.from([1n, 2n ** 40n, 0n, 0n, -1n, 0n, 0n, 0n]), [2, 4]);
  expect([...pooling.run(tensorOf(VECTORS), mask).data]).toEqual([4, 5, -6, 0.25, -1, -2]);
});

test('FP16 vectors are pooled, too', () => {
  const bits = Uint16Array.from([0x3c00, 0xc000, 0x0001, 0x4200, 0x4500, 0x83ff]); // 1 -2 2^-24 | 3 5 -1023 x 2^-24
  const source = new Tensor('float16', bits, [1, 2, 3]);
  const pooling = new Pooling({ modes: ['mean'], normalize: false }, { ...SOURCE, ortType: 'float16' });
  expect([...pooling.run(source, undefined).data]).toEqual([2, 1.5, -511 * 2 ** -24]);
});

test('the result goes into the memory that is given, and memory of another size is a surprise', () => {
  const pooling = new Pooling({ modes: ['cls'], normalize: false }, SOURCE);
  const target = new Float32Array(6);
  expect(pooling.run(tensorOf(VECTORS), int64(RIGHT), target).data).toBe(target);
  expect([...target]).toEqual([1, -2, 3, 0.25, -1, -2]);
  expect(() => pooling.run(tensorOf(VECTORS), int64(RIGHT), new Float32Array(5))).toThrow(PoolingSurprise);
});

test('a mask of another shape and a source of another rank are refused', () => {
  const pooling = new Pooling({ modes: ['cls'], normalize: false }, SOURCE);
  expect(() => pooling.run(tensorOf(VECTORS), int64([[1, 1, 1, 1]]))).toThrow(
    "input 'attention_mask' has shape [1,4], but output 'last_hidden_state' has [2,4] tokens",
  );
  expect(() => pooling.run(new Tensor('float32', new Float32Array(6), [2, 3]), undefined)).toThrow(
    "output 'last_hidden_state' has shape [2,3], but embeddings are pooled from [batch, tokens, hidden]",
  );
});

describe('the source is', () => {
  const spec: PoolingSpec = { modes: ['mean'], normalize: true };
  const output = (name: string, dims: SessionTensor['dims'], ortType = 'float32'): SessionTensor => ({
    name,
    ortType,
    dims,
  });
  const other = output('hidden', ['b', 's', 8]);

  test.each([
    ['what exports call it', [other, output('token_embeddings', ['b', 's', 4])], 'token_embeddings', ['b', 4]],
    [
      'else the first of that form',
      [output('pooler_output', ['b', 4]), output('ids', ['b', 's', 4], 'int64'), other],
      'hidden',
      ['b', 8],
    ],
    ['of a size that only the run tells', [output('x', ['b', 's', 'h'], 'float16')], 'x', ['b', 'h']],
  ] as const)('%s', (_, outputs, source, dims) => {
    const pooling = createPooling(spec, [...outputs])!;
    expect([pooling.source, pooling.output.dims]).toEqual([source, dims]);
  });

  test('nowhere in a model without vectors per token', () => {
    expect(createPooling(spec, [output('logits', ['b', 2])])).toBeUndefined();
  });

  test('not asked for where the file has the embedding itself', () => {
    expect(createPooling(spec, [other, output('sentence_embedding', ['b', 8])])).toBeUndefined();
    expect(createPooling(undefined, [other])).toBeUndefined();
  });
});
