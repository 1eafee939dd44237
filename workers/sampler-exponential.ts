/**
 * e to the power of what is not positive, several times as fast as Math.exp: a vocabulary has 150,000 entries, and every token may need
 * the sum over all of them.
 *
 * Called by the other files of the sampler. Pure; relative error below 1e-12, the same on every machine.
 */

/** 2^(1/STEPS) is what one step of the table stands for. */
const STEPS = 128;
const STEP_BITS = 7;
/** e^x is taken for zero below; nothing is added up here that would see it. */
const LOWEST = -700;

const fractions = Float64Array.from({ length: STEPS }, (_, i) => 2 ** (i / STEPS));
const powers = Float64Array.from({ length: 1024 }, (_, i) => 2 ** -i);
const STEPS_PER_UNIT = STEPS / Math.LN2;
const UNITS_PER_STEP = Math.LN2 / STEPS;

/** `x` is at most 0 and no NaN. */
export function exponential(x: number): number {
  if (x < LOWEST) return 0;
  const steps = x * STEPS_PER_UNIT;
  // Towards zero; what remains is in (-1, 0].
  const whole = steps | 0;
  const rest = (steps - whole) * UNITS_PER_STEP;
  const series = 1 + rest * (1 + rest * (0.5 + rest * (1 / 6 + rest * (1 / 24))));
  return fractions[whole & (STEPS - 1)]! * powers[-(whole >> STEP_BITS)]! * series;
}

/** `falling` is for less than this and a little more. */
export const REACH = 63;
const FINE_BITS = 8;
const PARTS = 4096;
const coarse = Float64Array.from({ length: PARTS / 4 }, (_, i) => Math.exp((-i * 2 ** FINE_BITS) / PARTS));
const fine = Float64Array.from({ length: 2 ** FINE_BITS }, (_, i) => Math.exp(-i / PARTS));

/** e^-x for x from 0 to REACH: as exact as Math.exp, what is left behind two tables being so small. */
export function falling(x: number): number {
  const part = (x * PARTS) | 0;
  const rest = x - part / PARTS;
  return (
    coarse[part >> FINE_BITS]! * fine[part & (2 ** FINE_BITS - 1)]! * (1 - rest * (1 - rest * (0.5 - rest * (1 / 6))))
  );
}

/** The sum of e^((value - max) * inverse) over those of a part of the row that are not below `lowest`, nor more than REACH from `max` by it. */
export function sumOfFalling(
  row: Float32Array,
  from: number,
  to: number,
  max: number,
  inverse: number,
  lowest: number,
): number {
  let sum = 0;
  for (let i = from; i < to; i++) {
    const value = row[i]!;
    // NaN is in none.
    if (value >= lowest) sum += falling((max - value) * inverse);
  }
  return sum;
}

/** log of the sum of e^value over a row, NaN left out; `max` is its largest value. What is REACH below it does not change the sum. */
export function logSumExponential(row: Float32Array, max: number): number {
  if (max === Number.POSITIVE_INFINITY || max === Number.NEGATIVE_INFINITY) return max;
  return max + Math.log(sumOfFalling(row, 0, row.length, max, 1, max - REACH));
}
