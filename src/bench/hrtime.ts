/**
 * The machine's monotonic clock, which all threads and processes share.
 *
 * Used where times of several of them meet. `performance.now()`, which costs less, counts from each thread's start.
 */

/** Milliseconds since the machine's start, or some other point that is the same for all. */
export function hrtimeMs(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1000 + nanoseconds / 1e6;
}
