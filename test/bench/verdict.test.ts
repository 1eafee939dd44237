import { describe, expect, test } from 'vitest';
import { armName, type BenchResults, type CellResult } from '../../src/bench/results.js';
import { verdict } from '../../src/bench/verdict.js';
import { verdictText } from '../../src/bench/verdict-text.js';
import { ARMS, around, benchResults, cellOf, LOADS } from '../support/bench-results.js';

/** One model, payload and load, each arm with the same figures but for those given by its name. */
function group(
  changes: Record<string, Partial<CellResult>>,
  options: { rounds?: number; arms?: string[] } = {},
): BenchResults {
  const { rounds = 5 } = options;
  const arms = ARMS.filter((arm) => (options.arms ?? Object.keys(changes)).includes(armName(arm)));
  const results = benchResults({ models: ['m'], sizesKb: [100], loads: LOADS.slice(0, 1), arms, rounds, ways: [] });
  const same = {
    p50Ms: around(10, 0.02, rounds),
    p99Ms: around(20, 0.02, rounds),
    perSecond: around(100, 0.02, rounds),
  };
  return { ...results, cells: results.cells.map((cell) => ({ ...cell, ...same, ...changes[armName(cell.arm)] })) };
}

const taken = (results: BenchResults) => armName(verdict(results).recommendations[0]!.arm);

describe('what to take', () => {
  test.each(ARMS.map(armName))('%s where it is faster than all others', (name) => {
    const changes = Object.fromEntries(ARMS.map((arm) => [armName(arm), {}]));
    expect(taken(group({ ...changes, [name]: { p50Ms: around(5, 0.02) } }))).toBe(name);
  });

  test('the simplest, REST, where noise can’t tell arms apart', () => {
    const results = group({ grpc_raw: { p50Ms: around(9.8, 0.02) }, rest_binary: {}, rest_json: {} });
    expect(taken(results)).toBe('rest_json');
    expect(verdict(results).recommendations[0]!.tiedWith).toEqual(['rest_binary', 'grpc_raw']);
    expect(verdict(results).recommendations[0]!.reason).toContain(
      'within noise of rest_binary, grpc_raw, so the simplest',
    );
  });

  test('the lower p99 among equal medians, then the higher throughput', () => {
    expect(taken(group({ rest_json: {}, grpc_raw: { p99Ms: around(12, 0.02) } }))).toBe('grpc_raw');
    const [byP99] = verdict(group({ rest_json: {}, grpc_raw: { p99Ms: around(12, 0.02) } })).recommendations;
    expect(byP99!.reason).toContain('rest_json has the same p50 within noise, but not the same p99 or throughput');
    expect(taken(group({ rest_json: {}, grpc_raw: { perSecond: around(150, 0.02) } }))).toBe('grpc_raw');
    expect(taken(group({ rest_json: {}, grpc_raw: { perSecond: around(50, 0.02) } }))).toBe('rest_json');
  });

  test('not an arm whose answers are others’, nor one that fails, while there is another one', () => {
    const faster = { p50Ms: around(1, 0.02) };
    expect(taken(group({ rest_json: {}, grpc_raw: { ...faster, answersEqual: false } }))).toBe('rest_json');
    expect(taken(group({ rest_json: {}, grpc_raw: { ...faster, failures: 11 } }))).toBe('rest_json');
    expect(taken(group({ rest_json: {}, grpc_raw: { ...faster, failures: 10 } }))).toBe('grpc_raw');
    expect(taken(group({ grpc_raw: { answersEqual: false } }))).toBe('grpc_raw');
  });

  test('after one round, which has no interval, only what is a tenth faster', () => {
    const with9 = (ms: number) => group({ rest_json: {}, grpc_raw: { p50Ms: around(ms, 0, 1) } }, { rounds: 1 });
    expect(taken(with9(9.1))).toBe('rest_json');
    expect(taken(with9(8.9))).toBe('grpc_raw');
  });

  test('with figures of both it and the best of the other protocol', () => {
    const { reason } = verdict(group({ rest_json: {}, rest_binary: {}, grpc_raw: { p50Ms: around(5, 0.02) } }))
      .recommendations[0]!;
    expect(reason).toContain('p50 5.00 ms');
    expect(reason).toContain('rest_json takes 2.00x: p50 10.0 ms, p99 20 ms'.replace('20 ms', '20.0 ms'));
  });
});

