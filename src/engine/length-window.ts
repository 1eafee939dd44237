/**
 * Which waiting texts run together: a window of similar lengths around the one that waits longest. A pure function.
 *
 *   waiting, by length   128 121 119 104 | 64 61 60 | 12 9 4        longest 128: 128 121 119 104, and the head wherever it is
 *
 * A batch is padded to its longest row, and what is padded is computed for nothing: so at most a fifth of a batch is padding, unless
 * one request wastes more by itself. The head is always in it, so that nobody starves; beyond that as many rows as possible, and among as many the least waste.
 * A better place goes first: its entries join before those of the next are looked at.
 *
 * Called by the request queue. Must not know entries beyond their lengths.
 */

/** One token in so many may be padding. */
const PADDING_ONE_IN = 5;
/** Entries looked at in each place, in batches full of single rows: what is further behind has its turn later. */
const LOOK_AHEAD = 4;

export interface Lengths {
  readonly rows: number;
  /** Length of its longest row. */
  readonly tokens: number;
  /** Of each row; undefined reads as `tokens` for each. */
  readonly rowTokens: readonly number[] | undefined;
}

export interface LengthWindow<E> {
  /** What runs together, in the order of the queue; empty only where nothing waits. */
  readonly entries: readonly E[];
  /** Everything that was looked at. */
  readonly seen: readonly E[];
  /** What the batch is padded to. */
  readonly longest: number;
  /** Rows of one left out only because the batch would pass `maxRows` with it; 0 = there is none. */
  readonly overflow: number;
}

/** Rows, tokens that are no padding, and longest row of some entries together. */
interface Sum {
  rows: number;
  real: number;
  longest: number;
}

/** Chooses from `places`, each first in first out and the best first. `maxRows` is at least the rows of any entry. */
export function lengthWindow<E extends Lengths>(places: readonly (readonly E[])[], maxRows: number): LengthWindow<E> {
  const sum: Sum = { rows: 0, real: 0, longest: 0 };
  const entries: E[] = [];
  const seen: E[] = [];
  for (const place of places) {
    if (place.length === 0) continue;
    const waiting = place.slice(0, LOOK_AHEAD * maxRows);
    for (const entry of waiting) seen.push(entry);
    if (entries.length === 0) {
      const head = waiting.shift()!;
      add(sum, head);
      entries.push(head);
    }
    for (const entry of join(sum, waiting, maxRows)) entries.push(entry);
    if (sum.rows === maxRows) break;
  }
  return { entries, seen, longest: sum.longest, overflow: overflowOf(sum, entries, seen, maxRows) };
}

