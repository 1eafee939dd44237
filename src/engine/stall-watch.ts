/**
 * Ends streams whose readers have stopped reading: one timer for all of them.
 *
 * Called by generate-call.ts when a stream's window is used up and when something of it was taken. Owns the order in which they stalled,
 * which is the order in which they are late, since all have the same time.
 */
import { nowMs } from '../base/clock.js';

export interface Stallable {
  /** Nothing was taken for as long as is allowed; it is watched no more. */
  onStalled(): void;
}

export class StallWatch {
  /** What a reader may pause, in milliseconds. */
  readonly timeoutMs: number;
  readonly #since = new Map<Stallable, number>();
  #timer: NodeJS.Timeout | undefined;

  constructor(timeoutMs: number) {
    this.timeoutMs = timeoutMs;
  }

  /** Its time begins now, also where it was watched already. */
  watch(stream: Stallable): void {
    this.#since.delete(stream);
    this.#since.set(stream, nowMs());
    this.#timer ??= this.#arm(this.timeoutMs);
  }

  forget(stream: Stallable): void {
    this.#since.delete(stream);
  }

  #arm(delayMs: number): NodeJS.Timeout {
    // The process may end meanwhile: a stream that stalls is no reason to stay.
    return setTimeout(() => this.#sweep(), Math.ceil(delayMs)).unref();
  }

  #sweep(): void {
    this.#timer = undefined;
    const now = nowMs();
    for (const [stream, since] of this.#since) {
      const leftMs = since + this.timeoutMs - now;
      if (leftMs > 0) {
        this.#timer ??= this.#arm(leftMs);
        return;
      }
      this.#since.delete(stream);
      stream.onStalled();
    }
  }
}
