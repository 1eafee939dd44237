/** Claims held against synthetic results: both sides of each border, what wasn't measured, and the document. */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type Claim, inRange, together } from '../../bench/claims/claim.js';
import { CLAIM_GROUPS } from '../../bench/claims/claims.js';
import { readResults } from '../../bench/claims/command.js';
import { claimsMarkdown } from '../../bench/claims/write.js';
import { EXPERIMENT_NAMES } from '../../bench/experiments/run.js';
import { temporaryDirectory } from '../support/engine.js';
import { cell, experiment, NOTHING, results, stream } from './claims-results.js';

const CLAIMS = CLAIM_GROUPS.flatMap(({ claims }) => claims);

function claim(id: string): Claim {
  const found = CLAIMS.find((one) => one.id === id);
  if (!found) throw new Error(`no claim ${id}`);
  return found;
}

describe('a figure against a range', () => {
  const twoToThree = { low: 2, high: 3, neutral: 1 };
  test.each([
    [0.5, 'does not hold here'],
    [1, 'does not hold here'],
    [1.09, 'does not hold here'],
    [1.11, 'holds in part'],
    [1.79, 'holds in part'],
    [1.81, 'holds'],
    [3.29, 'holds'],
    [3.31, 'holds in part'],
    [300, 'holds in part'],
  ] as const)('%f of two to three times %s', (value, verdict) => {
    expect(inRange(value, twoToThree)).toBe(verdict);
  });

  // Smaller than claimed, where smaller is what is claimed.
  test.each([
    [500, 'does not hold here'],
    [460, 'does not hold here'],
    [450, 'holds in part'],
    [56, 'holds in part'],
    [54, 'holds'],
    [46, 'holds'],
    [44, 'holds in part'],
  ] as const)('%f of 500 to 50 %s', (value, verdict) => {
    expect(inRange(value, { low: 50, high: 50, neutral: 500 })).toBe(verdict);
  });
});

test('parts that agree decide, parts that differ hold in part, no part at all was not measured', () => {
  const holds = { verdict: 'holds', figure: 'a' } as const;
  const fails = { verdict: 'does not hold here', figure: 'b' } as const;
  expect(together([holds, undefined, holds])).toEqual({ verdict: 'holds', figure: 'a; a' });
  expect(together([fails])).toEqual({ verdict: 'does not hold here', figure: 'b' });
  expect(together([holds, fails], 'why')).toEqual({ verdict: 'holds in part', figure: 'a; b', remark: 'why' });
  expect(together([undefined]).verdict).toBe('not measured');
});

