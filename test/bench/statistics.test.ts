import { expect, test } from 'vitest';
import {
  bootstrap,
  createRandom,
  histogramOf,
  mean,
  median,
  percentile,
  percentileIntervals,
} from '../../src/bench/statistics.js';

test.each([
  { numbers: [3], expected: 3 },
  { numbers: [4, 1], expected: 2.5 },
  { numbers: [9, 1, 5], expected: 5 },
  { numbers: [10, 2, 9, 1], expected: 5.5 },
  { numbers: [], expected: Number.NaN },
])('the median of $numbers is $expected', ({ numbers, expected }) => {
  expect(median(numbers)).toBe(expected);
});

test('a median and a percentile leave the samples as they were', () => {
  const samples = new Float64Array([3, 1, 2]);
  median(samples);
  percentile(samples, 50);
  expect([...samples]).toEqual([3, 1, 2]);
});

test.each([
  { percent: 0, expected: 1 },
  { percent: 1, expected: 1 },
  { percent: 50, expected: 50 },
  { percent: 99, expected: 99 },
  { percent: 99.1, expected: 100 },
  { percent: 100, expected: 100 },
])('percentile $percent of 1 to 100 is $expected', ({ percent, expected }) => {
  const samples = Array.from({ length: 100 }, (_, index) => 100 - index);
  expect(percentile(samples, percent)).toBe(expected);
});

test('the mean of nothing is no number', () => {
  expect(mean([])).toBeNaN();
  expect(mean([1, 2, 6])).toBe(3);
});

test('one round has an interval of no width', () => {
  expect(bootstrap([7], ([only]) => only!)).toEqual({ value: 7, low: 7, high: 7 });
});

test('an interval is the same every time, holds its value and is above zero', () => {
  const rounds = [10, 12, 11, 30, 9];
  const first = bootstrap(rounds, median);
  expect(bootstrap(rounds, median)).toEqual(first);
  expect(first.value).toBe(11);
  expect(first.low).toBeGreaterThan(0);
  expect(first.low).toBeLessThan(11);
  expect(first.high).toBeGreaterThan(11);
});

test('one slow round of three does not make an interval absurd', () => {
  const { low, high } = bootstrap([1, 1, 20], median);
  expect(low).toBe(1);
  expect(high).toBeGreaterThan(20);
  expect(high).toBeLessThan(60);
});

test('intervals of many rounds stay within the rounds', () => {
  const rounds = [10, 12, 11, 30, 9, 10, 12, 11, 13, 9, 10, 12, 11, 14, 9, 12];
  const { low, high } = bootstrap(rounds, median);
  expect(low).toBeGreaterThanOrEqual(9);
  expect(high).toBeLessThanOrEqual(30);
});

test.each([2, 3, 4, 5, 8])('the interval of %i rounds covers the truth about 95 times in 100', (count) => {
  const random = createRandom(count);
  // Nearly normal, 10 +- 0.5: rounds that differ by 5 %.
  const round = () => 7 + Array.from({ length: 12 }, random).reduce((sum, value) => sum + value, 0) / 2;
  let covered = 0;
  const repeats = 300;
  for (let repeat = 0; repeat < repeats; repeat++) {
    const { low, high } = bootstrap(Array.from({ length: count }, round), mean);
    if (low <= 10 && 10 <= high) covered++;
  }
  expect(covered / repeats).toBeGreaterThan(0.88);
});

test('rounds that agree give a narrow interval, rounds that differ a wide one', () => {
  const width = (rounds: number[]): number => {
    const { low, high } = bootstrap(rounds, mean);
    return high - low;
  };
  expect(width([10, 10, 10, 10])).toBe(0);
  expect(width([10, 20, 10, 20])).toBeGreaterThan(width([14, 16, 14, 16]));
});

test('the interval of a mean covers the truth about 95 times in 100', () => {
  const random = createRandom(1);
  let covered = 0;
  const repeats = 200;
  for (let repeat = 0; repeat < repeats; repeat++) {
    const rounds = Array.from({ length: 20 }, () => random() + random() + random());
    const { low, high } = bootstrap(rounds, mean);
    if (low <= 1.5 && 1.5 <= high) covered++;
  }
  expect(covered / repeats).toBeGreaterThan(0.85);
  expect(covered / repeats).toBeLessThan(0.995);
});

test('random numbers are spread over the unit interval and differ by seed', () => {
  const draw = (seed: number): number[] => {
    const random = createRandom(seed);
    return Array.from({ length: 10_000 }, random);
  };
  const numbers = draw(1);
  expect(Math.min(...numbers)).toBeGreaterThanOrEqual(0);
  expect(Math.max(...numbers)).toBeLessThan(1);
  expect(mean(numbers)).toBeCloseTo(0.5, 1);
  expect(draw(2).slice(0, 3)).not.toEqual(numbers.slice(0, 3));
});

test('percentiles of rounds are those of all samples together, to a thousandth', () => {
  const rounds = [
    Array.from({ length: 500 }, (_, index) => 0.05 + index / 1000),
    Array.from({ length: 500 }, (_, index) => 100 + index),
  ];
  const [p50, p99] = percentileIntervals(rounds.map(histogramOf), [50, 99]);
  const all = rounds.flat();
  expect(p50!.value / percentile(all, 50)).toBeCloseTo(1, 2);
  expect(p99!.value / percentile(all, 99)).toBeCloseTo(1, 2);
  expect(p50!.low).toBeLessThan(1);
  expect(p50!.high).toBeGreaterThan(100);
});
