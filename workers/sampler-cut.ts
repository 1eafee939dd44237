/**
 * Where a set of logits is cut so that the larger ones have a wanted weight together.
 *
 * Called by workers/sampler-candidates.ts. Selection, not sorting: time grows with their number.
 */

/** What the value at the cut is, and how much is wanted of those that equal it. */
export interface Cut {
  readonly value: number;
  /** As a weight; more than all of them where rounding says so. */
  readonly rest: number;
}

/**
 * The first `count` of `values`, each with its weight, are searched from the largest until `wanted` is reached; `wanted` is above 0, `count`
 * too. Reorders both arrays, alike.
 */
export function cutAt(values: Float32Array, weights: Float64Array, count: number, wanted: number): Cut {
  let low = 0;
  let high = count;
  let left = wanted;
  while (high - low > 1) {
    const pivot = median(values[low]!, values[(low + high) >> 1]!, values[high - 1]!);
    // low..larger are above the pivot, larger..at equal it, smaller..high are below.
    let larger = low;
    let smaller = high;
    let largerWeight = 0;
    let equalWeight = 0;
    for (let at = low; at < smaller; ) {
      const value = values[at]!;
      const weight = weights[at]!;
      if (value > pivot) {
        largerWeight += weight;
        values[at] = values[larger]!;
        weights[at++] = weights[larger]!;
        values[larger] = value;
        weights[larger++] = weight;
      } else if (value < pivot) {
        values[at] = values[--smaller]!;
        weights[at] = weights[smaller]!;
        values[smaller] = value;
        weights[smaller] = weight;
      } else {
        equalWeight += weight;
        at++;
      }
    }
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
