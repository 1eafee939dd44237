/** What a model is taken to cost, by what was seen while it loaded. */
import { expect, test } from 'vitest';
import { LoadCost } from '../../src/engine/load-cost.js';

test('before the first load the files say it, with something on top', () => {
  expect(new LoadCost().expected(100)).toBeCloseTo(120);
});

test('sessions cost what the process grew by for each', () => {
  const cost = new LoadCost();
  expect(cost.measured(100, [60, 60])).toBe(120);
  expect(cost.expected(100)).toBe(120);
});

test('a model costs its weights at least, also where its sessions live in memory that was kept', () => {
  const cost = new LoadCost();
  expect(cost.measured(100, [0, -5])).toBe(100);
  expect(cost.expected(100)).toBe(100);
});

test('what others took in the moment of one session is not this model', () => {
  const cost = new LoadCost();
  expect(cost.measured(100, [5000, 60])).toBe(120);
  expect(cost.measured(100, [60, 7000])).toBe(120);
});

test('a first measure that was disturbed is mended by the next load', () => {
  const cost = new LoadCost();
  expect(cost.measured(100, [9000])).toBe(9000);
  expect(cost.measured(100, [110])).toBe(110);
});

test('a model that has grown costs more after some loads', () => {
  const cost = new LoadCost();
  for (let load = 0; load < 20; load++) cost.measured(100, [110]);
  let bytes = 0;
  for (let load = 0; load < 5; load++) bytes = cost.measured(100, [300]);
  expect(bytes).toBe(300);
});

test('nothing measured: the files say it', () => {
  expect(new LoadCost().measured(100, [])).toBe(100);
});
