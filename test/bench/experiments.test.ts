/** The experiments' own tools, and those experiments that take a second: figures that are known beforehand come out. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server } from 'node:net';
import { afterAll, expect, test } from 'vitest';
import { byTurns, cpuTimeOf, randomNormal, timeOf } from '../../bench/experiments/experiment.js';
import { http2Frames } from '../../bench/experiments/hpack.js';
import { shortest } from '../../bench/experiments/payloads.js';
import { runExperiments } from '../../bench/experiments/run.js';
import { startProxy } from '../../bench/experiments/tcp-proxy.js';
import { quantile } from '../../src/bench/statistics.js';

const closing: (() => void)[] = [];
afterAll(() => {
  for (const close of closing) close();
});

test('arms take turns, the first round is dropped, and the median of the others stays', async () => {
  const order: string[] = [];
  const values = [100, 3, 1, 2];
  const arm = (name: string) => async () => {
    order.push(name);
    return { ms: values[Math.floor((order.length - 1) / 2)]! };
  };
  expect(await byTurns({ a: arm('a'), b: arm('b') }, { rounds: 3 })).toEqual({ a_ms: 2, b_ms: 2 });
  expect(order.join('')).toBe('baabbaab');
});

test('warm arms have no round that is dropped', async () => {
  expect(await byTurns({ a: async () => ({ n: 7 }) }, { rounds: 1, warm: true })).toEqual({ a_n: 7 });
});

test('an arm is compared with another round by round', async () => {
  const next = (values: number[]) => async () => ({ ms: values.shift()! });
  // The second round ran on a machine ten times as slow: ratios of medians would say 20 / 2.
  const arms = { a: next([1, 10, 2]), b: next([2, 20, 20]) };
  expect(await byTurns(arms, { rounds: 3, warm: true, against: 'a' })).toEqual({ a_ms: 2, b_ms: 20, b_over_a_ms: 2 });
});

test('what is timed is called at least once', () => {
  let calls = 0;
  expect(timeOf(() => ++calls, 0)).toBeGreaterThan(0);
  expect(calls).toBe(1);
  expect(cpuTimeOf(() => ++calls, 0)).toBeGreaterThanOrEqual(0);
  expect(calls).toBe(2);
});

test('a quantile is one of the numbers', () => {
  expect([0, 0.5, 0.99, 1].map((q) => quantile([4, 1, 3, 2], q))).toEqual([1, 3, 4, 4]);
});

test('random normal numbers are the same in every run, and normal', () => {
  const numbers = randomNormal(20_000);
  expect(randomNormal(20_000)).toEqual(numbers);
  const mean = numbers.reduce((sum, value) => sum + value, 0) / numbers.length;
  const variance = numbers.reduce((sum, value) => sum + (value - mean) ** 2, 0) / numbers.length;
  expect(Math.abs(mean)).toBeLessThan(0.03);
  expect(Math.abs(variance - 1)).toBeLessThan(0.05);
});

test('the shortest print of an FP32 number reads back as it', () => {
  const numbers = Float32Array.from(randomNormal(2000));
  expect(Float32Array.from(JSON.parse(JSON.stringify(shortest(numbers))))).toEqual(numbers);
  expect(shortest(Float32Array.of(0.1, 3, 16777217))).toEqual([0.1, 3, 16777216]);
});

test('frames are told apart behind the preface', () => {
  const frame = (type: number, payload: string) =>
    Buffer.concat([Buffer.from([0, 0, payload.length, type, 0, 0, 0, 0, 1]), Buffer.from(payload)]);
  const bytes = Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame(4, ''), frame(1, 'head')]);
  expect(http2Frames(bytes).map(({ type, payload }) => [type, payload.toString()])).toEqual([
    [4, ''],
    [1, 'head'],
  ]);
});

/** Sends back what it gets. */
async function echo(): Promise<number> {
  const server: Server = createServer((socket) => socket.pipe(socket));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  closing.push(() => server.close());
  return (server.address() as AddressInfo).port;
}

test.each([0, 4])('bytes pass the proxy in order and whole with a round trip of %i ms', async (roundTripMs) => {
  const port = await echo();
  const seen = { up: 0, down: 0 };
  const ended: number[] = [];
  const proxy = await startProxy({
    backend: () => port,
    closed: (at) => ended.push(at),
    roundTripMs,
    tap: (direction, bytes) => void (seen[direction] += bytes.length),
  });
  closing.push(proxy.close);
  const sent = Buffer.from(randomNormal(40_000).buffer);
  const socket = connect(proxy.port, '127.0.0.1');
  for (let at = 0; at < sent.length; at += 1000) socket.write(sent.subarray(at, at + 1000));
  socket.end();
  const received = Buffer.concat(await socket.toArray());
  expect(received.equals(sent)).toBe(true);
  expect(seen).toEqual({ up: sent.length, down: sent.length });
  expect(proxy.connections()).toBe(1);
  await expect.poll(() => ended).toEqual([port]);
});

test('a name that no experiment has names those that there are', async () => {
  await expect(runExperiments({ quick: true, names: ['hpak'], say: () => {} })).rejects.toThrow(
    /no experiment 'hpak', expected one of classification_response, /,
  );
});

test('the cheap experiments give figures that can be known beforehand', async () => {
  const lines: string[] = [];
  const names = ['classification_response', 'embedding_bytes', 'hpack', 'token_gzip'];
  const results = await runExperiments({ quick: true, names, say: (line) => lines.push(line) });
  expect(results.map(({ name }) => name)).toEqual(names);
  expect(lines[0]).toBe('experiment 1/4: classification_response');
  const [classification, embedding, headers, tokens] = results.map(({ figures }) => figures);
  // Tags, lengths, 2 bytes of 145, 4 of each float, 16 of the name.
  expect(classification).toMatchObject({ json_bytes: 111, protobuf_bytes: 33 });
  expect(embedding).toMatchObject({ raw_bytes: 6144, base64_bytes: 8192 });
  expect(headers!.h2_request_later).toBeLessThan(headers!.h2_request_first!);
  expect(headers!.h2_request_first).toBeLessThan(headers!.h1_request!);
  expect(tokens!.grpc_gzip_message_bytes).toBeGreaterThan(tokens!.grpc_message_bytes!);
  expect(tokens!.sse_gzip_event_bytes).toBeLessThan(tokens!.sse_event_bytes!);
});

test('experiments that would begin too late are left out, and said to be', async () => {
  const notes: string[] = [];
  const names = ['hpack', 'token_gzip'];
  const options = { quick: true, names, say: () => {}, beginUntilMs: performance.now() - 1 };
  expect(await runExperiments({ ...options, onNote: (note) => notes.push(note) })).toEqual([]);
  expect(notes).toEqual(['The time of a quick run was over, so these experiments are left out: hpack; token_gzip.']);
});

test('experiments that are interrupted are those that are complete', async () => {
  const interrupt = new AbortController();
  const say = (line: string): void => {
    if (line.startsWith('experiment 2/')) interrupt.abort();
  };
  const names = ['embedding_bytes', 'classification_response'];
  const results = await runExperiments({ quick: true, names, say, signal: interrupt.signal, onNote: expect.fail });
  expect(results.map(({ name }) => name)).toEqual(['embedding_bytes']);
});
