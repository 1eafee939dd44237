/**
 * Times a codec on a tensor of a given size, for the advice: what would this request cost over another arm?
 *
 * Called by the front ends' probes. Owns nothing.
 */

/** Larger tensors are timed at this size and scaled: copying is linear by then. */
const MOST_BYTES = 4 * 1024 * 1024;
const RUNS = 9;

export interface ProbeTensor {
  readonly name: string;
  readonly datatype: 'FP32';
  readonly shape: readonly number[];
  readonly data: Buffer<ArrayBuffer>;
}

/** A tensor of `bytes` in raw form, rounded up to whole elements; of the largest size that is timed where that is more. */
export function probeTensor(bytes: number): ProbeTensor {
  const data = Buffer.alloc(4 * Math.ceil(Math.min(bytes, MOST_BYTES) / 4));
  return { name: 'tensor', datatype: 'FP32', shape: [1, data.length / 4], data };
}

/** Median milliseconds of `run`, which works on `probeTensor(bytes)`, scaled to `bytes`. */
export function probeMs(bytes: number, run: () => unknown): number {
  const times = Array.from({ length: RUNS }, () => {
    const start = performance.now();
    run();
    return performance.now() - start;
  });
  return times.sort((a, b) => a - b)[RUNS >> 1]! * Math.max(1, bytes / MOST_BYTES);
}
