import { expect, test } from 'vitest';
import { ComputeTimes } from '../../src/engine/compute-times.js';

test('nothing is expected of a model that never ran', () => {
  const times = new ComputeTimes();
  expect([times.estimateMs(1, 0), times.fastestMs]).toEqual([0, 0]);
});

test('an estimate is of the same size, else of the next larger, else scaled from the next smaller', () => {
  const times = new ComputeTimes();
  times.observe(2, 0, 10);
  times.observe(8, 0, 24);
  expect([times.estimateMs(2, 0), times.estimateMs(4, 0), times.estimateMs(1, 0), times.estimateMs(16, 0)]).toEqual([
    10, 24, 10, 48,
  ]);
});

test('an estimate follows what is newest without forgetting the rest', () => {
  const times = new ComputeTimes();
  times.observe(1, 0, 10);
  times.observe(1, 0, 20);
  expect(times.estimateMs(1, 0)).toBe(12);
  for (let i = 0; i < 100; i++) times.observe(1, 0, 20);
  expect(times.estimateMs(1, 0)).toBeCloseTo(20, 3);
});

test('a model that was slow for a while is tried again', () => {
  const times = new ComputeTimes();
  times.observe(1, 0, 500);
  let refused = 0;
  for (; times.fastestMs > 50; refused++) times.doubt();
  expect(refused).toBeLessThan(60);
  times.observe(1, 0, 400);
  expect(times.fastestMs).toBe(400);
});
