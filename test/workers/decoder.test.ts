/** Decoders of every kind against the plain loop: alone, in company, in pieces, saved and restored, while rows come and go. */
import { describe, expect, test } from 'vitest';
import type { KvLayout } from '../../src/runtime/generation-messages.js';
import { begin, type Driven, decoderFixture, finish, prefill, prompts, step } from '../support/decoder.js';
import type { DecoderOptions } from '../support/onnx-decoder.js';

const sparse = { layers: [0, 2, 5], kvHeads: [2, 1, 4] } as const;

interface Kind {
  readonly name: string;
  readonly layout: KvLayout;
  readonly options: DecoderOptions;
  readonly slidingWindow?: number;
}

const kinds: readonly Kind[] = [
  { name: 'GroupQueryAttention', layout: 'right', options: { attention: 'gqa' } },
  { name: 'GroupQueryAttention, FP16 keys and values', layout: 'right', options: { attention: 'gqa', kvType: 'FP16' } },
  {
    name: 'GroupQueryAttention, sparse layers of different shape',
    layout: 'right',
    options: { attention: 'gqa', ...sparse },
  },
  {
    name: 'GroupQueryAttention, weights in another file',
    layout: 'right',
    options: { attention: 'gqa', externalFile: 'model.onnx_data' },
  },
  { name: 'plain operators', layout: 'holes', options: { attention: 'plain' } },
  { name: 'plain operators, FP16 keys and values', layout: 'holes', options: { attention: 'plain', kvType: 'FP16' } },
  { name: 'plain operators, FP16 logits', layout: 'holes', options: { attention: 'plain', logitsType: 'FP16' } },
  { name: 'plain operators, INT32 tokens', layout: 'holes', options: { attention: 'plain', idsType: 'INT32' } },
  {
    name: 'plain operators, sparse layers of different shape',
    layout: 'holes',
    options: { attention: 'plain', ...sparse },
  },
  {
    name: 'plain operators, a count of wanted logits',
    layout: 'holes',
    options: { attention: 'plain', numLogitsToKeep: true },
  },
  {
    name: 'plain operators, a switch for the past',
    layout: 'holes',
    options: { attention: 'plain', useCacheBranch: true },
  },
  {
    name: 'plain operators, weights in another file',
    layout: 'holes',
    options: { attention: 'plain', externalFile: 'model.onnx_data' },
  },
  {
    name: 'plain operators with a window',
    layout: 'left',
    options: { attention: 'plain', window: 12 },
    slidingWindow: 12,
  },
  {
    name: 'plain operators that count positions',
    layout: 'holes',
    options: { attention: 'plain', positions: 'counted' },
  },
  {
    name: 'plain operators that count positions, with a window',
    layout: 'left',
    options: { attention: 'plain', positions: 'counted', window: 12 },
    slidingWindow: 12,
  },
  {
    name: 'plain operators that look up counted positions',
    layout: 'alone',
    options: { attention: 'plain', positions: 'counted-table' },
  },
  { name: 'a convolution beside attention', layout: 'alone', options: { attention: 'plain', convolution: true } },
];

