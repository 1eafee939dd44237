import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterEach, expect, test } from 'vitest';
import {
  type EndDetail,
  FLAG_CANCELLED,
  FLAG_END,
  FLAG_FAILED,
  FLAG_TOKEN,
} from '../../src/runtime/generation-messages.js';
import type { StepLoopOptions } from '../../workers/token-stream.js';
import { expectedTokens, MemoryDecoder, type MemoryDecoderOptions } from '../support/memory-decoder.js';
import { type Heard, LoopHarness } from '../support/step-loop.js';

let harness: LoopHarness<MemoryDecoder>;

function open(
  spec: Partial<StepLoopOptions['spec']> = {},
  decoder: MemoryDecoderOptions = {},
): LoopHarness<MemoryDecoder> {
  const model = new MemoryDecoder(decoder);
  harness = new LoopHarness(model, spec, () => model.nowMs);
  return harness;
}

/** Whatever a test did, nothing of it stays in the decoder. */
afterEach(async () => {
  await harness.close();
  expect(harness.decoder.rows.size).toBe(0);
});

const prompt = (length: number, seed = 1): number[] =>
  Array.from({ length }, (_, index) => 1 + ((index * 7 + seed * 13) % 59));
const text = (tokens: readonly number[]): string => tokens.map((token) => ` w${token}`).join('');
const end = ({ details }: Heard): EndDetail | undefined => details.at(-1)?.end;
const failure = ({ details }: Heard) => details.at(-1)?.failure;

test('a stream gets its tokens and their text, the last with its end', async () => {
  const { start, settled } = bound(open());
  const heard = start(prompt(5), { sampling: { maxTokens: 6 } });
  await settled();
  const expected = expectedTokens(prompt(5), 6);
  expect(heard.tokens).toEqual(expected);
  expect(heard.text).toBe(text(expected));
  expect(heard.last).toBe(FLAG_TOKEN | FLAG_END);
  expect(end(heard)).toMatchObject({ finishReason: 'length', completionTokens: 6, cachedTokens: 0 });
  expect(heard.details).toHaveLength(1);
});

test('streams that come and leave at any time get the tokens that they get alone', async () => {
  const { start, settled } = bound(open({ maxSequences: 5 }));
  const cases = Array.from({ length: 40 }, (_, index) => ({
    prompt: prompt(1 + ((index * 17) % 90), index),
    count: 1 + ((index * 29) % 40),
  }));
  const heard: Heard[] = [];
  let step = 0;
  harness.onBetween = () => {
    for (const each of step++ % 3 === 0 ? cases.slice(heard.length, heard.length + 2) : [])
      heard.push(start(each.prompt, { sampling: { maxTokens: each.count }, clientKey: `${heard.length % 3}` }));
  };
  do {
    harness.tell(() => undefined);
    await settled();
  } while (heard.length < cases.length);
  for (const [index, each] of cases.entries())
    expect(heard[index]!.tokens).toEqual(expectedTokens(each.prompt, each.count));
  expect(Math.max(...harness.decoder.runs.filter(({ kind }) => kind === 'decode').map(({ size }) => size))).toBe(5);
});

test('streams that run together take one run for each token of all', async () => {
  const { start, settled } = bound(open());
  for (let stream = 0; stream < 4; stream++) start(prompt(4, stream), { sampling: { maxTokens: 20 } });
  await settled();
  const decodes = harness.decoder.runs.filter(({ kind }) => kind === 'decode');
  expect(decodes.length).toBeLessThan(25);
  expect(harness.gauge('decodeSteps')).toBe(decodes.length);
  const bySize = [...harness.gauges.subarray(16)];
  expect(bySize.reduce((sum, count) => sum + count)).toBe(decodes.length);
  expect(bySize[3]).toBeGreaterThan(10);
});

test('a cancelled stream is not in the next run, its place is free, and its last record says so', async () => {
  const { start, settled } = bound(open({ maxSequences: 2 }));
  const first = start(prompt(4, 1), { sampling: { maxTokens: 100 } });
  const second = start(prompt(4, 2), { sampling: { maxTokens: 30 } });
  const third = start(prompt(4, 3), { sampling: { maxTokens: 5 } });
  let runsAtCancel = 0;
  harness.onBetween = () => {
    if (first.tokens.length !== 10 || runsAtCancel > 0) return;
    runsAtCancel = harness.decoder.runs.length;
    harness.tell(() => harness.loop.cancel(first.number));
  };
  await settled();
  expect(first.tokens).toHaveLength(10);
  expect(first.last).toBe(FLAG_CANCELLED);
  // What was next is the prompt of the third, that waited for the place, or a step of one stream.
  expect(harness.decoder.runs[runsAtCancel]).not.toEqual({ kind: 'decode', size: 2 });
  expect(second.tokens).toEqual(expectedTokens(prompt(4, 2), 30));
  expect(third.tokens).toEqual(expectedTokens(prompt(4, 3), 5));
});

