/** Generated text by the real chain, from the engine's door to the model's thread and back, with the shipped language model. */
import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest';
import { nowMs } from '../../src/base/clock.js';
import { Timeline } from '../../src/base/timeline.js';
import type { CreateEngineOptions } from '../../src/engine/create-engine.js';
import type { GenerateCall, GenerateRequest, Prompt } from '../../src/engine/generation-types.js';
import type { InferInput, InferRequest } from '../../src/engine/types.js';
import { infer, rawStrings, startEngine, type TestEngine, temporaryDirectory, tensor } from '../support/engine.js';
import { generateRequest, type Heard, heard } from '../support/token-streams.js';

const repository = temporaryDirectory();
cpSync(join(import.meta.dirname, '../../models/stories'), join(repository, 'stories'), { recursive: true });

let shared: TestEngine;
beforeAll(async () => {
  shared = await startEngine(repository);
});
afterAll(() => shared.stop());

async function ownEngine(options: Partial<CreateEngineOptions>): Promise<TestEngine> {
  const running = await startEngine(repository, options);
  onTestFinished(() => running.stop());
  return running;
}

interface Generated {
  readonly call: GenerateCall;
  readonly request: GenerateRequest;
  readonly handler: Heard;
  /** Resolves at its end, with all its text; rejects with its error. */
  readonly text: Promise<string>;
}

/** What a reader does when it has got so many deltas. */
type Reader = (call: GenerateCall, deltas: number) => void;
const TAKES: Reader = (call) => call.taken(1);
const READS_NOTHING: Reader = () => undefined;

function generate({ engine }: TestEngine, change: Partial<GenerateRequest> = {}, reader = TAKES): Generated {
  const handler = heard();
  const request = generateRequest({ modelName: 'stories', prompt: STORY, ...change });
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  promise.catch(() => undefined);
  const call = engine.generate(request, {
    onDelta: (delta) => {
      handler.onDelta(delta);
      reader(call, handler.deltas.length);
      if (delta.end) resolve(handler.deltas.map(({ text }) => text).join(''));
    },
    onError: (error) => {
      handler.onError(error);
      reject(error);
    },
  });
  return { call, request, handler, text: promise };
}

const STORY: Prompt = { kind: 'text', text: 'Once upon a time' };
const question = (content: string): Prompt => ({ kind: 'chat', messages: [{ role: 'user', content }] });
const LONG = { maxTokens: 300, ignoreEos: true };

/** As the model's thread counts them. */
const gauges = ({ engine }: TestEngine) => engine.readyModels()[0]!.generation!.streams;

test('a question gets its answer, the end says how it came about, and the phases add up', async () => {
  const { text, handler, request } = generate(shared, {
    prompt: question('What is 3 plus 4?'),
    sampling: { temperature: 0 },
  });
  expect(await text).toContain('7');
  const { end } = handler.deltas.at(-1)!;
  expect(end).toMatchObject({ finishReason: 'stop', completionTokens: handler.deltas.length });
  expect(end!.promptTokens).toBeGreaterThan(3);
  const { timeline } = request;
  const sum = timeline.phases().reduce((total, length) => total + length, 0);
  expect(sum).toBeCloseTo(timeline.scattered - timeline.firstByte, 6);
  const stamps = [timeline.admitted, timeline.queued, timeline.dispatched, timeline.computeStart, timeline.firstToken];
  expect([...stamps, timeline.computeEnd, timeline.scattered]).toEqual(
    [...stamps, timeline.computeEnd, timeline.scattered].sort((a, b) => a - b),
  );
});

test('the answer is the same in company, after a cancel, and when the prompt was seen before', async () => {
  const asked = { prompt: question('What is 2 plus 6?'), sampling: { temperature: 0 } };
  const company = Array.from({ length: 6 }, () => generate(shared, { sampling: { ...LONG, temperature: 1 } }));
  const answers = [await generate(shared, asked).text];
  for (const { call } of company) call.cancel();
  answers.push(await generate(shared, asked).text, await generate(shared, asked).text);
  expect(new Set(answers).size).toBe(1);
  expect(answers[0]).toContain('8');
});

test('a cancelled stream makes no more steps, and its place is free', async () => {
  const { handler } = generate(shared, { sampling: LONG }, (call, deltas) => {
    if (deltas < 4) call.taken(1);
    else call.cancel();
  });
  await expect.poll(() => handler.deltas.length).toBe(4);
  await expect.poll(() => gauges(shared).streamCount).toBe(0);
  expect([handler.deltas.length, handler.errors, shared.engine.inFlight]).toEqual([4, [], 0]);
});

test('a reader that stops is ended after the limit, and others go on meanwhile', async () => {
  const running = await ownEngine({ stallTimeoutMs: 100 });
  const stalled = generate(running, { sampling: LONG }, READS_NOTHING);
  const lively = generate(running, { sampling: { ...LONG, maxTokens: 200 } });
  await lively.text;
  await expect(stalled.text).rejects.toMatchObject({ code: 'RESOURCE_EXHAUSTED' });
  expect(stalled.handler.deltas.length).toBe(64);
  await expect.poll(() => gauges(running).streamCount).toBe(0);
});

