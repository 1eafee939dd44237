/** The step loop over real decoders with too little memory for all streams: what is held stays within the bound, and no token changes. */
import { expect, test } from 'vitest';
import type { Decoder } from '../../workers/decoder-types.js';
import { decoderFixture, prompts } from '../support/decoder.js';
import type { DecoderOptions } from '../support/onnx-decoder.js';
import { LoopHarness } from '../support/step-loop.js';

const PER_TOKEN = 2 * 2 * 2 * 16 * 4;

test.each<[Decoder['layout'], DecoderOptions]>([
  ['right', { attention: 'gqa' }],
  ['holes', { attention: 'plain' }],
  ['left', { attention: 'plain', window: 12 }],
  ['alone', { attention: 'plain', convolution: true }],
])('streams of layout %s leave and come back within the bound', async (layout, options) => {
  // Room for one to its end, and not for two.
  const kvCacheBytes = 200 * PER_TOKEN;
  const fixture = await decoderFixture(options, { kvCacheBytes, maxSequences: 6 });
  const { decoder, raw } = fixture;
  expect(decoder.layout).toBe(layout);
  // By a clock of its own, so that prompts are cut into the same chunks each time.
  let now = 0;
  const harness = new LoopHarness(decoder, { kvCacheBytes, maxSequences: 6, prefillChunk: 16 }, () => ++now);
  let held = 0;
  harness.onBetween = () => {
    held = Math.max(held, harness.gauge('kvBytes'));
  };
  const cases = prompts(6);
  const streams = cases.map((prompt) => harness.start(prompt, { sampling: { maxTokens: 90 }, window: 1000 }));
  await harness.settled();
  for (const [index, prompt] of cases.entries()) expect(streams[index]!.tokens).toEqual(await raw(prompt, 90));
  expect(held).toBeLessThanOrEqual(kvCacheBytes);
  expect(harness.gauge('preemptions')).toBeGreaterThan(0);
  expect(harness.gauge('kvBytes')).toBe(0);
  await harness.close();
  await fixture.close();
});
