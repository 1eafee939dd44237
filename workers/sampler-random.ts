/**
 * Random numbers of one stream of tokens: its own state, so that what it draws does not depend on who runs beside it.
 *
 * Called by workers/sampler.ts. xoshiro128**, whose four words are filled by splitmix from the two halves of the seed.
 */

export class Random {
  #a: number;
  #b: number;
  #c: number;
  #d: number;

  /** Two 32-bit halves of a seed; every seed is good, zero too. */
  constructor([high, low]: readonly [number, number]) {
    this.#a = mixed(low, 1);
    this.#b = mixed(high, 2);
    this.#c = mixed(low ^ this.#b, 3);
    // One word is never zero: from four zeros nothing else would come.
    this.#d = mixed(high ^ this.#a, 4) | 1;
  }

  /** The next number in [0, 1), with 53 bits. */
  next(): number {
    const high = this.#word() >>> 5;
    const low = this.#word() >>> 6;
    return (high * 0x4000000 + low) / 0x20000000000000;
  }

  #word(): number {
    const multiplied = Math.imul(this.#b, 5);
    const result = Math.imul((multiplied << 7) | (multiplied >>> 25), 9);
    const shifted = this.#b << 9;
    this.#c ^= this.#a;
    this.#d ^= this.#b;
    this.#b ^= this.#c;
    this.#a ^= this.#d;
    this.#c ^= shifted;
    this.#d = (this.#d << 11) | (this.#d >>> 21);
    return result;
  }
}

/** The `step`th number of splitmix32 from `seed`. */
function mixed(seed: number, step: number): number {
  let value = (seed + Math.imul(step, 0x9e3779b9)) | 0;
  value = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
  value = Math.imul(value ^ (value >>> 13), 0xc2b2ae35);
  return value ^ (value >>> 16);
}
