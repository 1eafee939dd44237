/**
 * From stamps on the process's monotonic clock (`base/clock.ts`) to nanoseconds since 1970, which OTLP wants.
 *
 * Made by `otlp-request.ts`. Stamps keep their distances: the two clocks are compared once, and again only when the system's has moved
 * away, which a long-running process must follow.
 */
import { nowMs } from '../base/clock.js';

/** The system's clock tells whole milliseconds; less than this is no difference. */
const TOLERANCE_MS = 5;
const WORD = 2 ** 32;

export class EpochClock {
  #anchorMs = nowMs();
  /** What is to be added to a stamp, in milliseconds. */
  #offsetMs = performance.timeOrigin + performance.now() - this.#anchorMs;
  /** The anchor in nanoseconds since 1970, in two halves: no double holds it. */
  #high = 0;
  #low = 0;

  constructor() {
    this.#split();
  }

  /** Follows the system's clock where it was set. Call it between exports, not within one. */
  compare(): void {
    const now = nowMs();
    const offset = Date.now() - now;
    // Date.now() has lost up to a millisecond.
    if (Math.abs(offset + 0.5 - this.#offsetMs) < TOLERANCE_MS) return;
    this.#anchorMs = now;
    this.#offsetMs = offset;
    this.#split();
  }

  /** Hands `stampMs` to `take` as two 32-bit halves of its nanoseconds. */
  nanoseconds(stampMs: number, take: (high: number, low: number) => void): void {
    const low = this.#low + Math.round((stampMs - this.#anchorMs) * 1e6);
    const carry = Math.floor(low / WORD);
    take(this.#high + carry, low - carry * WORD);
  }

  #split(): void {
    const epochMs = this.#anchorMs + this.#offsetMs;
    const wholeMs = Math.floor(epochMs);
    const nanoseconds = BigInt(wholeMs) * 1_000_000n + BigInt(Math.round((epochMs - wholeMs) * 1e6));
    this.#high = Number(nanoseconds >> 32n);
    this.#low = Number(nanoseconds & 0xffff_ffffn);
  }
}
