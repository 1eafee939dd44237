/**
 * When two figures are different, and when their difference may be chance or is too small to choose by.
 *
 * Called by the verdict. Pure.
 */
import { isFigure } from './figures.js';
import type { Interval } from './results.js';

/** Differences up to this are not worth a choice, however certain: no two machines agree that well. */
const SMALL = 0.03;
/** One round has no interval, so a difference has to be large to be believed. */
const SMALL_IN_ONE_ROUND = 0.1;

/** Whether `a` is lower than `b` by more than noise: their 95 % intervals apart, and the difference worth a choice. */
export function clearlyLower(a: Interval, b: Interval, rounds: number): boolean {
  const margin = rounds > 1 ? SMALL : SMALL_IN_ONE_ROUND;
  // What could not be had is not lower than anything.
  if (![a.value, a.high, b.value, b.low].every(isFigure)) return false;
  return a.high < b.low && b.value - a.value > margin * Math.abs(b.value);
}

/** Whether neither is clearly lower. */
export function withinNoise(a: Interval, b: Interval, rounds: number): boolean {
  return !clearlyLower(a, b, rounds) && !clearlyLower(b, a, rounds);
}
