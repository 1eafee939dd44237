/**
 * Figures of samples and of rounds: medians, percentiles, bootstrap intervals that come out the same every time.
 *
 * Called by the load processes and by whoever makes results of rounds. Pure.
 */
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks';
import type { Interval } from './results.js';

/** NaN of nothing. */
export function median(numbers: ArrayLike<number>): number {
  const sorted = Float64Array.from(numbers).sort();
  if (sorted.length === 0) return Number.NaN;
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** NaN of nothing. */
export function mean(numbers: ArrayLike<number>): number {
  let sum = 0;
  for (let index = 0; index < numbers.length; index++) sum += numbers[index]!;
  return sum / numbers.length;
}

/** The smallest sample that at least `percent` of all samples don't pass; NaN of nothing. */
export function percentile(samples: ArrayLike<number>, percent: number): number {
  const sorted = Float64Array.from(samples).sort();
  if (sorted.length === 0) return Number.NaN;
  return sorted[Math.max(0, Math.ceil((percent / 100) * sorted.length) - 1)]!;
}

/** The sample that the share `q` of all samples lies below, the largest at most: of an even number the upper one in the middle. */
export function quantile(samples: ArrayLike<number>, q: number): number {
  const sorted = Float64Array.from(samples).sort();
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))]!;
}

/** Draws of rounds behind one interval: its ends move by less than the rounds do. */
const DRAWS = 400;
const LOW = 0.025;
const HIGH = 0.975;

/**
 * 95 % interval of `figure` over rounds: drawn with replacement as often as there are rounds, the same draws every time, then stretched
 * by what few rounds leave out. `figure` is positive.
 */
export function bootstrap<Round>(rounds: readonly Round[], figure: (drawn: readonly Round[]) => number): Interval {
  return bootstrapAll(rounds, (drawn) => [figure(drawn)])[0]!;
}

/** {@link bootstrap} of several figures that are made together. */
export function bootstrapAll<Round>(
  rounds: readonly Round[],
  figures: (drawn: readonly Round[]) => readonly number[],
): readonly Interval[] {
  const all = figures(rounds);
  if (rounds.length < 2) return all.map((value) => ({ value, low: value, high: value }));
  const random = createRandom(SEED);
  const drawn: Round[] = [...rounds];
  const draws = all.map(() => new Float64Array(DRAWS));
  for (let draw = 0; draw < DRAWS; draw++) {
    for (let index = 0; index < drawn.length; index++) drawn[index] = rounds[Math.floor(random() * rounds.length)]!;
    for (const [which, value] of figures(drawn).entries()) draws[which]![draw] = value;
  }
  return all.map((value, which) => {
    const sorted = draws[which]!.sort();
    // The figure of all rounds may lie outside what few draws give; an interval without its value would be nonsense.
    const low = Math.min(value, sorted[Math.floor(LOW * (DRAWS - 1))]!);
    const high = Math.max(value, sorted[Math.ceil(HIGH * (DRAWS - 1))]!);
    return stretched({ value, low, high }, rounds.length);
  });
}

/** Student's t at 97.5 %, for one degree of freedom, two, ...; beyond those it is as good as the normal distribution's. */
const STUDENT_T = [12.71, 4.3, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.2, 2.18, 2.16, 2.14];
const NORMAL = 1.96;

/**
 * Rounds drawn of few rounds differ less than rounds do, and of two they hardly say how much: without this, intervals of two rounds hold
 * the truth one time in two. Downwards as a factor, since no time is below zero; upwards not, or one slow round would make it absurd.
 */
function stretched({ value, low, high }: Interval, rounds: number): Interval {
  const t = STUDENT_T[rounds - 2];
  if (t === undefined || !(low > 0)) return { value, low, high };
  const by = (t / NORMAL) * Math.sqrt(rounds / (rounds - 1));
  return { value, low: value * (low / value) ** by, high: value + (high - value) * by };
}

const SEED = 0x7e57;

/** Numbers in [0, 1), the same for the same seed (mulberry32's mixing). */
export function createRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 0x1_0000_0000;
  };
}

/** A microsecond to ten minutes, three digits: far below a latency's noise, and fewer counts add faster, some 10,000 times a cell. */
const RANGE = { lowest: 1000, highest: 600_000_000_000, figures: 3 };

/** Latencies of one round, ready to be put together with others'. */
export function histogramOf(latenciesMs: ArrayLike<number>): RecordableHistogram {
  const histogram = createHistogram(RANGE);
  for (let index = 0; index < latenciesMs.length; index++) {
    histogram.record(Math.min(RANGE.highest, Math.max(1, Math.round(latenciesMs[index]! * 1e6))));
  }
  return histogram;
}

/** Percentiles of all rounds' latencies together with their intervals, in milliseconds. */
export function percentileIntervals(
  rounds: readonly RecordableHistogram[],
  percents: readonly number[],
): readonly Interval[] {
  const together = createHistogram(RANGE);
  return bootstrapAll(rounds, (drawn) => {
    together.reset();
    for (const round of drawn) together.add(round);
    return percents.map((percent) => together.percentile(percent) / 1e6);
  });
}
