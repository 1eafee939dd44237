/**
 * Claims about bytes, judged by the experiments with prepared messages and by what the matrix counted on its sockets.
 *
 * Listed in `claims.ts`. Pure.
 */
import { wireBytes } from '../../src/bench/cells.js';
import { byteSize, digits, percent } from '../../src/bench/figures.js';
import { type Claim, inRange, NOT_MEASURED, together } from './claim.js';
import { experimentOf, MODELS, quotient, ratioOf } from './measured.js';

const TAX = 'REST + JSON: Human-Readable, Expensive';
const BINARY = 'gRPC + Protobuf: Binary Efficiency';
const PAYLOADS = 'Payload Size Impact: The Surprising Middle Ground';
const CODEC_PAYLOADS = {
  classification: 'the classification',
  embedding_2k: 'a 2 KB embedding',
  image_100k: 'a 100 KB image',
};

export const SIZE_CLAIMS: readonly Claim[] = [
  {
    id: 'classification-60-70-percent',
    title: 'A classification',
    claim: 'A classified picture is about 150 bytes of JSON and 50 to 60 of protobuf: 60 to 70 % less.',
    article: '150 against 50-60 bytes',
    section: BINARY,
    how: "The article's own message: its JSON without blanks, and protobuf by protobufjs.",
    judge: (results) => {
      const figure = experimentOf(results, 'classification_response');
      const [json, indented, protobuf] = ['json_bytes', 'json_indented_bytes', 'protobuf_bytes'].map(figure);
      if (json === undefined || indented === undefined || protobuf === undefined) return NOT_MEASURED;
      const saved = 1 - protobuf / json;
      const [own, grpc] = [figure('oip_json_bytes'), figure('oip_grpc_bytes')];
      return together(
        [
          {
            verdict: inRange(saved, { low: 0.6, high: 0.7, neutral: 0 }),
            figure: `${json} against ${protobuf} bytes, ${percent(saved)} less`,
          },
          // A size alone has no direction: right or wrong.
          protobuf >= 45 && protobuf <= 66
            ? { verdict: 'holds', figure: 'protobuf as claimed' }
            : { verdict: 'does not hold here', figure: 'protobuf not 50 to 60 bytes' },
        ],
        `As it is printed in the article the JSON has ${indented} bytes, a fifth of them blanks that no server sends.` +
          (own !== undefined && grpc !== undefined
            ? ` By Open Inference Protocol, which names tensors, shapes and datatypes, the same answer of this server is ${own} bytes of JSON and ${grpc} of protobuf: ${percent(1 - grpc / own)} less.`
            : ''),
      );
    },
  },
  {
    id: 'tiny-payloads',
    title: 'Tiny payloads',
    claim: 'Payloads below 1 KB are 150 to 200 bytes of JSON against 20 to 30 of protobuf.',
    article: '150-200 against 20-30 bytes',
    section: PAYLOADS,
    how: "JSON over protobuf: the article's classification and the same answer of this server. The article's figures make 5 to 10 times.",
    judge: (results) => {
      const figure = experimentOf(results, 'classification_response');
      const part = (above: string, below: string, what: string) => {
        const ratio = quotient(figure(above), figure(below));
        if (ratio === undefined) return undefined;
        const verdict = inRange(ratio, { low: 5, high: 10, neutral: 1 });
        return { verdict, figure: `${figure(above)} against ${figure(below)} bytes (${what})` };
      };
      return together([
        part('json_bytes', 'protobuf_bytes', "the article's message"),
        part('oip_json_bytes', 'oip_grpc_bytes', 'this server'),
      ]);
    },
  },
  {
    id: 'smaller-3-7x',
    title: 'Three to seven times smaller',
    claim: 'Protobuf is three to seven times smaller than JSON.',
    article: '3-7x',
    section: BINARY,
    how: 'Bytes of JSON, as the runtime prints it, over those of protobuf with raw tensors.',
    judge: (results) => {
      const figure = experimentOf(results, 'parse_serialize');
      const shortest = quotient(figure('image_100k_own_json_bytes'), figure('image_100k_raw_bytes'));
      return together(
        Object.entries(CODEC_PAYLOADS).map(([payload, name]) => {
          const ratio = quotient(figure(`${payload}_json_bytes`), figure(`${payload}_raw_bytes`));
          if (ratio === undefined) return undefined;
          return { verdict: inRange(ratio, { low: 3, high: 7, neutral: 1 }), figure: `${digits(ratio)}x for ${name}` };
        }),
        shortest === undefined
          ? undefined
          : `Stock printers write an FP32 number with the 17 digits of a double. Printed with no more digits than it needs, as this server and its client do, the image is ${digits(shortest)} times its bytes.`,
      );
    },
  },
  {
    id: 'text-1.5-2x',
    title: 'A number as text',
    claim: 'As text, a number takes one and a half times to twice its bytes.',
    article: '1.5-2x',
    section: TAX,
    how: '1536 normalized FP32 numbers as a JSON array over their bytes in memory: with four decimals as in the example, with as few digits as keep the number, as the runtime prints them.',
    judge: (results) =>
      embedding(results, { low: 1.5, high: 2, neutral: 1 }, [
        'json_four_decimals_bytes',
        'json_shortest_bytes',
        'json_double_bytes',
      ]),
  },
  {
    id: 'embedding-3-4x',
    title: 'An embedding of 1536 numbers',
    claim: 'An embedding of 1536 dimensions takes three to four times its bytes as JSON.',
    article: '3-4x',
    section: TAX,
    how: 'The same as above: an embedding, so without the four decimals, which would change it.',
    judge: (results) =>
      embedding(results, { low: 3, high: 4, neutral: 1 }, ['json_shortest_bytes', 'json_double_bytes']),
  },
  {
    id: 'medium-payloads',
    title: 'Medium payloads',
    claim: 'From 1 to 100 KB, protobuf is 0.35 times the size of JSON.',
    article: '0.35x',
    section: PAYLOADS,
    how: 'Bytes on the sockets both ways, headers and framing included, of gRPC raw over REST JSON: 10 and 100 KB, each model.',
    judge: (results) =>
      together(
        MODELS.flatMap((model) =>
          [10, 100].map((kb) => {
            const ratio = ratioOf(results, { model, kb }, ['rest_json', 'grpc_raw'], wireBytes);
            if (ratio === undefined) return undefined;
            const verdict = inRange(ratio, { low: 0.35, high: 0.35, neutral: 1 });
            return { verdict, figure: `${digits(ratio)}x for ${model} ${kb} KB` };
          }),
        ),
        "JSON costs by digits, protobuf by bytes: token ids are short as text and eight bytes raw. The article's script has no protobuf in it; it takes 0.35 for granted.",
      ),
  },
  {
    id: 'large-payloads',
    title: 'Large payloads',
    claim: 'Above 100 KB, JSON is three to four times the size of the binary message.',
    article: '200 KB-2 MB against 70-500 KB',
    section: PAYLOADS,
    how: 'Bytes on the sockets both ways of REST JSON over gRPC raw: 500 and 1000 KB, each model. The figures of the article make 2.9 to 4.',
    judge: (results) =>
      together(
        MODELS.flatMap((model) =>
          [500, 1000].map((kb) => {
            const ratio = ratioOf(results, { model, kb }, ['grpc_raw', 'rest_json'], wireBytes);
            if (ratio === undefined) return undefined;
            const verdict = inRange(ratio, { low: 2.9, high: 4, neutral: 1 });
            return { verdict, figure: `${digits(ratio)}x for ${model} ${kb} KB` };
          }),
        ),
      ),
  },
  {
    id: 'three-times-the-bandwidth',
    title: 'Bandwidth of REST',
    claim: 'A system on REST needed three times the bandwidth of the same on gRPC.',
    article: '3x',
    section: 'Real-World Lessons from Production Systems',
    how: 'Bytes on the sockets both ways of REST over gRPC raw at 100 KB of image_classification: as JSON and with binary tensors.',
    judge: (results) => {
      const key = { model: 'image_classification', kb: 100 };
      const part = (encoding: 'rest_json' | 'rest_binary', name: string) => {
        const ratio = ratioOf(results, key, ['grpc_raw', encoding], wireBytes);
        if (ratio === undefined) return undefined;
        return { verdict: inRange(ratio, { low: 3, high: 3, neutral: 1 }), figure: `${digits(ratio)}x ${name}` };
      };
      return together(
        [part('rest_json', 'as JSON'), part('rest_binary', 'with binary tensors')],
        'A system on REST need not send JSON: with the binary extension its bytes are those of gRPC.',
      );
    },
  },
  {
    id: 'daily-bytes',
    title: 'Ten terabytes a day',
    claim:
      '10,000 requests a second of 1 MB each are 10 TB a day, and a protocol that is 70 % smaller brings 10,000 MB a second down to 300.',
    article: '10 TB a day; 300 MB/s',
    section: 'The Compounding Cost of Inefficiency',
    how: 'Arithmetic; nothing to measure.',
    judge: () => ({
      verdict: 'does not hold here',
      figure: `${digits((10_000 * 86_400) / 1e6)} TB a day; ${digits(10_000 * 0.3)} MB/s`,
      remark: '10,000 MB a second are 10 TB in 17 minutes. 70 % less leaves 30 %, and 300 MB/s would be 97 % less.',
    }),
  },
];

const WAYS: Readonly<Record<string, string>> = {
  json_four_decimals_bytes: 'four decimals',
  json_shortest_bytes: 'fewest digits',
  json_double_bytes: 'as doubles',
};

function embedding(
  results: Parameters<Claim['judge']>[0],
  range: Parameters<typeof inRange>[1],
  ways: readonly string[],
): ReturnType<Claim['judge']> {
  const figure = experimentOf(results, 'embedding_bytes');
  const base64 = quotient(figure('base64_bytes'), figure('raw_bytes'));
  return together(
    ways.map((way) => {
      const ratio = quotient(figure(way), figure('raw_bytes'));
      return ratio === undefined
        ? undefined
        : { verdict: inRange(ratio, range), figure: `${digits(ratio)}x (${WAYS[way]}: ${byteSize(figure(way))})` };
    }),
    'Four decimals lose most of a number and eight or nine digits keep an FP32 number whole; a stock printer that knows doubles alone writes up to 17 and more where numbers are small.' +
      (base64 === undefined ? '' : ` As base64, which OpenAI's interface offers, it is ${digits(base64)} times.`),
  );
}
