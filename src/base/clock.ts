/**
 * The server's one monotonic clock, in milliseconds with sub-microsecond digits, equal in all threads of the process.
 *
 * `performance.now()` counts from each thread's own start; `process.hrtime()` is the same clock for all threads but costs more.
 * So each thread learns the difference once.
 */

let origin: number | undefined;

/** Milliseconds on the process-wide monotonic clock. */
export function nowMs(): number {
  origin ??= findOrigin();
  return performance.now() + origin;
}

/** The difference between the two clocks, from the reading that was least disturbed: a thread may be stopped between two calls. */
function findOrigin(): number {
  let best = 0;
  let narrowest = Number.POSITIVE_INFINITY;
  for (let reading = 0; reading < 16; reading++) {
    const before = performance.now();
    const [seconds, nanoseconds] = process.hrtime();
    const after = performance.now();
    if (after - before >= narrowest) continue;
    narrowest = after - before;
    best = seconds * 1e3 + nanoseconds / 1e6 - (before + after) / 2;
  }
  return best;
}