describe.each(kinds)('$name', ({ layout, options, slidingWindow = Number.POSITIVE_INFINITY }) => {
  const TOKENS = 64;

  test('gives the tokens of the plain loop, alone and in company of eight, and memory comes back', async () => {
    const { decoder, raw, close } = await decoderFixture(options, { slidingWindow });
    expect(decoder.layout).toBe(layout);
    expect(decoder.vocabularySize).toBe(96);
    const all: Driven[] = [];
    for (const prompt of prompts(8)) {
      const alone = await begin(decoder, prompt);
      await finish(decoder, [alone], TOKENS);
      expect(alone.chosen).toEqual(await raw(prompt, TOKENS));
      decoder.remove(alone.row);
      expect(decoder.usedBytes).toBe(0);
    }
    for (const prompt of prompts(8)) all.push(await begin(decoder, prompt));
    await finish(decoder, all, TOKENS);
    for (const [i, prompt] of prompts(8).entries()) expect(all[i]!.chosen).toEqual(await raw(prompt, TOKENS));
    for (const { row } of all) decoder.remove(row);
    expect([decoder.usedBytes, decoder.heldBytes]).toEqual([0, 0]);
    await close();
  });

  test('rows join, pause and leave in any order without a trace in others', async () => {
    const { decoder, raw, close } = await decoderFixture(options, { slidingWindow });
    const texts = prompts(10);
    const waiting = texts.map((prompt, i) => ({ prompt, tokens: 10 + ((i * 13) % 50) }));
    const running: { driven: Driven; prompt: number[]; tokens: number; pausedUntil: number }[] = [];
    for (let turn = 0; waiting.length > 0 || running.length > 0; turn++) {
      if (waiting.length > 0 && turn % 3 === 0 && running.length < 6) {
        const { prompt, tokens } = waiting.shift()!;
        running.push({ driven: await begin(decoder, prompt, 7), prompt, tokens, pausedUntil: 0 });
      }
      const active = running.filter(({ pausedUntil }) => pausedUntil <= turn);
      // In an order that is not the store's, every now and then.
      if (turn % 5 === 4) active.reverse();
      if (active.length > 0)
        await step(
          decoder,
          active.map(({ driven }) => driven),
        );
      if (turn % 7 === 6) running[turn % running.length]!.pausedUntil = turn + 5;
      for (const one of running.filter(({ driven, tokens }) => driven.chosen.length >= tokens)) {
        expect(one.driven.chosen).toEqual((await raw(one.prompt, TOKENS)).slice(0, one.tokens));
        running.splice(running.indexOf(one), 1);
        decoder.remove(one.driven.row);
      }
    }
    expect(decoder.usedBytes).toBe(0);
    await close();
  });

  test('a prompt in two runs gives what it gives in one, wherever it is split', async () => {
    const { decoder, raw, close } = await decoderFixture(options, { slidingWindow });
    const company = await begin(decoder, prompts(4)[3]!);
    const prompt = prompts(5)[4]!;
    const expected = (await raw(prompt, TOKENS)).slice(0, 8);
    for (let split = 1; split < prompt.length; split++) {
      const driven = { row: decoder.add(), chosen: [] };
      await decoder.prefill(driven.row, Int32Array.from(prompt.slice(0, split)), false);
      await step(decoder, [company]);
      await prefill(decoder, driven, prompt.slice(split));
      await finish(decoder, [driven], 8);
      expect(driven.chosen, `split at ${split}`).toEqual(expected);
      decoder.remove(driven.row);
    }
    await close();
  });

  test('a saved row goes on as if it had stayed, from every length that it can be cut to', async () => {
    const { decoder, raw, close } = await decoderFixture(options, { slidingWindow });
    const prompt = prompts(5)[4]!;
    const expected = (await raw(prompt, TOKENS)).slice(0, 8);
    const first = await begin(decoder, prompt);
    const saved = decoder.save(first.row, first.row.length);
    expect(saved.length).toBe(prompt.length);
    if (decoder.canCut) expect(saved.byteLength).toBe(prompt.length * decoder.kvBytesPerToken);
    await finish(decoder, [first], 8);
    expect(first.chosen).toEqual(expected);
    const again = { row: decoder.restore(saved, saved.length), chosen: [expected[0]!] };
    await finish(decoder, [again], 8);
    expect(again.chosen).toEqual(expected);
    for (let length = 1; decoder.canCut && length < prompt.length; length++) {
      const half = decoder.save(first.row, length);
      expect(half.byteLength).toBe(length * decoder.kvBytesPerToken);
      for (const source of [saved, half]) {
        const cut = { row: decoder.restore(source, length), chosen: [] };
        expect(cut.row.length).toBe(length);
        await prefill(decoder, cut, prompt.slice(length));
        await finish(decoder, [cut], 4);
        expect(cut.chosen, `cut at ${length}`).toEqual(expected.slice(0, 4));
        decoder.remove(cut.row);
      }
    }
    await close();
  });
});
