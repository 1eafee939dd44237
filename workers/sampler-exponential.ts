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

/** log of the sum of e^value over a row, NaN left out; `max` is its largest value. */
export function logSumExponential(row: Float32Array, max: number): number {
  if (max === Number.POSITIVE_INFINITY || max === Number.NEGATIVE_INFINITY) return max;
  let sum = 0;
  for (let i = 0; i < row.length; i++) {
    const x = row[i]! - max;
    if (x >= LOWEST) sum += exponential(x);
  }
  return max + Math.log(sum);
}
