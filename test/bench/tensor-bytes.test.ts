import { expect, test } from 'vitest';
import { tensorBytes, tensorsDifference } from '../../src/bench/tensor-bytes.js';
import type { OutputTensor } from '../../src/client/types.js';

const floats: OutputTensor = { name: 'Y', datatype: 'FP32', shape: [2], data: new Float32Array([1, 2]) };
const texts: OutputTensor = { name: 'T', datatype: 'BYTES', shape: [2], data: ['é', new Uint8Array([7])] };

test('texts count their bytes and the length before each', () => {
  expect(tensorBytes([floats, texts])).toBe(8 + 4 + 2 + 4 + 1);
});

test('the same tensors in another order and other arrays are equal', () => {
  const again: OutputTensor = { ...texts, data: [new Uint8Array([0xc3, 0xa9]), new Uint8Array([7])] };
  expect(tensorsDifference([floats, texts], [again, floats])).toBeUndefined();
});

test.each<{ what: string; actual: OutputTensor[]; words: RegExp }>([
  {
    what: 'a bit',
    actual: [{ ...floats, data: new Float32Array([1, 2.0000002]) }],
    words: /'Y' differs from byte 4 of 8/,
  },
  { what: 'a sign', actual: [{ ...floats, data: new Float32Array([1, -2]) }], words: /differs from byte 7/ },
  { what: 'the shape', actual: [{ ...floats, shape: [1, 2] }], words: /FP32 \[1,2\] in place of FP32 \[2\]/ },
  { what: 'the datatype', actual: [{ ...floats, datatype: 'INT32' }], words: /INT32/ },
  { what: 'the name', actual: [{ ...floats, name: 'Z' }], words: /no output 'Y'/ },
  { what: 'the number', actual: [floats, texts], words: /2 outputs in place of 1/ },
])('a difference in $what is found and named', ({ actual, words }) => {
  expect(tensorsDifference([floats], actual)).toMatch(words);
});

test('NaNs of the same bits are equal', () => {
  const nan = (): OutputTensor => ({ ...floats, data: new Float32Array([Number.NaN, 1]) });
  expect(tensorsDifference([nan()], [nan()])).toBeUndefined();
});
