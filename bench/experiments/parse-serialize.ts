/**
 * How long do parsing and serializing take, and how many bytes come out: JSON against protobuf, for the article's payloads?
 *
 * One experiment of `run.ts`. No network: the codecs alone, in one thread, warm. Both ends hold a Float32Array, since that is what a
 * model takes and gives; `json_parse_only` stops at JavaScript's array of doubles. JSON is the runtime's own `JSON.parse` and
 * `JSON.stringify`; protobuf is protobufjs with Open Inference Protocol's messages, tensors as raw bytes or as typed contents. `own_` are
 * the codecs of this project's client: a request serialized, an answer parsed. The classification has no tensor: the article's own
 * message, to an object either way.
 */
import type { ExperimentResult } from '../../src/bench/results.js';
import { decodeInferResponse } from '../../src/client/grpc-decode.js';
import { encodeInferRequest } from '../../src/client/grpc-encode.js';
import { decodeInferBody } from '../../src/client/rest-decode.js';
import { encodeInferBody } from '../../src/client/rest-encode.js';
import { bytesOf } from '../grpc-body.js';
import { byTurns, type ExperimentContext, randomNormal, type Sample, timeOf } from './experiment.js';
import { CLASSIFICATION, CLASSIFICATION_FIELDS, classificationType, protoType, shortest } from './payloads.js';

/** One way to write and read a payload. */
interface Codec {
  readonly serialize: () => Uint8Array;
  readonly parse: (bytes: Uint8Array) => unknown;
  /** What is parsed, where that isn't what is serialized. */
  readonly answer?: Uint8Array;
  /** Parsing without making tensors of it. */
  readonly parseOnly?: (bytes: Uint8Array) => unknown;
}

/** FP32 numbers in each payload. */
const TENSORS = { embedding_2k: 512, embedding_1536: 1536, image_100k: 25_600 } as const;

export async function parseSerialize({ quick, say }: ExperimentContext): Promise<ExperimentResult> {
  const forMs = quick ? 15 : 40;
  const figures: Record<string, number> = {};
  const payloads: Record<string, Record<string, Codec>> = { classification: classification() };
  for (const [name, count] of Object.entries(TENSORS)) payloads[name] = tensor(count);
  for (const [payload, codecs] of Object.entries(payloads)) {
    const arms: Record<string, () => Promise<Sample>> = {};
    for (const [name, codec] of Object.entries(codecs)) {
      const bytes = codec.answer ?? codec.serialize();
      figures[`${payload}_${name}_bytes`] = bytes.length;
      arms[name] = async () => ({
        parse_ms: timeOf(() => codec.parse(bytes), forMs),
        serialize_ms: timeOf(codec.serialize, forMs),
        ...(codec.parseOnly && { parse_only_ms: timeOf(() => codec.parseOnly!(bytes), forMs) }),
      });
    }
    const medians = await byTurns(arms, { rounds: quick ? 3 : 7 });
    for (const [key, value] of Object.entries(medians)) figures[`${payload}_${key}`] = value;
    say(
      `${payload}: JSON is ${ratio(medians.json_parse_ms, medians.raw_parse_ms)}x the time of raw protobuf to parse, ` +
        `${ratio(medians.json_serialize_ms, medians.raw_serialize_ms)}x to serialize`,
    );
  }
  return {
    name: 'parse_serialize',
    figures,
    method:
      'Codecs alone in one thread, warm, by turns: JSON.parse and JSON.stringify with the way from and to a Float32Array, and ' +
      'protobufjs with raw and typed tensors of a ModelInferResponse; own: the codecs of this project. Random normal numbers.',
  };
}

function ratio(a = 0, b = 1): string {
  return (a / b).toFixed(1);
}

function classification(): Record<string, Codec> {
  const type = classificationType();
  return {
    json: {
      serialize: () => Buffer.from(JSON.stringify(CLASSIFICATION)),
      parse: (bytes) => JSON.parse((bytes as Buffer).toString()),
    },
    raw: {
      serialize: () => type.encode(CLASSIFICATION_FIELDS).finish(),
      parse: (bytes) => type.decode(bytes),
    },
  };
}

interface Decoded {
  readonly rawOutputContents: readonly Uint8Array[];
  readonly outputs: readonly { readonly contents: { readonly fp32Contents: readonly number[] } }[];
}

function tensor(count: number): Record<string, Codec> {
  const type = protoType('open_inference_grpc.proto', 'inference.ModelInferResponse');
  const data = Float32Array.from(randomNormal(count));
  const head = { name: 'OUTPUT0', datatype: 'FP32', shape: [1, count] };
  const decode = (bytes: Uint8Array): Decoded => type.decode(bytes) as unknown as Decoded;
  const text = (bytes: Uint8Array) => JSON.parse((bytes as Buffer).toString());
  const print = (numbers: unknown): Buffer =>
    Buffer.from(JSON.stringify({ model_name: 'm', model_version: '1', outputs: [{ ...head, data: numbers }] }));
  const message = { modelName: 'm', modelVersion: '1' };
  const request = { model: 'm', inputs: [{ name: 'INPUT0', shape: [1, count], data }] };
  const raw = (): Uint8Array =>
    type.encode({ ...message, outputs: [head], rawOutputContents: [bytesOf(data)] }).finish();
  return {
    own_json: {
      answer: print(shortest(data)),
      serialize: () => encodeInferBody(request, 'json').body,
      parse: (bytes) => decodeInferBody(bytes as Buffer, undefined),
    },
    own_raw: {
      answer: Buffer.from(raw()),
      serialize: () => encodeInferRequest(request, 'raw'),
      parse: (bytes) => decodeInferResponse(bytes as Buffer),
    },
    json: {
      serialize: () => print(Array.from(data)),
      parse: (bytes) => Float32Array.from(text(bytes).outputs[0].data),
      parseOnly: text,
    },
    raw: {
      serialize: raw,
      parse: (bytes) => floatsOf(decode(bytes).rawOutputContents[0]!),
      parseOnly: decode,
    },
    typed: {
      serialize: () => type.encode({ ...message, outputs: [{ ...head, contents: { fp32Contents: data } }] }).finish(),
      parse: (bytes) => Float32Array.from(decode(bytes).outputs[0]!.contents.fp32Contents),
      parseOnly: decode,
    },
  };
}

/** A view where the bytes lie on a multiple of four, else a copy. */
function floatsOf({ buffer, byteOffset, byteLength }: Uint8Array): Float32Array {
  if (byteOffset % 4 === 0) return new Float32Array(buffer, byteOffset, byteLength / 4);
  return new Float32Array(buffer.slice(byteOffset, byteOffset + byteLength));
}
