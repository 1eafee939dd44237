/** The text of a budget: the numbers in it are those that toFixed gives, and what is optional is left out. */
import { expect, test } from 'vitest';
import { createTimingPrinter } from '../../src/base/server-timing.js';

const print = createTimingPrinter(['a', 'b', 'rare', 'c'], 'rare');

test('every length has its name and three decimals, the total comes last', () => {
  expect(print([0, 1.5, 0.25, 12], 13.75)).toBe(
    'a;dur=0.000, b;dur=1.500, rare;dur=0.250, c;dur=12.000, total;dur=13.750',
  );
});

test('the optional one is left out where it is zero, and only that', () => {
  expect(print([0, 0, 0, 0], 0)).toBe('a;dur=0.000, b;dur=0.000, c;dur=0.000, total;dur=0.000');
});

test('numbers are rounded to the microsecond, from nothing to a year', () => {
  const one = createTimingPrinter([], '');
  for (let digits = 0; digits < 11; digits++) {
    for (let i = 0; i < 500; i++) {
      const us = Math.floor(Math.random() * 10 ** digits);
      expect(one([], us / 1e3)).toBe(`total;dur=${(us / 1e3).toFixed(3)}`);
    }
  }
  expect(one([], 0.0006)).toBe('total;dur=0.001');
  expect(one([], 0.9996)).toBe('total;dur=1.000');
  expect(one([], 9.9999)).toBe('total;dur=10.000');
  expect(one([], 3.2e10)).toBe('total;dur=32000000000.000');
});

test('a text is not changed by the next one', () => {
  const first = print([1, 2, 3, 4], 10);
  print([5, 6, 7, 8], 26);
  expect(first).toBe('a;dur=1.000, b;dur=2.000, rare;dur=3.000, c;dur=4.000, total;dur=10.000');
});