test('the encoding’s saving and the protocol’s add up to that of both', () => {
  const results = group({
    rest_json: {},
    rest_binary: { p50Ms: around(4, 0.02) },
    grpc_raw: { p50Ms: around(2, 0.02) },
  });
  const [change] = verdict(results).changes;
  expect(change!.encoding).toMatchObject({ savedMs: 6, savedShare: 0.6 });
  expect(change!.protocol).toMatchObject({ savedMs: 2, savedShare: 0.5 });
  expect(change!.both).toMatchObject({ savedMs: 8, savedShare: 0.8 });
  expect(change!.encodingPart).toBe(0.75);
});

test.each([
  [0.199, 'ok'],
  [0.2, 'warn'],
  [0.299, 'warn'],
  [0.3, 'alert'],
])('serialization of %d of the latency is %s', (share, level) => {
  const quarter = (10 * share) / 4;
  const parts = { clientEncodeMs: quarter, clientDecodeMs: quarter, serverDecodeMs: quarter, serverEncodeMs: quarter };
  const [found] = verdict(group({ rest_json: parts })).serialization;
  expect(found).toMatchObject({ level, bothSides: true });
  expect(found!.share).toBeCloseTo(share, 10);
});

test('serialization is judged where the fewest callers wait for the thread that does it', () => {
  const results = benchResults({ loads: LOADS });
  const cells = results.cells.map((cell) => {
    const [half, ms] = cell.load.kind === 'closed' && cell.load.concurrency === 1 ? [0.5, 1] : [100, 100];
    const parts = { clientEncodeMs: half, clientDecodeMs: half, serverDecodeMs: 0, serverEncodeMs: 0 };
    return { ...cell, ...parts, p50Ms: around(10 * ms, 0.02) };
  });
  const decided = verdict({ ...results, cells });
  const text = verdictText(decided);
  expect(text).toMatch(/Serialization takes up to 10 % of\s+REST JSON’s latency/);
  expect(text).toContain('Share of serialization, 1 at a time');
  expect(text).toContain('Serialization is below 20 % of the latency in all cells.');
  expect(decided.matrix.find(({ scenario }) => scenario.startsWith('Batch'))!.measured).toContain('1.00 ms');
});

