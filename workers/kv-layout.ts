/**
 * Sizes of the memory for keys and values: how many tokens and rows there is room for, in steps, so that shapes repeat.
 *
 * Called by workers/kv-store.ts and workers/decoder-batched.ts. Arithmetic only.
 */

const SMALLEST_CAPACITY = 32;

/** Room for at least `tokens`: 32, 64, 96, 128, 192, 256, 384, ..., never more than `most` (if `tokens` is not). */
export function capacityFor(tokens: number, most: number): number {
  let capacity = SMALLEST_CAPACITY;
  while (capacity < tokens) {
    const half = capacity + capacity / 2;
    if (capacity > SMALLEST_CAPACITY && half >= tokens) capacity = half;
    else capacity *= 2;
  }
  return Math.max(Math.min(capacity, most), tokens);
}

/** Room for at least `rows`: a power of two, never more than `most` (if `rows` is not); none for none. */
export function rowsFor(rows: number, most: number): number {
  if (rows === 0) return 0;
  let room = 1;
  while (room < rows) room *= 2;
  return Math.max(Math.min(room, most), rows);
}
