import { expect, test } from 'vitest';
import { Call } from '../../src/bench/call.js';
import { Recorder } from '../../src/bench/recorder.js';

/** A call answered 10 ms after it was sent, 5 of them told by the server; due `lateMs` before it was sent. */
function answered(lateMs: number): { call: Call; endedMs: number } {
  const asked = { request: { model: 'm', inputs: [] }, arm: { encoding: 'grpc_raw', gzip: false } } as const;
  const call = new Call(0, asked, () => undefined);
  call.due = 1000;
  call.startedMs = call.called = 1000 + lateMs;
  call.encoded = call.called + 1;
  call.sent = call.called + 2;
  call.firstByte = call.called + 8;
  call.lastByte = call.called + 9;
  call.decoded = call.called + 10;
  call.serverTiming = 'decode;dur=2, compute;dur=3, total;dur=5';
  return { call, endedMs: call.decoded };
}

test('phases of both sides, the wait before and the rest add up to the latency', () => {
  const recorder = new Recorder();
  const { call, endedMs } = answered(4);
  recorder.answered(call, endedMs);
  const { phases, latenciesMs, explainedShare, transitShare } = recorder.finish();
  expect(phases.map(({ side, name, medianMs }) => [side, name, medianMs])).toEqual([
    ['client', 'late', 4],
    ['client', 'encode', 1],
    ['client', 'send', 1],
    ['server', 'decode', 2],
    ['server', 'compute', 3],
    ['between', 'transit', 1],
    ['client', 'read', 1],
    ['client', 'decode', 1],
  ]);
  expect([...latenciesMs]).toEqual([14]);
  expect(explainedShare).toBeCloseTo(1, 9);
  expect(transitShare).toBeCloseTo(1 / 14, 9);
});

test('nobody is late in a closed load', () => {
  const recorder = new Recorder();
  const { call, endedMs } = answered(0);
  recorder.answered(call, endedMs);
  expect(recorder.finish().phases[0]!.name).toBe('encode');
});

test('what the stamps do not see lowers the explained share', () => {
  const recorder = new Recorder();
  const { call, endedMs } = answered(0);
  recorder.answered(call, endedMs + 10);
  expect(recorder.finish().explainedShare).toBeCloseTo(0.5, 9);
});

test('more requests than are kept leave a sample of all of them, and exact counts', () => {
  const recorder = new Recorder();
  const { call } = answered(0);
  const requests = 200_000;
  for (let index = 0; index < requests; index++) recorder.answered(call, call.due + index);
  const { requests: counted, latenciesMs, meanMs, maxMs } = recorder.finish();
  expect(counted).toBe(requests);
  expect(latenciesMs.length).toBe(65_536);
  expect(meanMs).toBe((requests - 1) / 2);
  expect(maxMs).toBe(requests - 1);
  const sampleMean = latenciesMs.reduce((sum, ms) => sum + ms, 0) / latenciesMs.length;
  expect(Math.abs(sampleMean / meanMs - 1)).toBeLessThan(0.02);
});

test('failures are counted apart, with the first reason', () => {
  const recorder = new Recorder();
  recorder.failed('first');
  recorder.failed('second', 3);
  expect(recorder.finish()).toMatchObject({ requests: 0, failures: 4, firstFailure: 'first', phases: [] });
});