describe('cells', () => {
  const pair = (model: string, payloadKb: number, restMs: number, grpcMs: number, more = {}) => [
    cell({ model, payloadKb, encoding: 'rest_json', p50: restMs, ...more }),
    cell({ model, payloadKb, encoding: 'grpc_raw', p50: grpcMs, ...more }),
  ];

  test.each([
    ['alike-at-2kb', pair('text_embedding', 2, 1.09, 1), 'holds'],
    ['alike-at-2kb', pair('text_embedding', 2, 0.91, 1), 'holds'],
    ['alike-at-2kb', pair('text_embedding', 2, 1.11, 1), 'does not hold here'],
    ['alike-at-2kb', pair('text_embedding', 2, 0.89, 1), 'does not hold here'],
    ['faster-from-100kb', pair('llm_token', 100, 2.5, 1), 'holds'],
    ['faster-from-100kb', pair('llm_token', 100, 10, 1), 'holds in part'],
    ['faster-from-100kb', pair('llm_token', 100, 1, 1), 'does not hold here'],
    ['faster-from-100kb', [...pair('llm_token', 100, 2.5, 1), ...pair('llm_token', 500, 1, 1)], 'holds in part'],
    ['faster-from-100kb', pair('llm_token', 10, 2.5, 1), 'not measured'],
    ['microservices', pair('llm_token', 10, 7, 1), 'holds'],
    ['microservices', pair('llm_token', 10, 1.2, 1), 'does not hold here'],
  ] as const)('%s by %o', (id, cells, verdict) => {
    expect(claim(id).judge(results({ cells })).verdict).toBe(verdict);
  });

  test.each([
    [400, 100, 'holds'],
    [200, 100, 'holds in part'],
    [100, 100, 'does not hold here'],
  ] as const)('throughput of %i against %i a second with 64 callers', (grpc, rest, verdict) => {
    const base = { model: 'text_embedding', payloadKb: 2, concurrency: 64 };
    const cells = [
      cell({ ...base, encoding: 'grpc_raw', perSecond: grpc }),
      cell({ ...base, encoding: 'rest_json', perSecond: rest }),
    ];
    expect(claim('embeddings-throughput').judge(results({ cells })).verdict).toBe(verdict);
  });

  test.each([
    [1.4, 2.1, 'holds'],
    [1.6, 2.1, 'holds in part'],
    [1.4, 1.9, 'holds in part'],
    [1.6, 1.9, 'does not hold here'],
    // A busy machine: jitter, but not REST's.
    [12, 6, 'does not hold here'],
  ] as const)('p99 of %f and %f times the median', (grpc, rest, verdict) => {
    const base = { model: 'llm_token', payloadKb: 100, p50: 1 };
    const cells = [
      cell({ ...base, encoding: 'grpc_raw', p99: grpc }),
      cell({ ...base, encoding: 'rest_json', p99: rest }),
    ];
    expect(claim('steady-p99').judge(results({ cells })).verdict).toBe(verdict);
  });

  test.each([
    [5, 4.9, 'holds'],
    [4.9, 1, 'does not hold here'],
    [6, 6, 'does not hold here'],
  ] as const)('a p99 of %f over JSON and %f over gRPC', (rest, grpc, verdict) => {
    const base = { model: 'llm_token', payloadKb: 100, p50: 1 };
    const cells = [
      cell({ ...base, encoding: 'grpc_raw', p99: grpc }),
      cell({ ...base, encoding: 'rest_json', p99: rest }),
    ];
    expect(claim('variance-is-json').judge(results({ cells })).verdict).toBe(verdict);
  });

  test.each([
    [10, 5, 20, 'holds'],
    [10, 0.1, 20, 'holds in part'],
    [10, 10, 20, 'does not hold here'],
    // Less than 30 % of the latency: not what is claimed.
    [5, 2, 20, 'not measured'],
  ] as const)('serialization of %f against %f ms in a latency of %f', (rest, grpc, p50, verdict) => {
    const base = { model: 'llm_token', payloadKb: 1000, p50 };
    const cells = [
      cell({ ...base, encoding: 'rest_json', codecMs: rest }),
      cell({ ...base, encoding: 'grpc_raw', codecMs: grpc }),
    ];
    expect(claim('saves-serialization').judge(results({ cells })).verdict).toBe(verdict);
  });

  test.each([
    [5, 10, 'holds'],
    [4.9, 10, 'does not hold here'],
    // Not real time.
    [80, 100, 'not measured'],
  ] as const)('serialization of %f in %f ms as a bottleneck', (codecMs, p50, verdict) => {
    const cells = [cell({ model: 'llm_token', payloadKb: 100, encoding: 'rest_json', p50, codecMs })];
    expect(claim('real-time-bottleneck').judge(results({ cells })).verdict).toBe(verdict);
  });

  test.each([
    [49, 'holds'],
    [50, 'does not hold here'],
  ] as const)('%i ms of serialization in a second', (codecMs, verdict) => {
    const cells = [cell({ model: 'llm_token', payloadKb: 1000, encoding: 'rest_json', codecMs })];
    expect(claim('batch-below-5-percent').judge(results({ cells })).verdict).toBe(verdict);
  });

  test('a server that tells no phases leaves claims about both sides open', () => {
    const cells = [{ ...cell({ model: 'llm_token', payloadKb: 1000, encoding: 'rest_json' }), serverDecodeMs: null }];
    expect(claim('batch-below-5-percent').judge(results({ cells })).verdict).toBe('not measured');
  });

  test.each([
    [350, 'holds'],
    [700, 'holds in part'],
    [1000, 'does not hold here'],
  ] as const)('%i bytes against 1000', (bytes, verdict) => {
    const base = { model: 'llm_token', payloadKb: 10 };
    const cells = [
      cell({ ...base, encoding: 'grpc_raw', bytes }),
      cell({ ...base, encoding: 'rest_json', bytes: 1000 }),
    ];
    expect(claim('medium-payloads').judge(results({ cells })).verdict).toBe(verdict);
  });

  test('compressed arms and open loops are not taken for others', () => {
    const cells = [
      ...pair('text_embedding', 2, 1, 1).map((one) => ({ ...one, arm: { ...one.arm, gzip: true } })),
      ...pair('text_embedding', 2, 1, 1).map((one) => ({ ...one, load: { kind: 'open', ratePerSecond: 5 } as const })),
    ];
    expect(claim('alike-at-2kb').judge(results({ cells })).verdict).toBe('not measured');
  });
});

