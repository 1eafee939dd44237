/**
 * Claims about latency and throughput, judged by the cells of the matrix.
 *
 * Listed in `claims.ts`. Pure. REST is JSON unless the figure says otherwise: that is the article's comparison, and the binary extension
 * is told beside it where it changes the answer.
 */
import { digits } from '../../src/bench/figures.js';
import type { BenchResults, CellResult, Encoding } from '../../src/bench/results.js';
import { type Claim, inRange, NOT_MEASURED, type Part, together } from './claim.js';
import { type CellKey, cellOf, MODELS, quotient, ratioOf, SIZES_KB } from './measured.js';

const JSON_OVER_GRPC = ['grpc_raw', 'rest_json'] as const;
const BINARY_OVER_GRPC = ['grpc_raw', 'rest_binary'] as const;
const BENCHMARK = 'Building a Benchmarkable Comparison';
const EMBEDDING_2K = { model: 'text_embedding', kb: 2 } as const;
const CONCURRENCIES = [1, 8, 64];

const p50 = (cell: CellResult): number => cell.p50Ms.value;
const rate = (cell: CellResult): number => cell.perSecond.value;

export const LATENCY_CLAIMS: readonly Claim[] = [
  {
    id: 'alike-at-2kb',
    title: 'Alike at 2 KB',
    claim: 'With embeddings of 2 KB, REST and gRPC differ by at most 10 %.',
    article: 'within 10 %',
    section: BENCHMARK,
    how: 'Median latency of REST JSON over that of gRPC raw at 2 KB of text_embedding, with 1, 8 and 64 callers.',
    judge: (results) =>
      together(
        CONCURRENCIES.map((concurrency) => {
          const ratio = ratioOf(results, { ...EMBEDDING_2K, concurrency }, JSON_OVER_GRPC, p50);
          if (ratio === undefined) return undefined;
          const verdict = Math.abs(ratio - 1) <= 0.1 ? 'holds' : 'does not hold here';
          return { verdict, figure: `${digits(ratio)}x with ${callers(concurrency)}` };
        }),
        binaryRemark(results, [EMBEDDING_2K]),
      ),
  },
  {
    id: 'faster-from-100kb',
    title: 'Faster from 100 KB on',
    claim: 'From 100 KB on, gRPC is two to three times as fast.',
    article: '2-3x',
    section: BENCHMARK,
    how: 'Median latency of REST JSON over that of gRPC raw, one caller, each model at 100, 500 and 1000 KB.',
    judge: (results) => {
      const keys = MODELS.flatMap((model) => [100, 500, 1000].map((kb) => ({ model, kb })));
      return together(
        keys.map((key) =>
          part(ratioOf(results, key, JSON_OVER_GRPC, p50), { low: 2, high: 3, neutral: 1 }, named(key)),
        ),
        binaryRemark(results, keys),
      );
    },
  },
  {
    id: 'microservices',
    title: 'Between services',
    claim: 'Inside a system of services, gRPC cuts latency to between a fifth and a tenth.',
    article: '5-10x',
    section: 'Decision Matrix: When to Use What',
    how: 'Median latency of REST JSON over that of gRPC raw, one caller, each model, from 2 to 1000 KB; the smallest and largest ratio of each size.',
    judge: (results) =>
      together(
        SIZES_KB.map((kb) => {
          const ratios = MODELS.map((model) => ratioOf(results, { model, kb }, JSON_OVER_GRPC, p50)).filter(
            (ratio) => ratio !== undefined,
          );
          if (ratios.length === 0) return undefined;
          const [least, most] = [Math.min(...ratios), Math.max(...ratios)];
          // By the middle of the models, so that one of them can't decide alone.
          const middle = [...ratios].sort((a, b) => a - b)[ratios.length >> 1]!;
          const verdict = inRange(middle, { low: 5, high: 10, neutral: 1 });
          return { verdict, figure: `${digits(least)}-${digits(most)}x at ${kb} KB` };
        }),
        'The article gives no size. HTTP/2 has no part in it with one caller: what differs is the codec, so it grows with the tensor.',
      ),
  },
  {
    id: 'embeddings-throughput',
    title: 'Throughput of embeddings',
    claim: 'A service of many small embeddings answers three to five times as many requests over gRPC.',
    article: '3-5x',
    section: 'Decision Matrix: When to Use What',
    how: 'Requests a second of gRPC raw over REST JSON with 64 callers, text_embedding at 2, 10 and 100 KB.',
    judge: (results) =>
      together(
        [2, 10, 100].map((kb) => {
          const key = { model: 'text_embedding', kb, concurrency: 64 };
          const ratio = ratioOf(results, key, ['rest_json', 'grpc_raw'], rate);
          return part(ratio, { low: 3, high: 5, neutral: 1 }, `at ${kb} KB`);
        }),
        'One embedding of 512 numbers is 2 KB; the larger sizes are batches of them.',
      ),
  },
  {
    id: 'steady-p99',
    title: 'A steady p99',
    claim: "gRPC's p99 stays close to its median, REST's is driven up by the jitter of serialization.",
    article: 'gRPC close to p50, REST jittery',
    section: BENCHMARK,
    how: 'p99 over p50, the median over all cells with one caller and at least 100 requests. gRPC raw must stay below 1.5 (the article calls 1.2 good and 2 bad), REST JSON must be above 2 and above gRPC.',
    judge: (results) => {
      const [grpc, rest] = [spread(results, 'grpc_raw'), spread(results, 'rest_json')];
      if (grpc === undefined || rest === undefined) return NOT_MEASURED;
      return together(
        [
          { verdict: grpc <= 1.5 ? 'holds' : 'does not hold here', figure: `gRPC raw ${digits(grpc)}x` },
          { verdict: rest >= 2 && rest > grpc ? 'holds' : 'does not hold here', figure: `REST JSON ${digits(rest)}x` },
        ],
        'With one caller nothing queues, so what is left is garbage collection, the scheduler of the machine, and the codec.',
      );
    },
  },
  {
    id: 'variance-is-json',
    title: 'A p99 of five to ten times the median',
    claim: 'A p99 of five to ten times the median is a sign of the varying time that JSON takes.',
    article: '5-10x',
    section: 'Production Observability: Measuring What Matters',
    how: 'The largest p99 over p50 of REST JSON in the cells with one caller and at least 100 requests, all alike. JSON is the cause if it reaches 5 and gRPC raw does not.',
    judge: (results) => {
      const [grpc, rest] = [spreads(results, 'grpc_raw'), spreads(results, 'rest_json')];
      if (grpc.length === 0 || rest.length === 0) return NOT_MEASURED;
      const [worstGrpc, worstRest] = [Math.max(...grpc), Math.max(...rest)];
      const holds = worstRest >= 5 && worstGrpc < 5;
      return {
        verdict: holds ? 'holds' : 'does not hold here',
        figure: `at most ${digits(worstRest)}x over REST JSON, ${digits(worstGrpc)}x over gRPC raw`,
        ...(!holds && {
          remark:
            worstRest < 5
              ? 'Parsing the same body takes nearly the same time again. Such a ratio points to requests of different sizes, to queues or to the machine before it points to JSON.'
              : 'gRPC, which parses nothing here, has such a p99 as well: it comes from queues, collectors or the machine.',
        }),
      };
    },
  },
];

