import { describe, expect, test } from 'vitest';
import { type Lengths, lengthWindow, realTokens } from '../../src/engine/length-window.js';

interface Text extends Lengths {
  readonly id: number;
}

let nextId = 0;
/** A number is a text of so many tokens, a list one request with several. */
const text = (lengths: number | number[]): Text => {
  const rowTokens = typeof lengths === 'number' ? [lengths] : lengths;
  return { id: nextId++, rows: rowTokens.length, tokens: Math.max(...rowTokens), rowTokens };
};
const show = ({ rows, rowTokens, tokens }: Text): number | number[] => (rows === 1 ? tokens : [...rowTokens!]);

const rowsOf = (entries: readonly Text[]) => entries.reduce((sum, { rows }) => sum + rows, 0);
function wasteOf(entries: readonly Text[]): number {
  const longest = Math.max(...entries.map(({ tokens }) => tokens));
  return 1 - entries.reduce((sum, entry) => sum + realTokens(entry), 0) / (rowsOf(entries) * longest);
}

interface Case {
  what: string;
  places: (number | number[])[][];
  maxRows?: number;
  expected: (number | number[])[];
  overflow?: number;
}

const cases: Case[] = [
  { what: 'nothing of nothing', places: [[], []], expected: [] },
  { what: 'one text alone', places: [[7]], expected: [7] },
  { what: 'texts of one length, the first to come', places: [[9, 9, 9, 9, 9, 9]], expected: [9, 9, 9, 9] },
  { what: 'what is much longer stays behind', places: [[10, 100, 10, 100, 10]], expected: [10, 10, 10] },
  { what: 'the head goes even where it is odd', places: [[100, 10, 10, 10, 10]], expected: [100] },
  {
    what: 'an odd head among enough others costs little',
    places: [[10, 100, 100, 100, 98]],
    maxRows: 8,
    expected: [10, 100, 100, 100, 98],
  }, // 18 %
  { what: 'and waits for nobody where they are too few', places: [[10, 100, 100]], expected: [10] },
  { what: 'a fifth is allowed', places: [[10, 6]], expected: [10, 6] },
  { what: 'more is not', places: [[100, 59]], expected: [100] },
  {
    what: 'of windows with as many rows the one with the least padding',
    places: [[50, 40, 55, 50, 50]],
    maxRows: 3,
    expected: [50, 50, 50],
  },
  {
    what: 'more rows count more than less padding',
    places: [[50, 50, 48, 47, 60]],
    maxRows: 5,
    expected: [50, 50, 48, 47, 60],
  },
  {
    what: 'the order of the queue is kept',
    places: [[20, 24, 22, 99, 23, 21]],
    maxRows: 5,
    expected: [20, 24, 22, 23, 21],
  },
  { what: 'of texts of one length the older', places: [[30, 28, 30, 30, 28]], maxRows: 3, expected: [30, 30, 30] },
  {
    what: 'a better place chooses first',
    places: [
      [10, 100],
      [10, 10, 10, 10],
    ],
    maxRows: 3,
    expected: [10, 10, 10],
  },
  {
    what: 'and is not pushed out by more of a worse one',
    places: [
      [10, 9],
      [8, 8, 8],
    ],
    maxRows: 2,
    expected: [10, 9],
  },
  { what: 'one request that wastes much by itself runs', places: [[[100, 2], 3, 100]], expected: [[100, 2]] },
  {
    what: 'with others where they mend it',
    places: [[[100, 2], 100, 100, 100]],
    maxRows: 5,
    expected: [[100, 2], 100, 100, 100],
  },
  {
    what: 'a request is never split, and a smaller one takes its room',
    places: [[[8, 8], [8, 8, 8], 8]],
    expected: [[8, 8], 8],
    overflow: 3,
  },
  { what: 'what is left out for its length does not make it full', places: [[8, [80, 80]]], maxRows: 2, expected: [8] },
];

describe('a window holds', () => {
  test.each(cases)('$what', ({ places, maxRows, expected, overflow }) => {
    const window = lengthWindow(
      places.map((place) => place.map(text)),
      maxRows ?? 4,
    );
    expect(window.entries.map(show)).toEqual(expected);
    expect(window.overflow).toBe(overflow ?? 0);
  });
});

