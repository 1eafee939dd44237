import { expect, test } from 'vitest';
import { tensorBytes, tensorsDifference } from '../../src/bench/tensor-bytes.js';
import type { InputTensor } from '../../src/client/types.js';

type Tensor = Required<InputTensor>;

const floats: Tensor = { name: 'Y', datatype: 'FP32', shape: [2], data: new Float32Array([1, 2]) };
const texts: Tensor = { name: 'T', datatype: 'BYTES', shape: [2], data: ['é', new Uint8Array([7])] };

test('texts count their bytes and the length before each', () => {
  expect(tensorBytes([floats, texts])).toBe(8 + 4 + 2 + 4 + 1);
});

test('the same tensors in another order and other arrays are equal', () => {
  const again: Tensor = { ...texts, data: [new Uint8Array([0xc3, 0xa9]), new Uint8Array([7])] };
  expect(tensorsDifference([floats, texts], [again, floats])).toBeUndefined();
});

test.each<{ what: string; actual: Tensor[]; words: RegExp }>([
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
  const nan = (): Tensor => ({ ...floats, data: new Float32Array([Number.NaN, 1]) });
  expect(tensorsDifference([nan()], [nan()])).toBeUndefined();
});
