/**
 * What loading a model costs in memory: measured by the process's growth, and made sure against what disturbs the measure.
 *
 * Called by `residency.ts`. What the process grows by while ONNX Runtime makes a session is the session, and what other threads take or
 * give back in those milliseconds. Measured with models of 4 to 49 MB, two sessions each, loaded and unloaded 48 times within 300 MB: with
 * the allocator told to give memory back (`main.ts` does so under a budget) each load reads as its weights to within 1.5%, and resident
 * memory less the sum of the costs stays where it began (199 to 204 MB). With the allocator's settings for speed a first load reads as twice
 * the weights, for what is left of reading the file, a later one as nothing, since it lives in what was kept, and that difference grows
 * from 217 to 541 MB.
 *
 * So the cost of a session is the lower median of those seen, for one large reply in the wrong moment must not count as a model; and never
 * less than its weights.
 */

/** A session holds more than its weights; by how much is not known before it was loaded. */
const OVERHEAD = 1.2;
/** Sessions that are remembered, the newest. */
const MEMORY = 9;

export class LoadCost {
  #seen: number[] = [];
  #bytes = 0;

  /** What the next load will probably cost. `leastBytes` is what the files say. */
  expected(leastBytes: number): number {
    return this.#bytes > 0 ? Math.max(leastBytes, this.#bytes) : leastBytes * OVERHEAD;
  }

  /** What a load did cost: `leastBytes` by the files, `grownBytes` by each of its sessions as seen. */
  measured(leastBytes: number, grownBytes: readonly number[]): number {
    this.#seen = [...this.#seen, ...grownBytes].slice(-MEMORY);
    const sorted = [...this.#seen].sort((a, b) => a - b);
    const median = sorted[(sorted.length - 1) >> 1] ?? 0;
    this.#bytes = Math.max(leastBytes, median * grownBytes.length);
    return this.#bytes;
  }
}
