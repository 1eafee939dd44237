/**
 * What a bench is and how it reports: progress as it goes, and one last line that programs read.
 *
 * Used by `main.ts` and every bench. The last line is `RESULT {"bench": name, "figures": {...}}`, figures in the order of the bench.
 */

export interface BenchOptions {
  /** Shorter runs, for a look; the figures are noisier. */
  readonly quick: boolean;
  /** Where a bench that writes files puts them; each has its own default. */
  readonly out?: string;
  /** Comes when the run is to end early; see {@link Bench.endsEarly}. */
  readonly signal: AbortSignal;
}

export type Figures = Readonly<Record<string, number>>;

export interface Bench {
  readonly name: string;
  /** One sentence: the question that it answers. */
  readonly question: string;
  /** Whether it ends soon when told to and leaves what it has; the others are ended as they are. */
  readonly endsEarly?: boolean;
  run(options: BenchOptions): Promise<Figures>;
}

export { BenchError } from '../src/bench/bench-error.js';

/** One line of progress. */
export function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** The last line. Figures are rounded to three decimals: the noise is far above that. */
export function printResult(bench: string, figures: Figures): void {
  const rounded = Object.fromEntries(
    Object.entries(figures).map(([name, value]) => [name, Math.round(value * 1000) / 1000]),
  );
  say(`RESULT ${JSON.stringify({ bench, figures: rounded })}`);
}