/** Numbers from 0 to below 1, the same every time. */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

test('whatever waits: the head is in it, padding is a fifth at most, rows never pass the maximum, and nobody fits in besides', () => {
  const random = generator(1);
  const whole = (from: number, to: number) => from + Math.floor(random() * (to - from + 1));
  for (let run = 0; run < 3000; run++) {
    const maxRows = whole(1, 12);
    const several = random() < 0.5;
    const one = () =>
      text(
        Array.from({ length: several ? whole(1, Math.min(4, maxRows)) : 1 }, () => whole(1, random() < 0.5 ? 16 : 128)),
      );
    const places = Array.from({ length: whole(1, 3) }, () => Array.from({ length: whole(0, 20) }, one));
    const waiting = places.flat();
    const { entries, seen, longest, overflow } = lengthWindow(places, maxRows);
    if (waiting.length === 0) {
      expect(entries).toEqual([]);
      continue;
    }
    expect(entries[0]).toBe(waiting[0]);
    expect(rowsOf(entries)).toBeLessThanOrEqual(maxRows);
    expect(longest).toBe(Math.max(...entries.map(({ tokens }) => tokens)));
    if (entries.length > 1) expect(wasteOf(entries)).toBeLessThanOrEqual(0.2 + 1e-12);
    expect(new Set(entries).size).toBe(entries.length);
    const order = entries.map((entry) => waiting.indexOf(entry));
    expect(order).toEqual([...order].sort((a, b) => a - b));
    if (places.length > 1) continue; // what comes from a worse place can make room that is not looked for again
    for (const other of seen) {
      if (entries.includes(other) || other.tokens > longest || wasteOf([...entries, other]) > 0.2) continue;
      // Only its rows keep it out.
      expect(rowsOf(entries) + other.rows).toBeGreaterThan(maxRows);
      if (rowsOf(entries) < maxRows) expect(overflow).toBeGreaterThan(0);
    }
  }
});

test('no choice of single texts has more rows, nor as many and less padding', () => {
  const random = generator(2);
  for (let run = 0; run < 400; run++) {
    const waiting = Array.from({ length: 9 }, () => text(1 + Math.floor(random() * 40)));
    const maxRows = 3 + Math.floor(random() * 5); // all are looked at
    const { entries } = lengthWindow([waiting], maxRows);
    let best: Text[] = [waiting[0]!];
    for (let choice = 1; choice < 1 << waiting.length; choice += 2) {
      const chosen = waiting.filter((_, i) => choice & (1 << i));
      if (chosen.length > maxRows || wasteOf(chosen) > 0.2 + 1e-12) continue;
      if (chosen.length > best.length || (chosen.length === best.length && wasteOf(chosen) < wasteOf(best)))
        best = chosen;
    }
    expect(entries.length).toBe(best.length);
    expect(wasteOf(entries)).toBeCloseTo(wasteOf(best), 12);
  }
});

test('32 callers with texts of 4 to 128 tokens run in large batches with little padding, and everybody has a turn', () => {
  const random = generator(3);
  let waiting = Array.from({ length: 32 }, () => text(4 + Math.floor(random() * 125)));
  const born = new Map(waiting.map(({ id }) => [id, 0]));
  let [rows, real, computed, longestWait] = [0, 0, 0, 0];
  const batches = 2000;
  for (let batch = 1; batch <= batches; batch++) {
    const { entries, longest } = lengthWindow([waiting], 32);
    waiting = waiting.filter((entry) => !entries.includes(entry));
    for (const entry of entries) {
      rows++;
      real += entry.tokens;
      longestWait = Math.max(longestWait, batch - born.get(entry.id)!);
      const next = text(4 + Math.floor(random() * 125));
      born.set(next.id, batch);
      waiting.push(next);
    }
    computed += entries.length * longest;
  }
  expect(rows / batches).toBeGreaterThan(8);
  expect(1 - real / computed).toBeLessThan(0.2);
  expect(longestWait).toBeLessThan(32);
});