function part(
  ratio: number | undefined,
  range: { low: number; high: number; neutral: number },
  where: string,
): Part | undefined {
  return ratio === undefined ? undefined : { verdict: inRange(ratio, range), figure: `${digits(ratio)}x ${where}` };
}

function named({ model, kb }: CellKey): string {
  return `${model} ${kb} KB`;
}

function callers(count: number): string {
  return count === 1 ? '1 caller' : `${count} callers`;
}

/** What the same comparison says of REST with binary tensors; undefined where that wasn't measured. */
function binaryRemark(results: BenchResults, keys: readonly CellKey[]): string | undefined {
  const ratios = keys.map((key) => ratioOf(results, key, BINARY_OVER_GRPC, p50)).filter((ratio) => ratio !== undefined);
  if (ratios.length === 0) return undefined;
  const [least, most] = [Math.min(...ratios), Math.max(...ratios)].map(digits);
  const text = least === most ? least : `${least} to ${most}`;
  return `REST with binary tensors: ${text} times gRPC's latency.${Math.max(...ratios) <= 1.5 ? ' What makes REST slow is JSON, not HTTP.' : ''}`;
}

/** Below it a p99 is the slowest request, and says more of the machine than of an arm. */
const REQUESTS_FOR_P99 = 100;

/** p99 over p50 of every cell with one caller and enough requests. */
function spreads(results: BenchResults, encoding: Encoding): number[] {
  return MODELS.flatMap((model) => SIZES_KB.map((kb) => cellOf(results, { model, kb }, encoding)))
    .map((cell) =>
      cell && cell.requests >= REQUESTS_FOR_P99 ? quotient(cell.p99Ms.value, cell.p50Ms.value) : undefined,
    )
    .filter((ratio) => ratio !== undefined);
}

function spread(results: BenchResults, encoding: Encoding): number | undefined {
  const sorted = spreads(results, encoding).sort((a, b) => a - b);
  return sorted[sorted.length >> 1];
}
