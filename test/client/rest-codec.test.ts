import { expect, test } from 'vitest';
import type { Datatype } from '../../src/base/datatype.js';
import { JsonWriter } from '../../src/base/json-writer.js';
import { parseInferRequest } from '../../src/base/tensor-json-parse.js';
import { printInferResponse } from '../../src/base/tensor-json-print.js';
import { bodyMemory, decodeInferBody } from '../../src/client/rest-decode.js';
import { encodeInferBody } from '../../src/client/rest-encode.js';
import { byteView, isBytesData, rawBytes } from '../../src/client/tensor.js';
import type { InferRequest, InputTensor, TensorData } from '../../src/client/types.js';
import { composeInfer, jsonLength } from '../../src/rest/infer-body.js';
import { ALL_DATATYPES, JSON_DATATYPES, rawOf, sampleData } from './tensor-samples.js';

/** What the server makes of a body. */
function served(request: InferRequest, encoding: 'binary' | 'json') {
  const { body, headers } = encodeInferBody(request, encoding);
  const length = jsonLength(headers['inference-header-content-length'], body.length);
  return composeInfer(parseInferRequest(body.subarray(0, length)), body.subarray(length), 'm', encoding === 'binary');
}

const SHAPES = [[1], [0], [3, 5], [2, 1, 7], [64]];

test.each(ALL_DATATYPES)('%s in binary arrives bit for bit', (datatype) => {
  const inputs = SHAPES.map((shape, index): InputTensor => {
    const data = sampleData(
      datatype,
      shape.reduce((a, b) => a * b),
    );
    return { name: `in "${index}"`, datatype, shape, data };
  });
  const seen = served({ model: 'm', inputs }, 'binary');
  expect(seen.isBinaryOutput('any')).toBe(true);
  expect(seen.inputs.map(({ name, datatype, shape }) => ({ name, datatype, shape }))).toEqual(
    inputs.map(({ name, shape }) => ({ name, datatype, shape })),
  );
  for (const [index, { data }] of seen.inputs.entries()) {
    expect(Buffer.from(data as Uint8Array)).toEqual(rawOf(inputs[index]!.data));
  }
});

/** NaN has many bit patterns and one name. */
function canonical(data: TensorData): Buffer {
  if (data instanceof Float32Array) return rawOf(data.map((value) => value));
  return rawOf(data);
}

test.each(JSON_DATATYPES)('%s in JSON arrives bit for bit', (datatype) => {
  for (const shape of SHAPES) {
    const data = sampleData(
      datatype,
      shape.reduce((a, b) => a * b),
    );
    const seen = served({ model: 'm', inputs: [{ name: 'x', datatype, shape, data }] }, 'json');
    expect(seen.isBinaryOutput('any')).toBe(false);
    expect(Buffer.from(seen.inputs[0]!.data as Uint8Array)).toEqual(canonical(data));
  }
});

test('what JSON has no form for is refused here, by name', () => {
  const refuse = (input: Omit<InputTensor, 'name'>) => () =>
    encodeInferBody({ model: 'm', inputs: [{ name: 'x', ...input }] }, 'json');
  expect(refuse({ datatype: 'FP16', shape: [1], data: new Uint16Array(1) })).toThrow("input 'x' is FP16");
  expect(refuse({ datatype: 'BF16', shape: [1], data: new Uint16Array(1) })).toThrow("input 'x' is BF16");
  const element = [Uint8Array.of(0xff)];
  expect(refuse({ shape: [1], data: element })).toThrow(
    expect.objectContaining({ code: 'INVALID_ARGUMENT', local: true }),
  );
  expect(() => encodeInferBody({ model: 'm', inputs: [], parameters: { p: Number.NaN } }, 'json')).toThrow(
    "'p' is NaN",
  );
});

test('id, parameters, wanted outputs and classes arrive in both encodings', () => {
  const request: InferRequest = {
    model: 'm',
    id: 'a "b"',
    inputs: [{ name: 'x', shape: [1], data: Float32Array.of(1) }],
    outputs: ['one', { name: 'two', classification: 3 }],
    parameters: { priority: 2n ** 60n, text: 'é', flag: true, number: -0.5 },
  };
  for (const encoding of ['binary', 'json'] as const) {
    const seen = served(request, encoding);
    expect(seen.id).toBe('a "b"');
    expect(seen.parameters).toEqual(new Map(Object.entries(request.parameters!)));
    expect(seen.outputs).toEqual([
      { name: 'one', classification: 0 },
      { name: 'two', classification: 3 },
    ]);
    expect(seen.isBinaryOutput('one')).toBe(encoding === 'binary');
    expect(seen.isBinaryOutput('two')).toBe(encoding === 'binary');
  }
});

/** What the server answers with, in memory as the client arranges it. */
function answer(outputs: { name: string; datatype: Datatype; shape: number[]; data: TensorData; binary: boolean }[]) {
  const binary = outputs.filter((output) => output.binary);
  const head = printInferResponse(
    {
      id: 'i',
      modelName: 'm',
      modelVersion: '2',
      outputs: outputs.map(({ data, binary, ...rest }) => ({
        ...rest,
        data: binary ? undefined : rawOf(data),
        binaryDataSize: rawBytes(data),
      })),
    },
    new JsonWriter(64),
  );
  const parts = [head, ...binary.map(({ data }) => rawOf(data))];
  const body = bodyMemory(Buffer.concat(parts).length, head.length);
  Buffer.concat(parts).copy(body);
  return { body, headerLength: binary.length > 0 ? head.length : undefined };
}

