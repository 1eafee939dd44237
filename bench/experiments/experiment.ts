/**
 * What an experiment is, and how it measures: arms by turns, medians over the rounds.
 *
 * Used by every file of this folder. An experiment asks one question of a claim; it gets servers from the lab, clients from
 * `callers.ts`, and returns figures by name. It judges nothing: that is `bench/claims/`.
 */
import type { ExperimentResult } from '../../src/bench/results.js';
import { createRandom, median } from '../../src/bench/statistics.js';
import type { Lab } from './lab.js';

export interface ExperimentContext {
  /** Fewer rounds; the figures are noisier. */
  readonly quick: boolean;
  readonly lab: Lab;
  /** One line of progress. */
  say(line: string): void;
}

export type Experiment = (context: ExperimentContext) => Promise<ExperimentResult>;

export type Sample = Readonly<Record<string, number>>;

export interface Turns {
  readonly rounds: number;
  /** The arms are warm: no first round that is dropped. */
  readonly warm?: boolean;
  /** An arm that the others are compared with, round by round: a machine that is busy for a while is so for both. */
  readonly against?: string;
}

/**
 * Measures each arm once a round, in turns (A B C, C B A, ...). The median over the rounds of each figure of each arm, as `arm_figure`,
 * and of its ratio to that of the arm it is compared with, as `arm_over_other_figure`.
 */
export async function byTurns(
  arms: Readonly<Record<string, () => Promise<Sample>>>,
  { rounds, warm = false, against }: Turns,
): Promise<Record<string, number>> {
  const names = Object.keys(arms);
  const measured: Record<string, Sample>[] = [];
  for (let round = warm ? 0 : -1; round < rounds; round++) {
    const samples: Record<string, Sample> = {};
    for (const name of round % 2 === 0 ? names : [...names].reverse()) samples[name] = await arms[name]!();
    if (round >= 0) measured.push(samples);
  }
  const figures: Record<string, number> = {};
  for (const name of names) {
    for (const figure of Object.keys(measured[0]![name]!)) {
      figures[`${name}_${figure}`] = median(measured.map((samples) => samples[name]![figure]!));
      if (against === undefined || against === name || measured[0]![against]![figure] === undefined) continue;
      const ratios = measured.map((samples) => samples[name]![figure]! / samples[against]![figure]!);
      figures[`${name}_over_${against}_${figure}`] = median(ratios);
    }
  }
  return figures;
}

/** Keeps V8 from leaving out work whose result nobody looks at. */
let kept: unknown;

/** Milliseconds that one call takes when it is called over and over for about `forMs`, and the collector with it. */
export function timeOf(work: () => unknown, forMs: number): number {
  let calls = 0;
  const began = performance.now();
  let elapsed = 0;
  do {
    kept = work();
    calls++;
    elapsed = performance.now() - began;
  } while (elapsed < forMs);
  return elapsed / calls;
}

/** As timeOf, but in milliseconds of CPU, whatever else keeps the machine busy; other threads of this process must be idle. */
export function cpuTimeOf(work: () => unknown, forMs: number): number {
  let calls = 0;
  const before = process.cpuUsage();
  const began = performance.now();
  do {
    kept = work();
    calls++;
  } while (performance.now() - began < forMs);
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000 / calls;
}

/** What was returned last; there so that it is read somewhere. */
export function lastResult(): unknown {
  return kept;
}

/** Standard normal numbers, the same in every run: what `np.random.randn` gives the article's script. */
export function randomNormal(count: number, seed = 1): Float64Array {
  const uniform = createRandom(seed);
  // Box and Muller's.
  return Float64Array.from({ length: count }, () => {
    const radius = Math.sqrt(-2 * Math.log(1 - uniform()));
    return radius * Math.cos(2 * Math.PI * uniform());
  });
}
