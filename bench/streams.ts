/**
 * Streams of tokens from the side of a bench: starts the clients' process, writes the requests, reads the answers' times.
 *
 * Used by the benches of generated text.
 */
import { join } from 'node:path';
import protobuf from 'protobufjs';
import { converse } from './conversation.js';
import { BenchError } from './result.js';
import type { StreamReply, StreamRequest, StreamsReply, StreamsRequest } from './servers/stream-clients.js';

export const STREAMING_MODEL_INFER = '/inference.v1.InferenceService/StreamingModelInfer';

export interface StreamClients {
  /** Throws BenchError unless every stream that was not left ended well. */
  read(request: StreamsRequest): Promise<StreamsReply>;
  end(): void;
}

export function startStreamClients(): StreamClients {
  const conversation = converse<StreamsRequest, StreamsReply>('servers/stream-clients.ts');
  return {
    async read(request) {
      const reply = await conversation.ask(request);
      const failed = reply.streams.find(({ problem }) => problem !== undefined);
      if (failed) throw new BenchError(`a stream over ${request.protocol} failed: ${failed.problem}`);
      return reply;
    },
    end: conversation.end,
  };
}

export interface Generation {
  readonly model: string;
  readonly prompt: string;
  readonly tokens: number;
  readonly atMs?: number;
  readonly leaveAfter?: number;
}

let requestType: protobuf.Type | undefined;

/** A framed request of the small contract: greedy, and exactly so many tokens. */
export function grpcStream({ model, prompt, tokens, atMs = 0, leaveAfter = 0 }: Generation): StreamRequest {
  requestType ??= protobuf
    .loadSync(join(import.meta.dirname, '../proto/inference_service.proto'))
    .lookupType('inference.v1.ModelInferRequest');
  const parameters = { max_tokens: String(tokens), ignore_eos: 'true', temperature: '0' };
  const inputs = [{ name: 'text_input', datatype: 'BYTES', rawContents: Buffer.from(prompt) }];
  const message = requestType.encode({ modelName: model, inputs, parameters }).finish();
  const frame = Buffer.alloc(5 + message.length);
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, 5);
  return { body: frame.toString('base64'), atMs, leaveAfter };
}

/** The same for Triton's generate_stream. */
export function eventStream({ prompt, tokens, atMs = 0, leaveAfter = 0 }: Generation): StreamRequest {
  const parameters = { max_tokens: tokens, ignore_eos: true, temperature: 0 };
  const body = Buffer.from(JSON.stringify({ text_input: prompt, parameters })).toString('base64');
  return { body, atMs, leaveAfter };
}

/** Milliseconds between the tokens of a stream of `tokens`, its first not counted. */
export function msPerToken({ atMs, endMs }: StreamReply, tokens: number): number {
  return (endMs - atMs[0]!) / (tokens - 1);
}

/** Gaps between messages. */
export function gaps({ atMs }: StreamReply): number[] {
  return atMs.slice(1).map((at, i) => at - atMs[i]!);
}

/** Value of one metric of a `server-timing` text; 0 where it is not named. */
export function timingOf({ serverTiming }: StreamReply, name: string): number {
  return Number(new RegExp(`(?:^|, )${name};dur=([0-9.]+)`).exec(serverTiming)?.[1] ?? 0);
}