test('a reader that pauses gets all the rest when it reads again', async () => {
  const sampling = { ...LONG, maxTokens: 150, seed: 4, temperature: 1 };
  const whole = await generate(shared, { sampling }).text;
  const paused = generate(shared, { sampling }, READS_NOTHING);
  for (let taken = 0; taken < 150; ) {
    await expect.poll(() => paused.handler.deltas.length).toBe(Math.min(150, taken + 64));
    paused.call.taken(64);
    taken += 64;
  }
  expect(await paused.text).toBe(whole);
});

test('a deadline ends a stream that runs', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  onTestFinished(() => void vi.useRealTimers());
  const first = Promise.withResolvers<void>();
  const { text } = generate(shared, { sampling: LONG, deadlineMs: nowMs() + 1000 }, (call) => {
    call.taken(1);
    first.resolve();
  });
  await first.promise;
  vi.advanceTimersByTime(2000);
  await expect(text).rejects.toMatchObject({ code: 'DEADLINE_EXCEEDED' });
  await expect.poll(() => gauges(shared).streamCount).toBe(0);
});

test('a server that ends lets short streams end and refuses long ones', async () => {
  const running = await startEngine(repository);
  const short = generate(running, { sampling: { maxTokens: 2 } });
  // It waits for its reader for as long as the server would.
  const long = generate(running, { sampling: LONG }, READS_NOTHING);
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  onTestFinished(() => void vi.useRealTimers());
  const drained = running.engine.drain(1000);
  vi.advanceTimersByTime(999);
  expect(await short.text).not.toBe('');
  expect(long.handler.errors).toEqual([]);
  vi.advanceTimersByTime(1);
  await drained;
  vi.useRealTimers();
  await expect(long.text).rejects.toMatchObject({ code: 'UNAVAILABLE', message: 'server is shutting down' });
  await running.stop();
});

const text = (name: string, value: string): InferInput => ({
  name,
  datatype: 'BYTES',
  shape: [1],
  data: rawStrings(value),
});

function inferStream({ engine }: TestEngine, inputs: InferInput[]): Promise<[text: string, final: boolean][]> {
  const timeline = new Timeline(nowMs());
  timeline.lastByte = timeline.decoded = timeline.firstByte;
  const request: InferRequest = {
    modelName: 'stories',
    modelVersion: '',
    id: '',
    inputs,
    outputs: [],
    parameters: new Map(Object.entries({ max_tokens: 5, temperature: 0 })),
    arm: 'grpc_raw',
    deadlineMs: Number.POSITIVE_INFINITY,
    timeline,
  };
  const responses: [string, boolean][] = [];
  return new Promise((resolve, reject) => {
    const call = engine.inferStream(request, {
      onResponse: ({ outputs }, final) => {
        responses.push([Buffer.from(outputs[0]!.data.subarray(4)).toString(), final]);
        call.taken(1);
        if (final) resolve(responses);
      },
      onError: reject,
    });
  });
}

test("by tensors it answers in Triton's ways: one response, one for each token, or none in one piece", async () => {
  const prompt = text('text_input', 'Once upon a time');
  const [[whole, isFinal], ...others] = (await inferStream(shared, [prompt])) as [[string, boolean]];
  expect([whole.startsWith('Once upon a time'), isFinal, others]).toEqual([true, true, []]);
  const pieces = await inferStream(shared, [prompt, tensor('stream', 'BOOL', [1], Uint8Array.of(1))]);
  expect(pieces.map(([, final]) => final)).toEqual([false, false, false, false, true]);
  expect(`Once upon a time${pieces.map(([piece]) => piece).join('')}`).toBe(whole);
  await expect(infer(shared.engine, { modelName: 'stories', inputs: [prompt] })).rejects.toMatchObject({
    code: 'UNIMPLEMENTED',
  });
  const parameters = new Map(Object.entries({ max_tokens: '5', temperature: '0' }));
  const { outputs } = await infer(shared.engine, {
    modelName: 'stories',
    inputs: [prompt],
    parameters,
    wholeText: true,
  });
  expect(`Once upon a time${Buffer.from(outputs[0]!.data.subarray(4))}`).toBe(whole);
});

test('a model that is loaded at its first use answers the first request, however it is asked', async () => {
  for (const ask of [
    (running: TestEngine) => generate(running, { sampling: { maxTokens: 1 } }).text,
    (running: TestEngine) => inferStream(running, [text('text_input', 'Once')]),
  ]) {
    const running = await ownEngine({ loadOnFirstUse: true });
    expect(running.engine.readyModels()).toEqual([]);
    expect(await ask(running)).toBeDefined();
    expect(running.engine.inFlight).toBe(0);
  }
});

test('what a request can do wrong disturbs no other stream', async () => {
  const sampling = { maxTokens: 60, seed: 1, temperature: 1 };
  const alone = await generate(shared, { sampling }).text;
  const { text: inCompany } = generate(shared, { sampling });
  const wrong: Partial<GenerateRequest>[] = [
    { prompt: { kind: 'text', text: '' } },
    { prompt: { kind: 'text', text: 'word '.repeat(2000) } },
    { prompt: { kind: 'tokens', tokens: [-1] } },
    { sampling: { temperature: -1 } },
    { sampling: { stop: new Array(10_000).fill('x') } },
  ];
  const ends = await Promise.allSettled(wrong.map((change) => generate(shared, change).text));
  expect(ends.map((end) => end.status === 'rejected' && end.reason.code)).toEqual(
    new Array(5).fill('INVALID_ARGUMENT'),
  );
  expect(await inCompany).toBe(alone);
});