test.each(['waiting', 'prefilling', 'paused', 'ended'])('a stream that is %s can be cancelled', async (state) => {
  const { start, settled } = bound(open({ maxSequences: 1, prefillChunk: 8 }));
  const other = state === 'waiting' ? start(prompt(3, 9), { sampling: { maxTokens: 50 } }) : undefined;
  const heard = start(prompt(40), { window: state === 'paused' ? 2 : 100, sampling: { maxTokens: 5 } });
  if (state === 'prefilling')
    harness.onBetween = () => {
      if (harness.decoder.runs.length === 2) harness.tell(() => harness.loop.cancel(heard.number));
    };
  else if (state === 'waiting') harness.tell(() => harness.loop.cancel(heard.number));
  await settled();
  harness.tell(() => harness.loop.cancel(heard.number));
  await settled();
  expect(heard.last).toBe(state === 'ended' ? FLAG_TOKEN | FLAG_END : FLAG_CANCELLED);
  expect(heard.tokens).toHaveLength({ waiting: 0, prefilling: 0, paused: 2, ended: 5 }[state]!);
  if (other) expect(other.tokens).toHaveLength(50);
});

test('a stream whose window is used up pauses beside the batch and goes on with the same tokens', async () => {
  const { start, settled } = bound(open({ maxSequences: 2 }));
  const slow = start(prompt(6), { window: 4, sampling: { maxTokens: 13 } });
  const quick = start(prompt(6, 2), { sampling: { maxTokens: 40 } });
  await settled();
  expect(quick.tokens).toHaveLength(40);
  expect(slow.tokens).toHaveLength(4);
  expect(harness.gauge('paused')).toBe(1);
  expect(harness.gauge('running')).toBe(0);
  expect(harness.decoder.rows.size).toBe(0);
  // 6 of the prompt and 3 of the 4 tokens: the last one has not been run.
  expect(harness.gauge('kvUsedBytes')).toBe(9 * 4);
  for (const deltas of [4, 2, 2, 1, 3]) {
    harness.tell(() => harness.loop.credit(slow.number, deltas));
    await settled();
  }
  expect(slow.tokens).toEqual(expectedTokens(prompt(6), 13));
  expect(slow.last).toBe(FLAG_TOKEN | FLAG_END);
  expect(harness.gauge('paused') + harness.gauge('kvUsedBytes')).toBe(0);
});

test('a paused stream does not have its row copied for each token that is taken', async () => {
  const { start, settled } = bound(open());
  const slow = start(prompt(6), { window: 8, sampling: { maxTokens: 60 } });
  await settled();
  const { saves } = harness.decoder;
  for (let taken = 0; taken < 40; taken++) {
    harness.tell(() => harness.loop.credit(slow.number, 1));
    await settled();
  }
  expect(slow.tokens).toHaveLength(48);
  expect(harness.decoder.saves - saves).toBe(10);
});

test('200 stalled readers leave the batch to others and hold what their rows have, and nothing when cancelled', async () => {
  const { start, settled } = bound(open({ maxSequences: 4 }));
  const stalled = Array.from({ length: 200 }, (_, index) =>
    start(prompt(10, index), { window: 3, sampling: { maxTokens: 50 } }),
  );
  await settled();
  expect(harness.gauge('paused')).toBe(200);
  expect(harness.gauge('kvUsedBytes')).toBe(200 * 12 * 4);
  const other = start(prompt(5), { sampling: { maxTokens: 9 } });
  await settled();
  expect(other.tokens).toEqual(expectedTokens(prompt(5), 9));
  for (const { number } of stalled) harness.tell(() => harness.loop.cancel(number));
  await settled();
  expect(harness.gauge('kvUsedBytes') + harness.gauge('paused')).toBe(0);
});

