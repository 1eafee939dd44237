/** Generated text between a front end and a model's thread: prompts, windows, and every way a stream can end. */
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { nowMs } from '../../src/base/clock.js';
import { ServeError } from '../../src/base/errors.js';
import { WINDOW_DELTAS } from '../../src/engine/generate-call.js';
import type { GenerateRequest, Prompt } from '../../src/engine/generation-types.js';
import { generateRequest, type Heard, heard, type Played, playedGenerator } from '../support/token-streams.js';

function start(played: Played, change: Partial<GenerateRequest> = {}) {
  const handler = heard();
  const request = generateRequest(change);
  const call = played.generator.generate(request, handler);
  return { handler, call, request };
}

const refusal = ({ errors }: Heard) => errors.map(({ code, message }) => [code, message]);

test('tokens become deltas as they come, the last with the end', () => {
  const played = playedGenerator();
  const { handler, request } = start(played, { sampling: { maxTokens: 9, seed: 3 } });
  const [started] = played.streams.started;
  expect(started).toMatchObject({ window: WINDOW_DELTAS, clientKey: 'me', sampling: { maxTokens: 9, seed: [3, 0] } });
  expect([...started!.tokens]).toEqual([5, 6, 7]);
  played.streams.token(0, 'Once');
  expect(handler.deltas).toEqual([{ text: 'Once', tokenId: 4, logit: 2 }]);
  played.streams.end(0, ' upon', { completionTokens: 2, cachedTokens: 1, stopReason: '.' });
  expect(handler.deltas[1]).toEqual({
    text: ' upon',
    tokenId: 5,
    logit: 2.5,
    end: {
      finishReason: 'stop',
      stopReason: '.',
      promptTokens: 3,
      completionTokens: 2,
      cachedTokens: 1,
      cumulativeLogprob: Number.NaN,
    },
  });
  expect(played.generator.inFlight).toBe(0);
  expect(played.model.admitting).toBe(0);
  const { timeline } = request;
  const stamps = [timeline.admitted, timeline.queued, timeline.dispatched, timeline.firstToken, timeline.computeEnd];
  expect(stamps).toEqual([...stamps].sort((a, b) => a - b));
  expect(Math.min(...stamps, timeline.scattered)).toBeGreaterThan(0);
});

test('what is counted of a stream adds up', () => {
  const { generator, streams, counts, model } = playedGenerator();
  generator.generate(generateRequest(), heard());
  streams.token(0, 'a');
  streams.token(0, 'b', { afterMs: 30 });
  streams.end(0, 'c', { finishReason: 'length' });
  expect(counts.finished).toEqual({ stop: 0, length: 1 });
  expect([counts.promptTokens, counts.generatedTokens]).toEqual([3, 3]);
  const once = [counts.firstTokenMs, counts.queueMs, counts.prefillMs, counts.decodeMs, counts.requestMs];
  expect(once.map(({ count }) => count)).toEqual([1, 1, 1, 1, 1]);
  expect(counts.betweenTokensMs.count).toBe(2);
  // But for the last digits of the clock.
  expect(counts.betweenTokensMs.sum).toBeGreaterThan(31 - 1e-3);
  expect(counts.responses.slice(0, 4).map(({ count }) => count)).toEqual([1, 1, 1, 0]);
  const snapshot = model.statistics.snapshot('story', '1', 0, counts.responses);
  expect(snapshot).toMatchObject({
    inference_count: 1,
    execution_count: 1,
    inference_stats: { success: { count: 1 } },
  });
  expect(Object.keys(snapshot.response_stats!)).toEqual(['0', '1', '2']);
});

test('text and conversations go through a preprocess worker, special tokens as asked for', async () => {
  const { generator, streams, prompts } = playedGenerator();
  const text = (more: object): Prompt => ({ kind: 'text', text: 'a bb ccc', ...more });
  generator.generate(generateRequest({ prompt: text({}) }), heard());
  generator.generate(generateRequest({ prompt: text({ addSpecialTokens: false }) }), heard());
  const messages = [{ role: 'user', content: 'hi' }];
  const chat: Prompt = { kind: 'chat', messages, templateArguments: { messages: 'no', enable_thinking: false } };
  generator.generate(generateRequest({ prompt: chat }), heard());
  await expect.poll(() => streams.started.length).toBe(3);
  expect(prompts.map(({ kind, count }) => [kind, count])).toEqual([
    ['prompt', 1],
    ['prompt_bare', 1],
    ['chat', 1],
  ]);
  expect([...streams.started[0]!.tokens]).toEqual([1, 2, 3]);
  expect(JSON.parse(Buffer.from(prompts[2]!.data.subarray(4)).toString())).toEqual({
    messages,
    enable_thinking: false,
    add_generation_prompt: true,
  });
});

