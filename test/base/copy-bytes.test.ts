import { expect, test } from 'vitest';
import { copyBytes } from '../../src/base/copy-bytes.js';

const pattern = (length: number) => Uint8Array.from({ length }, (_, i) => (i * 31 + 7) % 251);

test.each([0, 1, 255, 256, 257, 4096, 100_003])('%i bytes arrive whole, and nothing beside them changes', (length) => {
  for (const target of [Buffer.alloc(length + 20, 0xee), Buffer.from(new SharedArrayBuffer(length + 20)).fill(0xee)]) {
    for (const skew of [0, 5]) {
      const source = pattern(length + skew).subarray(skew);
      expect(copyBytes(target, source, 7)).toBe(7 + length);
      expect(Buffer.compare(target.subarray(7, 7 + length), source)).toBe(0);
      expect([...target.subarray(0, 7), ...target.subarray(7 + length)].every((byte) => byte === 0xee)).toBe(true);
    }
  }
});

test.each([10, 1000])('%i bytes that do not fit are refused, not cut', (length) => {
  expect(() => copyBytes(Buffer.alloc(length + 3), pattern(length), 4)).toThrow(RangeError);
});
