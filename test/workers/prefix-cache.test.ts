import { expect, test } from 'vitest';
import type { SavedRow } from '../../workers/decoder-types.js';
import { commonPrefix, PrefixCache } from '../../workers/prefix-cache.js';

const saved = (tokens: Int32Array, bytesPerToken = 10): SavedRow => ({
  length: tokens.length,
  byteLength: tokens.length * bytesPerToken,
});
/** `length` tokens that differ from those of another seed. */
const text = (length: number, seed = 1): Int32Array =>
  Int32Array.from({ length }, (_, index) => (index * 31 + seed * 1009) % 997);
const joined = (...parts: Int32Array[]): Int32Array => Int32Array.from(parts.flatMap((part) => [...part]));

function cacheOf(rows: readonly Int32Array[], maxBytes = 100_000, canCut = true): PrefixCache {
  const cache = new PrefixCache(maxBytes, canCut);
  for (const tokens of rows) cache.add(tokens, saved(tokens));
  return cache;
}

const same = text(50);
test.each([
  ['all of a row', [same], joined(same, text(5, 2)), 50],
  [
    'the tokens that are the same and not only whole blocks',
    [joined(text(21), text(9, 2))],
    joined(text(21), text(9, 3)),
    21,
  ],
  ['the longest of several', [joined(text(16), text(9, 2)), text(30), joined(text(20), text(9, 2))], text(40), 30],
  ['never all: the last token is left to run', [same], same, 49],
  ['nothing below a block', [joined(text(7), text(9, 2))], text(40), 0],
  ['nothing of another text', [text(50, 2)], text(50), 0],
])('finds %s', (_name, rows, prompt, expected) => {
  expect(cacheOf(rows).find(prompt, prompt.length - 1)?.length ?? 0).toBe(expected);
});

test('finds what a comparison of all rows finds, for random texts of few different tokens', () => {
  let state = 1;
  const random = (below: number): number => ((state = (Math.imul(state, 1103515245) + 12345) >>> 0) >>> 8) % below;
  const rows: Int32Array[] = [];
  const beginnings = [text(24, 1), text(40, 2), text(8, 3)];
  const draw = (): Int32Array =>
    joined(
      beginnings[random(3)]!,
      Int32Array.from({ length: random(20) }, () => random(2)),
    );
  const cache = new PrefixCache(1e9, true);
  for (let round = 0; round < 300; round++) {
    const prompt = draw();
    const most = prompt.length - 1;
    const longest = Math.max(0, ...rows.slice(-6).map((row) => commonPrefix(row, prompt, most)));
    // Rows that a newer one goes on from are dropped, and only the newest of many alike are compared: so at least as long as the newest.
    const found = cache.find(prompt, most);
    expect(found?.length ?? 0).toBeGreaterThanOrEqual(longest < 8 ? 0 : longest);
    if (found) expect(rows.some((row) => commonPrefix(row, prompt, most) >= found.length)).toBe(true);
    const row = draw();
    rows.push(row);
    cache.add(row, saved(row));
  }
});

test('rows that are used least lately go first, and the bytes are never more than allowed', () => {
  const cache = cacheOf([text(20, 1), text(20, 2), text(20, 3)], 600);
  expect(cache.bytes).toBe(600);
  expect(cache.find(text(20, 1), 19)?.length).toBe(19);
  cache.add(text(20, 4), saved(text(20, 4)));
  expect(cache.bytes).toBe(600);
  expect([1, 2, 3, 4].map((seed) => cache.find(text(20, seed), 19)?.length ?? 0)).toEqual([19, 0, 19, 19]);
});

test('a row that is larger than all that may be kept is not, and displaces nothing', () => {
  const cache = cacheOf([text(20, 1)], 600);
  expect(cache.wants(text(61, 2), 610)).toBe(false);
  cache.add(text(61, 2), saved(text(61, 2)));
  expect(cache.find(text(20, 1), 19)?.length).toBe(19);
  expect(cache.size).toBe(1);
});

test('nothing is kept with no bytes allowed', () => {
  const cache = cacheOf([text(20)], 0);
  expect(cache.size).toBe(0);
  expect(cache.find(text(20), 19)).toBeUndefined();
});

test('a row that goes on from a kept one takes its place, and one that is covered is not wanted', () => {
  const cache = cacheOf([text(20), text(40)]);
  expect(cache.size).toBe(1);
  expect(cache.bytes).toBe(400);
  expect(cache.wants(text(30), 300)).toBe(false);
  expect(cache.wants(joined(text(30), text(3, 2)), 330)).toBe(true);
  expect(cache.wants(text(7), 70)).toBe(false);
});

test('rows that can not be cut are found whole or not at all', () => {
  const cache = cacheOf([text(30), text(16), joined(text(24), text(9, 2))], 100_000, false);
  expect(cache.size).toBe(3);
  expect(cache.find(text(40), 39)?.length).toBe(30);
  expect(cache.find(text(29), 28)?.length).toBe(16);
  expect(cache.find(text(16), 15)).toBeUndefined();
});

test('a row whose neighbours have gone is still found', () => {
  const a = joined(text(24), text(8, 2));
  const b = joined(text(24), text(8, 3));
  const cache = cacheOf([a, b], 640);
  cache.find(a, 31);
  cache.add(text(20, 9), saved(text(20, 9)));
  expect(cache.find(joined(text(24), text(8, 7)), 31)?.length).toBe(24);
});

test('a look-up among thousands of rows with the same beginning compares only a few', () => {
  const rows = Array.from({ length: 3000 }, (_, index) => joined(text(64), text(8, index + 2)));
  const cache = cacheOf(rows, 1e9);
  expect(cache.find(joined(text(64), text(8, 1)), 71)?.length).toBeGreaterThanOrEqual(64);
  cache.clear();
  expect(cache.size + cache.bytes).toBe(0);
  expect(cache.find(rows[0]!, 71)).toBeUndefined();
});
