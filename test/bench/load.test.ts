import { type AddressInfo, createServer } from 'node:net';
import { gzipSync } from 'node:zlib';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { BenchError } from '../../src/bench/bench-error.js';
import { splitLoad, startLoad } from '../../src/bench/load.js';
import type { LoadOptions, LoadRunner } from '../../src/bench/load-types.js';
import { takeDeadPort } from '../support/dead-port.js';
import { ANSWER, type OddServer, PAYLOAD, startOddServer } from './echo.js';

const JSON_ARM = { encoding: 'rest_json', gzip: false } as const;

let server: OddServer | undefined;
let runner: LoadRunner | undefined;

afterEach(async () => {
  await runner?.close();
  await server?.close();
  runner = server = undefined;
});

async function against(
  answer: Parameters<typeof startOddServer>[0],
  options: Partial<LoadOptions> = {},
): Promise<LoadRunner> {
  server = await startOddServer(answer);
  runner = await startLoad({ http: { url: server.url } }, { processes: 1, ...options });
  return runner;
}

describe('an open load', () => {
  test('charges a stalled server for every request that was due meanwhile', async () => {
    const stallMs = 500;
    let stalledUntil = 0;
    // Two connections: a client that waits for answers before it asks again would have two slow requests.
    const load = await against(
      (response, index) => {
        if (index === 30) stalledUntil = performance.now() + stallMs;
        setTimeout(() => response.end(ANSWER), Math.max(0, stalledUntil - performance.now()));
      },
      { httpConnections: 2 },
    );
    const rate = 100;
    const round = await load.measure(PAYLOAD, JSON_ARM, { kind: 'open', ratePerSecond: rate }, 1200);
    expect(round.failures).toBe(0);
    expect(round.requests).toBe(120);
    // Of the 50 due in the stall all waited for its end: the first for 500 ms, the last hardly. A busy machine only adds to them.
    const slow = round.latenciesMs.filter((ms) => ms > stallMs / 5).length;
    expect(slow).toBeGreaterThanOrEqual(38);
    expect(round.maxMs).toBeGreaterThan(stallMs * 0.9);
    const late = round.phases.find(({ name }) => name === 'late');
    expect(late!.meanMs).toBeGreaterThan((38 * 250) / 2 / 120);
  });

  test('has its requests shared by all processes', async () => {
    const load = await against((response) => response.end(ANSWER), { processes: 2 });
    const round = await load.measure(PAYLOAD, JSON_ARM, { kind: 'open', ratePerSecond: 200 }, 300);
    expect(round.requests).toBe(60);
  });
});

test('a server that falls silent under load is told as such', async () => {
  const load = await against((response, index) => void (index === 0 && response.end(ANSWER)), { silenceMs: 3000 });
  const round = load.measure(PAYLOAD, JSON_ARM, { kind: 'closed', concurrency: 1 }, 10);
  await expect(round).rejects.toThrow(/^the server gave no answer within 3(\.01)? s$/);
});

test('the time that a client process takes to start is no silence of the server', async () => {
  const slowStart = 'Atomics.wait(new/**/Int32Array(new/**/SharedArrayBuffer(4)),0,0,4000)';
  vi.stubEnv('NODE_OPTIONS', `--import=data:text/javascript,${slowStart}`);
  const load = await against((response) => response.end(ANSWER), { silenceMs: 3000 });
  vi.unstubAllEnvs();
  await expect(load.probe(PAYLOAD, JSON_ARM)).resolves.toBeDefined();
});

test('a server that answers slowly, but does, is waited for', async () => {
  // Each within the limit, all together far beyond it.
  const answers: (() => void)[] = [];
  const next = (): void => {
    answers.shift()?.();
    if (answers.length > 0) setTimeout(next, 300);
  };
  const load = await against(
    (response) => {
      if (answers.push(() => response.end(ANSWER)) === 1) setTimeout(next, 300);
    },
    { silenceMs: 4000 },
  );
  const round = await load.measure(PAYLOAD, JSON_ARM, { kind: 'closed', concurrency: 12 }, 10);
  expect(round.failures).toBe(0);
  expect(round.requests).toBeGreaterThanOrEqual(12);
});

