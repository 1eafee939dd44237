import { describe, expect, test } from 'vitest';
import type { Datatype } from '../../src/base/datatype.js';
import { checkTensorData, MAX_STRING_ELEMENTS } from '../../src/engine/tensor-data.js';

function check(datatype: Datatype, shape: number[], data: Uint8Array): () => void {
  const spec = { name: 'A', datatype } as Parameters<typeof checkTensorData>[1];
  return () =>
    checkTensorData({ name: 'm' } as Parameters<typeof checkTensorData>[0], spec, { name: 'A', datatype, shape, data });
}

const element = (bytes: Uint8Array | string): Buffer => {
  const content = Buffer.from(bytes as string);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(content.length);
  return Buffer.concat([length, content]);
};

test('a tensor must have as many bytes as its shape says', () => {
  expect(check('FP32', [2, 2], Buffer.alloc(16))).not.toThrow();
  expect(check('FP32', [2, 2], Buffer.alloc(15))).toThrow(/'A' for model 'm'. Expected 16, got 15/);
});

describe('BOOL', () => {
  test.each([0, 1, 2, 3, 4, 5, 7, 8, 9, 64, 1001])(
    'of %i elements takes 0 and 1 and nothing else, anywhere',
    (count) => {
      // At an odd address, as a view on a message mostly is.
      const data = Buffer.alloc(count + 3, 1).subarray(3);
      expect(check('BOOL', [count], data)).not.toThrow();
      for (let at = 0; at < count; at++) {
        for (const value of [2, 128, 255]) {
          data[at] = value;
          expect(check('BOOL', [count], data)).toThrow(/BOOL bytes other than 0 and 1/);
        }
        data[at] = 0;
      }
      expect(check('BOOL', [count], data)).not.toThrow();
    },
  );
});

describe('BYTES', () => {
  const bad: [string, Buffer, RegExp][] = [
    ['not UTF-8', Buffer.from([0x61, 0xff]), /is not valid UTF-8/],
    ['cut inside a character', Buffer.from([0x61, 0xc3]), /is not valid UTF-8/],
    ['beginning inside a character', Buffer.from([0xa9, 0x61]), /is not valid UTF-8/],
    ['with a NUL', Buffer.from('a\0b'), /has a NUL byte/],
  ];

  test.each(bad)('an element %s is found and named wherever it is', (_, content, says) => {
    for (const count of [1, 2, 5000]) {
      for (const at of new Set([0, count >> 1, count - 1])) {
        const elements = Array.from({ length: count }, (_, i) => element(i === at ? content : `text é ${i}`));
        expect(check('BYTES', [count], Buffer.concat(elements))).toThrow(
          new RegExp(`string element ${at} of .*${says.source}`),
        );
      }
    }
  });

  test('a character is not put together from the end of one element and the beginning of the next', () => {
    // 0xa9 as a length would be the second half of é.
    const next = element(Buffer.alloc(0xa9, 'x'));
    expect(check('BYTES', [2], Buffer.concat([element(Buffer.from([0xc3])), next]))).toThrow(
      /string element 0 .*UTF-8/,
    );
  });

  test('elements of all sizes pass, short and long ones in any order', () => {
    const sizes = [0, 1, 3, 1019, 1020, 1021, 1024, 5, 70_000, 0, 65_536, 2, 65_531, 900, 900, 200_000];
    const elements = Array.from({ length: 2000 }, (_, i) => element('é'.repeat(sizes[i % sizes.length]! >> (i % 3))));
    expect(check('BYTES', [2000], Buffer.concat(elements))).not.toThrow();
  });

  test('the number of elements is bounded, one more is refused', () => {
    const one = element('');
    expect(check('BYTES', [MAX_STRING_ELEMENTS], Buffer.alloc(4 * MAX_STRING_ELEMENTS, one))).not.toThrow();
    expect(check('BYTES', [MAX_STRING_ELEMENTS + 1], Buffer.alloc(4 * MAX_STRING_ELEMENTS + 4, one))).toThrow(
      /1048577 string elements .*at most 1048576/,
    );
  });

  test('no elements have no bytes', () => {
    expect(check('BYTES', [0], Buffer.alloc(0))).not.toThrow();
    expect(check('BYTES', [0], element('a'))).toThrow(/expecting 0/);
  });
});
