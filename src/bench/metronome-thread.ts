/**
 * The thread behind `metronome.ts`: sleeps until a beat is due and says so.
 *
 * A timer of the event loop fires up to a millisecond late, which is more than a small request takes; a futex wakes within some 60 us.
 */
import { parentPort } from 'node:worker_threads';
import { nowMs } from '../base/clock.js';

/** Times on the clock of `base/clock.ts`, in milliseconds. */
export interface Beats {
  readonly startMs: number;
  readonly intervalMs: number;
  readonly count: number;
  /** Becomes 1 when nobody listens any more. */
  readonly stop: Int32Array;
}

parentPort!.on('message', ({ startMs, intervalMs, count, stop }: Beats) => {
  let beat = 0;
  while (beat < count && Atomics.load(stop, 0) === 0) {
    const waitMs = startMs + beat * intervalMs - nowMs();
    if (waitMs > 0) {
      Atomics.wait(stop, 0, 0, waitMs);
      continue;
    }
    // Beats that passed meanwhile are one message: the listener counts for itself what is due.
    beat = Math.max(beat, Math.floor((nowMs() - startMs) / intervalMs)) + 1;
    parentPort!.postMessage(null);
  }
});