/** Answers one request after another, each `serviceMs` after the one before: what a single thread that computes does to its callers. */
function oneAfterAnother(serviceMs: number): Parameters<typeof startOddServer>[0] {
  let tail = Promise.resolve();
  return (response) => {
    tail = tail.then(async () => {
      const untilMs = performance.now() + serviceMs;
      while (performance.now() < untilMs) await new Promise((resolve) => setTimeout(resolve, 1));
      response.end(ANSWER);
    });
  };
}

describe('against a server whose delays are known', () => {
  test('an open load of few requests is told at the rate that was asked for', async () => {
    const load = await against((response) => response.end(ANSWER));
    // One request: its answer takes a thousandth of the time until the next one would be due.
    const few = await load.measure(PAYLOAD, JSON_ARM, { kind: 'open', ratePerSecond: 2 }, 50);
    expect(few.requests).toBe(1);
    expect(few.seconds).toBeCloseTo(0.5, 2);
  });

  test('an open load that a server falls behind is told at what the server can answer', async () => {
    const load = await against(oneAfterAnother(20));
    const round = await load.measure(PAYLOAD, JSON_ARM, { kind: 'open', ratePerSecond: 100 }, 400);
    expect(round.requests).toBe(40);
    // Between the first answer and the last lie 39 times 20 ms, and the first one took no less than the quickest.
    expect(round.requests / round.seconds).toBeLessThan(54);
    expect(round.maxMs).toBeGreaterThan(39 * 10);
  });

  test('each caller is timed at least once, however slow the server', async () => {
    const load = await against((response) => setTimeout(() => response.end(ANSWER), 60));
    const round = await load.measure(PAYLOAD, JSON_ARM, { kind: 'closed', concurrency: 3 }, 1);
    expect(round.requests).toBe(6);
    expect(round.latenciesMs.length).toBe(3);
  });

  test('two kinds of answers are in the percentiles as often as they were given', async () => {
    const given = { fast: 0, slow: 0 };
    const load = await against((response, index) => {
      const isSlow = index % 10 === 9;
      given[isSlow ? 'slow' : 'fast']++;
      setTimeout(() => response.end(ANSWER), isSlow ? 200 : 0);
    });
    const round = await load.measure(PAYLOAD, JSON_ARM, { kind: 'open', ratePerSecond: 200 }, 1000);
    expect(round.requests).toBe(200);
    const slow = round.latenciesMs.filter((ms) => ms >= 199).length;
    // The lead-in's call was one of them.
    expect(slow).toBeGreaterThanOrEqual(given.slow - 1);
  });

  test("the server's phases are in the budget as it told them, and what it waited beyond as transit", async () => {
    const timing = { 'server-timing': 'decode;dur=1.5, compute;dur=10, encode;dur=0.5, total;dur=12' };
    const load = await against((response) => setTimeout(() => response.writeHead(200, timing).end(ANSWER), 40));
    const { phases, meanMs } = await load.measure(PAYLOAD, JSON_ARM, { kind: 'closed', concurrency: 1 }, 200);
    const told = phases.filter(({ side }) => side === 'server').map(({ name, medianMs }) => [name, medianMs]);
    expect(told).toEqual([
      ['decode', 1.5],
      ['compute', 10],
      ['encode', 0.5],
    ]);
    expect(phases.map(({ side, name }) => (side === 'server' ? side : name))).toEqual([
      ...['encode', 'send', 'server', 'server', 'server'],
      ...['transit', 'read', 'decode'],
    ]);
    const meanOf = (...names: string[]) =>
      phases.filter(({ name }) => names.includes(name)).reduce((total, phase) => total + phase.meanMs, 0);
    // A client that is stopped between sending and its stamp takes for sending what was transit.
    expect(meanOf('send', 'transit', 'read')).toBeGreaterThan(39 - 12);
    // What a phase has is taken from no other; what lies outside of all of them is the machine's.
    const sum = phases.reduce((total, phase) => total + phase.meanMs, 0);
    expect(sum).toBeGreaterThan(39);
    expect(sum).toBeLessThan(meanMs * (1 + 1e-9));
  });
});

