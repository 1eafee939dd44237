/** The advice: medians of the last requests, levels by the article's thresholds, savings from traffic or from a probe. */
import { expect, test } from 'vitest';
import { Timeline } from '../../src/base/timeline.js';
import { Advisor, FEWEST_REQUESTS, levelOf } from '../../src/engine/advice.js';
import { AdviceSamples, KEPT } from '../../src/engine/advice-samples.js';
import type { FinishedRequest } from '../../src/engine/finished-request.js';
import type { Arm } from '../../src/engine/types.js';

interface Lengths {
  readonly decode: number;
  readonly between: number;
  readonly encode: number;
}

function timelineOf({ decode, between, encode }: Lengths, bytes = 1000): Timeline {
  const timeline = new Timeline(100);
  timeline.lastByte = 101;
  timeline.decoded = 101 + decode;
  timeline.scattered = timeline.decoded + between;
  timeline.encoded = timeline.scattered + encode;
  timeline.inputBytes = bytes;
  timeline.outputBytes = bytes;
  return timeline;
}

function finished(arm: Arm | undefined, timeline: Timeline, modelName = 'm', status = '200'): FinishedRequest {
  return { protocol: 'rest', method: '', status, arm, modelName, timeline, requestBytes: 0, responseBytes: 0 };
}

function feed(advisor: Advisor, arm: Arm, lengths: Lengths, { times = FEWEST_REQUESTS, bytes = 1000 } = {}): void {
  for (let i = 0; i < times; i++) advisor.observe(finished(arm, timelineOf(lengths, bytes)));
}

const probeOf = (decodeMs: number, encodeMs: number) => ({ decodeMs: () => decodeMs, encodeMs: () => encodeMs });

/** Soon after the requests of `feed` ended. */
const NOW = 200;

const HEAVY = { decode: 15, between: 3, encode: 0.1 };
const LIGHT = { decode: 0.02, between: 3, encode: 0.01 };

test.each([
  [0, 'ok'],
  [0.2, 'ok'],
  [0.201, 'warning'],
  [0.3, 'warning'],
  [0.301, 'alert'],
  [1, 'alert'],
])('a share of %f is %s', (share, level) => {
  expect(levelOf(share)).toBe(level);
});

test('medians are of the requests kept, the oldest make room for the newest', () => {
  const samples = new AdviceSamples();
  expect(samples.summary()).toBeUndefined();
  for (let i = 0; i < KEPT; i++) samples.add(timelineOf(LIGHT));
  expect(samples.summary()!.decodeMs).toBeCloseTo(0.02, 9);
  for (let i = 0; i < KEPT / 2 + 1; i++) samples.add(timelineOf(HEAVY));
  const summary = samples.summary()!;
  expect(summary.requests).toBe(KEPT);
  expect(summary.decodeMs).toBeCloseTo(15, 9);
  expect(summary.p50Ms).toBeCloseTo(19.1, 9);
  expect(summary.share).toBeCloseTo(15.1 / 19.1, 9);
});

test('JSON that is most of the latency is an alert, and the probe says what binary would save', () => {
  const advisor = new Advisor({ rest_binary: probeOf(0.1, 0.1) });
  feed(advisor, 'rest_json', HEAVY);
  const [advice] = advisor.adviceOf('m', NOW);
  expect(advice).toMatchObject({ arm: 'rest_json', level: 'alert' });
  expect(advice!.alternatives).toHaveLength(1);
  expect(advice!.alternatives[0]).toMatchObject({ arm: 'rest_binary', basis: 'probe' });
  expect(advice!.alternatives[0]!.savesMs).toBeCloseTo(14.9, 6);
  expect(advice!.advice).toBe('JSON decode is 79 % of p50 (19.1 ms); binary over REST would save 14.9 ms');
});

test("a model's own traffic over another arm counts before the probe, where its tensors are alike in size", () => {
  const probe = probeOf(1, 1);
  const near = new Advisor({ rest_binary: probe });
  feed(near, 'rest_json', HEAVY);
  feed(near, 'rest_binary', LIGHT, { bytes: 1900 });
  const far = new Advisor({ rest_binary: probe });
  feed(far, 'rest_json', HEAVY);
  feed(far, 'rest_binary', LIGHT, { bytes: 2100 });
  const saving = (advisor: Advisor) =>
    advisor.adviceOf('m', NOW).find(({ arm }) => arm === 'rest_json')!.alternatives[0]!;
  expect(saving(near)).toMatchObject({ arm: 'rest_binary', basis: 'traffic' });
  expect(saving(near).serializationMs).toBeCloseTo(0.03, 6);
  expect(saving(far)).toMatchObject({ arm: 'rest_binary', basis: 'probe', serializationMs: 2 });
});

test('alternatives come with the largest saving first, and none that saves nothing worth a word', () => {
  const advisor = new Advisor({
    rest_binary: probeOf(1, 0),
    grpc_raw: probeOf(0.5, 0),
  });
  feed(advisor, 'rest_json', HEAVY);
  expect(advisor.adviceOf('m', NOW)[0]!.alternatives.map(({ arm }) => arm)).toEqual(['grpc_raw', 'rest_binary']);
  feed(advisor, 'grpc_raw', LIGHT);
  expect(advisor.adviceOf('m', NOW).find(({ arm }) => arm === 'grpc_raw')).toMatchObject({
    level: 'ok',
    alternatives: [],
  });
});

