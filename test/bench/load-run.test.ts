/** The load itself on a clock of the test's own: a server whose answers take what the test says, to the millisecond. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Asked, Call, Transport } from '../../src/bench/call.js';
import { type LoadRun, runLoad } from '../../src/bench/load-run.js';
import { mergeMeasured } from '../../src/bench/merge-measured.js';
import type { Metronome } from '../../src/bench/metronome.js';
import { NO_PARAMETERS } from '../../src/client/answer.js';

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] }));
afterEach(() => void vi.useRealTimers());

const ASKED: Asked = { request: { model: 'm', inputs: [] }, arm: { encoding: 'rest_json', gzip: false } };
const ANSWER = { model: 'm', version: '', id: '', parameters: NO_PARAMETERS, outputs: [] };

/** When a request that comes now is answered; `index` counts all requests. */
type Server = (nowMs: number, index: number, call: Call) => number;

function transportTo(server: Server, capacity: number): Transport {
  let index = 0;
  return {
    capacity,
    start(call) {
      call.begin();
      call.encoded = call.sent = performance.now();
      const answeredMs = server(call.sent, index++, call);
      setTimeout(() => {
        call.firstByte = call.lastByte = performance.now();
        call.succeed(ANSWER);
      }, answeredMs - call.sent);
    },
    wireBytes: () => ({ sent: 0, received: 0 }),
    close: async () => undefined,
  };
}

/** Beats in time, by the same clock. */
const metronome: Metronome = {
  beat({ startMs, intervalMs, count, onBeat }) {
    const timers = Array.from({ length: count }, (_, beat) =>
      setTimeout(onBeat, Math.ceil(startMs + beat * intervalMs - performance.now())),
    );
    return () => timers.forEach(clearTimeout);
  },
};

/** Runs to its end in no time. */
async function run(server: Server, load: Parameters<typeof runLoad>[1], capacity = 64): Promise<LoadRun> {
  const transport = transportTo(server, capacity);
  const running = runLoad({ transport, asked: ASKED, tensorBytes: undefined, metronome }, load);
  await vi.runAllTimersAsync();
  return running;
}

const taking =
  (ms: number): Server =>
  (nowMs) =>
    nowMs + ms;
const open = (ratePerSecond: number, ms: number, offsetMs = 0) =>
  ({ kind: 'open', ratePerSecond, offsetMs, ms }) as const;
const perSecond = ({ requests, startedMs, endedMs }: LoadRun): number => requests / ((endedMs - startedMs) / 1000);

describe('an open load', () => {
  test('charges a server that stands still for every request that was due meanwhile', async () => {
    const stallMs = 500;
    let stalledUntil = 0;
    const server: Server = (nowMs, index) => {
      if (index === 30) stalledUntil = nowMs + stallMs;
      return Math.max(nowMs, stalledUntil);
    };
    // Two connections: a client that waits for answers before it asks again would have two slow requests.
    const round = await run(server, open(100, 1200), 2);
    expect(round).toMatchObject({ requests: 120, failures: 0 });
    // Those due in the stall waited for its end, the first for all of it, the last hardly.
    expect(round.maxMs).toBeCloseTo(stallMs, 0);
    for (const atLeast of [400, 300, 200, 100]) {
      const slow = round.latenciesMs.filter((ms) => ms > atLeast - 0.5).length;
      expect(slow).toBeGreaterThanOrEqual(1 + (stallMs - atLeast) / 10);
      // And a few that had to wait until those were answered, two in a millisecond.
      expect(slow).toBeLessThanOrEqual(6 + (stallMs - atLeast) / 10);
    }
    // All but the two that were under way were sent late.
    const lateMs = round.phases.find(({ name }) => name === 'late')!.meanMs;
    expect(lateMs).toBeGreaterThan((48 * 240) / 120);
    expect(lateMs).toBeLessThan((56 * 240) / 120);
  });

  test('tells requests that the server was too slow for as failures', async () => {
    const round = await run(taking(1000), open(100, 200), 1);
    expect(round.requests + round.failures).toBe(20);
    expect(round.failures).toBeGreaterThan(0);
    expect(round.firstFailure).toMatch(/too slow for 100 requests a second/);
  });

  test('makes up for a stop of its machine, however short it was planned', async () => {
    let stopped = false;
    // The clock jumps while the first request is on its way.
    const server: Server = (nowMs) => {
      const answeredMs = nowMs + (stopped ? 1 : 3000);
      stopped = true;
      return answeredMs;
    };
    const round = await run(server, open(100, 50), 1);
    expect(round).toMatchObject({ requests: 5, failures: 0 });
  });

  test('whose answers come late, but none later than others, has kept its rate', async () => {
    const round = await run(taking(300), open(40, 200));
    expect(round.requests).toBe(8);
    expect(new Set(Array.from(round.latenciesMs, Math.round))).toEqual(new Set([300]));
    // With the last answer's 300 ms it would be 16 a second.
    expect(perSecond(round)).toBeCloseTo(40, 6);
  });

  test('that a server falls behind is told at what the server can answer', async () => {
    let freeMs = 0;
    const round = await run((nowMs) => (freeMs = Math.max(nowMs, freeMs) + 20), open(100, 400));
    expect(round.requests).toBe(40);
    expect(perSecond(round)).toBeGreaterThan(50);
    expect(perSecond(round)).toBeLessThan(53);
  });

  test('of two processes is told as one', async () => {
    const parts: LoadRun[] = [];
    for (const offsetMs of [0, 25]) parts.push(await run(taking(300), open(20, 200, offsetMs)));
    const [first] = parts;
    // Both ran at the same time.
    const measured = parts.map((part) => {
      const { startedMs, endedMs } = part;
      const rest = { sentBytes: 0, receivedBytes: 0, cpuUs: 0 };
      return { ...part, ...rest, startedMs: first!.startedMs, endedMs: first!.startedMs + endedMs - startedMs };
    });
    const { requests, failures, seconds } = mergeMeasured(measured, null);
    expect({ requests, failures }).toEqual({ requests: 8, failures: 0 });
    expect(requests / seconds).toBeGreaterThan(35);
    expect(requests / seconds).toBeLessThan(41);
  });
});

describe('a closed load', () => {
  test('whose callers begin all at once times them from their second request on', async () => {
    const [callers, laterMs] = [8, 60];
    const first = new Set<number>();
    // Whoever comes first is answered early: nobody was before him.
    const server: Server = (nowMs, _, { index }) => {
      if (first.has(index)) return nowMs + laterMs;
      first.add(index);
      return nowMs + 1;
    };
    const round = await run(server, { kind: 'closed', concurrency: callers, ms: 10 });
    expect(round.requests).toBe(2 * callers);
    expect(Array.from(round.latenciesMs)).toEqual(Array(callers).fill(expect.closeTo(laterMs, 6)));
    expect(round.meanMs).toBeCloseTo(laterMs, 6);
  });

  test('has all of its time explained', async () => {
    const round = await run(taking(7), { kind: 'closed', concurrency: 3, ms: 100 });
    expect(round.explainedShare).toBeCloseTo(1, 9);
    expect(round.phases.reduce((sum, { meanMs }) => sum + meanMs, 0)).toBeCloseTo(round.meanMs, 9);
    expect(round.phases.find(({ name }) => name === 'transit')!.medianMs).toBeCloseTo(7, 6);
  });
});