const LONG = Array.from({ length: 32 }, () => 'w').join(' ');

describe('a request that can not be served is refused with the reason, and nothing of it stays', () => {
  test.each<[string, Partial<GenerateRequest>, string, string]>([
    ['another kind of model', { modelName: 'plain' }, 'INVALID_ARGUMENT', "model 'plain' generates no text"],
    ['an unknown model', { modelName: 'x' }, 'NOT_FOUND', "Request for unknown model: 'x'"],
    [
      'sampling out of range',
      { sampling: { temperature: -1 } },
      'INVALID_ARGUMENT',
      'temperature must be between 0 and 2, got -1',
    ],
    [
      'no tokens',
      { prompt: { kind: 'tokens', tokens: [] } },
      'INVALID_ARGUMENT',
      "prompt for model 'story' has no tokens, at least 1 is needed",
    ],
    ['no text', { prompt: { kind: 'text', text: '' } }, 'INVALID_ARGUMENT', "prompt for model 'story' is empty"],
    [
      'text of no tokens',
      { prompt: { kind: 'text', text: ' ' } },
      'INVALID_ARGUMENT',
      "prompt for model 'story' has no tokens, at least 1 is needed",
    ],
    [
      'text past the context',
      { prompt: { kind: 'text', text: LONG } },
      'INVALID_ARGUMENT',
      "prompt for model 'story' has 32 tokens, at most 31 leave room in its context of 32 tokens",
    ],
    [
      'tokens past the context',
      { prompt: { kind: 'tokens', tokens: new Array(40).fill(1) } },
      'INVALID_ARGUMENT',
      "prompt for model 'story' has 40 tokens, at most 31 leave room in its context of 32 tokens",
    ],
    [
      'a token of no vocabulary',
      { prompt: { kind: 'tokens', tokens: [1, 100] } },
      'INVALID_ARGUMENT',
      "token 1 of the prompt for model 'story' must be a whole number between 0 and 99, got 100",
    ],
    [
      'text with a token of the tokenizer alone',
      { prompt: { kind: 'text', text: `w ${'w'.repeat(100)}` } },
      'INVALID_ARGUMENT',
      "prompt for model 'story' has token 100 of its tokenizer, and the model knows tokens below 100 only",
    ],
    [
      'text of too many bytes',
      { prompt: { kind: 'text', text: 'é'.repeat(501) } },
      'INVALID_ARGUMENT',
      "prompt for model 'story' has 1002 bytes, at most 1000 are taken. Use --max-text-byte-size to increase the limit.",
    ],
    [
      'a conversation without messages',
      { prompt: { kind: 'chat', messages: [] } },
      'INVALID_ARGUMENT',
      "conversation for model 'story' has no messages",
    ],
  ])('%s', async (_, change, code, message) => {
    const played = playedGenerator();
    const { handler } = start(played, change);
    await expect.poll(() => refusal(handler)).toEqual([[code, message]]);
    expect([played.generator.inFlight, played.model.admitting, played.streams.started.length]).toEqual([0, 0, 0]);
  });

  test('a conversation for a model without a template', () => {
    const played = playedGenerator();
    Object.assign(played.model.generation!, { chatProblem: 'it has no chat template' });
    const { handler } = start(played, { prompt: { kind: 'chat', messages: [{ role: 'user' }] } });
    expect(refusal(handler)).toEqual([
      ['INVALID_ARGUMENT', "model 'story' takes no conversations: it has no chat template"],
    ]);
  });

  test('a prompt for a model whose thread is being replaced', () => {
    const played = playedGenerator();
    played.model.generation!.isLost = true;
    const { handler } = start(played);
    expect(handler.errors[0]).toMatchObject({ code: 'UNAVAILABLE', message: expect.stringContaining('was lost') });
  });

  test('one more than may wait', () => {
    const played = playedGenerator({ maxWaiting: 3 });
    const all = Array.from({ length: 6 }, () => start(played).handler);
    expect(all.map(refusal)).toEqual([
      [],
      [],
      [],
      [],
      [],
      [['UNAVAILABLE', "Exceeds maximum queue size (3) of model 'story'"]],
    ]);
    expect(played.model.statistics.failures.REJECTED).toBe(1);
  });

  test('one whose deadline has passed', () => {
    const played = playedGenerator();
    const { handler } = start(played, { deadlineMs: nowMs() - 1 });
    expect(refusal(handler)).toEqual([
      ['DEADLINE_EXCEEDED', "Deadline Exceeded before the first token of model 'story'"],
    ]);
    expect([played.streams.started.length, played.generator.inFlight]).toEqual([0, 0]);
  });

  test('any once the server stops', () => {
    const played = playedGenerator();
    played.generator.stopAccepting();
    expect(start(played).handler.errors[0]).toMatchObject({ code: 'UNAVAILABLE' });
  });
});