describe('the article’s matrix', () => {
  const row = (results: BenchResults, scenario: RegExp) =>
    verdict(results).matrix.find((one) => scenario.test(one.scenario))!;

  test('has seven rows, measured in a whole run', () => {
    const { matrix } = verdict(benchResults());
    expect(matrix.map(({ article }) => article)).toEqual([
      'REST',
      'gRPC',
      'REST',
      'gRPC',
      'gRPC streaming',
      'gRPC',
      'REST',
    ]);
    expect(matrix.every(({ measured, ours, agrees }) => measured && ours && agrees !== undefined)).toBe(true);
  });

  test('says of rows without figures that there are none, and of one protocol alone that nothing was chosen', () => {
    const results = benchResults({ models: ['other'], arms: ARMS.slice(0, 1), ways: [] });
    expect(row(results, /embeddings/)).toMatchObject({ measured: undefined, ours: undefined, agrees: undefined });
    expect(row(results, /streaming/)).toMatchObject({ measured: undefined, agrees: undefined });
    expect(row(results, /Public/)).toMatchObject({ measured: undefined, agrees: undefined });
    expect(row(results, /Real-time/)).toMatchObject({ ours: 'rest_json', agrees: undefined });
    expect(verdictText(verdict(results))).toContain('no figures in this run');
  });

  test('takes for real time the simplest arm that holds 100 ms most often', () => {
    const slow = { p99Ms: around(120, 0.02) };
    expect(row(group({ rest_json: slow, rest_binary: {}, grpc_raw: {} }), /Real-time/)).toMatchObject({
      ours: 'rest_binary',
      agrees: false,
    });
    expect(row(group({ rest_json: slow, rest_binary: slow, grpc_raw: {} }), /Real-time/)).toMatchObject({
      ours: 'grpc_raw',
      agrees: true,
    });
  });

  test('does not compare an arm that was asked the easy ones alone', () => {
    const results = group({ rest_json: { p99Ms: around(120, 0.02) }, grpc_raw: { p99Ms: around(120, 0.02) } });
    const [json, raw] = results.cells;
    const easy = { ...raw!, arm: { encoding: 'grpc_raw', gzip: true }, payloadKb: 2, p99Ms: around(1, 0.02) } as const;
    const cells = [json!, raw!, { ...json!, payloadKb: 2 }, { ...raw!, payloadKb: 2 }, easy];
    expect(row({ ...results, cells }, /Real-time/).ours).toBe('rest_json');
  });

  test('takes for a batch JSON while it spends less than a twentieth of a second on it', () => {
    const encode = (ms: number) =>
      group({ rest_json: { clientEncodeMs: ms, clientDecodeMs: 0, serverDecodeMs: 0, serverEncodeMs: 0 } });
    expect(row(encode(49), /Batch/).ours).toBe('REST JSON');
    expect(row(encode(51), /Batch/).ours).toBe('REST with binary tensors');
  });

  test('takes for tokens the faster way, and server-sent events where noise can’t tell', () => {
    const results = benchResults();
    expect(row(results, /streaming/)).toMatchObject({ ours: 'grpc_stream', agrees: true });
    const streams = results.streams.map((stream) => ({ ...stream, totalMs: around(200, 0.05) }));
    expect(row({ ...results, streams }, /streaming/)).toMatchObject({ agrees: false });
    expect(row({ ...results, streams }, /streaming/).ours).toMatch(/^sse: within noise of grpc_stream/);
  });
});

test('the text tells all reasons of a short run, and what to take of a long one', () => {
  const short = verdictText(verdict(group({ rest_json: {}, grpc_raw: { p50Ms: around(5, 0.02) } })));
  expect(short).toContain('m, 100 KB, 1 at a time: grpc_raw: p50 5.00 ms');
  const long = verdictText(verdict(benchResults()));
  expect(long).toMatch(/^Verdict\n─+\nOf 60 combinations of model, payload and load, take/);
  expect(
    long.split('\n').filter((line) => /^(text_embedding|llm_token|image_classification) +\d+ KB /.test(line)),
  ).toHaveLength(15);
});

test('without binary tensors over REST the text compares JSON with gRPC, and without the server’s part says so', () => {
  const arms = ARMS.filter(({ encoding, gzip }) => !gzip && encoding !== 'rest_binary');
  const results = benchResults({
    models: ['m'],
    sizesKb: [2, 1000],
    loads: LOADS.slice(0, 1),
    arms,
    serverTells: false,
  });
  const text = verdictText(verdict(results));
  expect(text).toMatch(/m +1 at a time +1000 KB +saves \d+\.\d ms \(\d+ %\)/);
  expect(text).not.toContain('still REST');
  expect(text).toContain('The client’s part of serialization takes up to');
});

test('no line of the text is wider than the terminal', () => {
  const text = verdictText(verdict(benchResults()), { width: 120 });
  expect(Math.max(...text.split('\n').map((line) => line.length))).toBeLessThanOrEqual(120);
});

test('cells in which nothing was answered take no part', () => {
  const results = benchResults({ models: ['m'], sizesKb: [2], loads: LOADS.slice(0, 1) });
  const nothing = JSON.parse(JSON.stringify({ value: Number.NaN, low: Number.NaN, high: Number.NaN }));
  const cells = results.cells.map((cell) => (cell.arm.encoding === 'rest_json' ? { ...cell, p50Ms: nothing } : cell));
  expect(taken({ ...results, cells })).toBe('rest_binary');
  expect(
    verdictText(verdict({ ...results, cells: cells.filter((cell) => cell.p50Ms === nothing), streams: [] })),
  ).toContain('Nothing was answered');
  expect(cellOf(results, 2, 'rest_json').p50Ms.value).toBeGreaterThan(0);
});
