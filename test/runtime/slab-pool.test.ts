import { expect, test } from 'vitest';
import { aligned, SlabPool, sizeClass } from '../../src/runtime/slab-pool.js';

function pool(maxBytes: number) {
  const events: string[] = [];
  const slabs = new SlabPool({
    maxBytes,
    poison: true,
    onCreate: (slab, buffer) => events.push(`+${slab}:${buffer.byteLength}`),
    onDrop: (slab) => events.push(`-${slab}`),
  });
  return { slabs, events };
}

const KiB = 1024;

test('a size class holds what is asked for and wastes at most a quarter', () => {
  for (let bytes = 1; bytes < 2 ** 31; bytes = Math.ceil(bytes * 1.37)) {
    const size = sizeClass(bytes);
    expect(size).toBeGreaterThanOrEqual(bytes);
    expect(size).toBeLessThanOrEqual(Math.max(64 * KiB, bytes * 1.25 + 1));
    expect(size % 64).toBe(0);
  }
});

test('tensors start at multiples of 64 bytes', () => {
  expect([0, 1, 64, 65].map(aligned)).toEqual([0, 64, 64, 128]);
});

test('a released slab is used again, without a new one', () => {
  const { slabs, events } = pool(1024 * KiB);
  const first = slabs.acquire(100)!;
  slabs.release(first);
  expect(slabs.acquire(50)!.slab).toBe(first.slab);
  expect(events).toEqual([`+0:${64 * KiB}`]);
});

test('released memory is poisoned when asked', () => {
  const { slabs } = pool(64 * KiB);
  const lease = slabs.acquire(10)!;
  lease.bytes[3] = 7;
  slabs.release(lease);
  expect(slabs.acquire(10)!.bytes[3]).toBe(0xdd);
});

test('at the bound a lease is refused until another comes back', () => {
  const { slabs } = pool(128 * KiB);
  const a = slabs.acquire(64 * KiB)!;
  const b = slabs.acquire(64 * KiB)!;
  expect(slabs.acquire(1)).toBeUndefined();
  slabs.release(a);
  expect(slabs.acquire(1)).toBeDefined();
  expect(b.slab).not.toBe(a.slab);
});

test('free slabs of other sizes make room', () => {
  const { slabs, events } = pool(128 * KiB);
  slabs.release(slabs.acquire(1)!);
  const big = slabs.acquire(100 * KiB)!;
  expect(big.bytes.byteLength).toBe(112 * KiB);
  expect(events).toEqual([`+0:${64 * KiB}`, '-0', `+1:${112 * KiB}`]);
  expect(slabs.totalBytes).toBe(112 * KiB);
});

test('what never fits is known before it waits', () => {
  const { slabs } = pool(128 * KiB);
  expect(slabs.fits(128 * KiB)).toBe(true);
  expect(slabs.fits(128 * KiB + 1)).toBe(false);
  expect(slabs.acquire(128 * KiB + 1)).toBeUndefined();
});

test('releasing twice is a bug that is told', () => {
  const { slabs } = pool(64 * KiB);
  const lease = slabs.acquire(1)!;
  slabs.release(lease);
  expect(() => slabs.release(lease)).toThrow('slab 0 released twice');
});
