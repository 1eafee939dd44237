import { expect, test } from 'vitest';
import { chunkTokens, FIRST_CHUNK, LEAST_CHUNK, nextPrompt, RunTimes } from '../../workers/step-policy.js';

/** Times of a model whose prefill run takes `fixedMs + n * msPerToken`. */
function learned(fixedMs: number, msPerToken: number, decodeMs: number, runs: readonly number[]): RunTimes {
  const times = new RunTimes();
  if (decodeMs > 0) times.decoded(decodeMs);
  for (const tokens of runs) times.prefilled(tokens, fixedMs + tokens * msPerToken);
  return times;
}

const MIXED = [128, 8, 64, 16, 32];

test.each([
  ['nobody runs: the whole prompt', 100, 0, learned(1, 1, 1, MIXED), 100],
  ['nobody runs: no more than a chunk', 1000, 0, learned(1, 1, 1, MIXED), 256],
  ['nothing is known of prefill', 1000, 1, learned(1, 1, 10, []), FIRST_CHUNK],
  ['nothing is known of decode', 1000, 1, learned(1, 1, 0, MIXED), FIRST_CHUNK],
  ['as much as 1.25 decode steps take', 1000, 1, learned(2, 0.1, 10, MIXED), 105],
  ['the same with a run that costs nothing by itself', 1000, 1, learned(0, 0.1, 10, MIXED), 125],
  ['runs of one length give a rate', 1000, 1, learned(2, 0.1, 10, [50, 50, 50]), 89],
  ['no run is much longer than those that are known', 1000, 1, learned(0, 0.1, 10, [20, 20, 20]), 40],
  ['a slow model gets a few tokens in all the same', 1000, 1, learned(50, 5, 10, MIXED), LEAST_CHUNK],
  ['a quick one no more than a chunk', 1000, 1, learned(0.1, 0.001, 10, MIXED), 256],
  ['a small rest goes along', 130, 1, learned(2, 0.1, 10, MIXED), 130],
  ['a larger one does not', 132, 1, learned(2, 0.1, 10, MIXED), 105],
  ['the last token alone', 1, 3, learned(2, 0.1, 10, MIXED), 1],
])('%s', (_name, remaining, running, times, expected) => {
  expect(chunkTokens({ remaining, running, spentMs: 0, prefillChunk: 256 }, times)).toBe(expected);
});

test('repeated runs of the length that was said come to the target, whatever was known before', () => {
  for (const [fixedMs, msPerToken] of [
    [2, 0.1],
    [0.5, 0.5],
    [8, 0.02],
  ] as const) {
    const times = learned(fixedMs, msPerToken, 10, [256]);
    let tokens = 0;
    for (let run = 0; run < 12; run++) {
      tokens = chunkTokens({ remaining: 100_000, running: 1, spentMs: 0, prefillChunk: 100_000 }, times);
      times.prefilled(tokens, fixedMs + tokens * msPerToken);
    }
    expect(fixedMs + tokens * msPerToken).toBeGreaterThan(11);
    expect(fixedMs + tokens * msPerToken).toBeLessThan(13);
  }
});

test('a decode step that gets slower is believed after a few', () => {
  const times = learned(0, 0.1, 10, MIXED);
  for (let step = 0; step < 20; step++) times.decoded(20);
  expect(times.decodeMs).toBeGreaterThan(19);
});

test('one step that was held up makes no difference to speak of', () => {
  const times = learned(0, 0.1, 10, MIXED);
  times.decoded(500);
  expect(times.decodeMs).toBeLessThanOrEqual(12);
});

test.each([3, 10, 100])(
  'one prefill run that took %s times as long, whichever it was, makes no difference to speak of',
  (times) => {
    const lengths = [128, 8, 64, 16, 32, 20];
    for (const [bad] of lengths.entries()) {
      const runs = learned(15, 4, 60, []);
      for (const [index, tokens] of lengths.entries())
        runs.prefilled(tokens, (15 + 4 * tokens) * (index === bad ? times : 1));
      const chunk = chunkTokens({ remaining: 1000, running: 8, spentMs: 0, prefillChunk: 256 }, runs);
      expect(chunk).toBeGreaterThanOrEqual(12);
      expect(chunk).toBeLessThanOrEqual(18);
    }
  },
);

test('the shortest prompt is next, but every fourth run is for the one that came first', () => {
  const turns = { passedOver: 0 };
  const prompts = [{ remaining: 500 }, { remaining: 40 }, { remaining: 30 }, { remaining: 30 }];
  const next = () => prompts.indexOf(nextPrompt(prompts, turns)!);
  expect([1, 2, 3, 4, 5, 6, 7, 8].map(next)).toEqual([2, 2, 2, 0, 2, 2, 2, 0]);
  prompts[0] = { remaining: 10 };
  expect([1, 2].map(next)).toEqual([0, 0]);
  expect(nextPrompt([], turns)).toBeUndefined();
});

test('what has passed since the last step is taken from the chunk, and a few tokens get in all the same', () => {
  const times = learned(2, 0.1, 10, MIXED);
  const chunk = (spentMs: number) => chunkTokens({ remaining: 1000, running: 8, spentMs, prefillChunk: 256 }, times);
  expect([0, 5, 12, 500].map(chunk)).toEqual([105, 55, LEAST_CHUNK, LEAST_CHUNK]);
});
