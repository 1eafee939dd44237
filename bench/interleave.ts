/**
 * Compares by turns: A B C, C B A, A B C, ... so that a machine that gets slower or faster does so for all of them.
 *
 * Used by the benches. Knows neither load nor servers: an arm is anything that yields a number. The first rounds warm up and are
 * dropped. A ratio is taken round by round, and its median is the figure.
 */

import { median } from '../src/bench/statistics.js';

/** One thing to measure, again and again. */
export interface Arm<Name extends string> {
  readonly name: Name;
  measure(): Promise<number>;
}

export interface Rounds {
  readonly rounds: number;
  /** Rounds before those, whose numbers are thrown away. */
  readonly warmUp: number;
}

/** The numbers of each arm, round by round. */
export async function interleave<Name extends string>(
  arms: readonly Arm<Name>[],
  { rounds, warmUp }: Rounds,
): Promise<Record<Name, number[]>> {
  const numbers = Object.fromEntries(arms.map(({ name }) => [name, [] as number[]])) as Record<Name, number[]>;
  for (let round = -warmUp; round < rounds; round++) {
    const order = round % 2 === 0 ? arms : [...arms].reverse();
    for (const arm of order) {
      const number = await arm.measure();
      if (round >= 0) numbers[arm.name].push(number);
    }
  }
  return numbers;
}

/** Median over the rounds of a / b. */
export function medianRatio(a: readonly number[], b: readonly number[]): number {
  return median(a.map((number, round) => number / b[round]!));
}

/** Smallest to largest ratio of a round, for people: a wide span says that the machine was noisy. */
export function ratioSpan(a: readonly number[], b: readonly number[]): string {
  const ratios = a.map((number, round) => number / b[round]!);
  return `${Math.min(...ratios).toFixed(2)}-${Math.max(...ratios).toFixed(2)}`;
}
