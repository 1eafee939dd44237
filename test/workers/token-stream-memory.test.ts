/** How streams share memory that is not enough for all of them to their ends. */
import { afterEach, expect, test } from 'vitest';
import { FLAG_END, FLAG_TOKEN } from '../../src/runtime/generation-messages.js';
import type { StepLoopOptions } from '../../workers/token-stream.js';
import { expectedTokens, MemoryDecoder, type MemoryDecoderOptions } from '../support/memory-decoder.js';
import { type Heard, LoopHarness, type StartOptions } from '../support/step-loop.js';

let harness: LoopHarness<MemoryDecoder>;
/** Most tokens that rows and saved rows had between two runs, and most streams of a step. */
let [most, together] = [0, 0];

function open(capacity: number, spec: Partial<StepLoopOptions['spec']> = {}, decoder: MemoryDecoderOptions = {}): void {
  const model = new MemoryDecoder({ capacity, ...decoder });
  harness = new LoopHarness(model, spec, () => model.nowMs);
  [most, together] = [0, 0];
  harness.onBetween = watch;
}

function watch(): void {
  most = Math.max(most, (harness.decoder.usedBytes + harness.decoder.besideBytes) / 4);
  const run = harness.decoder.runs.at(-1);
  if (run?.kind === 'decode') together = Math.max(together, run.size);
}

afterEach(async () => {
  await harness.close();
  expect(harness.decoder.rows.size).toBe(0);
  expect(harness.decoder.besideBytes).toBe(0);
});

const prompt = (length: number, seed = 1): number[] =>
  Array.from({ length }, (_, index) => 1 + ((index * 7 + seed * 13) % 59));

interface Asked {
  readonly heard: Heard;
  readonly prompt: readonly number[];
  readonly maxTokens: number;
}

function ask(tokens: readonly number[], maxTokens: number, options: StartOptions = {}): Asked {
  return { heard: harness.start(tokens, { ...options, sampling: { maxTokens } }), prompt: tokens, maxTokens };
}

function expectWhole({ heard, prompt, maxTokens }: Asked): void {
  expect(heard.last).toBe(FLAG_TOKEN | FLAG_END);
  expect(heard.tokens).toEqual(expectedTokens(prompt, maxTokens));
}

test('a stream that can never have room is refused and says what it needs', async () => {
  open(100);
  const never = harness.start(prompt(50), { sampling: { maxTokens: 51 } });
  const fits = ask(prompt(50), 50);
  await harness.settled();
  expect(never.details[0]!.failure).toMatchObject({ code: 'RESOURCE_EXHAUSTED' });
  expect(never.details[0]!.failure!.message).toMatch(
    /^a prompt of 50 tokens and up to 51 more need 0.0 MB of keys and values/,
  );
  expectWhole(fits);
});

test('streams that could fill the memory each run together while they are short', async () => {
  open(600);
  const streams = [1, 2, 3, 4, 5, 6].map((seed) => ask(prompt(10, seed), 500));
  let cancelled = false;
  harness.onBetween = () => {
    watch();
    // As most texts, they end before the length that they may have.
    if (cancelled || streams[0]!.heard.tokens.length < 60) return;
    cancelled = true;
    for (const { heard } of streams) harness.tell(() => harness.loop.cancel(heard.number));
  };
  await harness.settled();
  expect(together).toBe(6);
  for (const { heard, prompt } of streams) {
    expect(heard.tokens.length).toBeGreaterThan(50);
    expect(heard.tokens).toEqual(expectedTokens(prompt, heard.tokens.length));
  }
  expect(harness.gauge('preemptions')).toBe(0);
});

test('where memory ends the youngest leave the batch and come back, with the tokens that they get alone', async () => {
  open(600);
  const streams = [1, 2, 3, 4, 5, 6].map((seed) => ask(prompt(10, seed), 300));
  const ended: Asked[] = [];
  harness.onBetween = () => {
    watch();
    for (const stream of streams) if (stream.heard.last !== 0 && !ended.includes(stream)) ended.push(stream);
  };
  await harness.settled();
  for (const stream of streams) expectWhole(stream);
  expect(together).toBe(6);
  expect(most).toBeLessThanOrEqual(600);
  expect(ended[0]).toBe(streams[0]);
  expect(harness.gauge('preemptions')).toBeGreaterThan(0);
  // Who comes back has 32 tokens at least before it must leave again.
  expect(harness.gauge('preemptions')).toBeLessThanOrEqual((6 * 300) / 32);
});

