/**
 * Finds out whether a layout of keys and values is right for a model: sequences of different lengths step together, and each must give
 * what its tokens give in one run without any past.
 *
 * Called by workers/decoder.ts while a model loads. Leaves the decoder empty.
 */
import type { Decoder } from './decoder-types.js';

/** Lengths of the sequences when steps begin; the second is filled in two runs. */
const LENGTHS = [2, 5, 1];
const STEPS = 2;

/** Steps of an own row of pseudo-random numbers, so that a load does the same every time. */
const MULTIPLIER = 48_271;
const MODULUS = 2_147_483_647;

/** The worst distance between logits of company and of one run, relative to how much they vary; Infinity where one is no number. */
export async function probe(decoder: Decoder, vocabularySize: number): Promise<number> {
  let state = 1;
  const draw = (count: number): Int32Array =>
    Int32Array.from({ length: count }, () => (state = (state * MULTIPLIER) % MODULUS) % vocabularySize);
  const sequences = LENGTHS.map((length) => draw(length + STEPS));
  const rows = LENGTHS.map(() => decoder.add());
  try {
    for (const [i, row] of rows.entries()) {
      const length = LENGTHS[i]!;
      const half = length > 3 ? 3 : length;
      await decoder.prefill(row, sequences[i]!.subarray(0, half), false);
      if (half < length) await decoder.prefill(row, sequences[i]!.subarray(half, length), false);
    }
    let together = new Float32Array(0) as Float32Array;
    for (let step = 0; step < STEPS; step++) {
      const tokens = Int32Array.from(sequences, (sequence, i) => sequence[LENGTHS[i]! + step]!);
      together = Float32Array.from(await decoder.decode(rows, tokens));
    }
    let worst = 0;
    for (const [i, sequence] of sequences.entries()) {
      const row = decoder.add();
      rows.push(row);
      const alone = (await decoder.prefill(row, sequence, true))!;
      worst = Math.max(worst, distance(together.subarray(i * vocabularySize, (i + 1) * vocabularySize), alone));
    }
    return worst;
  } finally {
    for (const row of rows) decoder.remove(row);
  }
}

/** |a - b| / |b - mean of b|. */
export function distance(a: Float32Array, b: Float32Array): number {
  let mean = 0;
  for (const value of b) mean += value / b.length;
  let difference = 0;
  let spread = 0;
  for (let i = 0; i < b.length; i++) {
    difference += (a[i]! - b[i]!) ** 2;
    spread += (b[i]! - mean) ** 2;
  }
  if (difference === 0) return 0;
  const result = Math.sqrt(difference / spread);
  return Number.isNaN(result) ? Number.POSITIVE_INFINITY : result;
}
