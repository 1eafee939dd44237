import { expect, test } from 'vitest';
import { ClientError } from '../../src/client/client-error.js';
import { MetadataCache } from '../../src/client/metadata-cache.js';
import { checkRequest, type ModelFacts } from '../../src/client/request-check.js';
import type { InferRequest, InputTensor, TensorMetadata } from '../../src/client/types.js';

function facts(inputs: readonly TensorMetadata[], optional?: readonly string[]): ModelFacts {
  return {
    metadata: { name: 'm', versions: ['1'], platform: '', inputs, outputs: [] },
    optional: optional && new Set(optional),
  };
}

const a: TensorMetadata = { name: 'a', datatype: 'FP32', shape: [-1, 4] };
const b: TensorMetadata = { name: 'b', datatype: 'INT64', shape: [2] };
const text: TensorMetadata = { name: 'text', datatype: 'BYTES', shape: [-1] };
const A: InputTensor = { name: 'a', shape: [1, 4], data: new Float32Array(4) };
const B: InputTensor = { name: 'b', shape: [2], data: new BigInt64Array(2) };
const request = (...inputs: InputTensor[]): InferRequest => ({ model: 'm', inputs });

test.each<[string, ModelFacts, InferRequest]>([
  ['all that is listed', facts([a, b], []), request(A, B)],
  ['in another order', facts([a, b], []), request(B, A)],
  ['any size of a free dimension', facts([a], []), request({ ...A, shape: [0, 4], data: new Float32Array(0) })],
  ['an optional input left out', facts([a, b], ['b']), request(A)],
  ['an input left out where nobody knows what is optional', facts([a, b]), request(A)],
  ['anything where the server lists nothing', facts([], []), request(A, B)],
  ['tensors in place of a text', facts([text, b], []), request({ ...B, name: 'input_ids' })],
  ['a tensor under the name of a text', facts([{ ...text, name: 'a' }], []), request(A)],
  [
    'a picture under the name of a tensor',
    facts([a], []),
    request({ name: 'a', shape: [1], data: [new Uint8Array(9)] }),
  ],
  ['texts of another shape than listed', facts([text], []), request({ name: 'text', shape: [2, 1], data: ['x', 'y'] })],
])('a request that a server may take passes: %s', (_, model, sent) => {
  expect(() => checkRequest(sent, model)).not.toThrow();
});

test.each<[ModelFacts, InferRequest, string]>([
  [facts([a], []), request({ ...A, name: 'x' }), "request for model 'm': there is no input 'x', expected 'a'"],
  [facts([a, b], []), request(A), "request for model 'm': 'b' missing, got 'a'"],
  [facts([a], []), request(), "request for model 'm': 'a' missing, got none"],
  [facts([a], []), request(A, A), "request for model 'm': input 'a' is there twice"],
  [
    facts([a], []),
    request({ ...A, data: new Float64Array(4) }),
    "request for model 'm': input 'a' is FP64, expected FP32",
  ],
  [facts([a], []), request({ ...A, shape: [4] }), "request for model 'm': input 'a' has shape [4], expected [-1,4]"],
  [
    facts([a], []),
    { ...request({ ...A, shape: [2, 2] }), version: '3' },
    "request for model 'm' version '3': input 'a' has shape [2,2], expected [-1,4]",
  ],
  [
    facts([text, b], []),
    request({ name: 'b', shape: [2], data: new Int32Array(2) }),
    "request for model 'm': input 'b' is INT32, expected INT64",
  ],
])('a request that no server would take is refused here: %#', (model, sent, message) => {
  expect(() => checkRequest(sent, model)).toThrow(
    expect.objectContaining({ code: 'INVALID_ARGUMENT', local: true, message }),
  );
});

test('a model is asked for once, also by requests side by side, and each version by itself', async () => {
  const asked: string[] = [];
  const cache = new MetadataCache(async (model, version) => {
    asked.push(`${model}/${version}`);
    return facts([a], []);
  });
  await Promise.all([cache.check(request(A)), cache.check(request(A))]);
  expect(cache.check(request(A))).toBeUndefined();
  await cache.check({ ...request(A), version: '2' });
  expect(asked).toEqual(['m/', 'm/2']);
});

test('what a request fails by is asked for again before it is refused', async () => {
  const models = [facts([b], []), facts([a], [])];
  const cache = new MetadataCache(async () => models.shift()!);
  await cache.check(request(B));
  await cache.check(request(A));
  expect(models).toEqual([]);
  expect(cache.check(request(A))).toBeUndefined();
});

test('what the server refuses is asked for again, what it has no room for is not', async () => {
  let asked = 0;
  const cache = new MetadataCache(async () => {
    asked++;
    return facts([a], []);
  });
  await cache.check(request(A));
  cache.refused(request(A), 'RESOURCE_EXHAUSTED');
  expect(cache.check(request(A))).toBeUndefined();
  cache.refused(request(A), 'NOT_FOUND');
  await cache.check(request(A));
  expect(asked).toBe(2);
});

test('a server that tells nothing is asked once and nothing is checked; one that is away is asked again', async () => {
  for (const [code, times] of [
    ['UNIMPLEMENTED', 1],
    ['UNAVAILABLE', 2],
  ] as const) {
    let asked = 0;
    const cache = new MetadataCache(async () => {
      asked++;
      throw new ClientError(code, 'no');
    });
    await cache.check(request(A, A));
    await cache.check(request(A, A));
    expect(asked).toBe(times);
  }
});
