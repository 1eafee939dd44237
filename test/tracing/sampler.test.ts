import { expect, test } from 'vitest';
import { Sampler } from '../../src/tracing/sampler.js';
import { randomWord, type TraceId } from '../../src/tracing/trace-context.js';

const parent = (flags: number, traceId: TraceId = [1, 2, 3, 4]) => ({ traceId, spanId: [5, 6] as const, flags });

test('a ratio of 0 takes no trace and a ratio of 1 all', () => {
  const none = new Sampler({ ratio: 0, parentBased: true });
  const all = new Sampler({ ratio: 1, parentBased: true });
  for (const [high, low] of [
    [0, 0],
    [0xffff_ffff, 0xffff_ffff],
    [0x00ff_ffff, 0],
  ] as const) {
    expect(none.root(high, low)).toBe(false);
    expect(all.root(high, low)).toBe(true);
  }
});

test('a ratio takes about its share of random traces', () => {
  const sampler = new Sampler({ ratio: 0.1, parentBased: true });
  let taken = 0;
  for (let i = 0; i < 100_000; i++) if (sampler.root(randomWord(), randomWord())) taken++;
  expect(taken).toBeGreaterThan(9_000);
  expect(taken).toBeLessThan(11_000);
});

test('whatever a smaller ratio takes a larger one takes, too', () => {
  const small = new Sampler({ ratio: 0.2, parentBased: true });
  const large = new Sampler({ ratio: 0.3, parentBased: true });
  for (let i = 0; i < 10_000; i++) {
    const [high, low] = [randomWord(), randomWord()];
    if (small.root(high, low)) expect(large.root(high, low)).toBe(true);
  }
});

test("a parent's decision is followed where the sampler says so, else the ratio decides", () => {
  const following = new Sampler({ ratio: 0, parentBased: true });
  expect([following.child(parent(1)), following.child(parent(0))]).toEqual([true, false]);
  const own = new Sampler({ ratio: 1, parentBased: false });
  expect([own.child(parent(1)), own.child(parent(0))]).toEqual([true, true]);
});
