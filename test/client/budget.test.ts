import { expect, test } from 'vitest';
import { type Budget, budgetOf, type CallStamps, parseServerTiming } from '../../src/client/budget.js';

const stamps: CallStamps = { called: 10, began: 10, encoded: 11, sent: 13, firstByte: 20, lastByte: 22, decoded: 23 };
const sum = ({ phases }: Budget) => phases.reduce((total, { ms }) => total + ms, 0);
const named = ({ phases }: Budget) => Object.fromEntries(phases.map(({ name, ms }) => [name, ms]));

test('a Server-Timing value is its phases and its total; what has no duration is passed over', () => {
  expect(parseServerTiming('queue;dur=1.5, cache;desc="hit", compute; dur="2", total;dur=3.6')).toEqual({
    phases: [
      { name: 'queue', ms: 1.5 },
      { name: 'compute', ms: 2 },
    ],
    totalMs: 3.6,
  });
  expect(parseServerTiming('queue;dur=1.5')).toEqual({ phases: [{ name: 'queue', ms: 1.5 }], totalMs: 1.5 });
  for (const nothing of [undefined, '', 'miss', 'queue;dur=soon']) expect(parseServerTiming(nothing)).toBeUndefined();
});

test.each<[string, Partial<CallStamps>, string | undefined, Record<string, number>]>([
  ['no word of the server', {}, undefined, { encode: 1, send: 2, transit: 7, read: 2, decode: 1 }],
  [
    'its phases inside our wait',
    {},
    'queue;dur=1, compute;dur=4, total;dur=5',
    { send: 2, queue: 1, compute: 4, transit: 2 },
  ],
  ['a total without phases', {}, 'total;dur=5', { other: 5, transit: 2 }],
  ['a total beyond its phases', {}, 'compute;dur=4, total;dur=5', { compute: 4, other: 1, transit: 2 }],
  ['it read while we wrote', {}, 'compute;dur=8', { send: 1, compute: 8, transit: 0, read: 2 }],
  ['it computed behind its first byte', {}, 'compute;dur=10', { send: 0, compute: 10, transit: 0, read: 1 }],
  ['it says more than there was', {}, 'compute;dur=12', { encode: 1, send: 2, transit: 7, read: 2, decode: 1 }],
  ['digits cut off', {}, 'queue;dur=1, compute;dur=4, total;dur=5.004', { queue: 1, compute: 4, transit: 2 }],
  ['earlier tries', { called: 4 }, undefined, { retry: 6, encode: 1 }],
  ['metadata asked for', { called: 4, checked: 7 }, undefined, { check: 3, retry: 3, encode: 1 }],
])('the phases add up to what the caller waited: %s', (_, change, timing, expected) => {
  const budget = budgetOf({ ...stamps, ...change }, parseServerTiming(timing), 5, 6);
  expect(named(budget)).toMatchObject(expected);
  expect(sum(budget)).toBeCloseTo(budget.totalMs, 9);
  expect(budget.totalMs).toBe(23 - (change.called ?? 10));
  expect(budget.phases.every(({ ms }) => ms >= 0)).toBe(true);
  expect(budget).toMatchObject({ requestBytes: 5, responseBytes: 6 });
});
