/**
 * The k largest of a row, in one pass with a heap of k: for top k and for the alternatives of a log probability.
 *
 * Called by workers/sampler.ts and sampler-draw.ts. Owns the room for its answer, which the next search overwrites. Equal values count as
 * larger where their id is lower; NaN is never among them.
 */

export class LargestOfRow {
  #values = new Float32Array(64);
  #ids = new Int32Array(64);
  #count = 0;

  /** How many the last search found: as many as were wanted, or as there are numbers. */
  get count(): number {
    return this.#count;
  }

  /** Largest first. */
  value(index: number): number {
    return this.#values[index]!;
  }

  id(index: number): number {
    return this.#ids[index]!;
  }

  search(row: Float32Array, wanted: number): void {
    this.#fit(Math.min(wanted, row.length));
    let i = 0;
    for (; i < row.length && this.#count < wanted; i++) {
      const value = row[i]!;
      if (!Number.isNaN(value)) this.#rise(this.#count++, value, i);
    }
    if (this.#count > 0 && this.#count === wanted) {
      // The root is the smallest that is kept, and later ids lose against equals.
      let least = this.#values[0]!;
      for (; i < row.length; i++) {
        const value = row[i]!;
        if (value > least) {
          this.#sink(0, this.#count, value, i);
          least = this.#values[0]!;
        }
      }
    }
    this.#sort();
  }

  #fit(length: number): void {
    this.#count = 0;
    if (length <= this.#values.length) return;
    this.#values = new Float32Array(length);
    this.#ids = new Int32Array(length);
  }

  /** Puts an entry in at `at`, the end of the heap, and moves it up. */
  #rise(at: number, value: number, id: number): void {
    const [values, ids] = [this.#values, this.#ids];
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isLess(value, id, values[parent]!, ids[parent]!)) break;
      values[at] = values[parent]!;
      ids[at] = ids[parent]!;
      at = parent;
    }
    values[at] = value;
    ids[at] = id;
  }

  /** Puts an entry in the place of the one at `at` and moves it down, in a heap of `count`. */
  #sink(at: number, count: number, value: number, id: number): void {
    const [values, ids] = [this.#values, this.#ids];
    for (let child = 2 * at + 1; child < count; child = 2 * at + 1) {
      const other = child + 1;
      if (other < count && isLess(values[other]!, ids[other]!, values[child]!, ids[child]!)) child = other;
      if (!isLess(values[child]!, ids[child]!, value, id)) break;
      values[at] = values[child]!;
      ids[at] = ids[child]!;
      at = child;
    }
    values[at] = value;
    ids[at] = id;
  }

  /** The smallest goes to the end, again and again. */
  #sort(): void {
    const [values, ids] = [this.#values, this.#ids];
    for (let end = this.#count - 1; end > 0; end--) {
      const [value, id] = [values[end]!, ids[end]!];
      values[end] = values[0]!;
      ids[end] = ids[0]!;
      this.#sink(0, end, value, id);
    }
  }
}

const isLess = (value: number, id: number, other: number, otherId: number): boolean =>
  value < other || (value === other && id > otherId);