test('the oldest stream has no longer gap than others cause by running beside it', async () => {
  open(400);
  const oldest = ask(prompt(10), 380);
  const others = [2, 3, 4, 5].map((seed) => ask(prompt(20, seed), 200));
  let [steps, gap, before] = [0, 0, 0];
  harness.onBetween = () => {
    watch();
    const { tokens } = oldest.heard;
    steps = tokens.length === before || tokens.length === 0 ? steps + 1 : 0;
    before = tokens.length;
    if (oldest.heard.last === 0 && before > 0) gap = Math.max(gap, steps);
  };
  await harness.settled();
  for (const stream of [oldest, ...others]) expectWhole(stream);
  // Twice between runs for each step, and a prompt's or a return's run.
  expect(gap).toBeLessThanOrEqual(4);
});

test('a stalled reader leaves its memory to those who read, and goes on with the same tokens', async () => {
  open(100);
  const stalled = ask(prompt(30), 60, { window: 10 });
  await harness.settled();
  expect(harness.gauge('kvUsedBytes')).toBe(39 * 4);
  const other = ask(prompt(20, 2), 75);
  await harness.settled();
  expectWhole(other);
  expect(harness.gauge('kvUsedBytes')).toBe(0);
  harness.tell(() => harness.loop.credit(stalled.heard.number, 100));
  await harness.settled();
  expectWhole(stalled);
  // What is computed again is no prompt, and came from no cache.
  expect(harness.gauge('promptTokens')).toBe(50);
  expect(stalled.heard.details.at(-1)!.end!.cachedTokens).toBe(0);
});

test('a stream that was made to leave can be cancelled and be the last', async () => {
  open(200);
  const first = ask(prompt(10), 180);
  const second = ask(prompt(10, 2), 180);
  harness.onBetween = () => {
    watch();
    if (harness.gauge('preemptions') === 1 && second.heard.last === 0)
      harness.tell(() => harness.loop.cancel(second.heard.number));
  };
  await harness.settled();
  expectWhole(first);
  expect(harness.gauge('kvUsedBytes')).toBe(0);
});

test('a prompt that is being worked on gives way too, and what was done of it is not lost', async () => {
  open(300, { prefillChunk: 2 });
  const running = ask(prompt(10), 120);
  const tokensBefore = () => running.heard.tokens.length;
  let late: Asked | undefined;
  harness.onBetween = () => {
    watch();
    if (tokensBefore() === 40 && !late) late = ask(prompt(180, 2), 20);
  };
  await harness.settled();
  expectWhole(running);
  expectWhole(late!);
  expect(most).toBeLessThanOrEqual(300);
  expect(harness.gauge('preemptions')).toBe(1);
  const worked = harness.decoder.runs.filter(({ kind }) => kind === 'prefill').reduce((sum, { size }) => sum + size, 0);
  expect(worked).toBe(10 + 180);
});

test.each<[string, MemoryDecoderOptions, number]>([
  ['batched', {}, 0],
  ['batched, with a prefix cache', {}, 2000],
  ['batched, of state that only knows its end', { canCut: false }, 2000],
  ['one by one', { layout: 'alone', canCut: false }, 0],
])(
  'whoever comes, stalls, is cancelled or runs out of memory, others get their tokens: %s',
  async (_name, options, prefixCacheBytes) => {
    open(300, { maxSequences: 8, prefillChunk: 16, prefixCacheBytes }, options);
    let state = 7;
    const draw = (below: number): number => (state = (state * 48_271) % 2_147_483_647) % below;
    const streams: Asked[] = [];
    const cancelled = new Set<Asked>();
    harness.onBetween = () => {
      watch();
      expect(most).toBeLessThanOrEqual(300);
      if (streams.length < 60) {
        const length = 1 + draw(draw(4) === 0 ? 100 : 20);
        const maxTokens = 1 + draw(draw(2) === 0 ? 190 : 60);
        const window = draw(3) === 0 ? 4 + draw(20) : 1000;
        streams.push(ask(prompt(length, draw(5)), maxTokens, { window, clientKey: `${draw(3)}` }));
      }
      const any = streams[draw(Math.max(1, streams.length))];
      if (any?.heard.last !== 0) return;
      if (draw(100) === 0) {
        cancelled.add(any);
        harness.tell(() => harness.loop.cancel(any.heard.number));
      } else if (draw(2) === 0) harness.tell(() => harness.loop.credit(any.heard.number, 5));
    };
    for (let turn = 0; turn < 5000 && (streams.length < 60 || streams.some(({ heard }) => heard.last === 0)); turn++) {
      harness.tell(() => undefined);
      await harness.settled();
    }
    expect(cancelled.size).toBeGreaterThan(1);
    for (const stream of streams) if (!cancelled.has(stream)) expectWhole(stream);
    expect(harness.gauge('preemptions')).toBeGreaterThan(0);
  },
);
