import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { ServeError } from '../../src/base/errors.js';
import {
  FLAG_CANCELLED,
  FLAG_END,
  FLAG_FAILED,
  FLAG_TOKEN,
  GAUGE,
  type GenerationSpec,
  type RecordDetail,
} from '../../src/runtime/generation-messages.js';
import { TokenStreamWorker } from '../../src/runtime/token-stream-worker.js';
import { specOf } from '../support/decoder.js';
import { temporaryDirectory } from '../support/engine.js';
import { GREEDY, type StartOptions } from '../support/step-loop.js';

const WORKER = join(import.meta.dirname, '../../dist/workers/token-stream-worker.js');
const STORIES = join(import.meta.dirname, '../../models/stories');
const LAST = FLAG_END | FLAG_FAILED | FLAG_CANCELLED;
const LONG = 200;

function spec(changes: Partial<GenerationSpec> = {}): GenerationSpec {
  const file = readFileSync(join(STORIES, 'tokenizer.json'));
  const tokenizerJson = new Uint8Array(new SharedArrayBuffer(file.length));
  tokenizerJson.set(file);
  return specOf(join(STORIES, 'onnx'), {
    tokenizerJson,
    tokenizerConfigJson: readFileSync(join(STORIES, 'tokenizer_config.json'), 'utf8'),
    contextLength: 512,
    prefixCacheBytes: 2 ** 23,
    ...changes,
  });
}

interface Told {
  readonly number: number;
  readonly tokens: number[];
  text: string;
  detail: RecordDetail | undefined;
  /** Flags of the last record, or why there was none. */
  readonly ended: Promise<number | ServeError>;
  /** Resolves at the so many-th token. */
  reached(count: number): Promise<void>;
}

function begin(streams: TokenStreamWorker, prompt: readonly number[], options: StartOptions = {}): Told {
  const { sampling, window = 1000, clientKey = 'a' } = options;
  const ended = Promise.withResolvers<number | ServeError>();
  const waiting: { count: number; resolve: () => void }[] = [];
  const told = {
    number: -1,
    tokens: [] as number[],
    text: '',
    detail: undefined as RecordDetail | undefined,
    ended: ended.promise,
    reached: (count: number) =>
      new Promise<void>((resolve) => {
        if (told.tokens.length >= count) resolve();
        else waiting.push({ count, resolve });
      }),
  };
  told.number = streams.start(
    { tokens: Int32Array.from(prompt), sampling: { ...GREEDY, maxTokens: LONG, ...sampling }, window, clientKey },
    {
      onRecord: ({ flags, tokenId, text, detail }) => {
        if ((flags & FLAG_TOKEN) !== 0) told.tokens.push(tokenId);
        told.text += text;
        for (const each of waiting) if (each.count <= told.tokens.length) each.resolve();
        if ((flags & LAST) === 0) return;
        told.detail = detail;
        ended.resolve(flags);
      },
      onLost: (error) => ended.resolve(error),
    },
  );
  return told;
}

const prompt = (length: number, seed = 1): number[] =>
  Array.from({ length }, (_, index) => 10 + ((index * 37 + seed * 101) % 700));

let streams: TokenStreamWorker;
beforeAll(async () => {
  streams = new TokenStreamWorker({ workerFile: WORKER, maxSequences: 8, onLost: () => undefined });
  const loaded = await streams.load(spec());
  expect(loaded).toMatchObject({ vocabularySize: 768, kvBytesPerToken: 4 * 2 * 2 * 32 * 4 });
});
afterAll(() => streams.close());

test('streams of a real model get the tokens in company that they get alone, prompts kept or not', async () => {
  const alone: number[][] = [];
  for (let seed = 0; seed < 8; seed++) {
    const told = begin(streams, prompt(5 + seed * 7, seed), { sampling: { maxTokens: 40 } });
    expect(await told.ended).toBe(FLAG_TOKEN | FLAG_END);
    alone.push(told.tokens);
  }
  const together = alone.map((_, seed) => begin(streams, prompt(5 + seed * 7, seed), { sampling: { maxTokens: 40 } }));
  for (const told of together) await told.ended;
  expect(together.map(({ tokens }) => tokens)).toEqual(alone);
  expect(together[7]!.detail!.end!.cachedTokens).toBeGreaterThan(40);
  expect(streams.streamCount).toBe(0);
  expect(streams.gauges[GAUGE.running]).toBe(0);
  expect(streams.gauges[GAUGE.prefixHitTokens]).toBeGreaterThan(0);
});

test('a cancel answers while others run on, and the number is used again', async () => {
  const other = begin(streams, prompt(10, 3));
  // Of a window that it can't end within.
  const cancelled = begin(streams, prompt(10, 4), { window: LONG / 2 });
  await cancelled.reached(3);
  streams.cancel(cancelled.number);
  expect(await cancelled.ended).toBe(FLAG_CANCELLED);
  expect(cancelled.tokens.length).toBeLessThan(LONG);
  const next = begin(streams, prompt(10, 5), { sampling: { maxTokens: 3 } });
  expect(next.number).toBe(cancelled.number);
  // Of streams that have ended nothing is heard.
  streams.cancel(99);
  streams.credit(99, 1);
  expect(await next.ended).toBe(FLAG_TOKEN | FLAG_END);
  await other.ended;
  expect(other.tokens).toHaveLength(LONG);
});

