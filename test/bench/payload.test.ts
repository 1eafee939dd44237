/** Inputs made from metadata: their sizes, shapes and values, and what can't be made. */
import { expect, test } from 'vitest';
import { DATATYPES, type Datatype } from '../../src/base/datatype.js';
import { payloadFromJson, payloadGuesses, payloadsFromMetadata } from '../../src/bench/payload.js';
import { tensorBytes } from '../../src/bench/tensor-bytes.js';
import { checkTensor } from '../../src/client/tensor.js';
import type { ModelMetadata, TensorMetadata } from '../../src/client/types.js';

function model(...inputs: readonly [name: string, datatype: Datatype, shape: readonly number[]][]): ModelMetadata {
  return {
    name: 'm',
    versions: [],
    platform: '',
    inputs: inputs.map(([name, datatype, shape]): TensorMetadata => ({ name, datatype, shape })),
    outputs: [],
  };
}

const shapesOf = (metadata: ModelMetadata, sizesKb: number[]) =>
  payloadsFromMetadata(metadata, { sizesKb }).map(({ inputs }) => inputs.map(({ shape }) => shape));

test('a free dimension grows until the request has the size', () => {
  const payloads = payloadsFromMetadata(model(['x', 'FP32', [-1, 16]]), { sizesKb: [100, 2] });
  expect(payloads.map(({ payloadKb }) => payloadKb)).toEqual([2, 100]);
  expect(payloads.map(({ inputs }) => inputs[0]!.shape)).toEqual([
    [32, 16],
    [1600, 16],
  ]);
  expect(payloads.map(({ inputs }) => tensorBytes(inputs))).toEqual([2048, 102_400]);
});

test('a first dimension is a batch of one where another one is free', () => {
  expect(shapesOf(model(['x', 'INT64', [-1, -1]]), [2])).toEqual([[[1, 256]]]);
  expect(shapesOf(model(['x', 'FP32', [-1, -1]], ['scale', 'FP32', [-1, 1]]), [2])).toEqual([
    [
      [1, 511],
      [1, 1],
    ],
  ]);
});

test('inputs that grow share the size, with the same dimension', () => {
  const ids = model(['input_ids', 'INT64', [-1, -1]], ['attention_mask', 'INT64', [-1, -1]]);
  expect(shapesOf(ids, [2])).toEqual([
    [
      [1, 128],
      [1, 128],
    ],
  ]);
});

test('a picture grows in height and width alike', () => {
  expect(shapesOf(model(['image', 'FP32', [-1, 3, -1, -1]]), [588])).toEqual([[[1, 3, 224, 224]]]);
  expect(shapesOf(model(['volume', 'FP32', [1, -1, -1, -1]]), [2000])).toEqual([[[1, 80, 80, 80]]]);
});

test('fixed shapes make one request, whatever sizes are asked for', () => {
  const [only, ...others] = payloadsFromMetadata(model(['x', 'INT8', [2, 8]]), { sizesKb: [2, 100], version: '3' });
  expect(others).toEqual([]);
  expect(only).toMatchObject({ model: 'm', version: '3', payloadKb: null, inputs: [{ shape: [2, 8] }] });
});

test('a size below the least that the shapes allow gives the least', () => {
  expect(shapesOf(model(['x', 'FP32', [-1, 1000]]), [2])).toEqual([[[1, 1000]]]);
  expect(shapesOf(model(['x', 'FP32', [-1, 0]]), [2])).toEqual([[[1, 0]]]);
});

test('a shape that is given stands in for that of the metadata', () => {
  const shapes = new Map([['x', [-1, 128]]]);
  const [payload] = payloadsFromMetadata(model(['x', 'INT64', [-1, -1]]), { sizesKb: [10], shapes });
  expect(payload!.inputs[0]!.shape).toEqual([10, 128]);
  expect(() =>
    payloadsFromMetadata(model(['x', 'INT64', [-1]]), { sizesKb: [2], shapes: new Map([['y', [1]]]) }),
  ).toThrow("--shape: model m has no input 'y', it has x");
});

test('every datatype gets values that fit it, the same in every run', () => {
  for (const datatype of Object.keys(DATATYPES) as Datatype[]) {
    const metadata = model(['x', datatype, [-1]]);
    const [payload] = payloadsFromMetadata(metadata, { sizesKb: [2] });
    expect(checkTensor(payload!.inputs[0]!)).toBe(datatype);
    expect(tensorBytes(payload!.inputs)).toBeGreaterThan(2048 - 16);
    expect(tensorBytes(payload!.inputs)).toBeLessThanOrEqual(2048);
    expect(payloadsFromMetadata(metadata, { sizesKb: [2] })).toEqual([payload]);
  }
});

