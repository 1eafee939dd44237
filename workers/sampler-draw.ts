/**
 * Draws a token from a row of logits: temperature, top k, top p, min p, in this order, with one random number.
 *
 * Called by workers/sampler.ts. Never sorts a vocabulary. A small top k is found with a heap. Else what all tokens weigh is summed up, for
 * each 256 of them: a draw from all looks into one such block again. A part of the probability is cut from those that may be in it.
 *
 *   sums   |  3.2 |  0.4 |  1.1 | ...     of e^-x with x = (max - logit) / temperature
 *
 * Owns the sums. NaN and -Infinity are never drawn. Equal logits count as larger where their id is lower.
 */
import { Candidates, leastInMass } from './sampler-candidates.js';
import { exponential, falling, REACH, sumOfFalling } from './sampler-exponential.js';
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

/** With a larger top k the heap would take longer. */
const HEAP_TOP_K = 512;
const BLOCK = 256;

export class Draw {
  readonly #largest: LargestOfRow;
  readonly #candidates = new Candidates();
  readonly #masses = new Float64Array(HEAP_TOP_K);
  #sums = new Float64Array(0);

  constructor(largest: LargestOfRow) {
    this.#largest = largest;
  }

  /** `random` is in [0, 1). Gives -1 where all are NaN. */
  draw(row: Float32Array, options: DrawOptions, random: number): number {
    const { temperature, topK, topP, minP } = options;
    if (topK > 0 && topK <= HEAP_TOP_K && topK < row.length) return this.#drawFromTop(row, options, random);
    const best = largestOf(row);
    // An infinite logit takes all the probability, and among none but -Infinity there is nothing to choose by.
    if (best < 0 || !Number.isFinite(row[best]!)) return best;
    const max = row[best]!;
    // What is further away is nothing: all of it together adds less to a sum than the sum is rounded by.
    const lowest = Math.max(-Number.MAX_VALUE, max - REACH * temperature);
    const least = minP > 0 ? Math.max(lowest, max + temperature * Math.log(minP)) : lowest;
    const inverse = 1 / temperature;
    if (topK === 0 && topP >= 1) return this.#drawFromAll(row, max, inverse, least, random);
    const candidates = this.#candidates;
    if (topK === 0) {
      const sum = this.#measure(row, max, inverse, lowest);
      const inside = leastInMass(topP, sum, row.length, max, temperature);
      candidates.gather(row, Math.max(lowest, inside), max, inverse);
      candidates.cutToMass(topP * sum);
    } else {
      candidates.gather(row, lowest, max, inverse);
      candidates.cutToCount(topK);
      if (topP < 1) candidates.cutToMass(topP * candidates.mass);
    }
    if (minP > 0) candidates.cutAt(least);
    return candidates.pick(random * candidates.mass);
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

  #drawFromAll(row: Float32Array, max: number, inverse: number, lowest: number, random: number): number {
    let left = random * this.#measure(row, max, inverse, lowest);
    const blocks = Math.ceil(row.length / BLOCK);
    let block = 0;
    for (let i = 0; i < blocks; i++) {
      if (this.#sums[i] === 0) continue;
      block = i;
      if (left < this.#sums[i]!) break;
      left -= this.#sums[i]!;
    }
    let last = 0;
    const end = Math.min((block + 1) * BLOCK, row.length);
    for (let i = block * BLOCK; i < end; i++) {
      if (!(row[i]! >= lowest)) continue;
      last = i;
      left -= falling((max - row[i]!) * inverse);
      if (left < 0) break;
    }
    return last;
  }

  /** What those not below `lowest` weigh together; the sums of the blocks are known then. */
  #measure(row: Float32Array, max: number, inverse: number, lowest: number): number {
    const blocks = Math.ceil(row.length / BLOCK);
    if (this.#sums.length < blocks) this.#sums = new Float64Array(blocks);
    let sum = 0;
    for (let block = 0; block < blocks; block++) {
      const from = block * BLOCK;
      const part = sumOfFalling(row, from, Math.min(from + BLOCK, row.length), max, inverse, lowest);
      this.#sums[block] = part;
      sum += part;
    }
    return sum;
  }
}
