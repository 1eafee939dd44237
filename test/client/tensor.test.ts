import { expect, test } from 'vitest';
import { createAnswer, NO_PARAMETERS } from '../../src/client/answer.js';
import { budgetOf } from '../../src/client/budget.js';
import { ClientError } from '../../src/client/client-error.js';
import { checkTensor, fromRaw, rawBytes, writeRaw } from '../../src/client/tensor.js';
import type { InputTensor, TensorData } from '../../src/client/types.js';

const tensor = (data: unknown, rest: Partial<InputTensor> = {}): InputTensor => ({
  name: 'x',
  shape: [2],
  data: data as TensorData,
  ...rest,
});

/** An array whose memory has gone to another thread. */
function transferred(): Float32Array {
  const array = new Float32Array(2);
  structuredClone(array, { transfer: [array.buffer] });
  return array;
}

test.each([
  [new Uint8Array(2), 'UINT8'],
  [Buffer.alloc(2), 'UINT8'],
  [new Uint16Array(2), 'UINT16'],
  [new Uint32Array(2), 'UINT32'],
  [new BigUint64Array(2), 'UINT64'],
  [new Int8Array(2), 'INT8'],
  [new Int16Array(2), 'INT16'],
  [new Int32Array(2), 'INT32'],
  [new BigInt64Array(2), 'INT64'],
  [new Float32Array(2), 'FP32'],
  [new Float64Array(2), 'FP64'],
  [['a', new Uint8Array(1)], 'BYTES'],
])('the datatype of a tensor is what its array is: %#', (data, datatype) => {
  expect(checkTensor(tensor(data))).toBe(datatype);
  expect(checkTensor(tensor(data, { datatype: datatype as InputTensor['datatype'] & string }))).toBe(datatype);
});

test('bytes can be BOOL, and 16 bits FP16 or BF16, where it is said', () => {
  expect(checkTensor(tensor(new Uint8Array(2), { datatype: 'BOOL' }))).toBe('BOOL');
  expect(checkTensor(tensor(new Uint16Array(2), { datatype: 'FP16' }))).toBe('FP16');
  expect(checkTensor(tensor(new Uint16Array(2), { datatype: 'BF16' }))).toBe('BF16');
});

test.each<[InputTensor, string]>([
  [tensor(new Float32Array(2), { name: '' }), 'an input has no name'],
  [tensor(new Float32Array(3)), "input 'x' has 3 elements, its shape [2] says 2"],
  [tensor(['a']), "input 'x' has 1 element, its shape [2] says 2"],
  [tensor(new Float32Array(2), { shape: [] }), "input 'x' has 2 elements, its shape [] says 1"],
  [
    tensor(new Float32Array(2), { datatype: 'FP64' }),
    "input 'x' of datatype FP64 has a Float32Array, expected a Float64Array",
  ],
  [
    tensor(new Float32Array(2), { datatype: 'BYTES' }),
    "input 'x' of datatype BYTES has a Float32Array, expected an array of strings or byte arrays",
  ],
  [
    tensor(['a', 'b'], { datatype: 'FP16' }),
    "input 'x' of datatype FP16 has a plain array, as BYTES have, expected a Uint16Array",
  ],
  [
    tensor([1, 2], { datatype: 'FP32' }),
    "input 'x' of datatype FP32 has a plain array, as BYTES have, expected a Float32Array",
  ],
  [
    tensor(['a', 1]),
    "element 1 of input 'x' is number, expected a string or Uint8Array: numbers go in a typed array, such as Float32Array",
  ],
  [tensor(['a', null]), "element 1 of input 'x' is null, expected a string or Uint8Array"],
  [
    tensor(new DataView(new ArrayBuffer(2))),
    "data of input 'x' is of type DataView, expected a typed array, such as Float32Array, or an array of strings and byte arrays",
  ],
  [
    tensor(new Uint8ClampedArray(2), { datatype: 'UINT8' }),
    "data of input 'x' is of type Uint8ClampedArray, expected a Uint8Array",
  ],
  [
    tensor(undefined),
    "data of input 'x' is undefined, expected a typed array, such as Float32Array, or an array of strings and byte arrays",
  ],
  [
    tensor(transferred(), { shape: [0] }),
    "data of input 'x' is gone: its ArrayBuffer was transferred to somebody else",
  ],
  [
    tensor(new Float32Array(2), { shape: [-1, 2] }),
    "shape [-1,2] of input 'x' has a dimension -1, expected integers from 0 up",
  ],
  [
    tensor(new Float32Array(2), { shape: [0.5, 4] }),
    "shape [0.5,4] of input 'x' has a dimension 0.5, expected integers from 0 up",
  ],
  [
    { name: 'x', data: new Float32Array(2) } as unknown as InputTensor,
    "input 'x' has no shape, expected an array of dimensions",
  ],
])('what cannot be right is refused here, saying what was expected: %#', (input, message) => {
  const error = (() => {
    try {
      checkTensor(input);
    } catch (thrown) {
      return thrown;
    }
  })();
  expect(error).toBeInstanceOf(ClientError);
  expect(error).toMatchObject({ code: 'INVALID_ARGUMENT', local: true, message });
});

