import { afterEach, beforeEach, expect, test } from 'vitest';
import {
  type EndDetail,
  FLAG_END,
  FLAG_FAILED,
  FLAG_TOKEN,
  type Sampling,
} from '../../src/runtime/generation-messages.js';
import { expectedTokens, MemoryDecoder } from '../support/memory-decoder.js';
import { type Heard, LoopHarness } from '../support/step-loop.js';

const PROMPT = [3, 1, 4, 1, 5];
const TOKENS = expectedTokens(PROMPT, 40);
const text = (tokens: readonly number[]): string => tokens.map((token) => ` w${token}`).join('');

let harness: LoopHarness<MemoryDecoder>;
beforeEach(() => {
  harness = new LoopHarness(new MemoryDecoder(), { contextLength: 32 });
});
afterEach(() => harness.close());

async function generate(sampling: Partial<Sampling>, prompt: readonly number[] = PROMPT): Promise<Heard> {
  const heard = harness.start(prompt, { sampling: { maxTokens: 10, ...sampling } });
  await harness.settled();
  return heard;
}

const end = ({ details }: Heard): EndDetail | undefined => details.at(-1)?.end;

test.each<[string, Partial<Sampling>, Partial<EndDetail>, number[], string]>([
  [
    'the most tokens',
    {},
    { finishReason: 'length', completionTokens: 10 },
    TOKENS.slice(0, 10),
    text(TOKENS.slice(0, 10)),
  ],
  [
    'one token',
    { maxTokens: 1 },
    { finishReason: 'length', completionTokens: 1 },
    TOKENS.slice(0, 1),
    text(TOKENS.slice(0, 1)),
  ],
  [
    "the model's own end, which has no text",
    { eosTokenIds: [TOKENS[4]!] },
    { finishReason: 'stop', completionTokens: 5 },
    TOKENS.slice(0, 5),
    text(TOKENS.slice(0, 4)),
  ],
  [
    'a stop id, which has none either',
    { stopTokenIds: [TOKENS[4]!] },
    { finishReason: 'stop', stopReason: TOKENS[4]!, completionTokens: 5 },
    TOKENS.slice(0, 5),
    text(TOKENS.slice(0, 4)),
  ],
  [
    'a stop string',
    { stop: ['nowhere', text(TOKENS.slice(3, 5)).slice(1)] },
    { finishReason: 'stop', stopReason: text(TOKENS.slice(3, 5)).slice(1), completionTokens: 5 },
    TOKENS.slice(0, 5),
    `${text(TOKENS.slice(0, 3))} `,
  ],
  [
    'a stop string that is kept',
    { stop: [text(TOKENS.slice(3, 5))], includeStop: true },
    { finishReason: 'stop', stopReason: text(TOKENS.slice(3, 5)), completionTokens: 5 },
    TOKENS.slice(0, 5),
    text(TOKENS.slice(0, 5)),
  ],
  [
    'the length, with what might have begun a stop string',
    { stop: [`${text(TOKENS.slice(9, 10))} w0`] },
    { finishReason: 'length', completionTokens: 10 },
    TOKENS.slice(0, 10),
    text(TOKENS.slice(0, 10)),
  ],
  [
    'the context',
    { maxTokens: 1000 },
    { finishReason: 'length', completionTokens: 27 },
    TOKENS.slice(0, 27),
    text(TOKENS.slice(0, 27)),
  ],
])('a stream ends by %s', async (_name, sampling, detail, tokens, expected) => {
  const heard = await generate(sampling);
  expect(heard.last).toBe(FLAG_TOKEN | FLAG_END);
  const { finishReason, stopReason, completionTokens } = end(heard)!;
  expect({ finishReason, stopReason, completionTokens }).toEqual({ stopReason: undefined, ...detail });
  expect(heard.tokens).toEqual(tokens);
  expect(heard.text).toBe(expected);
});

test('an end is not chosen before the least number of tokens', async () => {
  const heard = await generate({ eosTokenIds: [TOKENS[2]!], minTokens: 5 });
  expect(heard.tokens.slice(0, 2)).toEqual(TOKENS.slice(0, 2));
  expect(heard.tokens.length).toBeGreaterThanOrEqual(5);
});

test('log probabilities are added up, and what can not be chosen has a number all the same', async () => {
  const heard = await generate({ logprobs: 2, maxTokens: 3 });
  const logprobs = heard.details.map(({ logprob }) => logprob!);
  expect(logprobs.map(({ token }) => token)).toEqual(TOKENS.slice(0, 3).map((id) => ` w${id}`));
  expect(logprobs[0]!.logprob).toBeCloseTo(5 - Math.log(Math.exp(5) + 60), 4);
  expect(end(heard)!.cumulativeLogprob).toBeCloseTo(3 * logprobs[0]!.logprob, 4);
  expect(logprobs[0]!.top).toHaveLength(2);
});

test('the offset of a token is that of its text, also while that is held back, cut off or ended by a token', async () => {
  const offsetsOf = async (sampling: Partial<Sampling>) => {
    const { details, text } = await generate({ logprobs: 0, maxTokens: 6, ...sampling });
    return { offsets: details.map(({ logprob }) => logprob!.offset), text };
  };
  const whole = text(TOKENS.slice(0, 6));
  const offsets = TOKENS.slice(0, 6).map((_, at) => text(TOKENS.slice(0, at)).length);
  expect(await offsetsOf({})).toEqual({ offsets, text: whole });
  expect(await offsetsOf({ stop: [`${whole.slice(2)}!`] })).toEqual({ offsets, text: whole });
  expect(await offsetsOf({ stop: [whole.slice(5)] })).toEqual({ offsets, text: whole.slice(0, 5) });
  const eosTokenIds = [TOKENS[4]!];
  expect((await offsetsOf({ stop: [whole.slice(2)], eosTokenIds })).offsets).toEqual(offsets.slice(0, 5));
});

test('a seeded stream draws the same tokens in company as alone', async () => {
  const sampling = { temperature: 1.5, seed: [7, 8] as const, maxTokens: 20 };
  const alone = await generate(sampling);
  const streams = [1, 2, 3].map((seed) => harness.start(PROMPT, { sampling: { ...sampling, seed: [seed, 0] } }));
  const again = harness.start(PROMPT, { sampling });
  await harness.settled();
  expect(again.tokens).toEqual(alone.tokens);
  expect(streams.some(({ tokens }) => tokens.join() !== alone.tokens.join())).toBe(true);
});

test('a row of which nothing can be chosen fails its stream and not its neighbour', async () => {
  const sampling = { suppressTokenIds: Array.from({ length: 61 }, (_, id) => id) };
  const bad = harness.start(PROMPT, { sampling });
  const fine = await generate({ maxTokens: 6 });
  expect(bad.last).toBe(FLAG_FAILED);
  expect(fine.tokens).toEqual(TOKENS.slice(0, 6));
});
