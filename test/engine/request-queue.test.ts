import { describe, expect, test } from 'vitest';
import { Timeline } from '../../src/base/timeline.js';
import type { BatchPolicy } from '../../src/engine/batcher.js';
import type { Entry } from '../../src/engine/entry.js';
import { RequestQueue } from '../../src/engine/request-queue.js';

const POLICY: BatchPolicy = {
  maxBatchSize: 4,
  dynamic: true,
  preferredBatchSizes: [4],
  maxQueueDelayMs: 0,
  mayPrepare: true,
};

const NO_TIMES = { estimateMs: () => 0 };

interface Over {
  queued?: number;
  group?: string;
  level?: number;
  bytes?: number;
  rows?: number;
  /** Made from text, so many tokens long. */
  tokens?: number;
  deadlineMs?: number;
}

function entry(over: Over = {}): Entry {
  const timeline = new Timeline(0);
  timeline.queued = over.queued ?? 1;
  return {
    request: {
      modelName: 'm',
      modelVersion: '',
      id: '',
      inputs: [],
      outputs: [],
      parameters: new Map(),
      arm: 'grpc_raw',
      deadlineMs: over.deadlineMs ?? Number.POSITIVE_INFINITY,
      timeline,
    },
    handler: { onResponse: () => undefined, onError: () => undefined },
    rows: over.rows ?? 1,
    data: [],
    dims: [],
    outputs: [],
    inputTokens: undefined,
    rowTokens: over.tokens === undefined ? undefined : new Array<number>(over.rows ?? 1).fill(over.tokens),
    tokens: over.tokens ?? 0,
    groupKey: over.group ?? '',
    byteLength: over.bytes ?? 10,
    level: over.level ?? 1,
    expiresMs: Number.POSITIVE_INFINITY,
    timeoutAction: 'REJECT',
    state: 'queued',
    timer: undefined,
    delayed: false,
    alone: false,
  };
}

const queueOf = (bounds: { count?: number; bytes?: number; levels?: number } = {}) =>
  new RequestQueue({ maxCount: () => bounds.count ?? 0, maxBytes: bounds.bytes ?? 0 }, bounds.levels ?? 1);

function proposed(queue: RequestQueue, policy: Partial<BatchPolicy> = {}, now = 10): readonly Entry[] {
  const proposal = queue.propose(now, { ...POLICY, ...policy }, NO_TIMES, false);
  return proposal.kind === 'dispatch' ? proposal.entries : [];
}

test('only requests of one group run together, the group of the oldest first', () => {
  const queue = queueOf();
  const [a1, b1, a2] = [
    entry({ group: 'a', queued: 1 }),
    entry({ group: 'b', queued: 2 }),
    entry({ group: 'a', queued: 3 }),
  ];
  for (const one of [a1, b1, a2]) queue.push(one, 'm');
  expect(proposed(queue)).toEqual([a1, a2]);
  queue.remove(a1);
  queue.remove(a2);
  expect(proposed(queue)).toEqual([b1]);
});

test('a group that waits for company does not hold up one that is full', () => {
  const queue = queueOf();
  queue.push(entry({ group: 'odd', queued: 1 }), 'm');
  const full = Array.from({ length: 4 }, (_, i) => entry({ group: 'full', queued: 2 + i }));
  for (const one of full) queue.push(one, 'm');
  expect(proposed(queue, { maxQueueDelayMs: 1000 })).toEqual(full);
});

test('a higher level goes first within a group and between groups', () => {
  const queue = queueOf({ levels: 2 });
  const [low, other, high] = [
    entry({ level: 2, queued: 1 }),
    entry({ level: 2, group: 'x', queued: 2 }),
    entry({ level: 1, group: 'x', queued: 3 }),
  ];
  for (const one of [low, other, high]) queue.push(one, 'm');
  expect(proposed(queue)).toEqual([high, other]);
});

