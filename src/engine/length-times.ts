/**
 * What one model's batches of text have taken to compute, by their number of tokens, padding included: four rows of 512 tokens take
 * far longer than four of 8, so that rows alone would say nothing.
 *
 * Called by compute times, which have one for each model, the scheduler and lateness. Owns a few numbers per size: sizes are classes,
 * two to a doubling.
 */

/** Weight of the newest observation: the last ten or so count. */
const NEWEST = 0.2;
/** As in compute-times.ts: after 17 refusals a tenth of the trust is left. */
const TRUST_AFTER_REFUSAL = 7 / 8;

interface Seen {
  /** Moving average. */
  averageMs: number;
  fastestMs: number;
  /** Tokens of the fastest run. */
  fastestTokens: number;
}

export class LengthTimes {
  /** By class; holes where none was run. */
  readonly #seen: (Seen | undefined)[] = [];
  #trust = 1;

  observe(tokens: number, ms: number): void {
    const size = classOf(tokens);
    const seen = this.#seen[size];
    if (!seen) {
      this.#seen[size] = { averageMs: ms, fastestMs: ms, fastestTokens: tokens };
    } else {
      seen.averageMs += NEWEST * (ms - seen.averageMs);
      if (ms < seen.fastestMs) {
        seen.fastestMs = ms;
        seen.fastestTokens = tokens;
      }
    }
    this.#trust = 1;
  }

  /** A request was refused because of {@link fastestMs}; what is never run teaches nothing, so the next is less likely. */
  doubt(): void {
    this.#trust *= TRUST_AFTER_REFUSAL;
  }

  /** Expected milliseconds for a batch of `tokens`: of its size, else the next larger, else scaled from the next smaller; 0 while nothing was seen. */
  estimateMs(tokens: number): number {
    const size = classOf(tokens);
    for (let larger = size; larger < this.#seen.length; larger++) {
      const seen = this.#seen[larger];
      if (seen) return seen.averageMs;
    }
    for (let smaller = Math.min(size, this.#seen.length) - 1; smaller >= 0; smaller--) {
      const seen = this.#seen[smaller];
      if (seen) return seen.averageMs * 2 ** ((size - smaller) / 2);
    }
    return 0;
  }

  /**
   * The shortest run of at most `tokens`, in milliseconds, as far as it is trusted: so many are not answered sooner. 0 while nothing so
   * short was seen: how long long texts take says nothing of a short one.
   */
  fastestMs(tokens: number): number {
    let fastestMs = Number.POSITIVE_INFINITY;
    for (let size = Math.min(classOf(tokens), this.#seen.length - 1); size >= 0; size--) {
      const seen = this.#seen[size];
      if (seen && seen.fastestTokens <= tokens) fastestMs = Math.min(fastestMs, seen.fastestMs);
    }
    return fastestMs === Number.POSITIVE_INFINITY ? 0 : fastestMs * this.#trust;
  }
}

function classOf(tokens: number): number {
  return tokens <= 1 ? 0 : Math.ceil(2 * Math.log2(tokens));
}
