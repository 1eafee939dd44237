import { describe, expect, test } from 'vitest';
import { type BatchPolicy, decide } from '../../src/engine/batcher.js';

const NEVER = Number.POSITIVE_INFINITY;
const policy = (over: Partial<BatchPolicy> = {}): BatchPolicy => ({
  maxBatchSize: 8,
  dynamic: true,
  preferredBatchSizes: [8],
  maxQueueDelayMs: 0,
  mayPrepare: true,
  ...over,
});

interface Case {
  what: string;
  rows: number[];
  policy?: Partial<BatchPolicy>;
  /** Time since the oldest was queued. */
  waitedMs?: number;
  deadlineInMs?: number;
  computeMs?: number;
  fullOnly?: boolean;
  expected: number | 'idle' | { waitMs: number };
}

const ones = (count: number) => new Array<number>(count).fill(1);
const now = 1000;

const cases: Case[] = [
  { what: 'nothing waits', rows: [], expected: 'idle' },
  { what: 'a request runs at once at an idle worker', rows: [1], expected: 1 },
  { what: 'what waits runs together', rows: ones(5), expected: 5 },
  { what: 'a batch never passes the maximum', rows: ones(20), expected: 8 },
  { what: 'a request is never split', rows: [3, 3, 3], expected: 2 },
  { what: 'a request as large as the maximum runs alone', rows: [8, 1], expected: 1 },
  { what: 'without dynamic batching requests run one by one', rows: ones(5), policy: { dynamic: false }, expected: 1 },
  {
    what: 'a delay is waited out',
    rows: ones(3),
    policy: { maxQueueDelayMs: 5 },
    waitedMs: 2,
    expected: { waitMs: 3 },
  },
  { what: 'a delay ends for the oldest', rows: ones(3), policy: { maxQueueDelayMs: 5 }, waitedMs: 5, expected: 3 },
  { what: 'a full batch does not wait', rows: ones(8), policy: { maxQueueDelayMs: 5 }, expected: 8 },
  {
    what: 'a batch that the next request would overflow does not wait',
    rows: [5, 4],
    policy: { maxQueueDelayMs: 5 },
    expected: 1,
  },
  {
    what: 'a preferred size is sent as soon as it is there',
    rows: ones(4),
    policy: { preferredBatchSizes: [4, 8], maxQueueDelayMs: 5 },
    expected: 4,
  },
  {
    what: 'the largest preferred size that is there is taken',
    rows: ones(7),
    policy: { preferredBatchSizes: [2, 4, 8] },
    expected: 4,
  },
  {
    what: 'a preferred size is held exactly when more wait',
    rows: ones(20),
    policy: { preferredBatchSizes: [6] },
    expected: 6,
  },
  {
    what: 'a preferred size is held exactly also after the delay',
    rows: ones(5),
    policy: { preferredBatchSizes: [4], maxQueueDelayMs: 5 },
    waitedMs: 9,
    expected: 4,
  },
  {
    what: 'after the delay fewer than any preferred size go',
    rows: ones(3),
    policy: { preferredBatchSizes: [4], maxQueueDelayMs: 5 },
    waitedMs: 9,
    expected: 3,
  },
  {
    what: 'a preferred size is made of whole requests',
    rows: [3, 2, 1],
    policy: { preferredBatchSizes: [4, 5], maxBatchSize: 5 },
    expected: 2,
  },
  {
    what: 'no delay past the last moment for a deadline',
    rows: [1],
    policy: { maxQueueDelayMs: 100 },
    deadlineInMs: 30,
    computeMs: 20,
    expected: { waitMs: 9 },
  },
  {
    what: 'a deadline that presses ends the delay',
    rows: [1],
    policy: { maxQueueDelayMs: 100 },
    deadlineInMs: 15,
    computeMs: 20,
    expected: 1,
  },
  {
    what: 'behind a running batch nothing that could still grow is sent',
    rows: ones(7),
    fullOnly: true,
    expected: 'idle',
  },
  { what: 'behind a running batch a full one is prepared', rows: ones(9), fullOnly: true, expected: 8 },
  {
    what: 'behind a running batch a single request waits when there is no batching',
    rows: [1],
    policy: { dynamic: false },
    fullOnly: true,
    expected: 'idle',
  },
];

describe('decide', () => {
  test.each(cases)(
    '$what',
    ({ rows, policy: over, waitedMs = 0, deadlineInMs = NEVER, computeMs = 0, fullOnly = false, expected }) => {
      const group = { rows, oldestMs: now - waitedMs, tightestDeadlineMs: now + deadlineInMs };
      const decision = decide(group, now, policy(over), () => computeMs, fullOnly);
      if (expected === 'idle') expect(decision).toEqual({ kind: 'idle' });
      else if (typeof expected === 'number') expect(decision).toEqual({ kind: 'dispatch', count: expected });
      else expect(decision).toEqual({ kind: 'wait', untilMs: now + expected.waitMs });
    },
  );

  test('never dispatches more than the maximum or nothing, whatever waits', () => {
    let seed = 7;
    const random = (below: number) => (seed = (seed * 1103515245 + 12345) % 2 ** 31) % below;
    for (let round = 0; round < 5000; round++) {
      const maxBatchSize = 1 + random(16);
      const rows = Array.from({ length: random(20) }, () => 1 + random(maxBatchSize));
      const preferred = [...new Set(Array.from({ length: random(4) }, () => 1 + random(maxBatchSize)))].sort(
        (a, b) => a - b,
      );
      const decision = decide(
        { rows, oldestMs: now - random(20), tightestDeadlineMs: now + random(50) },
        now,
        { maxBatchSize, dynamic: true, preferredBatchSizes: preferred, maxQueueDelayMs: random(20), mayPrepare: true },
        (n) => n,
        random(2) === 1,
      );
      if (decision.kind !== 'dispatch') continue;
      const sum = rows.slice(0, decision.count).reduce((a, b) => a + b, 0);
      expect(decision.count).toBeGreaterThan(0);
      expect(sum, `round ${round}`).toBeLessThanOrEqual(maxBatchSize);
      const exact = rows.slice(0, decision.count + 1).reduce((a, b) => a + b, 0) <= maxBatchSize;
      // Where it could have taken one more, it stopped for a preferred size or because that was all.
      if (exact && decision.count < rows.length) expect(preferred.includes(sum), `round ${round}`).toBe(true);
    }
  });
});
