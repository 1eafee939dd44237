/**
 * The latency budget of one request: one timeline of monotonic timestamps, and the phases between them.
 *
 *   firstByte  lastByte  decoded   admitted      queued  dispatched  computeStart  firstToken  computeEnd  scattered  encoded
 *      |--receive--|--decode--|--admit--|--preprocess--|--queue--|--dispatch--|--prefill--|--compute--|--collect--|--encode--|
 *
 * Created by a front end at the first byte it sees, stamped by whoever finishes a step, read once at the end. From it, and only
 * from it, come `Server-Timing`, the gRPC trailer, the histograms and the statistics. Phases are differences of neighbours, so
 * they add up to `encoded - firstByte` by construction; a step that did not happen has length 0.
 *
 * A request that generates text has two lengths inside its computing: `prefill` until the first token, `compute` for all others.
 */

import { createTimingPrinter } from './server-timing.js';

/** Phase names in order; each ends at the stamp of the same position in {@link Timeline}. */
export const PHASES = [
  'receive',
  'decode',
  'admit',
  'preprocess',
  'queue',
  'dispatch',
  'prefill',
  'compute',
  'collect',
  'encode',
] as const;
export type Phase = (typeof PHASES)[number];

/** Milliseconds on the clock of `base/clock.ts`; 0 = not reached. */
export class Timeline {
  /** First byte of the request seen by the server. */
  firstByte: number;
  /** Whole request received. */
  lastByte = 0;
  /** Decoded to an InferRequest. */
  decoded = 0;
  /** Model found (loaded, where it had to be) and request checked. */
  admitted = 0;
  /** Texts tokenized and pictures decoded, where there were any, and put into the model's queue. */
  queued = 0;
  /** Taken out of the queue into a batch (gather begins). */
  dispatched = 0;
  /** Worker entered `session.run` with the batch. */
  computeStart = 0;
  /** The first token of a generated text was chosen; 0 for all other requests. */
  firstToken = 0;
  /** Worker left `session.run`. */
  computeEnd = 0;
  /** Main has the result and starts to hand this request its part. */
  scattered = 0;
  /** Reply encoded. */
  encoded = 0;
  /** Requests' rows that ran together, 0 when nothing ran. */
  batchSize = 0;
  /** Which batch that was, of all of this process; 0 where there was none. */
  batchId = 0;
  /** Tokens generated for the request. */
  tokens = 0;
  /** Bytes of the tensors (texts, pictures) that were sent and of those that the model gave, in raw form; 0 when nothing ran. */
  inputBytes = 0;
  outputBytes = 0;

  constructor(firstByte: number) {
    this.firstByte = firstByte;
  }

  /** Length of each phase in milliseconds, in the order of PHASES; steps not reached count 0. */
  phases(): number[] {
    const lengths = new Array<number>(PHASES.length).fill(0);
    this.measure(lengths);
    return lengths;
  }

  /** As `phases`, into `lengths`; returns their sum. For whoever measures every request: nothing is made. */
  measure(lengths: { [phase: number]: number }): number {
    const { firstByte } = this;
    let last = firstByte;
    last = step(lengths, 0, last, this.lastByte);
    last = step(lengths, 1, last, this.decoded);
    last = step(lengths, 2, last, this.admitted);
    last = step(lengths, 3, last, this.queued);
    last = step(lengths, 4, last, this.dispatched);
    last = step(lengths, 5, last, this.computeStart);
    last = step(lengths, 6, last, this.firstToken);
    last = step(lengths, 7, last, this.computeEnd);
    last = step(lengths, 8, last, this.scattered);
    last = step(lengths, 9, last, this.encoded);
    return last - firstByte;
  }

  /**
   * The budget as a `Server-Timing` header value (W3C Server Timing), milliseconds with three decimals:
   * `receive;dur=0.012, decode;dur=0.034, ..., total;dur=1.234`. The same text is the gRPC trailer `server-timing`.
   */
  serverTiming(): string {
    return printTiming(scratch, this.measure(scratch));
  }
}

// Only generated text has a prompt's time: nobody else's replies grow by it.
const printTiming = createTimingPrinter(PHASES, 'prefill');
const scratch = new Float64Array(PHASES.length);

/**
 * Writes the length of a phase that ends at `stamp`; returns where the next begins. Threads read the same clock but not at the same
 * instant: a later stamp is never allowed to be earlier, and one of 0 was not reached.
 */
function step(lengths: { [phase: number]: number }, phase: number, last: number, stamp: number): number {
  if (stamp <= last) {
    lengths[phase] = 0;
    return last;
  }
  lengths[phase] = stamp - last;
  return stamp;
}

/** What a reply without generated text names. */
export const INFER_PHASES: readonly Phase[] = PHASES.filter((phase) => phase !== 'prefill');