describe('a closed load', () => {
  test('goes on asking a server that is gone, and counts what it missed', async () => {
    const load = await against((response, index) => {
      if (index < 5) response.end(ANSWER);
      else void server!.close();
    });
    const round = await load.measure(PAYLOAD, JSON_ARM, { kind: 'closed', concurrency: 2 }, 100);
    expect(round.requests).toBeLessThan(5);
    expect(round.failures).toBeGreaterThan(0);
    expect(round.firstFailure).toBeTruthy();
  });

  test('never has more requests under way than callers, and queues those that find no connection', async () => {
    const [open, connections] = [{ now: 0, most: 0 }, 3];
    const waiting: (() => void)[] = [];
    const load = await against(
      (response) => {
        open.most = Math.max(open.most, ++open.now);
        waiting.push(() => {
          open.now--;
          response.end(ANSWER);
        });
        // Until all connections have been in use at once nobody is answered.
        if (open.most >= connections) for (const answer of waiting.splice(0)) setImmediate(answer);
      },
      { httpConnections: connections },
    );
    const round = await load.measure(PAYLOAD, JSON_ARM, { kind: 'closed', concurrency: 8 }, 150);
    expect(round.failures).toBe(0);
    expect(round.requests).toBeGreaterThan(8);
    expect(open.most).toBe(connections);
    expect(round.latenciesMs.length).toBe(round.requests - 8);
  });

  test('goes on where the server closes connections behind its answers', async () => {
    const load = await against((response) => response.setHeader('connection', 'close').end(ANSWER));
    const round = await load.measure(PAYLOAD, JSON_ARM, { kind: 'closed', concurrency: 2 }, 100);
    expect(round.failures).toBe(0);
    expect(round.requests).toBeGreaterThan(2);
    // Bytes of connections that are closed count as well.
    expect(round.receivedBytes / round.requests).toBeGreaterThan(ANSWER.length);
  });

  test('counts failures and wrong answers apart from answers', async () => {
    const other = ANSWER.replace('[1],"data":[1.5]', '[2],"data":[1,2]');
    const load = await against((response, index) => {
      // The lead-in, a request for each of two callers, must be right.
      if (index < 2 || index % 3 === 0) response.end(ANSWER);
      else if (index % 3 === 1) response.writeHead(503).end('{"error":"no room"}');
      else response.end(other);
    });
    const round = await load.measure(PAYLOAD, JSON_ARM, { kind: 'closed', concurrency: 2 }, 150);
    expect(round.failures).toBeGreaterThan(0);
    expect(round.requests).toBeGreaterThan(0);
    expect(round.latenciesMs.length).toBeLessThanOrEqual(round.requests);
    expect(round.firstFailure).toMatch(/^(HTTP 503 Service Unavailable: no room|an answer holds 8 bytes)/);
  });

  test('counts CPU, bytes and time of what was measured alone', async () => {
    const load = await against((response) => response.end(ANSWER));
    let reads = 0;
    const options = { serverCpuUs: () => (reads++ === 0 ? 1000 : 5000) };
    const round = await load.measure(PAYLOAD, JSON_ARM, { kind: 'closed', concurrency: 1 }, 100, options);
    expect(reads).toBe(2);
    expect(round.serverCpuUs).toBe(4000);
    expect(round.clientCpuUs).toBeGreaterThan(0);
    expect(round.seconds).toBeGreaterThanOrEqual(0.1);
    const perRequest = round.receivedBytes / round.requests;
    expect(perRequest).toBeGreaterThan(ANSWER.length);
    expect(perRequest).toBeLessThan(ANSWER.length + 300);
  });
});