test('a delayed request goes behind all others of its level, later ones and other groups too', () => {
  const queue = queueOf();
  const [first, second, other, third] = [
    entry({ queued: 1 }),
    entry({ queued: 2 }),
    entry({ group: 'x', queued: 3 }),
    entry({ queued: 4 }),
  ];
  queue.push(first, 'm');
  queue.delay(first);
  expect(proposed(queue)).toEqual([first]);
  for (const one of [second, other, third]) queue.push(one, 'm');
  expect(proposed(queue)).toEqual([second, third, first]);
  queue.remove(second);
  queue.remove(third);
  expect(proposed(queue)).toEqual([other]);
  queue.remove(other);
  queue.remove(first);
  expect([queue.count, queue.bytes]).toEqual([0, 0]);
});

test('behind a running batch only the group whose turn it is may go', () => {
  const queue = queueOf();
  queue.push(entry({ group: 'odd', queued: 1 }), 'm');
  for (let i = 0; i < 5; i++) queue.push(entry({ group: 'full', queued: 2 + i }), 'm');
  expect(queue.propose(10, POLICY, NO_TIMES, true).kind).toBe('idle');
  expect(proposed(queue)).toHaveLength(1);
});

test('the bound on the count is exact at zero, at the bound and one past it', () => {
  const queue = queueOf({ count: 2 });
  queue.push(entry(), 'm');
  queue.push(entry(), 'm');
  expect(() => queue.push(entry(), 'm')).toThrow("Exceeds maximum queue size (2) of model 'm'");
  expect(queue.count).toBe(2);
  const [head] = proposed(queue);
  queue.remove(head!);
  queue.push(entry(), 'm');
  expect(queue.count).toBe(2);
});

test('the bound on bytes is exact, but an empty queue takes one request of any size', () => {
  const queue = queueOf({ bytes: 100 });
  const huge = entry({ bytes: 1000 });
  queue.push(huge, 'm');
  expect(() => queue.push(entry({ bytes: 1 }), 'm')).toThrow('Exceeds maximum queue size in bytes (100)');
  queue.remove(huge);
  queue.push(entry({ bytes: 60 }), 'm');
  queue.push(entry({ bytes: 40 }), 'm');
  expect(queue.bytes).toBe(100);
  expect(() => queue.push(entry({ bytes: 1 }), 'm')).toThrow('Exceeds maximum queue size in bytes');
});

test('levels have bounds of their own', () => {
  const queue = new RequestQueue({ maxCount: (level) => level, maxBytes: 0 }, 2);
  queue.push(entry({ level: 1 }), 'm');
  expect(() => queue.push(entry({ level: 1 }), 'm')).toThrow('Exceeds maximum queue size (1)');
  queue.push(entry({ level: 2 }), 'm');
  queue.push(entry({ level: 2 }), 'm');
  expect(() => queue.push(entry({ level: 2 }), 'm')).toThrow('Exceeds maximum queue size (2)');
});

test('a request of a failed batch runs alone and before all others', () => {
  const queue = queueOf({ count: 1 });
  queue.push(entry(), 'm');
  const again = { ...entry(), alone: true };
  queue.pushAlone(again);
  expect(proposed(queue)).toEqual([again]);
  queue.remove(again);
  expect(proposed(queue)).toHaveLength(1);
});

test('removing what is not there changes nothing', () => {
  const queue = queueOf();
  const one = entry();
  queue.push(one, 'm');
  queue.remove(entry());
  queue.remove(one);
  queue.remove(one);
  expect([queue.count, queue.bytes]).toEqual([0, 0]);
});

