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

function finished(arm: Arm | undefined, timeline: Timeline, modelName = 'm'): FinishedRequest {
  return { protocol: 'rest', method: '', status: '200', arm, modelName, timeline, requestBytes: 0, responseBytes: 0 };
}

function feed(advisor: Advisor, arm: Arm, lengths: Lengths, { times = FEWEST_REQUESTS, bytes = 1000 } = {}): void {
  for (let i = 0; i < times; i++) advisor.observe(finished(arm, timelineOf(lengths, bytes)));
}

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
  const advisor = new Advisor({ rest_binary: () => ({ decodeMs: 0.1, encodeMs: 0.1 }) });
  feed(advisor, 'rest_json', HEAVY);
  const [advice] = advisor.adviceOf('m');
  expect(advice).toMatchObject({ arm: 'rest_json', level: 'alert' });
  expect(advice!.alternatives).toHaveLength(1);
  expect(advice!.alternatives[0]).toMatchObject({ arm: 'rest_binary', basis: 'probe' });
  expect(advice!.alternatives[0]!.savesMs).toBeCloseTo(14.9, 6);
  expect(advice!.advice).toBe('JSON decode is 79 % of p50 (19.1 ms); binary over REST would save 14.9 ms');
});

test("a model's own traffic over another arm counts before the probe, where its tensors are alike in size", () => {
  const probe = () => ({ decodeMs: 1, encodeMs: 1 });
  const near = new Advisor({ rest_binary: probe });
  feed(near, 'rest_json', HEAVY);
  feed(near, 'rest_binary', LIGHT, { bytes: 1900 });
  const far = new Advisor({ rest_binary: probe });
  feed(far, 'rest_json', HEAVY);
  feed(far, 'rest_binary', LIGHT, { bytes: 2100 });
  const saving = (advisor: Advisor) => advisor.adviceOf('m').find(({ arm }) => arm === 'rest_json')!.alternatives[0]!;
  expect(saving(near)).toMatchObject({ arm: 'rest_binary', basis: 'traffic' });
  expect(saving(near).serializationMs).toBeCloseTo(0.03, 6);
  expect(saving(far)).toMatchObject({ arm: 'rest_binary', basis: 'probe', serializationMs: 2 });
});

test('alternatives come with the largest saving first, and none that saves nothing worth a word', () => {
  const advisor = new Advisor({
    rest_binary: () => ({ decodeMs: 1, encodeMs: 0 }),
    grpc_raw: () => ({ decodeMs: 0.5, encodeMs: 0 }),
  });
  feed(advisor, 'rest_json', HEAVY);
  expect(advisor.adviceOf('m')[0]!.alternatives.map(({ arm }) => arm)).toEqual(['grpc_raw', 'rest_binary']);
  feed(advisor, 'grpc_raw', LIGHT);
  expect(advisor.adviceOf('m').find(({ arm }) => arm === 'grpc_raw')).toMatchObject({ level: 'ok', alternatives: [] });
});

test('where there is neither traffic nor a probe there is no figure', () => {
  const advisor = new Advisor({});
  feed(advisor, 'rest_json', HEAVY);
  expect(advisor.adviceOf('m')[0]!.alternatives).toEqual([]);
});

test('few requests have no level', () => {
  const advisor = new Advisor({});
  feed(advisor, 'rest_json', HEAVY, { times: FEWEST_REQUESTS - 1 });
  expect(advisor.adviceOf('m')[0]).toMatchObject({ level: undefined });
  expect(advisor.adviceOf('m')[0]!.advice).toContain('only 19 requests');
});

test('requests that no model answered leave no trace, whatever names they carry', () => {
  const advisor = new Advisor({});
  const refused = new Timeline(1);
  refused.encoded = 2;
  for (let i = 0; i < 1000; i++) advisor.observe(finished('rest_json', refused, `unknown-${i}`));
  advisor.observe(finished(undefined, timelineOf(LIGHT), 'no arm'));
  expect([...advisor.modelNames()]).toEqual([]);
  expect(advisor.adviceOf('unknown-1')).toEqual([]);
});
