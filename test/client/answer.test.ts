/** What a caller gets of an answer, and what its types say of it. */
import { expect, expectTypeOf, test } from 'vitest';
import { createAnswer, createOutput, NO_PARAMETERS } from '../../src/client/answer.js';
import type { Budget } from '../../src/client/budget.js';
import { ClientError } from '../../src/client/client-error.js';

const budget: Budget = { totalMs: 0, phases: [], serverMs: undefined, requestBytes: 0, responseBytes: 0 };
const outputs = [
  createOutput({ name: 'score', datatype: 'FP32', shape: [2], data: Float32Array.of(1, 2) }),
  createOutput({ name: 'label', datatype: 'BYTES', shape: [1], data: [Uint8Array.of(65)] }),
];
const answer = createAnswer({ model: 'm', version: '1', id: '', outputs, parameters: NO_PARAMETERS }, budget);

test('an output asked for with its datatype has the array of that type', () => {
  const { data } = answer.output('score', 'FP32');
  expectTypeOf(data).toEqualTypeOf<Float32Array>();
  expect(data).toEqual(Float32Array.of(1, 2));
  expectTypeOf(answer.output('label', 'BYTES').data).toEqualTypeOf<readonly Uint8Array[]>();
});

test('a datatype narrows the array of an output', () => {
  const output = answer.output('label');
  if (output.datatype === 'BYTES') expectTypeOf(output.data).toEqualTypeOf<readonly Uint8Array[]>();
  if (output.datatype === 'INT64') expectTypeOf(output.data).toEqualTypeOf<BigInt64Array>();
  expect(output).toBe(outputs[1]);
});

test.each<[() => unknown, string, string]>([
  [
    () => answer.output('scores'),
    'NOT_FOUND',
    "the answer of model 'm' has no output 'scores', there are: 'score', 'label'",
  ],
  [
    () => answer.output('scores', 'FP32'),
    'NOT_FOUND',
    "the answer of model 'm' has no output 'scores', there are: 'score', 'label'",
  ],
  [() => answer.output('score', 'FP64'), 'INVALID_ARGUMENT', "output 'score' of model 'm' is FP32, not FP64"],
])('what an answer has not is refused, saying what there is: %#', (ask, code, message) => {
  expect(ask).toThrow(ClientError);
  expect(ask).toThrow(expect.objectContaining({ code, message, local: true }));
});