describe('of texts', () => {
  /** A queue with single texts of these lengths, and the lengths of what it proposes. */
  const texts = (lengths: readonly number[], over: Over = {}) => {
    const queue = queueOf();
    const entries = lengths.map((tokens, i) => entry({ group: 'text;', tokens, queued: i + 1, ...over }));
    for (const one of entries) queue.push(one, 'm');
    return { queue, entries };
  };
  const lengthsOf = (entries: readonly Entry[]) => entries.map(({ tokens }) => tokens);

  test('those of similar length run together, the others as soon as the oldest of them is first', () => {
    const { queue } = texts([10, 90, 10, 10, 100, 9, 100]);
    const batches: number[][] = [];
    while (queue.count > 0) {
      const batch = proposed(queue);
      batches.push(lengthsOf(batch));
      queue.take(batch);
    }
    expect(batches).toEqual([
      [10, 10, 10, 9],
      [90, 100, 100],
    ]);
    expect(queue.bytes).toBe(0);
  });

  test('taking from the middle leaves the others in their order', () => {
    const { queue, entries } = texts([10, 90, 10, 50, 10, 70, 10, 51]);
    queue.take(proposed(queue));
    expect(queue.entries()).toEqual([entries[1], entries[3], entries[5], entries[7]]);
    expect([queue.count, queue.bytes]).toEqual([4, 40]);
  });

  test('entries are taken from every level they were in', () => {
    const queue = queueOf({ levels: 2 });
    const [low, high, late] = [
      entry({ level: 2, tokens: 8 }),
      entry({ level: 1, tokens: 8 }),
      entry({ level: 1, tokens: 8 }),
    ];
    for (const one of [low, high, late]) queue.push(one, 'm');
    queue.delay(late);
    expect(proposed(queue)).toEqual([high, late, low]);
    queue.take([high, late, low]);
    expect([queue.count, queue.entries()]).toEqual([0, []]);
  });

  test('a few of like length wait for company, but not at an idle worker when more wait than a batch holds', () => {
    const slow = { maxQueueDelayMs: 100 };
    expect(proposed(texts([10, 100, 10]).queue, slow)).toEqual([]);
    expect(lengthsOf(proposed(texts([10, 100, 10, 101]).queue, slow))).toEqual([10, 10]);
  });

  test('only a full batch goes behind a running one, not what others are too long for', () => {
    const behind = ({ queue }: ReturnType<typeof texts>) => queue.propose(10, POLICY, NO_TIMES, true);
    expect(behind(texts([10, 10, 10])).kind).toBe('idle');
    expect(behind(texts([10, 100, 10, 100, 10, 100])).kind).toBe('idle');
    expect(behind(texts([10, 100, 10, 100, 10, 10])).kind).toBe('dispatch');
  });

  test('one that only its rows keep out makes the batch full', () => {
    const { queue } = texts([10, 10, 10]);
    queue.push(entry({ group: 'text;', tokens: 10, rows: 2 }), 'm');
    expect(lengthsOf(proposed(queue, { maxQueueDelayMs: 100 }))).toEqual([10, 10, 10]);
  });

  test('a preferred size is a window of its own', () => {
    const { queue } = texts([10, 12, 12, 12, 12]);
    const policy = { preferredBatchSizes: [2, 4], maxBatchSize: 5 };
    expect(lengthsOf(proposed(queue, policy))).toEqual([10, 12, 12, 12]);
    queue.take(proposed(queue, policy));
    queue.push(entry({ group: 'text;', tokens: 12, queued: 6 }), 'm');
    queue.push(entry({ group: 'text;', tokens: 11, queued: 7 }), 'm');
    expect(lengthsOf(proposed(queue, policy))).toEqual([12, 12]);
  });

  test('the deadline of one that is left out ends the waiting of the others', () => {
    const { queue } = texts([10, 10]);
    queue.push(entry({ group: 'text;', tokens: 100, deadlineMs: 30 }), 'm');
    const policy = { ...POLICY, maxQueueDelayMs: 100 };
    const times = { estimateMs: (rows: number, longest: number) => (rows * longest) / 4 };
    expect(queue.propose(10, policy, times, false)).toEqual({ kind: 'wait', untilMs: 24 });
    expect(queue.propose(24, policy, times, false).kind).toBe('dispatch');
  });

  test('without dynamic batching they run one by one', () => {
    expect(lengthsOf(proposed(texts([10, 10]).queue, { dynamic: false }))).toEqual([10]);
  });
});
