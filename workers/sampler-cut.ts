/**
 * Where a set of logits is cut so that the larger ones have a wanted number, or a wanted part of the probability.
 *
 * Called by workers/sampler-draw.ts with the values of one bucket. Reorders them. Selection, not sorting: time grows with their number.
 */
import { exponential } from './sampler-exponential.js';

/** What the value at the cut is, and how much is wanted of those that equal it. */
export interface Cut {
  value: number;
  /** In the unit that was asked for; more than all of them where rounding says so. */
  rest: number;
}

/** How much a value weighs: `count` each counts 1, `mass` each counts e^((value - max) / temperature). */
export type Weight = { readonly by: 'count' } | { readonly by: 'mass'; readonly max: number; readonly inverse: number };

export const weightOf = (weight: Weight, value: number): number =>
  weight.by === 'count' ? 1 : exponential((value - weight.max) * weight.inverse);

/** The first `count` of `values` are searched, from the largest, until `wanted` is reached; `wanted` is above 0, `count` too. */
export function cutAt(values: Float32Array, count: number, wanted: number, weight: Weight): Cut {
  let low = 0;
  let high = count;
  let left = wanted;
  while (high - low > 1) {
    const pivot = median(values[low]!, values[(low + high) >> 1]!, values[high - 1]!);
    // low..larger are above the pivot, larger..at equal it, smaller..high are below.
    let larger = low;
    let smaller = high;
    let largerWeight = 0;
    for (let at = low; at < smaller; ) {
      const value = values[at]!;
      if (value > pivot) {
        largerWeight += weightOf(weight, value);
        values[at++] = values[larger]!;
        values[larger++] = value;
      } else if (value < pivot) {
        values[at] = values[--smaller]!;
        values[smaller] = value;
      } else at++;
    }
    const equalWeight = (smaller - larger) * weightOf(weight, pivot);
    if (left <= largerWeight && larger > low) high = larger;
    else if (left <= largerWeight + equalWeight || smaller === high)
      return { value: pivot, rest: Math.max(0, left - largerWeight) };
    else {
      left -= largerWeight + equalWeight;
      low = smaller;
    }
  }
  return { value: values[low]!, rest: left };
}

const median = (a: number, b: number, c: number): number => Math.max(Math.min(a, b), Math.min(Math.max(a, b), c));
