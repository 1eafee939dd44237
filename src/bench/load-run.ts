/**
 * Runs one load on one transport: closed (each caller asks again when answered) or open (requests are due at fixed times).
 *
 * Called by the load process. Owns the callers and their clock. In an open load a request's latency counts from when it was due, and one
 * that finds no free connection is sent as soon as there is one: a server that stalls is charged for all it kept waiting.
 */
import assert from 'node:assert';
import type { NumericData } from '../client/tensor.js';
import { BenchError } from './bench-error.js';
import { type Asked, Call, type Transport } from './call.js';
import type { ProcessLoad } from './load-messages.js';
import type { Metronome } from './metronome.js';
import { type Recorded, Recorder } from './recorder.js';

export interface LoadRun extends Recorded {
  /** On this process's `performance.now()`. */
  readonly startedMs: number;
  /** Of an open load not before its last interval is over. */
  readonly endedMs: number;
  /** Of the process so far, read at the end of the load and before its figures are put together. */
  readonly cpu: NodeJS.CpuUsage;
}

/** How much longer than planned an open load may take to send what was due; a short one has more, as its machine may stand still for a second. */
const OVERTIME = 2;
const LEAST_OVERTIME_MS = 10_000;

/** What runs: everything but the load itself. */
export interface LoadContext {
  readonly transport: Transport;
  readonly asked: Asked;
  /** Bytes of all tensors of a right answer; undefined where they may differ from answer to answer. */
  readonly tensorBytes: number | undefined;
  /** Needed for open loads. */
  readonly metronome: Metronome | undefined;
}

/** `calls` calls at once; resolves with one of the answered ones. Rejects when one fails. */
export function callOnce(transport: Transport, asked: Asked, calls: number): Promise<Call> {
  return new Promise((resolve, reject) => {
    let running = calls;
    let failure: string | undefined;
    const onDone = (call: Call): void => {
      failure ??= call.failure;
      if (--running > 0) return;
      if (failure === undefined) resolve(call);
      else reject(new BenchError(failure));
    };
    for (let index = 0; index < calls; index++) transport.start(new Call(index, asked, onDone));
  });
}

/** Ends when the last request is answered. */
export function runLoad(context: LoadContext, load: ProcessLoad): Promise<LoadRun> {
  return load.kind === 'closed' ? runClosed(context, load) : runOpen(context, load);
}

/**
 * All callers begin at once, so the first of them finds nobody before it and the last one all others: their first answers come after half
 * of what callers wait later. Only later ones are timed, and each caller has one, however slow the server is.
 */
const LEAST_TURNS = 2;

function runClosed(
  { transport, asked, tensorBytes }: LoadContext,
  { concurrency, ms }: ProcessLoad & { kind: 'closed' },
): Promise<LoadRun> {
  return new Promise((resolve) => {
    const recorder = new Recorder();
    const startedMs = performance.now();
    const untilMs = startedMs + ms;
    let running = concurrency;
    const turns = new Uint32Array(concurrency);
    const onDone = (call: Call): void => {
      const nowMs = performance.now();
      const turn = ++turns[call.index]!;
      if (isRight(recorder, call, tensorBytes)) {
        if (turn < LEAST_TURNS) recorder.ramped();
        else recorder.answered(call, nowMs);
      }
      if (nowMs < untilMs || turn < LEAST_TURNS) ask(call);
      else if (--running === 0) resolve({ startedMs, endedMs: nowMs, cpu: process.cpuUsage(), ...recorder.finish() });
    };
    const ask = (call: Call): void => {
      call.due = call.startedMs = performance.now();
      transport.start(call);
    };
    for (let index = 0; index < concurrency; index++) ask(new Call(index, asked, onDone));
  });
}

async function runOpen(
  { transport, asked, tensorBytes, metronome }: LoadContext,
  { ratePerSecond, offsetMs, ms }: ProcessLoad & { kind: 'open' },
): Promise<LoadRun> {
  const recorder = new Recorder();
  const intervalMs = 1000 / ratePerSecond;
  const count = Math.max(1, Math.round(ms / intervalMs));
  const plannedMs = count * intervalMs;
  const startedMs = performance.now() + START_MS;
  const firstMs = startedMs + offsetMs;
  const giveUpMs = firstMs + plannedMs + Math.max(LEAST_OVERTIME_MS, plannedMs * OVERTIME);
  const free: Call[] = [];
  let sent = 0;
  let running = 0;
  let leastMs = Number.POSITIVE_INFINITY;
  let end!: (endedMs: number) => void;
  const ended = new Promise<number>((resolve) => (end = resolve));
  const sendDue = (): void => {
    let nowMs = performance.now();
    while (sent < count && free.length > 0) {
      const dueMs = firstMs + sent * intervalMs;
      if (dueMs > nowMs) return;
      if (nowMs > giveUpMs) {
        recorder.failed(
          `the server is too slow for ${ratePerSecond} requests a second: they were not sent`,
          count - sent,
        );
        sent = count;
        if (running === 0) end(nowMs);
        return;
      }
      sent++;
      running++;
      const call = free.pop()!;
      call.due = dueMs;
      call.startedMs = nowMs;
      transport.start(call);
      nowMs = performance.now();
    }
  };
  const onDone = (call: Call): void => {
    const nowMs = performance.now();
    if (isRight(recorder, call, tensorBytes)) {
      recorder.answered(call, nowMs);
      leastMs = Math.min(leastMs, nowMs - call.due);
    }
    free.push(call);
    running--;
    sendDue();
    if (running === 0 && sent === count) end(nowMs);
  };
  for (let index = 0; index < transport.capacity; index++) free.push(new Call(index, asked, onDone));
  assert(metronome, 'an open load needs a metronome');
  const onBeat = (): void => {
    const before = sent;
    sendDue();
    // Two threads may disagree about the time by a hair, and the last beat is the last chance.
    if (sent === before && sent < count) setTimeout(sendDue, 1);
  };
  const stopBeats = metronome.beat({ startMs: firstMs, intervalMs, count, onBeat });
  const lastMs = await ended;
  const cpu = process.cpuUsage();
  stopBeats();
  // Each request has its interval, the last one, too. A server that keeps up may answer it later by what any answer takes.
  const endedMs = Math.max(startedMs + plannedMs, Number.isFinite(leastMs) ? lastMs - leastMs : lastMs);
  return { startedMs, endedMs, cpu, ...recorder.finish() };
}

/** For the order to reach the thread that beats. */
const START_MS = 5;

/** Whether it was answered rightly; what was not is recorded as a failure. */
function isRight(recorder: Recorder, { answer, failure }: Call, tensorBytes: number | undefined): boolean {
  if (answer === undefined) {
    recorder.failed(failure ?? 'no answer');
    return false;
  }
  if (tensorBytes === undefined) return true;
  let bytes = 0;
  for (const { data } of answer.outputs) bytes += (data as NumericData).byteLength;
  if (bytes === tensorBytes) return true;
  recorder.failed(`an answer holds ${bytes} bytes of tensors, expected ${tensorBytes}`);
  return false;
}
