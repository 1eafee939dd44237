/**
 * When main is told of tokens: at once, but for steps so quick that telling would be a large part of them.
 *
 * Called by workers/token-stream.ts between runs. Waking a thread took 40 us where it was measured, a sixth of a step of the smallest models,
 * and every wake-up goes on to the socket and to the client. So tokens of steps that take less than half of TELL_MS are told together, TELL_MS
 * after those before at the latest. Owns nothing but the time; the ring is lent.
 */
import type { RecordRing } from './token-stream-writer.js';

/** Milliseconds. */
const TELL_MS = 1;

export class TokenTeller {
  readonly #ring: Pick<RecordRing, 'publish'>;
  #toldAt = -Infinity;
  #isUrgent = false;

  constructor(ring: Pick<RecordRing, 'publish'>) {
    this.#ring = ring;
  }

  /** Something was written for which somebody waits: an end, a failure, a pause. */
  hurry(): void {
    this.#isUrgent = true;
  }

  /**
   * Shows main what was written, unless it can wait. `stepMs`: what a decode step takes, 0 when that is not known; `stepIsNext`: the next run is
   * one for certain, so that tokens that wait are told behind it.
   */
  tell(nowMs: number, stepMs: number, stepIsNext: boolean): void {
    const isQuick = stepMs > 0 && stepMs < TELL_MS / 2;
    if (!this.#isUrgent && isQuick && stepIsNext && nowMs - this.#toldAt < TELL_MS) return;
    this.#isUrgent = false;
    if (this.#ring.publish()) this.#toldAt = nowMs;
  }
}
