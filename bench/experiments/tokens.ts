/**
 * What does a token weigh on its way, what does compressing make of it, and how long does it take to read?
 *
 * Two experiments of `run.ts` on the same 100 tokens, which the running server generates over the gRPC stream and as server-sent
 * events. Sizes without the transport's own framing. grpc compresses each message by itself, a compressed HTTP response is one stream
 * that remembers the events before and is flushed after each. This server's gRPC can't compress what it sends (grpc-js's can't), so
 * those sizes come from zlib on its real messages.
 */
import { constants, createGzip, gzipSync } from 'node:zlib';
import type { ExperimentResult } from '../../src/bench/results.js';
import { BenchError } from '../result.js';
import { grpcStream, STREAMING_MODEL_INFER } from '../streams.js';
import { http2Caller, restCaller } from './callers.js';
import { byTurns, type ExperimentContext, timeOf } from './experiment.js';
import { protoType } from './payloads.js';

const TOKENS = 100;
const MODEL = 'stories';
const PROMPT = 'Once upon a time';
const GRPC_HEAD_BYTES = 5;

interface Streamed {
  readonly messages: readonly Buffer[];
  /** JSON of each event, without `data: ` and the blank line. */
  readonly events: readonly string[];
}

export async function tokenGzip(context: ExperimentContext): Promise<ExperimentResult> {
  const { messages, events } = await streamed(context);
  const mean = (bytes: readonly number[]): number => bytes.reduce((sum, one) => sum + one, 0) / bytes.length;
  const texts = tokenTexts(messages);
  const sse = events.map((event) => Buffer.from(`data: ${event}\n\n`));
  const small = texts.map((token) => Buffer.from(`data: ${JSON.stringify({ token })}\n\n`));
  return {
    name: 'token_gzip',
    figures: {
      text_bytes: mean(texts.map((text) => Buffer.byteLength(text))),
      grpc_message_bytes: mean(messages.map(({ length }) => length)),
      grpc_frame_bytes: mean(messages.map(({ length }) => length + GRPC_HEAD_BYTES)),
      grpc_gzip_message_bytes: mean(messages.map((message) => gzipSync(message).length)),
      grpc_gzip_frame_bytes: mean(messages.map((message) => gzipSync(message).length + GRPC_HEAD_BYTES)),
      sse_event_bytes: mean(sse.map(({ length }) => length)),
      sse_gzip_event_bytes: (await gzippedStream(sse)) / sse.length,
      small_sse_event_bytes: mean(small.map(({ length }) => length)),
      small_sse_gzip_event_bytes: (await gzippedStream(small)) / small.length,
    },
    method:
      `The ${TOKENS} messages and events of one generated text; means. gzip at zlib's default level: by message as gRPC does it, and ` +
      'as one stream that is flushed after each event. small: events that hold {"token": ...} alone, as in the article.',
  };
}

export async function tokenParse(context: ExperimentContext): Promise<ExperimentResult> {
  const { messages, events } = await streamed(context);
  const type = protoType('inference_service.proto', 'inference.v1.ModelStreamResponse');
  const small = tokenTexts(messages).map((token) => JSON.stringify({ token }));
  const passes = {
    json: () => events.map((event) => JSON.parse(event)),
    small_json: () => small.map((event) => JSON.parse(event)),
    protobuf: () => messages.map((message) => type.decode(message)),
  };
  const figures: Record<string, number> = {};
  // Before any of it is compiled: what the first text of a fresh client costs at most.
  for (const [name, pass] of Object.entries(passes)) {
    const began = performance.now();
    pass();
    figures[`${name}_first_text_ms`] = performance.now() - began;
  }
  const forMs = context.quick ? 10 : 40;
  const arms = Object.entries(passes).map(([name, pass]) => {
    return [name, async () => ({ token_us: (timeOf(pass, forMs) / TOKENS) * 1000 })] as const;
  });
  return {
    name: 'token_parse',
    figures: { ...figures, ...(await byTurns(Object.fromEntries(arms), { rounds: context.quick ? 3 : 9 })) },
    method:
      `JSON.parse of each of ${TOKENS} events and protobufjs's decode of each of ${TOKENS} messages of one generated text: microseconds for a ` +
      'token, warm; and milliseconds for the first text of all, before anything was compiled. small: {"token": ...} alone.',
  };
}

async function streamed({ lab }: ExperimentContext): Promise<Streamed> {
  const { grpcPort, httpPort } = await lab.plain();
  const grpc = http2Caller({ port: grpcPort });
  const rest = restCaller({ port: httpPort, connections: 1, keepAlive: true });
  try {
    const frame = Buffer.from(grpcStream({ model: MODEL, prompt: PROMPT, tokens: TOKENS }).body, 'base64');
    const { body } = await grpc.call(STREAMING_MODEL_INFER, frame);
    const messages: Buffer[] = [];
    for (let at = 0; at < body.length; ) {
      const end = at + GRPC_HEAD_BYTES + body.readUInt32BE(at + 1);
      messages.push(body.subarray(at + GRPC_HEAD_BYTES, end));
      at = end;
    }
    const parameters = { max_tokens: TOKENS, ignore_eos: true, temperature: 0 };
    const asked = Buffer.from(JSON.stringify({ text_input: PROMPT, parameters }));
    const text = (await rest.call(`/v2/models/${MODEL}/generate_stream`, asked)).body.toString();
    const events = [...text.matchAll(/^data: (.*)$/gm)].map(([, json]) => json!);
    if (events.length < TOKENS || messages.length < TOKENS) {
      throw new BenchError(`${MODEL} gave ${messages.length} messages and ${events.length} events, expected ${TOKENS}`);
    }
    return { messages: messages.slice(0, TOKENS), events: events.slice(0, TOKENS) };
  } finally {
    grpc.close();
    rest.close();
  }
}

function tokenTexts(messages: readonly Buffer[]): string[] {
  const type = protoType('inference_service.proto', 'inference.v1.ModelStreamResponse');
  return messages.map((message) => (type.decode(message) as unknown as { token: string }).token);
}

/** Bytes of one gzip stream over all chunks, each flushed so that its reader could have it at once. */
async function gzippedStream(chunks: readonly Buffer[]): Promise<number> {
  const gzip = createGzip({ flush: constants.Z_SYNC_FLUSH });
  let bytes = 0;
  gzip.on('data', (chunk: Buffer) => (bytes += chunk.length));
  for (const chunk of chunks) await new Promise<void>((resolve) => gzip.write(chunk, () => resolve()));
  await new Promise((resolve) => gzip.once('end', resolve).end());
  return bytes;
}
