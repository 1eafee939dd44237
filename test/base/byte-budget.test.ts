import { expect, test } from 'vitest';
import { BoundedBytes } from '../../src/base/byte-budget.js';

const MIB = 1024 * 1024;

test('reservations add up to the bound and are given back', () => {
  const budget = new BoundedBytes(MIB);
  for (let i = 0; i < 16; i++) expect(budget.reserve(65_536)).toBe(true);
  expect(budget.reserve(1)).toBe(false);
  expect(budget.reservedBytes).toBe(MIB);
  budget.release(65_536);
  expect(budget.reserve(65_536)).toBe(true);
  budget.release(MIB);
  expect(budget.reservedBytes).toBe(0);
});

test('large reservations leave a sixteenth to small ones', () => {
  const budget = new BoundedBytes(16 * MIB);
  expect(budget.reserve(15 * MIB)).toBe(true);
  expect(budget.reserve(65_537)).toBe(false);
  for (let i = 0; i < 16; i++) expect(budget.reserve(65_536)).toBe(true);
  expect(budget.reserve(1)).toBe(false);
});

test('a single request may be larger than the bound, a second one may not', () => {
  const budget = new BoundedBytes(MIB);
  expect(budget.reserve(2 * MIB)).toBe(true);
  expect(budget.reserve(1)).toBe(false);
});

test('giving back more than was taken is a bug that shows', () => {
  expect(() => new BoundedBytes(MIB).release(1)).toThrow(/more bytes released than reserved/);
});
