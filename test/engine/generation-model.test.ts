/** How long a sequence can become where the cache of keys and values is small. */
import { expect, test } from 'vitest';
import { usableContext } from '../../src/engine/generation-model.js';
import { capacityFor } from '../../workers/kv-layout.js';

test('a context that fits is the model’s own', () => {
  expect(usableContext({ contextLength: 100, kvCacheBytes: 1000 }, 10)).toBe(100);
  expect(usableContext({ contextLength: 8, kvCacheBytes: 1000 }, 10)).toBe(8);
});

test('any other is the longest for which the worker finds room', () => {
  for (let most = 32; most < 5000; most++) {
    const tokens = usableContext({ contextLength: 10_000, kvCacheBytes: most * 10 + 9 }, 10);
    expect(capacityFor(tokens, 10_000)).toBeLessThanOrEqual(most);
    expect(capacityFor(tokens + 1, 10_000)).toBeGreaterThan(most);
  }
});

test('one of no use is refused with the numbers', () => {
  expect(() => usableContext({ contextLength: 100, kvCacheBytes: 310 }, 10)).toThrow(
    'kv_cache_byte_size 310 has room for 31 tokens of 10 bytes each, at least 32 are needed',
  );
});
