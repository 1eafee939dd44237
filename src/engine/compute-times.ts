/**
 * What one model's batches have taken to compute, by batch size: the batcher's knowledge of how long a dispatch will last.
 *
 * Called by the scheduler (observe) and the batcher (estimate). Owns a few numbers per batch size. Batches of text are counted apart,
 * by tokens (length-times.ts).
 */
import { LengthTimes } from './length-times.js';

/** Weight of the newest observation: the last ten or so count. */
const NEWEST = 0.2;
/** Trust in the fastest run after each refusal for its sake: after 17 of them a tenth is left. */
const TRUST_AFTER_REFUSAL = 7 / 8;

export class ComputeTimes {
  /** Of batches of text. */
  readonly text = new LengthTimes();
  /** Moving average in milliseconds by rows; holes where a size was never run. */
  readonly #averageMs: number[] = [];
  #fastestMs = Number.POSITIVE_INFINITY;
  #trust = 1;

  /** A batch of `rows` took `ms`; `longest` as in batch-plan.ts. */
  observe(rows: number, longest: number, ms: number): void {
    if (longest > 0) {
      this.text.observe(rows * longest, ms);
      return;
    }
    const average = this.#averageMs[rows];
    this.#averageMs[rows] = average === undefined ? ms : average + NEWEST * (ms - average);
    if (ms < this.#fastestMs) this.#fastestMs = ms;
    this.#trust = 1;
  }

  /**
   * A request was refused because of {@link fastestMs}. A first run is often far slower than those that follow, and what is never run
   * teaches nothing: so each refusal makes the next less likely, until one of them is tried and measured.
   */
  doubt(): void {
    this.#trust *= TRUST_AFTER_REFUSAL;
  }

  /** Expected milliseconds for a batch of `rows`; from the nearest size that was seen, larger first; 0 while nothing was. */
  estimateMs(rows: number, longest: number): number {
    if (longest > 0) return this.text.estimateMs(rows * longest);
    const exact = this.#averageMs[rows];
    if (exact !== undefined) return exact;
    for (let larger = rows + 1; larger < this.#averageMs.length; larger++) {
      const average = this.#averageMs[larger];
      if (average !== undefined) return average;
    }
    for (let smaller = Math.min(rows, this.#averageMs.length) - 1; smaller > 0; smaller--) {
      const average = this.#averageMs[smaller];
      // Rows at worst cost as much as they did apart.
      if (average !== undefined) return (average * rows) / smaller;
    }
    return 0;
  }

  /** The shortest run seen, in milliseconds, as far as it is trusted: no request is answered sooner. 0 while nothing was seen. */
  get fastestMs(): number {
    return this.#fastestMs === Number.POSITIVE_INFINITY ? 0 : this.#fastestMs * this.#trust;
  }
}
