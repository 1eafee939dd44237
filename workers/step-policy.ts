/**
 * How much of a prompt is worked on between two decode steps: bounded by time, so that streams that run don't stutter.
 *
 * Called by workers/token-stream.ts. Arithmetic only: it is told what runs took, and looks at no clock. A prefill run of n tokens takes
 * about `fixed + n * perToken`; both are learned, since they differ by a factor of a thousand between models.
 */

/** Fewer tokens than this aren't worth a run, whatever it takes. */
export const LEAST_CHUNK = 8;
/** Tokens of a first run, from which the rest is learned. */
export const FIRST_CHUNK = 32;
/** A chunk may take this many decode steps: gaps between tokens become (1 + this) times as long then. */
const STEPS_PER_CHUNK = 1.25;
/** A rest that is this much longer than a chunk goes with it: another run would cost more than it saves. */
const REST = 1.25;
/** What a run still weighs after the next one. */
const DECAY = 0.9;
const DECODE_SHARE = 0.2;
/** Times the average as which a step counts at most. */
const HELD_UP = 2;
/** Squared deviation of the runs' lengths, in squared means, below which a line through them says nothing. */
const LEAST_SPREAD = 0.05;

/** What runs took lately. */
export class RunTimes {
  #decodeMs = 0;
  // Sums for the line through (tokens, milliseconds) of prefill runs, older ones weighing less.
  #weight = 0;
  #tokens = 0;
  #ms = 0;
  #tokensSquared = 0;
  #tokensMs = 0;

  /** Of one decode step, moving average; 0 before the first. */
  get decodeMs(): number {
    return this.#decodeMs;
  }

  decoded(ms: number): void {
    const average = this.#decodeMs;
    // A step during which the thread had no core says nothing of steps.
    this.#decodeMs = average === 0 ? ms : average + DECODE_SHARE * (Math.min(ms, HELD_UP * average) - average);
  }

  prefilled(tokens: number, ms: number): void {
    this.#weight = this.#weight * DECAY + 1;
    this.#tokens = this.#tokens * DECAY + tokens;
    this.#ms = this.#ms * DECAY + ms;
    this.#tokensSquared = this.#tokensSquared * DECAY + tokens * tokens;
    this.#tokensMs = this.#tokensMs * DECAY + tokens * ms;
  }

  /** Tokens that a prefill run gets done in `ms`; may be less than 1, undefined before the first run. */
  tokensWithin(ms: number): number | undefined {
    if (this.#weight === 0) return undefined;
    const mean = this.#tokens / this.#weight;
    const spread = this.#tokensSquared / this.#weight - mean * mean;
    const together = this.#tokensMs / this.#weight - mean * (this.#ms / this.#weight);
    const perToken = together / spread;
    const fixed = this.#ms / this.#weight - perToken * mean;
    // Runs of one length, or noise: what a token took, all told. Repeated, that finds the right length too.
    if (!(spread >= LEAST_SPREAD * mean * mean) || perToken <= 0 || fixed <= 0) return (ms * this.#tokens) / this.#ms;
    return (ms - fixed) / perToken;
  }
}

export interface ChunkSituation {
  /** Tokens of the prompt that are still to be worked on. */
  readonly remaining: number;
  /** Streams that decode. */
  readonly running: number;
  /** Most tokens for one run. */
  readonly prefillChunk: number;
}

/** How many of the remaining tokens go into the next prefill run: from 1 to `remaining`. */
export function chunkTokens({ remaining, running, prefillChunk }: ChunkSituation, times: RunTimes): number {
  const bounded = Math.min(remaining, prefillChunk);
  if (running === 0) return bounded;
  const within = times.decodeMs === 0 ? undefined : times.tokensWithin(STEPS_PER_CHUNK * times.decodeMs);
  const chunk = Math.max(LEAST_CHUNK, Math.round(within ?? FIRST_CHUNK));
  return chunk * REST >= bounded ? bounded : chunk;
}
