import { expect, test } from 'vitest';
import { MessagePool } from '../../src/base/message-pool.js';

const KiB = 1024;

test("memory given back is the next message's of about that size", () => {
  const pool = new MessagePool(1024 * KiB);
  const first = pool.take(100 * KiB);
  pool.give(first);
  expect(pool.take(99 * KiB).buffer).toBe(first.buffer);
  expect(pool.take(99 * KiB).buffer).not.toBe(first.buffer);
});

test('what is taken is as long as was asked for, whatever the class', () => {
  const pool = new MessagePool(1024 * KiB);
  for (let bytes = 1; bytes < 300 * KiB; bytes = Math.ceil(bytes * 1.31)) {
    const memory = pool.take(bytes);
    expect(memory.byteLength).toBe(bytes);
    expect(memory.buffer.byteLength).toBeLessThanOrEqual(Math.max(8 * KiB, bytes * 1.25 + 1));
    pool.give(memory);
  }
});

test('two that are out at once never share memory', () => {
  const pool = new MessagePool(1024 * KiB);
  const seen = new Set<ArrayBufferLike>();
  for (let i = 0; i < 8; i++) seen.add(pool.take(64 * KiB).buffer);
  expect(seen.size).toBe(8);
});

test('memory of others is never given out', () => {
  const pool = new MessagePool(1024 * KiB);
  const foreign = Buffer.alloc(64 * KiB);
  pool.give(foreign);
  pool.give(Buffer.alloc(0));
  pool.give(Buffer.from('small'));
  expect(pool.take(64 * KiB).buffer).not.toBe(foreign.buffer);
});

test('no more is kept than the bound', () => {
  const pool = new MessagePool(128 * KiB);
  const taken = Array.from({ length: 4 }, () => pool.take(64 * KiB));
  for (const memory of taken) pool.give(memory);
  const again = Array.from({ length: 4 }, () => pool.take(64 * KiB).buffer);
  expect(again.filter((buffer) => taken.some((memory) => memory.buffer === buffer))).toHaveLength(2);
});
