/**
 * Claims about streams of tokens, judged by the streams of the matrix and by the experiment `token_parse`.
 *
 * Listed in `claims.ts`. Pure.
 */
import { digits, milliseconds, percent } from '../../src/bench/figures.js';
import { type Claim, inRange, NOT_MEASURED, type Part, together } from './claim.js';
import { experimentOf, quotient, streamOf } from './measured.js';

const STREAMING = 'gRPC Streaming: True Bidirectional Communication';
const SSE = 'REST + SSE: Token-by-Token Polling';

export const STREAM_CLAIMS: readonly Claim[] = [
  {
    id: '100-tokens',
    title: '100 tokens',
    claim: 'A text of 100 tokens takes 180 to 250 ms over a gRPC stream and 400 to 600 ms over server-sent events.',
    article: '180-250 against 400-600 ms',
    section: STREAMING,
    how: 'Server-sent events over the gRPC stream, the same model and text: 1.6 to 3.3 times by the figures of the article.',
    judge: (results) => {
      const grpc = streamOf(results, 'grpc_stream');
      const part = (way: 'sse' | 'sse_openai', name: string): Part | undefined => {
        const stream = streamOf(results, way);
        const ratio = quotient(stream?.totalMs.value, grpc?.totalMs.value);
        if (ratio === undefined) return undefined;
        const verdict = inRange(ratio, { low: 1.6, high: 3.3, neutral: 1 });
        return {
          verdict,
          figure: `${milliseconds(stream!.totalMs.value)} against ${milliseconds(grpc!.totalMs.value)} ${name}`,
        };
      };
      return together(
        [part('sse', "(Triton's events)"), part('sse_openai', "(OpenAI's)")],
        'The model takes nearly all of it, whatever the protocol: both ways send a token as soon as there is one, and nothing is polled.',
      );
    },
  },
  {
    id: 'tokens-without-requests',
    title: 'No request for each token',
    claim: 'Streaming does away with the overhead of a request and an answer for each token.',
    article: 'eliminates it',
    section: 'gRPC + Protobuf: Binary Efficiency',
    how: 'Time of a request per token over that of the stream of the same protocol; more than 1.1 is overhead that was saved.',
    judge: (results) => {
      const part = (
        way: 'request_per_token_grpc' | 'request_per_token_rest',
        stream: 'grpc_stream' | 'sse',
        name: string,
      ) => {
        const ratio = quotient(streamOf(results, way)?.totalMs.value, streamOf(results, stream)?.totalMs.value);
        if (ratio === undefined) return undefined;
        return {
          verdict: ratio >= 1.1 ? ('holds' as const) : ('does not hold here' as const),
          figure: `${digits(ratio)}x over ${name}`,
        };
      };
      return together(
        [part('request_per_token_grpc', 'grpc_stream', 'gRPC'), part('request_per_token_rest', 'sse', 'REST')],
        'Server-sent events do away with it as well: it is not what tells the two apart.',
      );
    },
  },
  {
    id: 'parse-per-token',
    title: 'Parsing a token',
    claim: 'A small JSON object takes 1 to 2 ms to parse, 100 to 200 ms for 100 tokens.',
    article: '1-2 ms',
    section: SSE,
    how: 'JSON.parse of each event, warm; and of the first 100 of a fresh client, before anything is compiled.',
    judge: (results) => {
      const figure = experimentOf(results, 'token_parse');
      const [json, small, first, protobuf] = [
        'json_token_us',
        'small_json_token_us',
        'json_first_text_ms',
        'protobuf_token_us',
      ].map(figure);
      if (json === undefined || small === undefined || first === undefined || protobuf === undefined)
        return NOT_MEASURED;
      return {
        verdict: json >= 900 ? 'holds' : 'does not hold here',
        figure: `${digits(json)} us for an event of the server, ${digits(small)} us for {"token": ...}; the first 100 of all ${milliseconds(first)}`,
        remark: `Protobuf takes ${digits(protobuf)} us. The claim is off by a factor of ${digits(1000 / json)}: a client that is bound by parsing tokens would need millions of them a second.`,
      };
    },
  },
  {
    id: 'client-bound-by-parsing',
    title: 'A client that is busy parsing',
    claim: 'At 25 to 50 tokens a second a client of server-sent events is bound by parsing JSON.',
    article: '25-50 tokens/s',
    section: SSE,
    how: 'CPU of the client for each token of server-sent events, times 50 a second: its share of one core, at least a half to be bound by it.',
    judge: (results) => {
      const stream = streamOf(results, 'sse');
      const share = quotient(stream && (stream.clientCpuUs / stream.tokens) * 50, 1e6);
      if (share === undefined) return NOT_MEASURED;
      const grpc = streamOf(results, 'grpc_stream');
      const other = quotient(grpc && (grpc.clientCpuUs / grpc.tokens) * 50, 1e6);
      return {
        verdict: share >= 0.5 ? 'holds' : 'does not hold here',
        figure: `${percent(share)} of a core`,
        remark: `That is everything: sockets, HTTP and JSON.${other === undefined ? '' : ` Over the gRPC stream it is ${percent(other)}.`}`,
      };
    },
  },
];