test('what is little in itself or little of the whole is no saving', () => {
  const advisor = new Advisor({ rest_binary: probeOf(0, 0) });
  for (const [between, count] of [
    [60, 0],
    [40, 1],
  ] as const) {
    feed(advisor, 'rest_json', { decode: 1, between, encode: 0 }, { times: KEPT });
    expect(advisor.adviceOf('m', NOW)[0]!.alternatives).toHaveLength(count);
  }
  const small = new Advisor({ rest_binary: probeOf(0, 0) });
  feed(small, 'rest_json', { decode: 0.04, between: 0.1, encode: 0 });
  expect(small.adviceOf('m', NOW)[0]!.advice).toMatch(/; no other arm would save much$/);
});

test('where there is neither traffic nor a probe there is no figure', () => {
  const advisor = new Advisor({});
  feed(advisor, 'rest_json', HEAVY);
  expect(advisor.adviceOf('m', NOW)[0]!.alternatives).toEqual([]);
});

test('few requests have no level', () => {
  const advisor = new Advisor({});
  feed(advisor, 'rest_json', HEAVY, { times: FEWEST_REQUESTS - 1 });
  expect(advisor.adviceOf('m', NOW)[0]).toMatchObject({ level: undefined });
  expect(advisor.adviceOf('m', NOW)[0]!.advice).toContain('only 19 requests');
});

test('few requests promise no saving either', () => {
  const advisor = new Advisor({ rest_binary: probeOf(0, 0) });
  feed(advisor, 'rest_json', HEAVY, { times: FEWEST_REQUESTS - 1 });
  expect(advisor.adviceOf('m', NOW)[0]!.alternatives).toEqual([]);
  feed(advisor, 'rest_json', HEAVY, { times: 1 });
  expect(advisor.adviceOf('m', NOW)[0]!.alternatives).toHaveLength(1);
});

test('requests whose answer nobody got are none of the samples', () => {
  const advisor = new Advisor({});
  for (const status of ['499', 'CANCELLED', '429', 'RESOURCE_EXHAUSTED']) {
    for (let i = 0; i < KEPT; i++) advisor.observe(finished('rest_json', timelineOf(HEAVY), 'm', status));
  }
  expect(advisor.adviceOf('m', NOW)).toEqual([]);
  advisor.observe(finished('grpc_raw', timelineOf(LIGHT), 'm', 'OK'));
  expect(advisor.adviceOf('m', NOW).map(({ arm }) => arm)).toEqual(['grpc_raw']);
});

test('figures without a newer request are stale, and say since when', () => {
  const advisor = new Advisor({});
  feed(advisor, 'rest_json', HEAVY);
  const endedMs = timelineOf(HEAVY).encoded;
  const [young] = advisor.adviceOf('m', endedMs + 1_000);
  expect(young!.agoMs).toBeCloseTo(1_000, 6);
  expect(young!.isStale).toBe(false);
  expect(young!.advice).not.toContain('ago');
  const [old] = advisor.adviceOf('m', endedMs + 3_600_000);
  expect(old!.agoMs).toBeCloseTo(3_600_000, 6);
  expect(old).toMatchObject({ isStale: true, level: 'alert' });
  expect(old!.advice).toMatch(/; the last request was 60 minutes ago$/);
});

test('where most requests are light and some heavy, the medians are not the whole of it', () => {
  const advisor = new Advisor({});
  feed(advisor, 'rest_json', LIGHT, { times: 90 });
  expect(advisor.adviceOf('m', NOW)[0]!.advice).not.toContain('one request in 20');
  feed(advisor, 'rest_json', HEAVY, { times: 10, bytes: 1_000_000 });
  const [advice] = advisor.adviceOf('m', NOW);
  expect(advice!.summary.slowMs).toBeCloseTo(15.1, 6);
  expect(advice!.advice).toContain('one request in 20 spends 15.1 ms or more on it');
});

test('generated text has no tensors that another arm would carry cheaper', () => {
  const advisor = new Advisor({ rest_binary: probeOf(0, 0) });
  feed(advisor, 'rest_json', HEAVY, { bytes: 0 });
  const [advice] = advisor.adviceOf('m', NOW);
  expect(advice!.alternatives).toEqual([]);
  expect(advice!.advice).toContain('it carries text over every arm');
});

test('a codec is probed once for each size and direction', () => {
  const asked: string[] = [];
  const ask = (what: string) => (bytes: number) => {
    asked.push(`${what} ${bytes}`);
    return 0;
  };
  const advisor = new Advisor({ rest_binary: { decodeMs: ask('decode'), encodeMs: ask('encode') } });
  for (const bytes of [1000, 1020, 3000]) {
    feed(advisor, 'rest_json', HEAVY, { times: KEPT, bytes });
    advisor.adviceOf('m', NOW);
  }
  expect(asked).toEqual(['decode 1024', 'encode 1024', 'decode 4096', 'encode 4096']);
});

test('requests that no model answered leave no trace, whatever names they carry', () => {
  const advisor = new Advisor({});
  const refused = new Timeline(1);
  refused.encoded = 2;
  for (let i = 0; i < 1000; i++) advisor.observe(finished('rest_json', refused, `unknown-${i}`));
  advisor.observe(finished(undefined, timelineOf(LIGHT), 'no arm'));
  expect([...advisor.modelNames()]).toEqual([]);
  expect(advisor.adviceOf('unknown-1', NOW)).toEqual([]);
});
