/**
 * Claims about the time in codecs, judged by the experiment `parse_serialize`, and about what compression does.
 *
 * Listed in `claims.ts`. Pure. Two protobuf figures stand side by side: `raw`, tensors as bytes as Open Inference Protocol's clients send
 * them, and `typed`, a field of numbers as the article's message for embeddings has it.
 */
import { byteSize, digits, milliseconds } from '../../src/bench/figures.js';
import { type Claim, inRange, NOT_MEASURED, type Part, type Range, together } from './claim.js';
import { experimentOf, quotient } from './measured.js';

const BINARY = 'gRPC + Protobuf: Binary Efficiency';
const PAYLOADS = 'Payload Size Impact: The Surprising Middle Ground';

/** Contents of the experiment `gzip`: JSON and raw bytes of the same kind of tensor. */
const CONTENTS = {
  normal: 'random numbers',
  pixels: "a photograph's pixels",
  scaled: 'pixels from 0 to 1',
  ids: 'token ids',
};

export const CODEC_CLAIMS: readonly Claim[] = [
  {
    id: 'parse-5-10x',
    title: 'Five to ten times faster to parse',
    claim: 'Protobuf is parsed in a fifth to a tenth of the time that JSON takes.',
    article: '5-10x',
    section: BINARY,
    how: 'JSON.parse and the way to a Float32Array over protobufjs and the same way, warm.',
    judge: (results) => {
      const figure = experimentOf(results, 'parse_serialize');
      const range = { low: 5, high: 10, neutral: 1 };
      const own = quotient(figure('image_100k_own_json_parse_ms'), figure('image_100k_own_raw_parse_ms'));
      return together(
        [
          codec(figure, 'classification', 'raw', 'parse', range),
          ...['embedding_2k', 'image_100k'].flatMap((payload) => [
            codec(figure, payload, 'raw', 'parse', range),
            codec(figure, payload, 'typed', 'parse', range),
          ]),
        ],
        'Raw tensors are not parsed at all, they are found, so the ratio has no upper end: it grows with the tensor. A message of a few small fields is close to what JSON costs.' +
          (own === undefined
            ? ''
            : ` With this project's codecs, whose JSON reader is made for tensors, it is ${digits(own)}x for the image.`),
      );
    },
  },
  {
    id: 'serialize-image-1.8x',
    title: 'Serializing a picture',
    claim: 'A picture of 100 KB is serialized 1.8 times as fast.',
    article: '1.8x',
    section: BINARY,
    how: 'JSON.stringify from a Float32Array of 100 KB over protobufjs from the same.',
    judge: (results) => serialize(results, 'image_100k', 1.8),
  },
  {
    id: 'serialize-embedding-1.3x',
    title: 'Serializing an embedding',
    claim: 'An embedding of 2 KB is serialized 1.3 times as fast.',
    article: '1.3x',
    section: BINARY,
    how: 'The same with 512 numbers.',
    judge: (results) => serialize(results, 'embedding_2k', 1.3),
  },
  {
    id: 'gzip-json',
    title: '500 KB of JSON, compressed',
    claim: 'gzip makes 50 KB of 500 KB of JSON.',
    article: '500 KB to 50 KB',
    section: PAYLOADS,
    how: 'zlib at its default level, four kinds of content; the article does not say which.',
    judge: (results) => gzipped(results, 'json', { low: 50, high: 50, neutral: 500 }),
  },
  {
    id: 'gzip-protobuf',
    title: '100 KB of protobuf, compressed',
    claim: 'gzip makes 15 KB of 100 KB of protobuf.',
    article: '100 KB to 15 KB',
    section: PAYLOADS,
    how: 'The same with 100 KB of raw tensor.',
    judge: (results) => gzipped(results, 'raw', { low: 15, high: 15, neutral: 100 }),
  },
  {
    id: 'gzip-cpu',
    title: 'CPU of compressing',
    claim: 'Compressing 500 KB takes 5 to 10 ms of CPU.',
    article: '5-10 ms',
    section: PAYLOADS,
    how: 'One thread, 500 KB of JSON, there and back.',
    judge: (results) => {
      const figure = experimentOf(results, 'gzip');
      const parseMs = experimentOf(results, 'parse_serialize')('image_100k_json_parse_only_ms');
      return together(
        Object.entries(CONTENTS).map(([content, name]) => {
          const [there, back] = [figure(`${content}_json_deflate_ms`), figure(`${content}_json_inflate_ms`)];
          if (there === undefined || back === undefined) return undefined;
          const verdict = there + back >= 4.5 && there + back <= 11 ? 'holds' : 'does not hold here';
          return { verdict, figure: `${milliseconds(there)} and ${milliseconds(back)} for ${name}` };
        }),
        'The first figure is compressing, the second decompressing. A machine of another speed moves all of them alike.' +
          (parseMs === undefined ? '' : ` To parse as much JSON takes ${milliseconds(parseMs)} here.`),
      );
    },
  },
  {
    id: 'gzip-by-default',
    title: 'Compression by default',
    claim: 'gRPC compresses with gzip by default.',
    article: 'gzip by default',
    section: PAYLOADS,
    how: 'What a stock grpc-js client sends of 10 KB of zeros when nobody asks for compression.',
    judge: (results) => {
      const figure = experimentOf(results, 'gzip');
      const [compressed, bytes] = [figure('grpc_unasked_compressed'), figure('grpc_unasked_bytes')];
      if (compressed === undefined || bytes === undefined) return NOT_MEASURED;
      return {
        verdict: compressed === 1 ? 'holds' : 'does not hold here',
        figure: `${bytes} bytes sent, ${compressed === 1 ? 'compressed' : 'the flag for compression not set'}`,
        remark:
          'gRPC has compression for each message and leaves it off unless a channel, a call or a server asks for it. A server on grpc-js cannot compress what it sends.',
      };
    },
  },
  {
    id: 'token-gzip',
    title: 'Tokens, compressed',
    claim: 'gRPC compresses tokens to 5 to 10 bytes each, which JSON over REST loses.',
    article: '5-10 bytes',
    section: 'gRPC Streaming: True Bidirectional Communication',
    how: 'The messages of 100 generated tokens, each compressed by itself as gRPC does it; and the events of REST in one compressed stream.',
    judge: (results) => {
      const figure = experimentOf(results, 'token_gzip');
      const [plain, gzip, sse] = ['grpc_message_bytes', 'grpc_gzip_message_bytes', 'sse_gzip_event_bytes'].map(figure);
      if (plain === undefined || gzip === undefined || sse === undefined) return NOT_MEASURED;
      return {
        verdict: gzip <= 11 ? 'holds' : 'does not hold here',
        figure: `${digits(gzip)} bytes with gzip, ${digits(plain)} without; events of REST ${digits(sse)} with gzip`,
        remark:
          'A gzip file of nothing has 20 bytes, and each message is one. The response of REST is one stream, in which events repeat each other.' +
          (plain >= 4.5 && plain <= 11 ? ' The claimed size is that of the messages without compression.' : ''),
      };
    },
  },
];