const bytesOf = (data: TensorData) =>
  isBytesData(data) ? rawOf(data) : Buffer.from(byteView(data).buffer, byteView(data).byteOffset, data.byteLength);

test.each(ALL_DATATYPES)('%s comes back bit for bit, as bytes and as JSON, also next to each other', (datatype) => {
  for (const shape of SHAPES) {
    const count = shape.reduce((a, b) => a * b);
    const outputs = [true, false, true].map((binary, index) => ({
      name: `out${index}`,
      datatype,
      shape,
      data: sampleData(datatype, count),
      binary: binary || !(JSON_DATATYPES as readonly string[]).includes(datatype),
    }));
    const { body, headerLength } = answer(outputs);
    const decoded = decodeInferBody(body, headerLength);
    expect(decoded).toMatchObject({ model: 'm', version: '2', id: 'i', parameters: {} });
    for (const [index, output] of decoded.outputs.entries()) {
      expect(output).toMatchObject({ name: `out${index}`, datatype, shape });
      expect(bytesOf(output.data)).toEqual(canonical(outputs[index]!.data));
    }
  }
});

test('the first binary output is a view on the body, whatever the length of the JSON; one at an odd place is a copy', () => {
  for (let length = 1; length <= 9; length++) {
    const { body, headerLength } = answer([
      { name: 'a'.repeat(length), datatype: 'FP64', shape: [2], data: Float64Array.of(1, 2), binary: true },
      { name: 'b', datatype: 'UINT8', shape: [1], data: Uint8Array.of(1), binary: true },
      { name: 'c', datatype: 'INT32', shape: [1], data: Int32Array.of(-5), binary: true },
    ]);
    const [first, second, third] = decodeInferBody(body, headerLength).outputs.map(({ data }) => data as Float64Array);
    expect(first!.buffer).toBe(body.buffer);
    expect(second!.buffer).toBe(body.buffer);
    expect(third!.buffer).not.toBe(body.buffer);
    expect([...third!]).toEqual([-5]);
  }
});

const json = (text: string) => Buffer.from(text);

test('answers as other servers write them are read: nested, members in any order, nulls and free parameters', () => {
  const decoded = decodeInferBody(
    json(`{"id": null, "model_name": "m", "model_version": null, "parameters": {"content_type": "np", "n": 9007199254740993, "x": {"y": []}, "__proto__": 1},
      "outputs": [{"data": [[1, 2], [3, 9007199254740993]], "parameters": null, "shape": [2, 2], "datatype": "INT64", "name": "o", "other": [1]}]}`),
    undefined,
  );
  expect(decoded.outputs[0]!.data).toEqual(BigInt64Array.of(1n, 2n, 3n, 9007199254740993n));
  expect(decoded).toMatchObject({ id: '', version: '' });
  expect(Object.entries(decoded.parameters)).toEqual([
    ['content_type', 'np'],
    ['n', 9007199254740993n],
    ['__proto__', 1],
  ]);
});

const one = (members: string) => json(`{"outputs":[{"name":"o",${members}}]}`);

test.each([
  ['no JSON', json('<html>'), undefined, 'expected an object'],
  ['an error that came with 200', json('{"error":"no"}'), undefined, "no 'outputs'"],
  ['a body cut off', json('{"outputs":[{"name":"o"'), undefined, "expected ',' or '}'"],
  ['text behind the JSON', json('{"outputs":[]} x'), undefined, 'text after the answer'],
  ['bytes that nobody claims', json('{"outputs":[]}xx'), 14, '2 bytes behind its JSON'],
  ['a header longer than the body', json('{}'), 3, '3 of them should be JSON'],
  ['too few bytes', one('"datatype":"FP32","shape":[2],"parameters":{"binary_data_size":8}'), undefined, '0 are left'],
  ['another datatype', one('"datatype":"FP8","shape":[1],"data":[1]'), undefined, "datatype 'FP8'"],
  ['elements for another shape', one('"datatype":"INT8","shape":[3],"data":[1,2]'), undefined, 'Shape does not match'],
  [
    'a shape beyond any memory',
    one('"datatype":"INT8","shape":[1e9,1e9],"data":[1]'),
    undefined,
    'Shape does not match',
  ],
  ['a shape the text is too short for', one('"datatype":"INT8","shape":[1000000000],"data":[1]'), undefined, 'Shape'],
  ['a negative shape', one('"datatype":"INT8","shape":[-1],"data":[1]'), undefined, 'a shape that is none'],
  ['a number beyond the type', one('"datatype":"INT8","shape":[1],"data":[128]'), undefined, 'out of range'],
  ['no data', one('"datatype":"INT8","shape":[1]'), undefined, 'has no data'],
  ['a half in JSON', one('"datatype":"FP16","shape":[1],"data":[1]'), undefined, 'use the binary encoding'],
  [
    'a size that is none',
    one('"datatype":"INT8","shape":[1],"parameters":{"binary_data_size":-1}'),
    undefined,
    'is -1',
  ],
])('%s is refused as INTERNAL', (_, body, headerLength, message) => {
  expect(() => decodeInferBody(body, headerLength)).toThrow(
    expect.objectContaining({ name: 'ClientError', code: 'INTERNAL', message: expect.stringContaining(message) }),
  );
});