test('a stream whose deltas nobody takes pauses and goes on with the same tokens', async () => {
  const whole = begin(streams, prompt(12, 6), { sampling: { maxTokens: 30 } });
  await whole.ended;
  const slow = begin(streams, prompt(12, 6), { sampling: { maxTokens: 30 }, window: 10 });
  await slow.reached(10);
  expect(slow.tokens).toHaveLength(10);
  for (let taken = 10; taken < 30; taken += 10) {
    streams.credit(slow.number, 10);
    await slow.reached(taken + 10);
  }
  await slow.ended;
  expect(slow.tokens).toEqual(whole.tokens);
  expect(slow.text).toBe(whole.text);
});

test('log probabilities come with the tokens and their bytes are the text', async () => {
  const bytes: number[] = [];
  const end = Promise.withResolvers<void>();
  let text = '';
  streams.start(
    {
      tokens: Int32Array.from(prompt(10, 7)),
      sampling: { ...GREEDY, maxTokens: 12, logprobs: 3, skipSpecialTokens: false },
      window: 99,
      clientKey: '',
    },
    {
      onRecord: (record) => {
        text += record.text;
        const { logprob } = record.detail!;
        bytes.push(...logprob!.bytes);
        expect(logprob!.top[0]).toMatchObject({ id: record.tokenId, logprob: logprob!.logprob });
        expect(logprob!.top).toHaveLength(3);
        if ((record.flags & FLAG_END) !== 0) end.resolve();
      },
      onLost: (error) => end.reject(error),
    },
  );
  await end.promise;
  expect(Buffer.from(bytes).toString()).toBe(text);
});

test('a worker has one model', async () => {
  await expect(streams.load(spec())).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' });
});

test('a model that can not be loaded is refused with the reason, and another can be', async () => {
  const own = new TokenStreamWorker({ workerFile: WORKER, maxSequences: 8, onLost: () => undefined });
  const early = begin(own, prompt(5));
  expect(await early.ended).toBe(FLAG_FAILED);
  expect(early.detail?.failure).toEqual({ code: 'UNAVAILABLE', message: 'the token-stream worker has no model yet' });
  await expect(own.load(spec({ tokenizerConfigJson: '{' }))).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  await own.load(spec());
  const told = begin(own, prompt(5), { sampling: { maxTokens: 4 } });
  expect(await told.ended).toBe(FLAG_TOKEN | FLAG_END);
  const running = begin(own, prompt(5), { window: LONG / 2 });
  await running.reached(2);
  await own.close();
  expect(await running.ended).toBe(FLAG_FAILED);
  expect(running.detail?.failure).toEqual({ code: 'UNAVAILABLE', message: 'server is shutting down' });
  const late = begin(own, prompt(5));
  expect(await late.ended).toMatchObject({ code: 'UNAVAILABLE', message: 'server is shutting down' });
  await expect(own.load(spec())).rejects.toMatchObject({ code: 'UNAVAILABLE', message: 'server is shutting down' });
});

test('a thread that dies loses its streams, and the one in its place serves when it has been given the model', async () => {
  const file = join(temporaryDirectory(), 'die.mjs');
  writeFileSync(
    file,
    // Not by a message on its port: the step loop may take that before an event tells of it.
    `import { BroadcastChannel } from 'node:worker_threads';
import serve from ${JSON.stringify(WORKER)};
new BroadcastChannel('die').onmessage = () => process.exit(3);
export default serve;\n`,
  );
  const lost = Promise.withResolvers<string>();
  const own = new TokenStreamWorker({ workerFile: file, maxSequences: 8, onLost: lost.resolve });
  await own.load(spec());
  const running = begin(own, prompt(5), { window: 2 });
  await running.reached(2);
  const channel = new BroadcastChannel('die');
  channel.postMessage(0);
  expect(await running.ended).toMatchObject({ code: 'UNAVAILABLE', message: 'the token-stream worker was lost' });
  await lost.promise;
  channel.close();
  expect(own.streamCount).toBe(0);
  expect(own.gauges[GAUGE.paused]).toBe(0);
  await own.load(spec());
  const told = begin(own, prompt(5), { sampling: { maxTokens: 4 } });
  expect(await told.ended).toBe(FLAG_TOKEN | FLAG_END);
  await own.close();
});

test('a thread that can not start says so to loads and streams', async () => {
  const own = new TokenStreamWorker({
    workerFile: join(temporaryDirectory(), 'none.js'),
    maxSequences: 8,
    onLost: () => undefined,
  });
  await expect(own.load(spec())).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  expect(await begin(own, prompt(5)).ended).toMatchObject({ code: 'UNAVAILABLE' });
  await own.close();
});