describe('experiments', () => {
  test.each([
    [
      'classification-60-70-percent',
      'classification_response',
      { json_bytes: 150, json_indented_bytes: 160, protobuf_bytes: 55 },
      'holds',
    ],
    [
      'classification-60-70-percent',
      'classification_response',
      { json_bytes: 111, json_indented_bytes: 157, protobuf_bytes: 33 },
      'holds in part',
    ],
    ['smaller-3-7x', 'parse_serialize', { image_100k_json_bytes: 500, image_100k_raw_bytes: 100 }, 'holds'],
    ['smaller-3-7x', 'parse_serialize', { image_100k_json_bytes: 200, image_100k_raw_bytes: 100 }, 'holds in part'],
    ['embedding-3-4x', 'embedding_bytes', { raw_bytes: 6144, json_shortest_bytes: 19200 }, 'holds'],
    ['embedding-3-4x', 'embedding_bytes', { raw_bytes: 6144, json_double_bytes: 33000 }, 'holds in part'],
    ['parse-5-10x', 'parse_serialize', { image_100k_json_parse_ms: 7, image_100k_typed_parse_ms: 1 }, 'holds'],
    ['parse-5-10x', 'parse_serialize', { image_100k_json_parse_ms: 70, image_100k_typed_parse_ms: 1 }, 'holds in part'],
    [
      'serialize-image-1.8x',
      'parse_serialize',
      { image_100k_json_serialize_ms: 1.8, image_100k_raw_serialize_ms: 1 },
      'holds',
    ],
    [
      'serialize-image-1.8x',
      'parse_serialize',
      { image_100k_json_serialize_ms: 1, image_100k_raw_serialize_ms: 1 },
      'does not hold here',
    ],
    [
      'serialize-embedding-1.3x',
      'parse_serialize',
      { embedding_2k_json_serialize_ms: 1.3, embedding_2k_raw_serialize_ms: 1 },
      'holds',
    ],
    ['gzip-json', 'gzip', { ids_json_bytes: 512_000, ids_json_gzip_bytes: 50 * 1024 }, 'holds'],
    ['gzip-json', 'gzip', { ids_json_bytes: 512_000, ids_json_gzip_bytes: 200 * 1024 }, 'holds in part'],
    ['gzip-protobuf', 'gzip', { ids_raw_bytes: 102_400, ids_raw_gzip_bytes: 95 * 1024 }, 'does not hold here'],
    ['gzip-cpu', 'gzip', { ids_json_deflate_ms: 6, ids_json_inflate_ms: 1 }, 'holds'],
    ['gzip-cpu', 'gzip', { ids_json_deflate_ms: 12, ids_json_inflate_ms: 1 }, 'does not hold here'],
    ['gzip-by-default', 'gzip', { grpc_unasked_compressed: 0, grpc_unasked_bytes: 10_245 }, 'does not hold here'],
    ['gzip-by-default', 'gzip', { grpc_unasked_compressed: 1, grpc_unasked_bytes: 50 }, 'holds'],
    [
      'token-gzip',
      'token_gzip',
      { grpc_message_bytes: 9, grpc_gzip_message_bytes: 11, sse_gzip_event_bytes: 12 },
      'holds',
    ],
    [
      'token-gzip',
      'token_gzip',
      { grpc_message_bytes: 9, grpc_gzip_message_bytes: 29, sse_gzip_event_bytes: 12 },
      'does not hold here',
    ],
    [
      'connection-overhead',
      'connection_overhead',
      { small_plain_h2_fresh_each_ms: 0.1, small_plain_h1_six_each_ms: 6 },
      'holds',
    ],
    [
      'connection-overhead',
      'connection_overhead',
      { small_plain_h2_fresh_each_ms: 0.4, small_plain_h1_six_each_ms: 0.4 },
      'does not hold here',
    ],
    ['hpack', 'hpack', { h2_request_later: 35, h1_request: 100 }, 'holds'],
    ['hpack', 'hpack', { h2_request_later: 60, h1_request: 100 }, 'holds in part'],
    ['channel-per-request', 'channel_per_request', { plain_tax_ms: 30 }, 'holds'],
    ['channel-per-request', 'channel_per_request', { plain_tax_ms: 2 }, 'does not hold here'],
    ['pool-of-ten', 'channel_pool', { ten_own_over_one_per_second_2k: 1.11 }, 'holds'],
    ['pool-of-ten', 'channel_pool', { ten_own_over_one_per_second_2k: 1.09 }, 'does not hold here'],
    ['pool-of-ten', 'channel_pool', { ten_shared_connections: 1, ten_own_over_one_per_second_2k: 2 }, 'holds in part'],
    ['slow-does-not-block', 'head_of_line', { h2_one_slow_p50_ms: 2, h2_own_connection_one_slow_p50_ms: 1 }, 'holds'],
    [
      'slow-does-not-block',
      'head_of_line',
      { h2_one_slow_p50_ms: 2.1, h2_own_connection_one_slow_p50_ms: 1 },
      'does not hold here',
    ],
    ['http1-blocks', 'head_of_line', { h1_one_one_slow_p50_ms: 10, h1_one_alone_p50_ms: 1 }, 'holds'],
    ['http1-blocks', 'head_of_line', { h1_one_one_slow_p50_ms: 9, h1_one_alone_p50_ms: 1 }, 'does not hold here'],
    ['skew-80-20', 'balancing', { grpc_unequal: 0.82 }, 'holds'],
    ['skew-80-20', 'balancing', { grpc_unequal: 0.5 }, 'holds in part'],
    ['skew-80-20', 'balancing', { grpc_unequal: 0.34 }, 'does not hold here'],
    ['rest-balances', 'balancing', { rest_keep_alive_unequal: 0.4 }, 'holds'],
    ['rest-balances', 'balancing', { rest_keep_alive_unequal: 0.41 }, 'does not hold here'],
    ['affinity', 'balancing', { grpc_affinity_unequal: 0.82 }, 'does not hold here'],
    ['affinity', 'balancing', { grpc_affinity_unequal: 0.4 }, 'holds'],
    [
      'parse-per-token',
      'token_parse',
      { json_token_us: 900, small_json_token_us: 1, json_first_text_ms: 1, protobuf_token_us: 1 },
      'holds',
    ],
    [
      'parse-per-token',
      'token_parse',
      { json_token_us: 899, small_json_token_us: 1, json_first_text_ms: 1, protobuf_token_us: 1 },
      'does not hold here',
    ],
  ] as const)('%s by %s %o: %s', (id, name, figures, verdict) => {
    expect(claim(id).judge(results({ experiments: [experiment(name, figures)] })).verdict).toBe(verdict);
  });

  test('every experiment whose figures a claim reads is one that runs', () => {
    const asked = new Set<string>();
    // Each name is looked up by a predicate: which of the names does it take?
    const find = (is: (one: object) => boolean): void => {
      for (const name of EXPERIMENT_NAMES) if (is({ name })) asked.add(name);
    };
    const experiments = { find };
    for (const { judge } of CLAIMS) judge({ ...NOTHING, experiments } as never);
    expect([...asked].sort()).toEqual([...EXPERIMENT_NAMES].sort());
  });
});