describe('a probe', () => {
  test('has an id, for models that give back what they were given', async () => {
    let id: unknown;
    const load = await against((response, _index, _request, body) => {
      id = (JSON.parse(body.toString()) as { id?: unknown }).id;
      response.end(ANSWER);
    });
    await load.probe(PAYLOAD, JSON_ARM);
    expect(id).toBe('bench');
  });

  test('gives the answer and the sizes of the tensors', async () => {
    const load = await against((response) => response.setHeader('server-timing', 'total;dur=1').end(ANSWER));
    const probe = await load.probe(PAYLOAD, JSON_ARM);
    expect(probe).toMatchObject({ requestTensorBytes: 4, responseTensorBytes: 4, serverTiming: 'total;dur=1' });
    expect(probe.outputs[0]!.data).toEqual(new Float32Array([1.5]));
  });

  test('reads answers without a length, and packed ones', async () => {
    const load = await against((response, _, request) => {
      if (request.headers['accept-encoding'] === 'gzip') {
        response.setHeader('content-encoding', 'gzip').end(gzipSync(ANSWER));
      } else {
        response.write(ANSWER.slice(0, 20));
        response.end(ANSWER.slice(20));
      }
    });
    for (const gzip of [false, true]) {
      const { outputs } = await load.probe(PAYLOAD, { encoding: 'rest_json', gzip });
      expect(outputs[0]!.data).toEqual(new Float32Array([1.5]));
    }
  });

  test("fails with the server's words when it refuses", async () => {
    const load = await against((response) => response.writeHead(400).end('{"error":"no binary tensors here"}'));
    const refused = load.probe(PAYLOAD, { encoding: 'rest_binary', gzip: false });
    await expect(refused).rejects.toThrow(new BenchError('HTTP 400 Bad Request: no binary tensors here'));
    await expect(load.probe(PAYLOAD, JSON_ARM)).rejects.toThrow(/no binary/);
  });

  test('fails in words for doors that are not there', async () => {
    const { port, release } = await takeDeadPort();
    runner = await startLoad({ http: { url: `http://127.0.0.1:${port}` } }, { processes: 1 });
    await expect(runner.probe(PAYLOAD, { encoding: 'grpc_raw', gzip: false })).rejects.toThrow(
      /address of its gRPC door/,
    );
    await expect(runner.probe(PAYLOAD, JSON_ARM)).rejects.toThrow(`can't connect to 127.0.0.1:${port}`);
    release();
  });

  test('fails at once where the server closes the connection that it has just taken, as one does that ends', async () => {
    const closing = createServer((socket) => socket.resume().end());
    await new Promise<void>((resolve) => closing.listen(0, '127.0.0.1', resolve));
    const address = `127.0.0.1:${(closing.address() as AddressInfo).port}`;
    // Far longer than a test may take: it is not patience that ends this.
    runner = await startLoad({ grpc: { address } }, { processes: 1, silenceMs: 3_600_000 });
    await expect(runner.probe(PAYLOAD, { encoding: 'grpc_raw', gzip: false })).rejects.toThrow(
      `no HTTP/2 at ${address}: the server closed the connection`,
    );
    await new Promise((resolve) => closing.close(resolve));
  });
});

test.each([
  { concurrency: 1, processes: 3, parts: [1] },
  { concurrency: 8, processes: 3, parts: [3, 3, 2] },
  { concurrency: 64, processes: 1, parts: [64] },
])('$concurrency callers over $processes processes are $parts', ({ concurrency, processes, parts }) => {
  const split = splitLoad({ kind: 'closed', concurrency }, processes, 10);
  expect(split.map((part) => part.kind === 'closed' && part.concurrency)).toEqual(parts);
});

test('processes of an open load take turns', () => {
  const split = splitLoad({ kind: 'open', ratePerSecond: 100 }, 2, 10);
  expect(split).toEqual([
    { kind: 'open', ratePerSecond: 50, offsetMs: 0, ms: 10 },
    { kind: 'open', ratePerSecond: 50, offsetMs: 10, ms: 10 },
  ]);
});
