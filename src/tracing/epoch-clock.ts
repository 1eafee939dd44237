/**
 * From stamps on the process's monotonic clock (`base/clock.ts`) to milliseconds since 1970, which OpenTelemetry wants.
 *
 * Made by `span-maker.ts`. Stamps keep their distances: the two clocks are compared at the start, and anew only when the system's has
 * moved away, which a long-running process must follow.
 */
import { nowMs } from '../base/clock.js';

/** The system's clock tells whole milliseconds; less than this is no difference. */
const TOLERANCE_MS = 5;

export class EpochClock {
  /** What is to be added to a stamp: the same for all spans of a trace. */
  offsetMs = performance.timeOrigin + performance.now() - nowMs();

  /** Follows the system's clock where it was set. Call it between traces, not within one. */
  compare(): void {
    const beforeMs = nowMs();
    const epochMs = Date.now();
    const afterMs = nowMs();
    // The thread was stopped between the two clocks: the next trace will see.
    if (afterMs - beforeMs >= 1) return;
    const offsetMs = epochMs - afterMs;
    // Date.now() has lost up to a millisecond.
    if (Math.abs(offsetMs + 0.5 - this.offsetMs) >= TOLERANCE_MS) this.offsetMs = offsetMs;
  }
}
