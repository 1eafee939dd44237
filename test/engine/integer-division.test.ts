import { describe, expect, test } from 'vitest';
import { refuseDivisionOverflow } from '../../src/engine/integer-division.js';

type Model = Parameters<typeof refuseDivisionOverflow>[0];

function refuse(datatype: string, ...data: (Uint8Array | undefined)[]): () => void {
  const inputs = data.map((_, index) => ({ name: `INPUT${index}`, datatype }));
  return () => refuseDivisionOverflow({ name: 'm', inputs } as unknown as Model, data);
}

/** The bytes of `array` at an odd address, as a view on a message mostly is. */
function unaligned(array: Int32Array | BigInt64Array): Uint8Array {
  const bytes = new Uint8Array(array.byteLength + 1).subarray(1);
  bytes.set(new Uint8Array(array.buffer));
  return bytes;
}

const LEAST_32 = -(2 ** 31);
const LEAST_64 = -(2n ** 63n);

describe('the least value is found', () => {
  test.each([0, 1, 5, 99])('at element %i of INT32', (at) => {
    const values = Int32Array.from({ length: 100 }, (_, i) => (i === at ? LEAST_32 : i));
    expect(refuse('INT32', unaligned(values))).toThrow(/'INPUT0' holds the least value of INT32.*'m'/);
  });

  test.each([0, 1, 5, 99])('at element %i of INT64, in any input', (at) => {
    const values = BigInt64Array.from({ length: 100 }, (_, i) => (i === at ? LEAST_64 : BigInt(i)));
    expect(refuse('INT64', undefined, unaligned(values))).toThrow(/'INPUT1' holds the least value of INT64/);
  });
});

test.each([
  ['INT32', Int32Array.of(LEAST_32 + 1, 2 ** 31 - 1, 0, -1, 0x80, -0x80000000 + 0x80)],
  ['INT64', BigInt64Array.of(LEAST_64 + 1n, 2n ** 63n - 1n, -1n, -(2n ** 31n), 2n ** 31n, LEAST_64 + 2n ** 32n)],
  // As INT64 there is a low half that looks like the least INT32, which is fine.
  ['INT64', BigInt64Array.of(0x80000000n, 0x180000000n)],
  // Narrower types are divided as 32-bit values.
  ['INT16', Int32Array.of(0x8000)],
])('other values of %s pass', (datatype, values) => {
  expect(refuse(datatype, unaligned(values))).not.toThrow();
});
