/**
 * Draws a token from a row of logits: temperature, top k, top p, min p, in this order, with one random number.
 *
 * Called by workers/sampler.ts. Never sorts a vocabulary. A small top k is found with a heap; anything else by buckets:
 *
 *   bucket    0 |  1 |  2 |  3 | ... | 1023     of (max - logit) / temperature, 1/32 wide; the last one takes the rest
 *   count     2 |  0 |  5 | 11 |                each bucket's number of tokens (for top k) and their mass, the sum of e^-x
 *   mass    1.9 |  0 | .. |                     a cut lies in one bucket: its values alone are looked at closer,
 *   kept  ============|==                       and the draw too looks into one bucket alone
 *
 * Owns the buckets and room for a row's values. NaN and -Infinity are never drawn. Equal logits count as larger where their id is lower.
 */
import { cutAt, type Weight, weightOf } from './sampler-cut.js';
import { exponential } from './sampler-exponential.js';
import type { LargestOfRow } from './sampler-top.js';

export interface DrawOptions {
  readonly temperature: number;
  /** 0 = all. */
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
}

/** The lowest id of the largest value; -1 where all are NaN. */
export function largestOf(row: Float32Array): number {
  let best = Number.NEGATIVE_INFINITY;
  let id = -1;
  const { length } = row;
  // Four at a time takes little more than half as long.
  let i = 0;
  for (; i + 3 < length; i += 4) {
    if (!(row[i]! > best || row[i + 1]! > best || row[i + 2]! > best || row[i + 3]! > best)) continue;
    for (let j = i; j < i + 4; j++) if (row[j]! > best) best = row[(id = j)]!;
  }
  for (; i < length; i++) if (row[i]! > best) best = row[(id = i)]!;
  return id >= 0 ? id : row.indexOf(Number.NEGATIVE_INFINITY);
}

/** A larger top k goes by buckets: the heap would take longer. */
const HEAP_TOP_K = 512;
const BUCKETS = 1024;
const BUCKETS_PER_UNIT = 32;
const BUCKET_WIDTH = 1 / BUCKETS_PER_UNIT;
/** e^-x where buckets begin. */
const EDGES = Float64Array.from({ length: BUCKETS }, (_, bucket) => Math.exp(-bucket / BUCKETS_PER_UNIT));

export class Draw {
  readonly #largest: LargestOfRow;
  readonly #counts = new Int32Array(BUCKETS);
  readonly #masses = new Float64Array(BUCKETS);
  #values = new Float32Array(0);
  // What the buckets hold: values from here, and where they equal it, ids up to `#lastId`.
  #row: Float32Array = this.#values;
  #max = 0;
  #inverse = 1;
  #lowest = 0;
  #lastId = 0;

  constructor(largest: LargestOfRow) {
    this.#largest = largest;
  }

  /** `random` is in [0, 1). Gives -1 where all are NaN. */
  draw(row: Float32Array, options: DrawOptions, random: number): number {
    const { topK } = options;
    if (topK > 0 && topK <= HEAP_TOP_K && topK < row.length) return this.#drawFromTop(row, options, random);
    const best = largestOf(row);
    // An infinite logit takes all the probability, and among none but -Infinity there is nothing to choose by.
    if (best < 0 || !Number.isFinite(row[best]!)) return best;
    this.#fill(row, row[best]!, options);
    if (topK > 0) this.#cutTo(topK, { by: 'count' });
    if (options.topP < 1) this.#cutTo(options.topP * this.#mass(), this.#massWeight());
    if (options.minP > 0) this.#raise(this.#max + options.temperature * Math.log(options.minP));
    return this.#pick(random * this.#mass());
  }

