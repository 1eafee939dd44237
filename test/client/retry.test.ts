import { expect, test } from 'vitest';
import { type FailedTry, nextTry, parsePushback, retryPolicy } from '../../src/client/retry.js';
import type { RetryOptions } from '../../src/client/types.js';

const failed = (change: Partial<FailedTry>): FailedTry => ({
  attempt: 1,
  code: 'UNAVAILABLE',
  pushbackMs: undefined,
  remainingMs: Number.POSITIVE_INFINITY,
  options: retryPolicy({ attempts: 10 }),
  random: () => 0,
  ...change,
});

test.each<[string, Partial<FailedTry>, number | undefined]>([
  ['the first wait', {}, 50],
  ['the second wait is double', { attempt: 2 }, 100],
  ['the fifth', { attempt: 5 }, 800],
  ['the longest', { attempt: 9 }, 2000],
  ['chance takes up to half of it', { random: () => 0.999 }, 50 * (1 - 0.4995)],
  ['no more than the tries allowed', { attempt: 10 }, undefined],
  ['a single try is never repeated', { options: retryPolicy({ attempts: 1 }) }, undefined],
  ['a wait inside the deadline', { remainingMs: 50.5 }, 50],
  ['a wait that takes the deadline', { remainingMs: 50 }, undefined],
  ['after the deadline', { remainingMs: -1 }, undefined],
  ['pushback counts instead, and is not jittered', { pushbackMs: 7, random: () => 0.9 }, 7],
  ['pushback of nothing', { pushbackMs: 0 }, 0],
  ['pushback beyond the longest wait', { pushbackMs: 60_000 }, 60_000],
  ['pushback beyond the deadline', { pushbackMs: 60_000, remainingMs: 1000 }, undefined],
  ['negative pushback forbids', { pushbackMs: -1 }, undefined],
  ['unreadable pushback forbids', { pushbackMs: Number.NaN }, undefined],
  ['pushback does not give more tries', { pushbackMs: 7, attempt: 10 }, undefined],
  ['a full server that says nothing', { code: 'RESOURCE_EXHAUSTED' }, undefined],
  ['a full server that says when', { code: 'RESOURCE_EXHAUSTED', pushbackMs: 20 }, 20],
  ['an abort that says when', { code: 'ABORTED', pushbackMs: 20 }, 20],
  ['a refusal, whatever it says', { code: 'INVALID_ARGUMENT', pushbackMs: 20 }, undefined],
  ['a deadline, whatever it says', { code: 'DEADLINE_EXCEEDED', pushbackMs: 20 }, undefined],
  ['a bug of the server', { code: 'INTERNAL' }, undefined],
])('%s', (_, change, delayMs) => {
  expect(nextTry(failed(change))).toBe(delayMs);
});

test('options that are left out, or said to be undefined, are by default', () => {
  const byDefault = { attempts: 3, initialBackoffMs: 50, maxBackoffMs: 2000 };
  expect(retryPolicy(undefined)).toEqual(byDefault);
  const undefinedOnes = { attempts: undefined, initialBackoffMs: undefined } as unknown as RetryOptions;
  expect(retryPolicy(undefinedOnes)).toEqual(byDefault);
  expect(retryPolicy({ ...undefinedOnes, maxBackoffMs: 7 })).toEqual({ ...byDefault, maxBackoffMs: 7 });
});

test.each<[string | undefined, number | undefined]>([
  [undefined, undefined],
  ['0', 0],
  ['250', 250],
  ['-1', -1],
  ['', Number.NaN],
  ['soon', Number.NaN],
  ['1.5', Number.NaN],
])('a pushback of %s is read as %s', (value, expected) => {
  expect(parsePushback(value)).toBe(expected);
});
