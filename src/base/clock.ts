/**
 * The server's one monotonic clock, in milliseconds with sub-microsecond digits, equal in all threads of the process.
 *
 * `performance.now()` counts from each thread's own start; `process.hrtime()` is the same clock for all threads but costs more.
 * So each thread learns the difference once.
 */

let origin: number | undefined;

/** Milliseconds on the process-wide monotonic clock. */
export function nowMs(): number {
  if (origin === undefined) {
    const [seconds, nanoseconds] = process.hrtime();
    origin = seconds * 1e3 + nanoseconds / 1e6 - performance.now();
  }
  return performance.now() + origin;
}
