/** When tokens come: by a clock that runs of the decoder move, with times as a model's are. */
import { afterEach, expect, test } from 'vitest';
import { type DecoderRun, expectedTokens, MemoryDecoder } from '../support/memory-decoder.js';
import { type Heard, LoopHarness } from '../support/step-loop.js';

interface Times {
  readonly prefillMs: number;
  readonly msPerPromptToken: number;
  readonly stepMs: number;
  readonly msPerRow: number;
}

const MODELS: readonly (readonly [string, Times])[] = [
  ['135 million parameters', { prefillMs: 15, msPerPromptToken: 4, stepMs: 20, msPerRow: 5 }],
  ['2 million parameters', { prefillMs: 0.4, msPerPromptToken: 0.03, stepMs: 0.5, msPerRow: 0.08 }],
  ['steps that are dear', { prefillMs: 60, msPerPromptToken: 0.5, stepMs: 60, msPerRow: 1 }],
];

const msOf = (times: Times, { kind, size }: DecoderRun): number =>
  kind === 'decode' ? times.stepMs + size * times.msPerRow : times.prefillMs + size * times.msPerPromptToken;

let harness: LoopHarness<MemoryDecoder>;
/** Each stream's first token and the time of its last change, by the clock. */
const arrivals = new Map<Heard, number[]>();

function open(msOfRun: (run: DecoderRun) => number, maxSequences = 16, msOfRoom = (_tokens: number) => 0): void {
  const decoder = new MemoryDecoder({ msOfRun, msOfRoom });
  arrivals.clear();
  harness = new LoopHarness(decoder, { maxSequences, contextLength: 4096, prefillChunk: 256 }, () => decoder.nowMs);
}

/** Notes the times of the tokens that have come. */
function look(): void {
  for (const [{ tokens }, times] of arrivals) while (times.length < tokens.length) times.push(harness.decoder.nowMs);
}

function start(length: number, maxTokens: number, clientKey = 'a'): Heard {
  const seed = arrivals.size;
  const prompt = Array.from({ length }, (_, index) => 1 + ((index * 7 + seed * 13) % 59));
  const heard = harness.start(prompt, { sampling: { maxTokens }, clientKey });
  arrivals.set(heard, []);
  expected.set(heard, () => expectedTokens(prompt, maxTokens));
  return heard;
}

const expected = new Map<Heard, () => number[]>();

afterEach(async () => {
  for (const [heard, tokens] of expected) expect(heard.tokens).toEqual(tokens());
  expected.clear();
  await harness.close();
});

const quantile = (values: readonly number[], part: number): number =>
  values.toSorted((a, b) => a - b)[Math.floor(part * (values.length - 1))]!;

test.each(MODELS)(
  'streams of a model with %s have no long gaps while prompts of 300 tokens come in',
  async (_name, times) => {
    // Copying what there is costs about what a token of a prompt does, for a hundred tokens.
    const perCopy = times.msPerPromptToken / 80;
    open(
      (run) => msOf(times, run),
      16,
      (tokens) => tokens * perCopy,
    );
    const running = Array.from({ length: 8 }, () => start(10, 300));
    let coming = 0;
    harness.onBetween = () => {
      look();
      if (running[7]!.tokens.length > 40 * (coming + 1) && coming < 4) {
        coming++;
        start(300, 2);
      }
    };
    await harness.settled();
    const gaps = running.flatMap((heard) => {
      const at = arrivals.get(heard)!;
      // The first ones start together, and so each waits for the prompts of the others.
      return at.slice(20).map((time, index) => time - at[19 + index]!);
    });
    expect(quantile(gaps, 0.99) / quantile(gaps, 0.5)).toBeLessThanOrEqual(3);
  },
);

test.each(MODELS)(
  'a thread of a model with %s that loses its core now and then takes no long chunk for it',
  async (_name, times) => {
    let state = 11;
    const draw = (): number => (state = (state * 48_271) % 2_147_483_647) / 2_147_483_647;
    open((run) => msOf(times, run) * (draw() < 0.08 ? 3 + 7 * draw() : 1));
    const running = Array.from({ length: 8 }, () => start(1 + Math.floor(draw() * 40), 400));
    const from: number[] = [];
    harness.onBetween = () => {
      look();
      if (running.some(({ tokens }) => tokens.length === 0)) return;
      if (from.length === 0) from.push(harness.decoder.runs.length);
      if (arrivals.size < 40 && draw() < 0.1) start(20 + Math.floor(draw() * 400), 2);
    };
    await harness.settled();
    const chunks = harness.decoder.runs.slice(from[0]).filter(({ kind }) => kind === 'prefill');
    const step = msOf(times, { kind: 'decode', size: 8 });
    expect(Math.max(...chunks.map((run) => msOf(times, run))) / step).toBeLessThan(3);
    expect(
      quantile(
        chunks.map((run) => msOf(times, run)),
        0.98,
      ) / step,
    ).toBeLessThan(2.2);
  },
);

test.each(MODELS)('a short prompt for a model with %s does not wait for long ones', async (_name, times) => {
  open((run) => msOf(times, run));
  const running = Array.from({ length: 8 }, () => start(10, 1000));
  const asked = new Map<Heard, number>();
  const long: Heard[] = [];
  let between = 0;
  harness.onBetween = () => {
    look();
    if (running.some(({ tokens }) => tokens.length < 10)) return;
    if (long.length === 0) for (const length of [3000, 2000]) long.push(start(length, 2));
    else if (++between % 16 === 0 && asked.size < 6) asked.set(start(24, 2, 'b'), harness.decoder.nowMs);
  };
  await harness.settled();
  const own = msOf(times, { kind: 'prefill', size: 24 });
  const step = msOf(times, { kind: 'decode', size: 9 });
  for (const [heard, at] of asked) {
    const first = arrivals.get(heard)![0]!;
    expect((first - at - own) / step).toBeLessThanOrEqual(3);
    expect(first).toBeLessThan(arrivals.get(long[1]!)![0]!);
  }
});

test('a long prompt is worked on while short ones keep coming', async () => {
  const [, times] = MODELS[0]!;
  open((run) => msOf(times, run), 32);
  const running = start(10, 600);
  let long: Heard | undefined;
  let first = -1;
  let short = 0;
  harness.onBetween = () => {
    look();
    if (running.tokens.length < 10) return;
    long ??= start(200, 2, 'b');
    if (long.tokens.length > 0 && first < 0) first = short;
    // Faster than they can be worked on.
    if (short < 200) {
      short++;
      start(10, 1);
    }
  };
  await harness.settled();
  expect(first).toBeGreaterThan(0);
  expect(first).toBeLessThan(200);
});

test('a prompt for which room has to be made waits a step longer, and those that run no longer than for a chunk', async () => {
  const [, times] = MODELS[0]!;
  open(
    (run) => msOf(times, run),
    16,
    () => 90,
  );
  const running = Array.from({ length: 8 }, () => start(10, 40));
  harness.onBetween = () => {
    look();
    if (running[7]!.tokens.length === 10 && arrivals.size === 8) start(300, 2);
  };
  await harness.settled();
  const at = arrivals.get(running[0]!)!;
  const gaps = at.slice(10).map((time, index) => time - at[9 + index]!);
  const step = msOf(times, { kind: 'decode', size: 8 });
  expect(Math.max(...gaps)).toBeGreaterThan(90);
  expect(Math.max(...gaps) / step).toBeLessThan(3);
});