test('the number of tokens is cut to the room that the prompt leaves', () => {
  const played = playedGenerator();
  start(played, { sampling: { maxTokens: 1000 } });
  start(played);
  expect(played.streams.started.map(({ sampling }) => sampling.maxTokens)).toEqual([29, 29]);
});

test('what was taken is told to the worker half a window at a time', () => {
  const played = playedGenerator();
  const { call } = start(played);
  const half = WINDOW_DELTAS / 2;
  for (let i = 0; i < half; i++) {
    played.streams.token(0, 'x');
    call.taken(1);
  }
  expect(played.streams.credits).toEqual([[0, half]]);
  for (let i = 0; i < half; i++) played.streams.token(0, 'x');
  call.taken(half - 1);
  expect(played.streams.credits.length).toBe(1);
  call.taken(1);
  // More than was given counts for nothing.
  call.taken(1000);
  expect(played.streams.credits).toEqual([
    [0, half],
    [0, half],
  ]);
});

describe('a reader that stops', () => {
  const fill = (played: Played, stream: number, deltas = WINDOW_DELTAS) => {
    for (let i = 0; i < deltas; i++) played.streams.token(stream, 'x');
  };

  test('is ended once its window was used up for the limit, and the others go on', () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
    try {
      const played = playedGenerator({ stallTimeoutMs: 1000 });
      const slow = start(played);
      const lively = start(played);
      const idle = start(played);
      fill(played, 0);
      fill(played, 1);
      fill(played, 2, WINDOW_DELTAS - 1);
      vi.advanceTimersByTime(900);
      lively.call.taken(1);
      vi.advanceTimersByTime(101);
      expect(slow.handler.errors[0]).toMatchObject({
        code: 'RESOURCE_EXHAUSTED',
        message: 'the stream stalled: nothing of the 64 tokens that wait was read for 1 s',
      });
      expect(played.streams.cancelled).toEqual([0]);
      expect(played.counts.cancelled.stalled).toBe(1);
      expect([lively.handler.errors, idle.handler.errors]).toEqual([[], []]);
      // What it took was less than half a window: the worker still waits, and its time began anew.
      vi.advanceTimersByTime(850);
      expect(lively.handler.errors).toEqual([]);
      vi.advanceTimersByTime(100);
      expect(lively.handler.errors.length).toBe(1);
      expect(idle.handler.errors).toEqual([]);
    } finally {
      vi.useRealTimers();
    }
  });

  test('and then reads again is not ended', () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
    try {
      const played = playedGenerator({ stallTimeoutMs: 1000 });
      const { call, handler } = start(played);
      fill(played, 0);
      vi.advanceTimersByTime(999);
      call.taken(WINDOW_DELTAS / 2);
      vi.advanceTimersByTime(5000);
      expect(handler.errors).toEqual([]);
      played.streams.end(0, 'y');
      expect(handler.deltas.at(-1)!.end).toBeDefined();
    } finally {
      vi.useRealTimers();
    }
  });
});