test('clients take turns: one with many streams does not hold up another with one', async () => {
  const { start, settled } = bound(open({ maxSequences: 1 }));
  const many = Array.from({ length: 10 }, (_, index) => start(prompt(3, index), { clientKey: 'many' }));
  const one = start(prompt(3, 50), { clientKey: 'one' });
  let endedBefore = -1;
  harness.onBetween = () => {
    if (one.last !== 0 && endedBefore < 0) endedBefore = many.filter(({ last }) => last !== 0).length;
  };
  await settled();
  expect(endedBefore).toBe(1);
});

test('a long prompt is worked on in parts with a decode step before each, as short as a step is', async () => {
  const { start, settled } = bound(open({ prefillChunk: 256, contextLength: 4096 }));
  const running = start(prompt(4), { sampling: { maxTokens: 400 } });
  let long: Heard | undefined;
  harness.onBetween = () => {
    if (running.tokens.length === 20 && !long) long = start(prompt(2000, 3), { sampling: { maxTokens: 4 } });
  };
  await settled();
  expect(long!.tokens).toEqual(expectedTokens(prompt(2000, 3), 4));
  expect(running.tokens).toEqual(expectedTokens(prompt(4), 400));
  const { runs } = harness.decoder;
  const chunks = runs.flatMap(({ kind }, index) => (kind === 'prefill' && index > 0 ? [index] : []));
  expect(chunks.length).toBeGreaterThan(1);
  for (const index of chunks) expect(runs[index - 1]!.kind).toBe('decode');
});

test('with nobody running a prompt goes in the largest parts that are allowed, and a cancel is heard between them', async () => {
  const { start, settled } = bound(open({ prefillChunk: 64 }));
  const heard = start(prompt(400));
  harness.onBetween = () => {
    if (harness.decoder.runs.length === 3) harness.tell(() => harness.loop.cancel(heard.number));
  };
  await settled();
  expect(harness.decoder.runs).toEqual(new Array(3).fill({ kind: 'prefill', size: 64 }));
  expect(heard.last).toBe(FLAG_CANCELLED);
});

test('a batch that fails is run again one by one, and only who is to blame fails', async () => {
  const { start, settled } = bound(open());
  const streams = Array.from({ length: 4 }, (_, index) => start(prompt(4, index), { sampling: { maxTokens: 12 } }));
  const culprit = prompt(4, 2);
  harness.decoder.onRun = (rows, kind) => {
    const bad = rows.some((row) => row.length >= 8 && culprit.every((token, index) => row[index] === token));
    if (kind === 'decode' && bad)
      throw new Error(
        "Non-zero status code returned while running Gather node. Name:'g' Status Message: indices out of bounds",
      );
  };
  await settled();
  expect(streams.map(({ last }) => last === FLAG_FAILED)).toEqual([false, false, true, false]);
  expect(failure(streams[2]!)).toMatchObject({ code: 'INVALID_ARGUMENT' });
  for (const index of [0, 1, 3]) expect(streams[index]!.tokens).toEqual(expectedTokens(prompt(4, index), 12));
});

test('a prompt that fails leaves the others and the loop as they were', async () => {
  const { start, settled } = bound(open());
  const fine = start(prompt(4), { sampling: { maxTokens: 12 } });
  const bad = start(prompt(70, 5));
  harness.decoder.onRun = ([row], kind) => {
    if (kind === 'prefill' && row!.length > 0) throw new Error('bad_alloc');
  };
  await settled();
  expect(failure(bad)).toMatchObject({ code: 'RESOURCE_EXHAUSTED' });
  expect(fine.tokens).toHaveLength(12);
  const after = start(prompt(5, 6));
  await settled();
  expect(after.tokens).toEqual(expectedTokens(prompt(5, 6), 8));
});

test.each([
  ['an empty prompt', [], 'the prompt is empty, expected 1 to 511: the context is 512 with the text'],
  [
    'a prompt that fills the context',
    prompt(512),
    'the prompt has 512 tokens, expected 1 to 511: the context is 512 with the text',
  ],
])('%s is refused', async (_name, tokens, message) => {
  const { start, settled } = bound(open());
  const heard = start(tokens);
  await settled();
  expect(failure(heard)).toEqual({ code: 'INVALID_ARGUMENT', message });
});

