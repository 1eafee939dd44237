/**
 * Values at which encodings go wrong, as raw tensors of every datatype.
 *
 * Called by end-to-end tests.
 */
import { DATATYPES, type Datatype } from '../../src/base/datatype.js';
import type { RawTensor } from './arms.js';
import { rawToStrings, stringsToRaw } from './tensor-text.js';

/** A generator of numbers in 0..2^32-1 that gives the same ones every time. */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) >>> 0;
  };
}

const bits32 = (...values: number[]): Buffer => Buffer.from(Uint32Array.from(values).buffer);
const bits64 = (...values: bigint[]): Buffer => Buffer.from(BigUint64Array.from(values).buffer);
const bits16 = (...values: number[]): Buffer => Buffer.from(Uint16Array.from(values).buffer);

/** Text that JSON, UTF-8 or lengths trip over. */
export const STRINGS = [
  '',
  'a',
  ' ',
  'é',
  '日本語',
  '😀',
  '"quoted" \\ and\n\r\t',
  '\u0001\u001f\u007f\u2028',
  '</script>',
  'null',
  '\ufeffmark',
  'x'.repeat(70_000),
];

/** The values at which a datatype's encodings go wrong first. Eight or a multiple of it. */
export const EXTREMES: Readonly<Record<Exclude<Datatype, 'BF16'>, Buffer>> = {
  BOOL: Buffer.from([0, 1, 1, 0, 0, 0, 1, 1]),
  UINT8: Buffer.from([0, 1, 127, 128, 129, 200, 254, 255]),
  INT8: Buffer.from([0, 1, 127, 128, 129, 200, 254, 255]),
  UINT16: bits16(0, 1, 0x7fff, 0x8000, 0x8001, 0x00ff, 0xfffe, 0xffff),
  INT16: bits16(0, 1, 0x7fff, 0x8000, 0x8001, 0x00ff, 0xfffe, 0xffff),
  UINT32: bits32(0, 1, 0x7fffffff, 0x80000000, 0x80000001, 0xffff, 0xfffffffe, 0xffffffff),
  INT32: bits32(0, 1, 0x7fffffff, 0x80000000, 0x80000001, 0xffff, 0xfffffffe, 0xffffffff),
  UINT64: bits64(0n, 1n, 2n ** 53n - 1n, 2n ** 53n + 1n, 2n ** 63n - 1n, 2n ** 63n, 2n ** 64n - 2n, 2n ** 64n - 1n),
  INT64: bits64(
    0n,
    1n,
    2n ** 53n + 1n,
    2n ** 63n - 1n,
    2n ** 63n,
    2n ** 64n - 1n,
    2n ** 64n - 2n ** 53n - 1n,
    10n ** 18n,
  ),
  // Zeros, one, the largest, the least subnormal, infinities, NaN.
  FP16: bits16(0, 0x8000, 0x3c00, 0x7bff, 0x0001, 0x7c00, 0xfc00, 0x7e00),
  // Also the least normal and the largest subnormal number, and the neighbours of one and of a tenth.
  FP32: bits32(
    ...[0, 0x80000000, 0x3f800000, 0x7f7fffff, 0xff7fffff, 1, 0x80000001, 0x007fffff],
    ...[0x00800000, 0x7f800000, 0xff800000, 0x7fc00000, 0x3f800001, 0x3f7fffff, 0x3dcccccd, 0x3dcccccc],
  ),
  FP64: bits64(
    ...[
      0n,
      1n << 63n,
      0x3ff0000000000000n,
      0x7fefffffffffffffn,
      0xffefffffffffffffn,
      1n,
      (1n << 63n) + 1n,
      0xfffffffffffffn,
    ],
    ...[
      0x10000000000000n,
      0x7ff0000000000000n,
      0xfff0000000000000n,
      0x7ff8000000000000n,
      0x3ff0000000000001n,
      0x3fefffffffffffffn,
      0x3fb999999999999an,
      0x3fb9999999999999n,
    ],
  ),
  BYTES: stringsToRaw([...STRINGS, 'b', 'c', 'd', 'e']),
};

/** NaNs that say more than that they are: a signalling one, a negative one, one with a payload. JSON and typed contents can't. */
export const NAN_PAYLOADS: Partial<Record<Datatype, Buffer>> = {
  FP16: bits16(0x7d01, 0xfe00, 0x7fff),
  FP32: bits32(0x7fa00001, 0xffc00000, 0x7fc12345),
  FP64: bits64(0x7ff4000000000001n, 0xfff8000000000000n, 0x7ff8000000012345n),
};

function count(datatype: Datatype, data: Uint8Array): number {
  return datatype === 'BYTES' ? rawToStrings(data).length : data.length / DATATYPES[datatype].byteSize;
}

/** INPUT0 of an identity model. */
export function vector(datatype: Datatype, data: Uint8Array, rows = 1): RawTensor {
  return { name: 'INPUT0', datatype, shape: [rows, count(datatype, data) / rows], data };
}

/** Numbers of every size for FP32 and FP64, none of them NaN; any bits at all for integers. */
export function arbitrary(datatype: Datatype, elements: number, seed: number): Buffer {
  const next = random(seed);
  if (datatype === 'BYTES') {
    return stringsToRaw(
      Array.from({ length: elements }, () =>
        '😀é"\\z'
          .repeat(next() % 9)
          .slice(0, next() % 20)
          .toWellFormed(),
      ),
    );
  }
  const { byteSize } = DATATYPES[datatype];
  const raw = Buffer.from(Array.from({ length: elements * byteSize }, next));
  for (let i = 0; i < raw.length; i += byteSize) {
    const high = i + byteSize - 1;
    if (datatype === 'BOOL') raw[i]! &= 1;
    // An exponent of all ones is NaN or infinite; this clears one of its bits.
    if (datatype === 'FP16' || datatype === 'FP32' || datatype === 'FP64') raw[high]! &= 0xbf;
  }
  return raw;
}
