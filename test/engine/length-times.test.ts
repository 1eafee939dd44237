import { expect, test } from 'vitest';
import { LengthTimes } from '../../src/engine/length-times.js';

test('nothing is expected of a model that never ran', () => {
  const times = new LengthTimes();
  expect([times.estimateMs(100), times.fastestMs(100)]).toEqual([0, 0]);
});

test('an estimate is of about as many tokens, else of the next more, else scaled from fewer', () => {
  const times = new LengthTimes();
  times.observe(64, 10);
  times.observe(2048, 300);
  expect(times.estimateMs(60)).toBe(10);
  expect(times.estimateMs(500)).toBe(300);
  expect(times.estimateMs(4)).toBe(10);
  expect(times.estimateMs(8192)).toBe(1200);
});

test('an estimate follows what is newest', () => {
  const times = new LengthTimes();
  times.observe(100, 10);
  times.observe(100, 20);
  expect(times.estimateMs(100)).toBe(12);
});

test('how long long texts take is no reason to refuse a short one', () => {
  const times = new LengthTimes();
  times.observe(512, 100);
  expect(times.fastestMs(4)).toBe(0);
  expect(times.fastestMs(511)).toBe(0);
  expect(times.fastestMs(512)).toBe(100);
  times.observe(8, 3);
  expect([times.fastestMs(4), times.fastestMs(8), times.fastestMs(600)]).toEqual([0, 3, 3]);
});

test('each refusal makes the next less likely, until one is tried', () => {
  const times = new LengthTimes();
  times.observe(8, 500);
  for (let i = 0; i < 20; i++) times.doubt();
  expect(times.fastestMs(8)).toBeLessThan(50);
  times.observe(8, 400);
  expect(times.fastestMs(8)).toBe(400);
});
