/**
 * A histogram as plain numbers, for what happens too often to be worth a library's observation: once for every token of every stream.
 *
 * Called by the engine's counts; `metrics.ts` reads it at scrape time. One observation is a search through a few bounds and an addition.
 */
export class BucketCounts {
  /** Upper bounds, ascending. */
  readonly bounds: readonly number[];
  /** Observations by bucket, not added up; the last is for those past all bounds. */
  readonly counts: Float64Array;
  sum = 0;

  constructor(bounds: readonly number[]) {
    this.bounds = bounds;
    this.counts = new Float64Array(bounds.length + 1);
  }

  /** Counts `value`; one that is no number is not counted. */
  observe(value: number): void {
    if (Number.isNaN(value)) return;
    const { bounds, counts } = this;
    let bucket = 0;
    while (bucket < bounds.length && value > bounds[bucket]!) bucket++;
    counts[bucket]!++;
    this.sum += value;
  }

  get count(): number {
    let count = 0;
    for (const own of this.counts) count += own;
    return count;
  }
}