test.each([true, false])(
  'a prompt that begins like an ended stream takes what it had and gets the same tokens (can be cut: %s)',
  async (canCut) => {
    const { start, settled } = bound(open({ prefixCacheBytes: 10_000 }, { canCut }));
    const first = start(prompt(30), { sampling: { maxTokens: 10 } });
    await settled();
    expect(harness.gauge('prefixBytes')).toBe(39 * 4);
    // As a conversation goes on: prompt and answer of before, and more.
    const longer = [...prompt(30), ...first.tokens, 5, 6, 7];
    const second = start(longer);
    // And the same question again.
    await settled();
    const third = start(prompt(30), { sampling: { maxTokens: 10 } });
    await settled();
    expect(second.tokens).toEqual(expectedTokens(longer, 8));
    expect(third.tokens).toEqual(first.tokens);
    expect(end(second)!.cachedTokens).toBe(39);
    expect(end(third)!.cachedTokens).toBe(canCut ? 29 : 0);
    expect(harness.gauge('promptTokens')).toBe(30 + 43 + 30);
    expect(harness.gauge('prefixHitTokens')).toBe(canCut ? 39 + 29 : 39);
  },
);

test("streams that begin alike and run at once share the first one's prompt", async () => {
  const { start, settled } = bound(open({ prefixCacheBytes: 10_000 }));
  const shared = prompt(60);
  const streams = [1, 2, 3].map((last) => start([...shared, last], { sampling: { maxTokens: 20 } }));
  await settled();
  for (const [index, heard] of streams.entries()) {
    expect(heard.tokens).toEqual(expectedTokens([...shared, index + 1], 20));
    expect(end(heard)!.cachedTokens).toBe(index === 0 ? 0 : 60);
  }
});

test('state that can only run alone is served all the same', async () => {
  const { start, settled } = bound(open({}, { layout: 'alone' }));
  const streams = [1, 2, 3].map((seed) => start(prompt(9, seed), { sampling: { maxTokens: 20 } }));
  harness.onBetween = () => {
    if (streams[1]!.tokens.length === 5) harness.tell(() => harness.loop.cancel(streams[1]!.number));
  };
  await settled();
  expect(streams[1]!.tokens).toHaveLength(5);
  for (const index of [0, 2]) expect(streams[index]!.tokens).toEqual(expectedTokens(prompt(9, index + 1), 20));
  expect(new Set(harness.decoder.runs.filter(({ kind }) => kind === 'decode').map(({ size }) => size))).toEqual(
    new Set([1]),
  );
});

test('closing fails the streams that run, wait and pause', async () => {
  const { start, settled } = bound(open({ maxSequences: 1 }));
  const paused = start(prompt(4), { window: 1 });
  await settled();
  const running = start(prompt(4, 2), { sampling: { maxTokens: 100 } });
  const waiting = start(prompt(4, 3));
  harness.onBetween = () => {
    if (running.tokens.length === 5) harness.tell(() => harness.loop.close());
  };
  await harness.close();
  for (const heard of [paused, running, waiting])
    expect(failure(heard)).toEqual({ code: 'UNAVAILABLE', message: 'server is shutting down' });
});

test('ten thousand streams that are started and cancelled leave memory as it was', async () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const { start, settled } = bound(open({ maxSequences: 8, prefixCacheBytes: 20_000, prefillChunk: 16 }));
  const churn = async (streams: number): Promise<number> => {
    for (let started = 0; started < streams; started += 20) {
      const some = Array.from({ length: 20 }, (_, index) =>
        start(prompt(5 + ((started + index) % 50), started + index), { window: 4, clientKey: `${index % 3}` }),
      );
      let steps = 0;
      harness.onBetween = () => {
        if (steps++ < 12) return;
        for (const { number } of some.splice(0)) harness.tell(() => harness.loop.cancel(number));
      };
      await settled();
      for (const { number } of some) harness.tell(() => harness.loop.cancel(number));
      harness.decoder.runs.length = 0;
      await settled();
    }
    collect();
    return process.memoryUsage().heapUsed;
  };
  let before = await churn(1000);
  const grown: number[] = [];
  // A leak grows each time. What else lives in the process, such as compiled code, may grow once.
  while (grown.length < 4 && !grown.some((bytes) => bytes < 500_000)) {
    const after = await churn(10_000);
    grown.push(after - before);
    before = after;
  }
  expect(Math.min(...grown)).toBeLessThan(500_000);
  for (const gauge of ['running', 'waiting', 'paused', 'kvUsedBytes'] as const) expect(harness.gauge(gauge)).toBe(0);
  expect(harness.gauge('prefixBytes')).toBeLessThanOrEqual(20_000);
});

/** Methods without their object, for short tests. */
function bound(of: LoopHarness<MemoryDecoder>) {
  return { start: of.start.bind(of), settled: of.settled.bind(of) };
}
