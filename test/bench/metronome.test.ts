import { expect, test } from 'vitest';
import { createMetronome } from '../../src/bench/metronome.js';

test.each([5, 0.05])('beats every %d ms are never early, and the last one comes', async (intervalMs) => {
  const metronome = await createMetronome();
  const count = 20;
  const startMs = performance.now() + 5;
  let due = 0;
  let beats = 0;
  await new Promise<void>((resolve) => {
    metronome.beat({
      startMs,
      intervalMs,
      count,
      onBeat: () => {
        beats++;
        while (due < count && startMs + due * intervalMs <= performance.now()) due++;
        // Of beats that come in time each finds its own due; late ones may have been counted with those before.
        expect(due).toBeGreaterThanOrEqual(Math.min(count, beats));
        if (due === count) resolve();
      },
    });
  });
  expect(due).toBe(count);
});

test('a beat that was stopped says nothing more, and another one takes its place', async () => {
  const metronome = await createMetronome();
  const heard: string[] = [];
  const beat = (name: string, until: number, resolve: () => void): (() => void) =>
    metronome.beat({
      startMs: performance.now(),
      intervalMs: 2,
      count: 1000,
      onBeat: () => {
        heard.push(name);
        if (heard.filter((each) => each === name).length === until) resolve();
      },
    });
  let stopFirst = (): void => undefined;
  await new Promise<void>((resolve) => {
    stopFirst = beat('first', 3, resolve);
  });
  stopFirst();
  const before = heard.length;
  await new Promise<void>((resolve) => {
    beat('second', 5, resolve);
  });
  expect(new Set(heard.slice(before))).toEqual(new Set(['second']));
});