type Figure = (name: string) => number | undefined;

function codec(
  figure: Figure,
  payload: string,
  arm: string,
  work: 'parse' | 'serialize',
  range: Range,
): Part | undefined {
  const ratio = quotient(figure(`${payload}_json_${work}_ms`), figure(`${payload}_${arm}_${work}_ms`));
  if (ratio === undefined) return undefined;
  const name = payload === 'classification' ? 'the classification' : `${payload.replace('_', ' ')} ${arm}`;
  return { verdict: inRange(ratio, range), figure: `${digits(ratio)}x ${name}` };
}

function serialize(
  results: Parameters<Claim['judge']>[0],
  payload: string,
  claimed: number,
): ReturnType<Claim['judge']> {
  const figure = experimentOf(results, 'parse_serialize');
  const range = { low: claimed, high: claimed, neutral: 1 };
  const [json, raw] = [figure(`${payload}_json_serialize_ms`), figure(`${payload}_raw_serialize_ms`)];
  return together(
    [codec(figure, payload, 'raw', 'serialize', range), codec(figure, payload, 'typed', 'serialize', range)],
    json === undefined || raw === undefined
      ? undefined
      : `${milliseconds(json)} of JSON against ${milliseconds(raw)} raw: printing decimal digits is what costs, and a copy of bytes does not.`,
  );
}

function gzipped(
  results: Parameters<Claim['judge']>[0],
  form: 'json' | 'raw',
  range: Range,
): ReturnType<Claim['judge']> {
  const figure = experimentOf(results, 'gzip');
  return together(
    Object.entries(CONTENTS).map(([content, name]) => {
      const kb = quotient(figure(`${content}_${form}_gzip_bytes`), 1024);
      const before = figure(`${content}_${form}_bytes`);
      if (kb === undefined || before === undefined) return undefined;
      // Smaller than claimed is better than claimed, and better by a tenth is still what was claimed.
      return { verdict: inRange(kb, range), figure: `${byteSize(before)} to ${byteSize(kb * 1024)} for ${name}` };
    }),
    form === 'json'
      ? 'gzip finds what repeats. Random digits hardly do: what it gets back is the tax of decimal digits. An embedding is of the first kind.'
      : 'The bits of random FP32 numbers hardly compress; 64-bit token ids, most of them zeros, do.',
  );
}