describe('a stream ends early', () => {
  test('when its client goes: the worker is told, nobody is called any more', () => {
    const played = playedGenerator();
    const { call, handler } = start(played);
    played.streams.token(0, 'x');
    call.cancel();
    call.cancel();
    expect(played.streams.cancelled).toEqual([0]);
    played.streams.token(0, 'y');
    played.streams.confirmCancel(0);
    call.taken(1);
    expect([handler.deltas.length, handler.errors]).toEqual([1, []]);
    expect([played.counts.cancelled.client, played.generator.inFlight, played.model.admitting]).toEqual([1, 0, 0]);
    expect(played.model.statistics.failures.CANCELED).toBe(1);
  });

  test('when its client goes while the prompt is being read: no stream is started', async () => {
    const played = playedGenerator();
    const { call, handler } = start(played, { prompt: { kind: 'text', text: 'a' } });
    expect(played.generator.inFlight).toBe(1);
    call.cancel();
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
    expect([played.streams.started, handler.errors, played.generator.inFlight]).toEqual([[], [], 0]);
  });

  test('when its client goes from within a delta', () => {
    const played = playedGenerator();
    const deltas: string[] = [];
    const call = played.generator.generate(generateRequest(), {
      onDelta: ({ text }) => {
        deltas.push(text);
        call.cancel();
      },
      onError: (error) => void deltas.push(error.message),
    });
    played.streams.token(0, 'x');
    played.streams.token(0, 'y');
    expect([deltas, played.streams.cancelled]).toEqual([['x'], [0]]);
  });

  test('at its deadline', () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
    onTestFinished(() => void vi.useRealTimers());
    const played = playedGenerator();
    const { handler } = start(played, { deadlineMs: nowMs() + 20 });
    played.streams.token(0, 'x');
    vi.advanceTimersByTime(19);
    expect(refusal(handler)).toEqual([]);
    vi.advanceTimersByTime(2);
    expect(refusal(handler)).toEqual([['DEADLINE_EXCEEDED', "Deadline Exceeded after 1 tokens of model 'story'"]]);
    expect([played.streams.cancelled, played.counts.cancelled.deadline]).toEqual([[0], 1]);
  });

  test('when it fails in the worker, with its reason', () => {
    const played = playedGenerator();
    const { handler } = start(played);
    played.streams.fail(0, 'INTERNAL', 'the decoder failed');
    expect(refusal(handler)).toEqual([['INTERNAL', 'the decoder failed']]);
    expect([played.counts.failed, played.model.statistics.failures.BACKEND]).toEqual([1, 1]);
  });

  test('when its thread dies', () => {
    const played = playedGenerator();
    const { handler } = start(played);
    played.streams.lose(0);
    expect(refusal(handler)).toEqual([['UNAVAILABLE', 'the thread was lost']]);
    expect([played.counts.cancelled.lost, played.streams.cancelled]).toEqual([1, []]);
  });

  test('when it is cancelled at its deadline, which then is why', () => {
    // Its own timer is real, and can't fire within a turn.
    vi.useFakeTimers({ toFake: ['performance'] });
    onTestFinished(() => void vi.useRealTimers());
    const played = playedGenerator();
    const late = start(played, { deadlineMs: nowMs() + 5 });
    const early = start(played, { deadlineMs: nowMs() + 60_000 });
    vi.advanceTimersByTime(5);
    for (const { call } of [late, early]) call.cancel();
    expect(played.counts.cancelled).toMatchObject({ deadline: 1, client: 1 });
    expect(played.streams.cancelled).toEqual([0, 1]);
    expect([late, early].map(({ handler }) => handler.errors)).toEqual([[], []]);
  });

  test('when the front end throws, which is told, and the others go on', () => {
    const played = playedGenerator();
    const errors: ServeError[] = [];
    const broken = {
      onDelta: () => {
        throw new Error('broken');
      },
      onError: (error: ServeError) => void errors.push(error),
    };
    played.generator.generate(generateRequest(), broken);
    const { handler } = start(played);
    played.streams.token(0, 'x');
    played.streams.end(1, 'y');
    expect(played.logged).toEqual(['a front end threw while it took generated text']);
    expect([played.streams.cancelled, handler.deltas.length]).toEqual([[0], 1]);
    expect(errors.map(({ code, message }) => [code, message])).toEqual([['INTERNAL', 'internal error']]);
    played.generator.generate(generateRequest(), broken);
    played.streams.end(2, 'at the end');
    expect(errors.map(({ code }) => code)).toEqual(['INTERNAL', 'INTERNAL']);
    expect(played.generator.inFlight).toBe(0);
  });

  test('when the server ends, after those that end in time', async () => {
    const played = playedGenerator();
    const first = start(played);
    const second = start(played);
    let drained = false;
    const draining = played.generator.drained().then(() => (drained = true));
    played.streams.end(0, 'x');
    await Promise.resolve();
    expect(drained).toBe(false);
    played.generator.rejectAll(new ServeError('UNAVAILABLE', 'server is shutting down'));
    await draining;
    expect(first.handler.errors).toEqual([]);
    expect(refusal(second.handler)).toEqual([['UNAVAILABLE', 'server is shutting down']]);
    expect([played.streams.cancelled, played.counts.cancelled.shutdown]).toEqual([[1], 1]);
  });
});

test('starts and cancels by the thousand leave nothing', () => {
  const played = playedGenerator({ maxWaiting: 20_000 });
  for (let i = 0; i < 10_000; i++) {
    const { call } = start(played);
    call.cancel();
    played.streams.confirmCancel(i);
  }
  expect([played.generator.inFlight, played.streams.streamCount, played.model.admitting]).toEqual([0, 0, 0]);
});