describe('streams', () => {
  test.each([
    [220, 500, 'holds'],
    [100, 120, 'holds in part'],
    [100, 105, 'does not hold here'],
  ] as const)('100 tokens in %i ms over gRPC and %i over events', (grpc, sse, verdict) => {
    const streams = [stream('grpc_stream', grpc), stream('sse', sse)];
    expect(claim('100-tokens').judge(results({ streams })).verdict).toBe(verdict);
  });

  test.each([
    [111, 'holds'],
    [109, 'does not hold here'],
  ] as const)('a request for each token takes %i ms where the stream takes 100', (each, verdict) => {
    const streams = [stream('grpc_stream', 100), stream('request_per_token_grpc', each)];
    expect(claim('tokens-without-requests').judge(results({ streams })).verdict).toBe(verdict);
  });

  test.each([
    [10_000, 'holds'],
    [9_900, 'does not hold here'],
  ] as const)('%i us of CPU for each token', (us, verdict) => {
    const streams = [{ ...stream('sse', 100), clientCpuUs: us * 100 }];
    expect(claim('client-bound-by-parsing').judge(results({ streams })).verdict).toBe(verdict);
  });
});

test('anchors are unique and fit into a link', () => {
  const ids = CLAIMS.map(({ id }) => id);
  expect(new Set(ids).size).toBe(ids.length);
  for (const id of ids) expect(id).toMatch(/^[a-z0-9.-]+$/);
});