test('values are fractions, small whole numbers, truth and words', () => {
  const data = (datatype: Datatype): unknown[] => {
    const [payload] = payloadsFromMetadata(model(['x', datatype, [-1]]), { sizesKb: [2] });
    return [...(payload!.inputs[0]!.data as Iterable<unknown>)];
  };
  expect(data('FP32').every((x) => (x as number) >= 0 && (x as number) < 1)).toBe(true);
  expect(new Set(data('FP32')).size).toBe(512);
  expect(data('INT64').every((x) => (x as bigint) >= 0n && (x as bigint) < 100n)).toBe(true);
  expect(new Set(data('BOOL'))).toEqual(new Set([0, 1]));
  expect(data('BYTES').every((x) => /^[a-z]{6}$/.test(x as string))).toBe(true);
});

test('guesses leave out texts beside tensors, then take the least that the shapes allow', () => {
  const metadata = model(['text', 'BYTES', [-1, 1]], ['ids', 'INT32', [-1, -1]]);
  const shapes = payloadGuesses(metadata, { sizesKb: [1] }).map(({ payloads, words }) => [
    words,
    ...payloads.map(({ payloadKb, inputs }) => [payloadKb, ...inputs.map(({ name, shape }) => [name, ...shape])]),
  ]);
  expect(shapes).toEqual([
    [undefined, [1, ['text', 1, 1], ['ids', 1, 253]]],
    ['without text', [1, ['ids', 1, 256]]],
    ['of the smallest shapes', [null, ['text', 1, 1], ['ids', 1, 1]]],
    ['of the smallest shapes, without text', [null, ['ids', 1, 1]]],
  ]);
});

test('guesses keep texts whose shape is given, and those of a model that has nothing else', () => {
  const both = model(['text', 'BYTES', [-1]], ['ids', 'INT32', [-1]]);
  const named = payloadGuesses(both, { sizesKb: [1], shapes: new Map([['text', [1]]]) });
  for (const { payloads } of named) for (const { inputs } of payloads) expect(inputs).toHaveLength(2);
  expect(payloadGuesses(model(['text', 'BYTES', [-1]]), { sizesKb: [1] })).toHaveLength(2);
});

test('metadata that say too little are refused in words', () => {
  expect(() => payloadsFromMetadata(model(), { sizesKb: [2] })).toThrow('name no inputs; give them with --input');
  expect(() => payloadsFromMetadata(model(['x', 'FP31' as Datatype, [1]]), { sizesKb: [2] })).toThrow(
    "input 'x' of model m has datatype 'FP31'",
  );
  expect(() => payloadsFromMetadata(model(['x', 'FP32', [-2]]), { sizesKb: [2] })).toThrow('has shape [-2]');
});

test('a request from a file keeps its numbers exactly', () => {
  const body = Buffer.from(
    '{"id":"7","inputs":[{"name":"ids","datatype":"INT64","shape":[1,2],"data":[[9007199254740993,-1]]},' +
      '{"name":"text","datatype":"BYTES","shape":[1],"data":["héllo"]}],"outputs":[{"name":"y"}]}',
  );
  const payload = payloadFromJson(body, 'm', '2');
  expect(payload).toMatchObject({ model: 'm', version: '2', payloadKb: null });
  expect(payload.inputs[0]).toEqual({
    name: 'ids',
    datatype: 'INT64',
    shape: [1, 2],
    data: BigInt64Array.of(9007199254740993n, -1n),
  });
  expect(Buffer.from((payload.inputs[1]!.data as Uint8Array[])[0]!).toString()).toBe('héllo');
});

test('a file that is no request is refused in words', () => {
  const refused = (text: string) => expect(() => payloadFromJson(Buffer.from(text), 'm'));
  refused('{').toThrow(/option --input: no infer request: /);
  refused('{}').toThrow("option --input: no infer request: it has no 'inputs'");
  refused('{"inputs":[{"name":"x","datatype":"FP32","shape":[1]}]}').toThrow("input 'x' has no data");
  refused('{"inputs":[{"name":"x","datatype":"FP32","shape":[2],"data":[1]}]}').toThrow(/infer request: /);
});