/** Adds to `sum` those of `waiting` that make the largest batch with what is in it already, and gives them in their order. */
function join<E extends Lengths>(sum: Sum, waiting: readonly E[], maxRows: number): E[] {
  const count = waiting.length;
  if (count === 0 || sum.rows === maxRows) return [];
  const order = longestFirst(waiting);
  const rows = new Float64Array(count + 1);
  const real = new Float64Array(count + 1);
  for (let i = 0; i < count; i++) {
    const entry = waiting[order[i]!]!;
    rows[i + 1] = rows[i]! + entry.rows;
    real[i + 1] = real[i]! + realTokens(entry);
  }
  const tokensAt = (i: number): number => waiting[order[i]!]!.tokens;
  const rowsIn = (from: number, to: number): number => sum.rows + rows[to]! - rows[from]!;
  const realIn = (from: number, to: number): number => sum.real + real[to]! - real[from]!;

  let best = { from: 0, to: 0, rows: sum.rows, filled: sum.real / Math.max(1, sum.longest) };
  for (let from = 0; from < count; from++) {
    if (rowsIn(from, count) < best.rows) break;
    const own = tokensAt(from);
    if (from > 0 && own > sum.longest && own === tokensAt(from - 1)) continue; // the first of its length has all choices of this one
    const longest = Math.max(sum.longest, own);
    const isGood = (to: number): boolean => isWorth(realIn(from, to), rowsIn(from, to), longest);
    let to = lastWhere(from, count, (end) => rowsIn(from, end) <= maxRows);
    if (!isGood(to)) {
      // Rows longer than this mend the share of padding, shorter ones worsen it: the limit is among the shorter.
      const mending = lastWhere(from, to, (end) => isWorth(tokensAt(end - 1), 1, longest));
      to = isGood(mending) ? lastWhere(mending, to, isGood) : from;
    }
    const total = rowsIn(from, to);
    const filled = realIn(from, to) / Math.max(1, longest);
    if (to > from && (total > best.rows || (total === best.rows && filled > best.filled))) {
      best = { from, to, rows: total, filled };
    }
    if (own <= sum.longest) break; // nothing shorter can be the longest
  }

  const joined = new Set(order.slice(best.from, best.to));
  for (const i of joined) add(sum, waiting[i]!);
  // Entries of several rows leave gaps that others fit into: those with the least padding first, so that one look at each is enough.
  if (rows[count]! > count) {
    const mean = (i: number): number => realTokens(waiting[i]!) / waiting[i]!.rows;
    const left = [...order].filter((i) => !joined.has(i));
    for (const i of left.sort((a, b) => mean(b) - mean(a) || a - b)) {
      const entry = waiting[i]!;
      if (entry.tokens > sum.longest || sum.rows + entry.rows > maxRows) continue;
      if (!isWorth(sum.real + realTokens(entry), sum.rows + entry.rows, sum.longest)) continue;
      joined.add(i);
      add(sum, entry);
    }
  }
  return waiting.filter((_, i) => joined.has(i));
}

/** Indexes by length, those of equal length in their order. As plain numbers, which sort ten times faster than by a function. */
function longestFirst(waiting: readonly Lengths[]): Float64Array {
  const count = waiting.length;
  const keys = new Float64Array(count);
  for (let i = 0; i < count; i++) keys[i] = i - waiting[i]!.tokens * count;
  keys.sort();
  for (let i = 0; i < count; i++) keys[i] = ((keys[i]! % count) + count) % count;
  return keys;
}

function overflowOf<E extends Lengths>(
  sum: Readonly<Sum>,
  entries: readonly E[],
  seen: readonly E[],
  maxRows: number,
): number {
  if (sum.rows === maxRows || entries.length === seen.length) return 0;
  const chosen = new Set(entries);
  for (const entry of seen) {
    if (chosen.has(entry) || sum.rows + entry.rows <= maxRows) continue;
    const longest = Math.max(sum.longest, entry.tokens);
    if (isWorth(sum.real + realTokens(entry), sum.rows + entry.rows, longest)) return entry.rows;
  }
  return 0;
}

/** Whether `rows` padded to `longest`, of which `real` tokens are no padding, keep the bound; in whole numbers, so exactly. */
function isWorth(real: number, rows: number, longest: number): boolean {
  return (rows * longest - real) * PADDING_ONE_IN <= rows * longest;
}

function add(sum: Sum, entry: Lengths): void {
  sum.rows += entry.rows;
  sum.real += realTokens(entry);
  sum.longest = Math.max(sum.longest, entry.tokens);
}

/** Tokens of an entry that are no padding. */
export function realTokens({ rows, tokens, rowTokens }: Lengths): number {
  if (rows === 1 || rowTokens === undefined) return rows * tokens;
  let sum = 0;
  for (const own of rowTokens) sum += own;
  return sum;
}

/** The last of `from`..`to` for which `holds`, which holds for `from` and, once it ends, no more. */
function lastWhere(from: number, to: number, holds: (end: number) => boolean): number {
  let good = from;
  let bad = to + 1;
  while (bad - good > 1) {
    const middle = (good + bad) >>> 1;
    if (holds(middle)) good = middle;
    else bad = middle;
  }
  return good;
}
