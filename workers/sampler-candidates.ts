/**
 * The tokens of a row among which one is drawn, when not all of them are: cut to a number, to a part of the probability, at a logit.
 *
 *   bucket   0 |  1 |  2 |  3 | ... | 1023     of max - logit, as wide each as all of them need
 *   weight 1.9 | .. | .. | .. |                a cut lies in one bucket: its logits alone are looked at closer
 *
 * Called by workers/sampler-draw.ts. Owns room for them, as much as rows have needed. Equal logits count as larger where their id is lower.
 */
import { type Cut, cutAt } from './sampler-cut.js';
import { falling } from './sampler-exponential.js';

/** Weights are rounded. */
const SURELY = 1 - 1e-9;
const LEAST_ROOM = 1024;
/** More than this many are looked at by buckets first. */
const FEW = 64;
const BUCKETS = 1024;

export class Candidates {
  // By rising id.
  #ids = new Int32Array(0);
  #logits = new Float32Array(0);
  #weights = new Float64Array(0);
  #count = 0;
  #max = 0;
  #lowest = 0;
  readonly #buckets = new Float64Array(BUCKETS);
  // For the cut, which reorders.
  #values = new Float32Array(0);
  #scratch = new Float64Array(0);

  /** What they weigh together. */
  get mass(): number {
    let sum = 0;
    for (let i = 0; i < this.#count; i++) sum += this.#weights[i]!;
    return sum;
  }

  /** Takes those of `row` that are not below `lowest`; each weighs e^((logit - max) * inverse). NaN is none of them. */
  gather(row: Float32Array, lowest: number, max: number, inverse: number): void {
    let count = 0;
    let room = this.#ids.length;
    for (let i = 0; i < row.length; i++) {
      const logit = row[i]!;
      if (!(logit >= lowest)) continue;
      if (count === room) room = this.#grow(row.length);
      this.#ids[count] = i;
      this.#logits[count] = logit;
      this.#weights[count++] = falling((max - logit) * inverse);
    }
    this.#count = count;
    this.#max = max;
    this.#lowest = lowest;
  }

  /** Keeps the `count` largest. */
  cutToCount(count: number): void {
    if (count >= this.#count) return;
    const { value, rest } = this.#cut(count, true);
    this.#keep(value, Math.ceil(rest));
  }

  /** Keeps the largest until they weigh `wanted` together. */
  cutToMass(wanted: number): void {
    const { value, rest } = this.#cut(wanted, false);
    let weight = 0;
    for (let i = 0; i < this.#count && weight === 0; i++) if (this.#logits[i] === value) weight = this.#weights[i]!;
    this.#keep(value, Math.max(1, Math.ceil(rest / weight)));
  }

  /** Keeps those that are not below `lowest`. */
  cutAt(lowest: number): void {
    this.#keep(lowest, this.#count);
  }

  /** The token at which the weights, by rising id, add up to more than `mass`. */
  pick(mass: number): number {
    let left = mass;
    const last = this.#count - 1;
    for (let i = 0; i < last; i++) {
      left -= this.#weights[i]!;
      if (left < 0) return this.#ids[i]!;
    }
    return this.#ids[last]!;
  }

  /** Where the largest weigh `wanted` together, or are so many. */
  #cut(wanted: number, byCount: boolean): Cut {
    const [logits, weights, values, scratch] = [this.#logits, this.#weights, this.#values, this.#scratch];
    const count = this.#count;
    const max = this.#max;
    const perLogit = count > FEW && max > this.#lowest ? BUCKETS / (max - this.#lowest) : 0;
    let left = wanted;
    let bucket = 0;
    if (perLogit > 0) {
      const buckets = this.#buckets.fill(0);
      for (let i = 0; i < count; i++) buckets[bucketOf((max - logits[i]!) * perLogit)]! += byCount ? 1 : weights[i]!;
      let last = 0;
      for (let i = 0; i < BUCKETS; i++) {
        if (buckets[i] === 0) continue;
        last = i;
        if (left <= buckets[i]!) break;
        left -= buckets[i]!;
      }
      bucket = last;
    }
    let inside = 0;
    for (let i = 0; i < count; i++) {
      const logit = logits[i]!;
      if (bucketOf((max - logit) * perLogit) !== bucket) continue;
      values[inside] = logit;
      scratch[inside++] = byCount ? 1 : weights[i]!;
    }
    return cutAt(values, scratch, inside, left);
  }

  /** Keeps those above `value`, and so many of those that equal it. */
  #keep(value: number, equals: number): void {
    const [ids, logits, weights] = [this.#ids, this.#logits, this.#weights];
    let left = equals;
    let count = 0;
    for (let i = 0; i < this.#count; i++) {
      const logit = logits[i]!;
      if (logit < value || (logit === value && left-- <= 0)) continue;
      ids[count] = ids[i]!;
      logits[count] = logit;
      weights[count++] = weights[i]!;
    }
    this.#count = count;
  }

  #grow(most: number): number {
    const room = Math.min(most, Math.max(LEAST_ROOM, this.#ids.length * 4));
    const [ids, logits, weights] = [this.#ids, this.#logits, this.#weights];
    this.#ids = new Int32Array(room);
    this.#logits = new Float32Array(room);
    this.#weights = new Float64Array(room);
    this.#ids.set(ids);
    this.#logits.set(logits);
    this.#weights.set(weights);
    this.#values = new Float32Array(room);
    this.#scratch = new Float64Array(room);
    return room;
  }
}

const bucketOf = (at: number): number => (at < BUCKETS ? at | 0 : BUCKETS - 1);

/**
 * A logit below which none is among the largest that have `topP` of `sum` together, which is what all `tokens` weigh: if 1 - topP of it may be
 * cut off, all that weigh less than a `tokens`th of that can go, since together they weigh less.
 */
export function leastInMass(topP: number, sum: number, tokens: number, max: number, temperature: number): number {
  return max + temperature * Math.log((((1 - topP) * sum) / tokens) * SURELY);
}
