/**
 * How much of a prompt is worked on between two decode steps: bounded by time, so that streams that run don't stutter.
 *
 * Called by workers/token-stream.ts. Arithmetic only: it is told what runs took, and looks at no clock. A prefill run of n tokens takes
 * about `fixed + n * perToken`; both are learned, since they differ by a factor of a thousand between models.
 */

/** Fewer tokens than this aren't worth a run, whatever it takes. */
export const LEAST_CHUNK = 8;
/** Tokens of a first run, from which the rest is learned. */
export const FIRST_CHUNK = 16;
/** A chunk may take this many decode steps: gaps between tokens become (1 + this) times as long then. */
const STEPS_PER_CHUNK = 1.25;
/** A rest that is this much longer than a chunk goes with it: another run would cost more than it saves. */
const REST = 1.25;
const DECODE_SHARE = 0.2;
/** Times the average as which a step counts at most. */
const HELD_UP = 2;
/** Prefill runs that are remembered. */
const RUNS = 16;
/** Runs of lengths that differ by less than this part say nothing of what a token takes. */
const LEAST_APART = 0.25;
/** Pairs of runs that make a line. */
const LEAST_PAIRS = 3;
/** Times the longest run that is remembered: what is said of longer ones is a guess. */
const FURTHEST = 2;

/**
 * What runs took lately. Times are those of a thread that may lose its core in any run, so nothing rests on one of them: a step counts as
 * twice the average at most, and the line through prefill runs has the median of the slopes between any two (Theil and Sen), which a
 * quarter of them being far off does not move.
 */
export class RunTimes {
  #decodeMs = 0;
  readonly #tokens = new Float64Array(RUNS);
  readonly #ms = new Float64Array(RUNS);
  #runs = 0;
  /** Room for medians. */
  readonly #values = new Float64Array((RUNS * (RUNS - 1)) / 2);

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
    const at = this.#runs++ % RUNS;
    this.#tokens[at] = tokens;
    this.#ms[at] = ms;
  }

  /** Tokens that a prefill run gets done in `ms`; may be less than 1, undefined before the first run. */
  tokensWithin(ms: number): number | undefined {
    if (this.#runs === 0) return undefined;
    let longest = 0;
    for (let i = 0; i < this.#count; i++) longest = Math.max(longest, this.#tokens[i]!);
    return Math.min(FURTHEST * longest, this.#onLine(ms) ?? ms / this.#msOfToken());
  }

  get #count(): number {
    return Math.min(this.#runs, RUNS);
  }

  #onLine(ms: number): number | undefined {
    const [tokens, times, values, count] = [this.#tokens, this.#ms, this.#values, this.#count];
    let pairs = 0;
    for (let i = 1; i < count; i++)
      for (let j = 0; j < i; j++) {
        const apart = tokens[i]! - tokens[j]!;
        if (Math.abs(apart) < LEAST_APART * Math.max(tokens[i]!, tokens[j]!)) continue;
        values[pairs++] = (times[i]! - times[j]!) / apart;
      }
    if (pairs < LEAST_PAIRS) return undefined;
    const perToken = median(values, pairs);
    for (let i = 0; i < count; i++) values[i] = times[i]! - perToken * tokens[i]!;
    const fixed = median(values, count);
    return perToken > 0 && fixed >= 0 ? (ms - fixed) / perToken : undefined;
  }

  /** All told. Where runs have one length that is all there is to know; repeated, it finds the right length too. */
  #msOfToken(): number {
    const count = this.#count;
    for (let i = 0; i < count; i++) this.#values[i] = this.#ms[i]! / this.#tokens[i]!;
    return median(this.#values, count);
  }
}

/** The middle one of the first `count` of `values`, which are put in order; of an even number the larger. */
function median(values: Float64Array, count: number): number {
  return values.subarray(0, count).sort()[count >> 1]!;
}

/** Prompts that go before the one that came first, one after another, because less of them remains. */
const MOST_BEFORE = 3;

export interface PromptTurns {
  /** Runs for others since the prompt that came first was worked on. */
  passedOver: number;
}

/**
 * The prompt to be worked on next: the one that needs least until its first token, so that a short one does not wait for a long one; but every
 * fourth run is for the one that came first. `prompts` are in the order in which they came.
 */
export function nextPrompt<Prompt extends { readonly remaining: number }>(
  prompts: Iterable<Prompt>,
  turns: PromptTurns,
): Prompt | undefined {
  let first: Prompt | undefined;
  let shortest: Prompt | undefined;
  for (const prompt of prompts) {
    first ??= prompt;
    if (!shortest || prompt.remaining < shortest.remaining) shortest = prompt;
  }
  if (shortest === first || turns.passedOver >= MOST_BEFORE) {
    turns.passedOver = 0;
    return first;
  }
  turns.passedOver++;
  return shortest;
}

export interface ChunkSituation {
  /** Tokens of the prompt that are still to be worked on. */
  readonly remaining: number;
  /** Streams that decode. */
  readonly running: number;
  /** What has passed since they got their last tokens. */
  readonly spentMs: number;
  /** Most tokens for one run. */
  readonly prefillChunk: number;
}

/** What the next prefill run may take while others decode. */
export function chunkMs(times: RunTimes): number {
  return STEPS_PER_CHUNK * times.decodeMs;
}

/** How many of the remaining tokens go into the next prefill run: from 1 to `remaining`. */
export function chunkTokens({ remaining, running, spentMs, prefillChunk }: ChunkSituation, times: RunTimes): number {
  const bounded = Math.min(remaining, prefillChunk);
  if (running === 0) return bounded;
  const within = times.decodeMs === 0 ? undefined : times.tokensWithin(chunkMs(times) - spentMs);
  const chunk = Math.max(LEAST_CHUNK, Math.round(within ?? FIRST_CHUNK));
  return chunk * REST >= bounded ? bounded : chunk;
}
