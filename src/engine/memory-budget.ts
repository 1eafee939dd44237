/**
 * The memory budget's policy as a pure function: what is loaded and how much room is needed, to what to unload.
 *
 * Called by `residency.ts`; tested as a table. Must not know models, time or what memory is: sizes are numbers.
 */

/** Something loaded. */
export interface Resident {
  /** What loading it cost. */
  readonly bytes: number;
  /** Larger = used later. */
  readonly lastUse: number;
  /** Has requests: never unloaded. */
  readonly busy: boolean;
}

export type Room<T> =
  /** There is room once these are unloaded, the least recently used first; maybe none. */
  | { readonly kind: 'room'; readonly unload: readonly T[] }
  /** Not before something that is busy now is idle. */
  | { readonly kind: 'wait' }
  /** Not even alone. */
  | { readonly kind: 'never' };

/**
 * How `needed` more bytes come within `budget`: the least recently used idle ones go, and of those none whose going is not needed,
 * so that a small one does not go along with a large one that would have been enough.
 */
export function roomFor<T extends Resident>(resident: readonly T[], needed: number, budget: number): Room<T> {
  if (needed > budget) return { kind: 'never' };
  let over = resident.reduce((sum, { bytes }) => sum + bytes, needed) - budget;
  if (over <= 0) return { kind: 'room', unload: [] };
  const chosen: T[] = [];
  for (const candidate of resident.filter(({ busy }) => !busy).sort((a, b) => a.lastUse - b.lastUse)) {
    if (over <= 0) break;
    chosen.push(candidate);
    over -= candidate.bytes;
  }
  if (over > 0) return { kind: 'wait' };
  // What was used last is given back first, where the others are enough.
  for (const candidate of [...chosen].reverse()) {
    if (over + candidate.bytes > 0) continue;
    chosen.splice(chosen.indexOf(candidate), 1);
    over += candidate.bytes;
  }
  return { kind: 'room', unload: chosen };
}