test('without figures every claim but the arithmetic one is not measured', () => {
  for (const { id, judge } of CLAIMS) {
    expect([id, judge(NOTHING).verdict]).toEqual([id, id === 'daily-bytes' ? 'does not hold here' : 'not measured']);
  }
});

test('figures that are no numbers count as not measured', () => {
  const cells = [
    cell({ model: 'text_embedding', payloadKb: 2, encoding: 'rest_json', p50: Number.NaN }),
    cell({ model: 'text_embedding', payloadKb: 2, encoding: 'grpc_raw', p50: 0 }),
  ];
  const experiments = [experiment('balancing', { grpc_unequal: Number.NaN }), experiment('gzip', {})];
  const text = claimsMarkdown(results({ cells, experiments }));
  expect(text).not.toMatch(/NaN|undefined|Infinity|\bnull\b/);
  expect(claim('skew-80-20').judge(results({ experiments })).verdict).toBe('not measured');
});

test('the document has each claim in the table and as a paragraph, and names the run', () => {
  const streams = [stream('grpc_stream', 100), stream('sse', 120)];
  const text = claimsMarkdown(results({ streams, experiments: [experiment('balancing', { grpc_unequal: 0.82 })] }));
  for (const { id, title } of CLAIMS) {
    expect(text).toContain(`| [${title}](#${id}) |`);
    expect(text).toContain(`<a id="${id}"></a>\n\n### ${title}: `);
  }
  expect(text).toContain('Acme 9000, 2 cores');
  expect(text).toContain('tensorwire 0.1.0');
  expect(text).toContain('npm run bench -- claims');
  expect(text).toContain(`Of ${CLAIMS.length} claims: 1 hold, 1 hold in part`);
  expect(text).not.toMatch(/NaN|undefined|Infinity|\bnull\b/);
});

test('what a run says of its own figures stands in the document', () => {
  const text = claimsMarkdown({
    ...NOTHING,
    notes: ['Half of it was measured\nagain.'],
    cutShort: 'interrupted, 1 of 2',
  });
  expect(text).toContain('- The run ended early: interrupted, 1 of 2.\n- Half of it was measured again.\n\n');
  expect(claimsMarkdown(NOTHING)).not.toContain('the run says');
});

test('results are read from a file, and another file is told from them', () => {
  const directory = temporaryDirectory();
  const write = (name: string, text: string): string => {
    writeFileSync(join(directory, name), text);
    return join(directory, name);
  };
  expect(readResults(write('results.json', JSON.stringify(NOTHING)))).toEqual(NOTHING);
  expect(() => readResults(join(directory, 'missing.json'))).toThrow(/can't read results from .*missing\.json/);
  expect(() => readResults(write('text.json', 'no'))).toThrow(/text\.json is not JSON/);
  expect(() => readResults(write('other.json', '{"schema":2}'))).toThrow(/other\.json holds no results of a run/);
});

test('a p99 of fewer than a hundred requests says nothing of an arm', () => {
  const few = (encoding: 'rest_json' | 'grpc_raw', p99: number) => ({
    ...cell({ model: 'text_embedding', payloadKb: 2, encoding, p50: 1, p99 }),
    requests: 99,
  });
  const run = results({ cells: [few('rest_json', 7), few('grpc_raw', 1)] });
  for (const id of ['steady-p99', 'variance-is-json']) expect(claim(id).judge(run).verdict).toBe('not measured');
});
