/** Random tensors in the raw layout, from a seed, for round-trip tests. */
import { DATATYPES, type Datatype } from '../../src/base/datatype.js';

/** A small generator (mulberry32): numbers in [0, 1) that are the same in every run. */
export function createRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

const TEXTS = ['', 'a', 'naïve', '"\\/', '\n\t\0', '😀', 'x'.repeat(300), '\u2028'];

/** `count` elements; floats are any bit pattern or a plain decimal, all NaNs made the one that JSON can say. */
export function randomTensor(datatype: Datatype, count: number, random: () => number): Buffer<ArrayBuffer> {
  if (datatype === 'BYTES') {
    const parts = Array.from({ length: count }, () => {
      const text = Buffer.from(TEXTS[Math.floor(random() * TEXTS.length)]!);
      const length = Buffer.alloc(4);
      length.writeUInt32LE(text.length);
      return Buffer.concat([length, text]);
    });
    return Buffer.from(Uint8Array.from(Buffer.concat(parts)).buffer);
  }
  const data = Buffer.alloc(count * DATATYPES[datatype].byteSize);
  for (let i = 0; i < data.length; i++)
    data[i] = datatype === 'BOOL' ? Math.floor(random() * 2) : Math.floor(random() * 256);
  const own = Buffer.from(Uint8Array.from(data).buffer);
  if (datatype === 'FP32') fixFloats(new Float32Array(own.buffer), random);
  if (datatype === 'FP64') fixFloats(new Float64Array(own.buffer), random);
  return own;
}

function fixFloats(values: Float32Array | Float64Array, random: () => number): void {
  for (let i = 0; i < values.length; i++) {
    if (Number.isNaN(values[i]!)) values[i] = Number.NaN;
    if (random() < 0.3) values[i] = Math.round(random() * 1e4) / 1e3;
  }
}
