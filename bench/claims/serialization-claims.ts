/**
 * Claims about the time in codecs as a part of a request, judged by the cells of the matrix.
 *
 * Listed in `claims.ts`. Pure. Serialization is encoding and decoding on both sides; codecs alone, without a request around them, are in
 * `codec-claims.ts`.
 */
import { milliseconds, percent } from '../../src/bench/figures.js';
import { type Claim, inRange, NOT_MEASURED, together } from './claim.js';
import { cellOf, MODELS, quotient, SIZES_KB, serializationMs } from './measured.js';

const BOTTLENECK = 0.5;

export const SERIALIZATION_CLAIMS: readonly Claim[] = [
  {
    id: 'real-time-bottleneck',
    title: 'The bottleneck of real-time inference',
    claim: 'Where the p99 must stay below 100 ms, serialization over REST becomes the bottleneck.',
    article: '< 100 ms p99',
    section: 'Decision Matrix: When to Use What',
    how: 'Serialization as a share of the median over REST JSON, one caller, where the p99 is below 100 ms: half of it or more is a bottleneck. The smallest and the largest share of the models at each size.',
    judge: (results) =>
      together(
        SIZES_KB.map((kb) => {
          const shares = MODELS.map((model) => cellOf(results, { model, kb }, 'rest_json'))
            .map((cell) =>
              cell && cell.p99Ms.value < 100 ? quotient(serializationMs(cell), cell.p50Ms.value) : undefined,
            )
            .filter((share) => share !== undefined)
            .sort((a, b) => a - b);
          if (shares.length === 0) return undefined;
          const verdict = shares[shares.length >> 1]! >= BOTTLENECK ? 'holds' : 'does not hold here';
          return { verdict, figure: `${percent(shares[0])} to ${percent(shares.at(-1))} at ${kb} KB` };
        }),
        'The models of the matrix compute for a fraction of a millisecond. One that computes for longer makes each share smaller.',
      ),
  },
  {
    id: 'saves-serialization',
    title: 'What is saved of serialization',
    claim: 'Where serialization is 30 % of the latency or more, gRPC saves 40 to 60 % of it.',
    article: '40-60 %',
    section: 'Summary: Build for Your Latency Budget',
    how: 'Encoding and decoding on both sides, one caller, each model and size where they are at least 30 % of the median over REST JSON: the share that gRPC raw saves, the least and the most.',
    judge: (results) => {
      const saved: number[] = [];
      for (const key of MODELS.flatMap((model) => SIZES_KB.map((kb) => ({ model, kb })))) {
        const [rest, grpc] = [cellOf(results, key, 'rest_json'), cellOf(results, key, 'grpc_raw')];
        const [before, after] = [rest && serializationMs(rest), grpc && serializationMs(grpc)];
        if (!rest || before === undefined || after === undefined || before < 0.3 * rest.p50Ms.value) continue;
        saved.push(1 - after / before);
      }
      if (saved.length === 0) return NOT_MEASURED;
      const [least, most] = [Math.min(...saved), Math.max(...saved)];
      return together([
        {
          verdict: inRange(saved.sort((a, b) => a - b)[saved.length >> 1]!, { low: 0.4, high: 0.6, neutral: 0 }),
          figure: `${percent(least)} to ${percent(most)} in ${saved.length} cells`,
        },
      ]);
    },
  },
  {
    id: 'batch-below-5-percent',
    title: 'Serialization in batch jobs',
    claim: 'Where more than a second is acceptable, serialization over REST is less than 5 % of the time.',
    article: '< 5 %',
    section: 'Decision Matrix: When to Use What',
    how: 'Encoding and decoding on both sides of REST JSON at 1000 KB, one caller, as a share of one second.',
    judge: (results) =>
      together(
        MODELS.map((model) => {
          const cell = cellOf(results, { model, kb: 1000 }, 'rest_json');
          const share = quotient(cell && serializationMs(cell), 1000);
          if (share === undefined) return undefined;
          return { verdict: share < 0.05 ? 'holds' : 'does not hold here', figure: `${percent(share)} for ${model}` };
        }),
        'A job that sends larger batches pays in proportion.',
      ),
  },
  {
    id: 'rest-encode-2-5-ms',
    title: 'Writing and reading over REST',
    claim: 'Over REST, serializing a request and parsing its answer take a client 2 to 5 ms each.',
    article: '2-5 ms each',
    section: "HTTP/1.1 (REST's Default)",
    how: "The client's encoding plus decoding of REST JSON, one caller, image_classification; 4 to 10 ms for both.",
    judge: (results) =>
      together(
        SIZES_KB.map((kb) => {
          const cell = cellOf(results, { model: 'image_classification', kb }, 'rest_json');
          if (!cell) return undefined;
          const ms = cell.clientEncodeMs + cell.clientDecodeMs;
          const verdict = ms >= 3.6 && ms <= 11 ? 'holds' : 'does not hold here';
          return { verdict, figure: `${milliseconds(ms)} at ${kb} KB` };
        }),
        'It is proportional to the tensor: right for some sizes, wrong as a constant.',
      ),
  },
  {
    id: 'grpc-below-a-millisecond',
    title: 'Serialization in less than a millisecond',
    claim: "gRPC's serialization takes less than a millisecond in most cases.",
    article: '< 1 ms',
    section: 'Production Observability: Measuring What Matters',
    how: "The client's encoding plus decoding of gRPC raw, one caller, all models: the most at each size.",
    judge: (results) =>
      together(
        SIZES_KB.map((kb) => {
          const cells = MODELS.map((model) => cellOf(results, { model, kb }, 'grpc_raw')).filter(
            (cell) => cell !== undefined,
          );
          if (cells.length === 0) return undefined;
          const ms = Math.max(...cells.map(({ clientEncodeMs, clientDecodeMs }) => clientEncodeMs + clientDecodeMs));
          return { verdict: ms < 1 ? 'holds' : 'does not hold here', figure: `${milliseconds(ms)} at ${kb} KB` };
        }),
      ),
  },
];