  #drawFromTop(row: Float32Array, { temperature, topK, topP, minP }: DrawOptions, random: number): number {
    const largest = this.#largest;
    largest.search(row, topK);
    if (largest.count === 0) return -1;
    const max = largest.value(0);
    if (!Number.isFinite(max)) return largest.id(0);
    const masses = this.#masses;
    let all = 0;
    for (let i = 0; i < largest.count; i++) {
      masses[i] = exponential((largest.value(i) - max) / temperature);
      all += masses[i]!;
    }
    let kept = 0;
    let count = 0;
    for (; count < largest.count; count++) {
      if (count > 0 && (kept >= topP * all || masses[count]! < minP || masses[count] === 0)) break;
      kept += masses[count]!;
    }
    let left = random * kept;
    for (let i = 0; i < count - 1; i++) {
      left -= masses[i]!;
      if (left < 0) return largest.id(i);
    }
    return largest.id(count - 1);
  }

  #fill(row: Float32Array, max: number, { temperature, topK, topP, minP }: DrawOptions): void {
    this.#row = row;
    this.#max = max;
    this.#inverse = 1 / temperature;
    this.#lastId = row.length;
    // Without another cut before it, min p says at once what need not be looked at.
    this.#lowest = topK === 0 && topP >= 1 && minP > 0 ? max + temperature * Math.log(minP) : -Number.MAX_VALUE;
    const [counts, masses, inverse, lowest] = [this.#counts, this.#masses, this.#inverse, this.#lowest];
    counts.fill(0);
    masses.fill(0);
    for (let i = 0; i < row.length; i++) {
      const value = row[i]!;
      if (!(value >= lowest)) continue;
      const x = (max - value) * inverse;
      const bucket = bucketOf(x);
      if (topK > 0) counts[bucket]!++;
      // From the bucket's edge it is a short series: every entry of a vocabulary comes here.
      const rest = x - bucket * BUCKET_WIDTH;
      masses[bucket]! +=
        bucket < BUCKETS - 1
          ? EDGES[bucket]! * (1 - rest * (1 - rest * (0.5 - rest * (1 / 6 - rest * (1 / 24)))))
          : exponential(-x);
    }
  }

  #mass(): number {
    let sum = 0;
    for (let i = 0; i < BUCKETS; i++) sum += this.#masses[i]!;
    return sum;
  }

  #massWeight(): Weight {
    return { by: 'mass', max: this.#max, inverse: this.#inverse };
  }

  /** Keeps the largest until they weigh `wanted` together. */
  #cutTo(wanted: number, weight: Weight): void {
    const weights = weight.by === 'count' ? this.#counts : this.#masses;
    let left = wanted;
    let bucket = 0;
    for (; bucket < BUCKETS && weights[bucket]! < left; bucket++) left -= weights[bucket]!;
    if (bucket === BUCKETS) return;
    const count = this.#valuesOf(bucket);
    const { value, rest } = cutAt(this.#values, count, left, weight);
    this.#lastId = this.#lastOf(value, Math.ceil(rest / weightOf(weight, value)));
    this.#lowest = value;
    this.#dropBelow(bucket);
  }

  /** Keeps what is not below `lowest`. */
  #raise(lowest: number): void {
    if (!(lowest > this.#lowest)) return;
    this.#lowest = lowest;
    this.#lastId = this.#row.length;
    this.#dropBelow(bucketOf((this.#max - lowest) * this.#inverse));
  }

  /** Counts `bucket` anew and empties those behind it. */
  #dropBelow(bucket: number): void {
    const count = this.#valuesOf(bucket);
    let mass = 0;
    for (let i = 0; i < count; i++) mass += exponential((this.#values[i]! - this.#max) * this.#inverse);
    this.#counts[bucket] = count;
    this.#masses[bucket] = mass;
    this.#counts.fill(0, bucket + 1);
    this.#masses.fill(0, bucket + 1);
  }

  /** Id of the `wanted`th kept value that equals `value`; of the last one where there are fewer. */
  #lastOf(value: number, wanted: number): number {
    let [found, last] = [0, 0];
    for (let i = 0; i < this.#row.length && found < wanted; i++) {
      if (this.#row[i] !== value || !this.#keeps(value, i)) continue;
      last = i;
      found++;
    }
    return last;
  }

  #keeps(value: number, id: number): boolean {
    return value > this.#lowest || (value === this.#lowest && id <= this.#lastId);
  }

  /** Copies the kept values of a bucket to the room for them; gives their number. */
  #valuesOf(bucket: number): number {
    const row = this.#row;
    if (this.#values.length < row.length) this.#values = new Float32Array(row.length);
    let count = 0;
    this.#visit(bucket, (value) => {
      this.#values[count++] = value;
      return false;
    });
    return count;
  }

  /** The token at which the masses, in the order of buckets and in them of ids, add up to more than `mass`. */
  #pick(mass: number): number {
    let left = mass;
    let bucket = 0;
    let last = 0;
    for (let i = 0; i < BUCKETS; i++) {
      if (this.#masses[i] === 0) continue;
      bucket = i;
      if (left < this.#masses[i]!) break;
      left -= this.#masses[i]!;
    }
    this.#visit(bucket, (value, id) => {
      last = id;
      left -= exponential((value - this.#max) * this.#inverse);
      return left < 0;
    });
    return last;
  }

  /** Goes over the kept tokens of a bucket by rising id until `visitor` has had enough. */
  #visit(bucket: number, visitor: (value: number, id: number) => boolean): void {
    const [row, max, inverse] = [this.#row, this.#max, this.#inverse];
    // A little wider than the bucket, as a quick first look; which one it is, is told exactly below.
    const above = max - (bucket - 0.5) / (BUCKETS_PER_UNIT * inverse);
    const below = bucket === BUCKETS - 1 ? -Number.MAX_VALUE : max - (bucket + 1.5) / (BUCKETS_PER_UNIT * inverse);
    for (let i = 0; i < row.length; i++) {
      const value = row[i]!;
      if (!(value >= below && value <= above)) continue;
      if (bucketOf((max - value) * inverse) === bucket && this.#keeps(value, i) && visitor(value, i)) return;
    }
  }
}

/** `x` is from 0 on. */
const bucketOf = (x: number): number => (x < BUCKETS / BUCKETS_PER_UNIT ? (x * BUCKETS_PER_UNIT) | 0 : BUCKETS - 1);
