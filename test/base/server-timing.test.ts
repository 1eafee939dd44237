/** The text of a budget: the numbers in it are those that toFixed gives, and what is optional is left out. */
import { expect, test } from 'vitest';
import { createTimingPrinter } from '../../src/base/server-timing.js';
import { createRandom } from './random-tensor.js';

const print = createTimingPrinter(['a', 'b', 'rare', 'c'], 'rare');
const random = createRandom(7);

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
      const us = Math.floor(random() * 10 ** digits);
      expect(one([], us / 1e3)).toBe(`total;dur=${(us / 1e3).toFixed(3)}`);
    }
  }
  expect(one([], 0.0006)).toBe('total;dur=0.001');
  expect(one([], 0.9996)).toBe('total;dur=1.000');
  expect(one([], 9.9999)).toBe('total;dur=10.000');
  expect(one([], 3.2e10)).toBe('total;dur=32000000000.000');
});

test('what takes less than ten milliseconds is printed like what takes more', () => {
  for (let i = 0; i < 5_000; i++) {
    const scale = [0.01, 1, 3.3, 30][i % 4]!;
    const lengths = [0, 1, 2, 3].map(() => scale * random());
    if (i % 3 > 0) lengths[2] = 0;
    const total = lengths.reduce((sum, ms) => sum + ms, 0);
    const named = Object.entries({ a: lengths[0]!, b: lengths[1]!, rare: lengths[2]!, c: lengths[3]!, total });
    const kept = named.filter(([name, ms]) => name !== 'rare' || ms > 0);
    // As toFixed does, but for halves of a microsecond, which it takes from all the digits there are.
    const text = kept.map(([name, ms]) => `${name};dur=${(Math.round(ms * 1e3) / 1e3).toFixed(3)}`).join(', ');
    expect(print(lengths, total)).toBe(text);
  }
  for (const total of [9.9994, 9.99949999, 9.9995, 9.9999, 10]) {
    const number = (Math.round(total * 1e3) / 1e3).toFixed(3);
    expect(print([total, 0, 0, 0], total)).toBe(`a;dur=${number}, b;dur=0.000, c;dur=0.000, total;dur=${number}`);
  }
});

test('a text is not changed by the next one', () => {
  const first = print([1, 2, 3, 4], 10);
  print([5, 6, 7, 8], 26);
  expect(first).toBe('a;dur=1.000, b;dur=2.000, rare;dur=3.000, c;dur=4.000, total;dur=10.000');
});
