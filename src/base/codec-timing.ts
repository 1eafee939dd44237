/**
 * Times a codec on a tensor of a given size, for the advice: what would this request cost over another arm?
 *
 * Called by the front ends' probes. Owns nothing.
 */

/** Larger tensors are timed at this size and scaled: copying is linear by then. */
const MOST_BYTES = 1024 * 1024;
/** The first runs of code that nobody has asked for yet are slow; a small tensor can afford to pass over them. */
const RUNS = 9;
const SMALL_BYTES = 16 * 1024;
const SMALL_RUNS = 151;

export interface ProbeTensor {
  readonly name: string;
  readonly datatype: 'FP32';
  readonly shape: readonly number[];
  readonly data: Buffer<ArrayBuffer>;
}

/** A tensor of `bytes` in raw form, rounded up to whole elements; of the largest size that is timed where that is more. */
export function probeTensor(bytes: number): ProbeTensor {
  // Written to: memory that is all zeros yet is one page, read from the cache again and again.
  const data = Buffer.alloc(4 * Math.ceil(Math.min(bytes, MOST_BYTES) / 4), 1);
  return { name: 'tensor', datatype: 'FP32', shape: [1, data.length / 4], data };
}

/** Median milliseconds of `run`, which works on `probeTensor(bytes)`, scaled to `bytes`. */
export function probeMs(bytes: number, run: () => unknown): number {
  const runs = bytes <= SMALL_BYTES ? SMALL_RUNS : RUNS;
  const times = Array.from({ length: runs }, () => {
    const start = performance.now();
    run();
    return performance.now() - start;
  });
  return times.sort((a, b) => a - b)[runs >> 1]! * Math.max(1, bytes / MOST_BYTES);
}
