/** Tensors of every datatype for tests of the client: random bits, and every now and then a value that is hard to write. */
import type { Datatype } from '../../src/base/datatype.js';
import { rawBytes, writeRaw } from '../../src/client/tensor.js';
import type { TensorData } from '../../src/client/types.js';

/** A repeatable source of numbers from 0 to 1. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

const next = random(7);
const word = () => Math.floor(next() * 2 ** 32);
const FLOATS = [0, -0, Number.NaN, Infinity, -Infinity, 1e-45, 3.4028234663852886e38, 5e-324, 0.1, -1.5, 16777217];
const LONGS = [0n, 1n, -1n, 2n ** 63n - 1n, -(2n ** 63n), 2n ** 53n + 1n];
const TEXTS = ['', 'text', 'ünï\u{1f600}', '"\\\n\t\u0001\u001f', '\u2028</script>', 'x'.repeat(300)];

/** `count` elements; the same call gives others each time, the same run the same. */
export function sampleData(datatype: Datatype, count: number): TensorData {
  const each = <T>(value: () => T): T[] => Array.from({ length: count }, value);
  const float = () => (next() < 0.3 ? FLOATS[word() % FLOATS.length]! : (next() - 0.5) * 10 ** (next() * 60 - 30));
  const long = () => (next() < 0.3 ? LONGS[word() % LONGS.length]! : (BigInt(word()) << 32n) | BigInt(word()));
  switch (datatype) {
    case 'BOOL':
      return Uint8Array.from(each(() => word() % 2));
    case 'UINT8':
      return Uint8Array.from(each(word));
    case 'UINT16':
    case 'FP16':
    case 'BF16':
      return Uint16Array.from(each(word));
    case 'UINT32':
      return Uint32Array.from(each(word));
    case 'UINT64':
      return BigUint64Array.from(each(long));
    case 'INT8':
      return Int8Array.from(each(word));
    case 'INT16':
      return Int16Array.from(each(word));
    case 'INT32':
      return Int32Array.from(each(word));
    case 'INT64':
      return BigInt64Array.from(each(long));
    case 'FP32':
      return Float32Array.from(each(float));
    case 'FP64':
      return Float64Array.from(each(float));
    case 'BYTES':
      return each(() => (next() < 0.5 ? TEXTS[word() % TEXTS.length]! : Buffer.from(TEXTS[word() % TEXTS.length]!)));
  }
}

/** The raw layout. */
export function rawOf(data: TensorData): Buffer {
  const bytes = Buffer.alloc(rawBytes(data));
  writeRaw(bytes, data, 0);
  return bytes;
}

/** Datatypes that JSON can carry. */
export const JSON_DATATYPES = [
  ...(['BOOL', 'UINT8', 'UINT16', 'UINT32', 'UINT64', 'INT8', 'INT16', 'INT32', 'INT64'] as const),
  ...(['FP32', 'FP64', 'BYTES'] as const),
];

export const ALL_DATATYPES: readonly Datatype[] = [...JSON_DATATYPES, 'FP16', 'BF16'];
