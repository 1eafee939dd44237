import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { EpochClock } from '../../src/tracing/epoch-clock.js';

beforeEach(() => void vi.useFakeTimers({ toFake: ['performance', 'Date'] }));
afterEach(() => {
  vi.restoreAllMocks();
  vi.useRealTimers();
});

test('a system clock that was set is followed, by the next trace', () => {
  const clock = new EpochClock();
  clock.compare();
  const { offsetMs } = clock;
  clock.compare();
  expect(clock.offsetMs).toBe(offsetMs);
  vi.setSystemTime(Date.now() + 60_000);
  clock.compare();
  expect(clock.offsetMs).toBeCloseTo(offsetMs + 60_000, 3);
});

test('a stop between the two clocks is not taken for one that was set', () => {
  const clock = new EpochClock();
  clock.compare();
  const { offsetMs } = clock;
  const read = Date.now.bind(Date);
  vi.spyOn(Date, 'now').mockImplementation(() => {
    const epochMs = read();
    vi.advanceTimersByTime(300);
    return epochMs;
  });
  clock.compare();
  expect(clock.offsetMs).toBe(offsetMs);
});
