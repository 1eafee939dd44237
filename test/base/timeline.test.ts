import { expect, test } from 'vitest';
import { PHASES, Timeline } from '../../src/base/timeline.js';

function timelineOf(stamps: Partial<Timeline>): Timeline {
  return Object.assign(new Timeline(100), stamps);
}

const FULL = {
  lastByte: 101,
  decoded: 103,
  admitted: 106,
  queued: 107,
  dispatched: 110,
  computeStart: 115,
  firstToken: 117,
  computeEnd: 121,
  scattered: 128,
  encoded: 136,
};

test('each phase ends at its stamp and they add up to the whole', () => {
  const phases = timelineOf(FULL).phases();
  expect(phases).toEqual([1, 2, 3, 1, 3, 5, 2, 4, 7, 8]);
  expect(phases).toHaveLength(PHASES.length);
});

test('a step that did not happen has no length, and the sum still holds', () => {
  expect(timelineOf({ lastByte: 101, decoded: 103, encoded: 104 }).phases()).toEqual([1, 2, 0, 0, 0, 0, 0, 0, 0, 1]);
});

test('a stamp of another thread that seems earlier never makes a phase negative', () => {
  const phases = timelineOf({ ...FULL, computeStart: 109 }).phases();
  expect(phases.every((length) => length >= 0)).toBe(true);
  expect(phases.reduce((a, b) => a + b)).toBe(36);
});

test('the header follows the Server-Timing grammar and ends in the total', () => {
  const text = timelineOf(FULL).serverTiming();
  expect(text).toMatch(/^(\w+;dur=\d+\.\d{3}, ){10}total;dur=36\.000$/);
});

test('only generated text has a prefill in its header', () => {
  expect(timelineOf({ ...FULL, firstToken: 0 }).serverTiming()).not.toContain('prefill');
  expect(timelineOf(FULL).serverTiming()).toContain('dispatch;dur=5.000, prefill;dur=2.000, compute;dur=4.000');
});