test('an unknown datatype is refused with those there are', () => {
  const input = { ...tensor(new Float32Array(2)), datatype: 'FLOAT' } as unknown as InputTensor;
  expect(() => checkTensor(input)).toThrow("input 'x' has datatype 'FLOAT', expected one of BOOL, UINT8,");
});

test('the raw layout comes back as it was, from aligned and from odd addresses', () => {
  const values = [
    new Float32Array([1.5, -0, Number.NaN]),
    new BigInt64Array([-1n, 2n ** 62n, 0n]),
    new Uint8Array([1, 0, 1]),
  ];
  for (const data of values) {
    const datatype = checkTensor(tensor(data, { shape: [3] }));
    for (const offset of [0, 1, 4, 7]) {
      const message = Buffer.from(new ArrayBuffer(64));
      expect(writeRaw(message, data, offset)).toBe(offset + rawBytes(data));
      const back = fromRaw('y', datatype, [3], message.subarray(offset, offset + rawBytes(data)));
      expect(back).toEqual(data);
    }
  }
});

test('elements at an aligned address are a view on what was received, others a copy', () => {
  const message = Buffer.from(new ArrayBuffer(16));
  expect((fromRaw('y', 'FP32', [2], message.subarray(4, 12)) as Float32Array).buffer).toBe(message.buffer);
  expect((fromRaw('y', 'FP32', [2], message.subarray(5, 13)) as Float32Array).buffer).not.toBe(message.buffer);
  expect((fromRaw('y', 'UINT8', [2], message.subarray(5, 7)) as Uint8Array).buffer).toBe(message.buffer);
});

test('BYTES elements may be strings of any script and byte arrays, and come back as bytes', () => {
  const data = ['', 'abc', 'größer 🙂', new Uint8Array([0, 255]), 'long '.repeat(100)];
  const raw = Buffer.alloc(rawBytes(data));
  expect(writeRaw(raw, data, 0)).toBe(raw.length);
  const back = fromRaw('y', 'BYTES', [5], raw) as Uint8Array[];
  expect(back.map((element) => Buffer.from(element).toString())).toEqual(
    data.map((element) => Buffer.from(element as string).toString()),
  );
  expect(back[1]!.buffer).toBe(raw.buffer);
});

test.each<[() => TensorData, string]>([
  [() => fromRaw('y', 'FP32', [3], new Uint8Array(8)), "output 'y' has 8 bytes, FP32 of shape [3] takes 12"],
  [() => fromRaw('y', 'BYTES', [2], new Uint8Array(4)), "output 'y' has 1 elements, its shape says 2"],
  [() => fromRaw('y', 'BYTES', [1], new Uint8Array(3)), "output 'y' ends inside its element 0"],
  [() => fromRaw('y', 'BYTES', [1], new Uint8Array([5, 0, 0, 0, 1])), "output 'y' ends inside its element 0"],
])(
  'an output whose bytes are not as many as its shape says is an INTERNAL error of the server: %#',
  (read, message) => {
    expect(read).toThrow(expect.objectContaining({ code: 'INTERNAL', local: false, message }));
  },
);

test('an answer gives its outputs by name, and names those there are where there is none', () => {
  const stamps = { called: 0, began: 0, encoded: 0, sent: 0, firstByte: 0, lastByte: 0, decoded: 0 };
  const output = { name: 'y', datatype: 'FP32', shape: [1], data: new Float32Array(1) } as const;
  const rest = { model: 'm', version: '1', id: '', parameters: NO_PARAMETERS };
  const budget = budgetOf(stamps, undefined, 0, 0);
  expect(createAnswer({ ...rest, outputs: [output] }, budget).output('y')).toBe(output);
  expect(() => createAnswer({ ...rest, outputs: [output, { ...output, name: 'z' }] }, budget).output('x')).toThrow(
    "the answer of model 'm' has no output 'x', there are: 'y', 'z'",
  );
  expect(() => createAnswer({ ...rest, outputs: [] }, budget).output('x')).toThrow('there are: none');
});
