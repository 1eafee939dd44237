/** All ways of a generated text against a real server: the same tokens, times in order, bytes counted. */
import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { runStreams, type StreamOptions } from '../../src/bench/streams.js';
import { temporaryDirectory } from '../support/engine.js';
import { startServer, type TestServer } from '../support/server.js';

let server: TestServer;
let options: StreamOptions;

beforeAll(async () => {
  const repository = temporaryDirectory();
  cpSync(join(import.meta.dirname, '../../models/stories'), join(repository, 'stories'), { recursive: true });
  server = await startServer({ repository });
  options = {
    grpc: `127.0.0.1:${server.grpcPort}`,
    http: `http://127.0.0.1:${server.httpPort}`,
    model: 'stories',
    tokens: 12,
    rounds: 2,
    runs: 2,
  };
});

afterAll(() => server.stop());

test('every way brings the same text, and figures that make sense', async () => {
  let cpuUs = 0;
  const results = await runStreams({ ...options, serverCpuUs: () => (cpuUs += 1000) });
  expect(results.map(({ way }) => way)).toEqual([
    'grpc_stream',
    'sse',
    'sse_openai',
    'request_per_token_grpc',
    'request_per_token_rest',
  ]);
  for (const result of results) {
    expect(result.textEqual, result.way).toBe(true);
    expect(result.tokens).toBe(12);
    expect(result.firstTokenMs.value).toBeGreaterThan(0);
    expect(result.totalMs.value).toBeGreaterThan(result.firstTokenMs.value);
    expect(result.totalMs.low).toBeLessThanOrEqual(result.totalMs.value);
    expect(result.gapP99Ms).toBeGreaterThanOrEqual(result.gapP50Ms);
    expect(result.sentBytes).toBeGreaterThan(0);
    expect(result.clientDecodeMs).toBeGreaterThan(0);
    // The clock above moves by 1000 within each turn, which brings two texts, or one with a request per token.
    expect(result.serverCpuUs).toBe(result.way.startsWith('request_per_token') ? 1000 : 500);
  }
  const [grpc, sse, , perToken] = results;
  expect(sse!.receivedBytes).toBeGreaterThan(grpc!.receivedBytes);
  expect(perToken!.sentBytes).toBeGreaterThan(grpc!.sentBytes);
});

test("Triton's stream brings the text of the small contract's", async () => {
  const ways = ['grpc_stream', 'sse'] as const;
  const triton = await runStreams({ ...options, contract: 'triton', ways });
  expect(triton.map(({ textEqual }) => textEqual)).toEqual([true, true]);
  expect(triton[0]!.serverCpuUs).toBeNull();
});

test('a model that is not there is said in the words of the server', async () => {
  const one = { ...options, model: 'nobody', rounds: 1 };
  await expect(runStreams({ ...one, ways: ['grpc_stream'] })).rejects.toThrow(/grpc_stream of model nobody: .*nobody/);
  await expect(runStreams({ ...one, ways: ['sse'] })).rejects.toThrow(/sse of model nobody: HTTP 404: .*nobody/);
});

test('a way that fails is left out with a note where notes are wanted', async () => {
  const notes: string[] = [];
  // Nothing listens where gRPC should be.
  const ways = ['grpc_stream', 'sse'] as const;
  const results = await runStreams({ ...options, grpc: '127.0.0.1:1', ways, onNote: (note) => notes.push(note) });
  expect(results.map(({ way }) => way)).toEqual(['sse']);
  expect(notes).toEqual([expect.stringMatching(/^grpc_stream of model stories: .*; it is left out$/)]);
});

test('without an address there is no way', async () => {
  await expect(runStreams({ model: 'stories', rounds: 1 })).rejects.toThrow('no way of streaming');
});

test('a reading that is interrupted leaves the rounds that every way has', async () => {
  const interrupt = new AbortController();
  const cuts: unknown[] = [];
  const results = await runStreams({
    ...options,
    ways: ['grpc_stream', 'sse'],
    rounds: 3,
    signal: interrupt.signal,
    // After the warm-up and the first round.
    onProgress: (share) => share >= 0.5 && interrupt.abort(),
    onCutShort: ({ done, total }) => cuts.push([done, total]),
  });
  expect(cuts).toEqual([[1, 3]]);
  expect(results.map(({ way, textEqual }) => [way, textEqual])).toEqual([
    ['grpc_stream', true],
    ['sse', true],
  ]);
});
