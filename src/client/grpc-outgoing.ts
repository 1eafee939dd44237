/**
 * A ModelInferRequest on its way: encoded when grpc-js asks for it, and what that took.
 *
 * Called by `grpc-client.ts`. Written straight into the frame that is sent, which saves a copy of all tensors; into memory of its own where
 * grpc-js has to compress it. Owns the stamps of encoding and the making of budgets from a call's stamps.
 */
import type { Metadata } from '@grpc/grpc-js';
import { type Budget, budgetOf, type CallStamps, parseServerTiming } from './budget.js';
import type { OutgoingMessage, UnaryReply } from './grpc-call.js';
import { type GrpcEncoding, type InferMessage, measureInferRequest } from './grpc-encode.js';
import type { AnswerStream } from './grpc-stream.js';
import type { Tried } from './grpc-tries.js';
import type { InferRequest } from './types.js';

export interface OutgoingOptions {
  readonly encoding: GrpcEncoding;
  readonly isGzip: boolean;
  /** When the call was made, and when the model's metadata were there, where they had to be waited for. */
  readonly calledMs: number;
  readonly checkedMs: number | undefined;
}

export class OutgoingInfer {
  readonly byteLength: number;
  readonly #options: OutgoingOptions;
  readonly #message: InferMessage;
  readonly #bytes: Buffer | undefined;
  /** Taken by checking and measuring, and where it is to be compressed by writing. */
  readonly #preparedMs: number;
  /** Taken by writing it into the frame of the last try. */
  #copiedMs = 0;

  /** Throws a local INVALID_ARGUMENT for what can't be right. */
  constructor(request: InferRequest, options: OutgoingOptions) {
    const begin = options.checkedMs ?? options.calledMs;
    this.#options = options;
    this.#message = measureInferRequest(request, options.encoding);
    this.byteLength = this.#message.byteLength;
    this.#bytes = options.isGzip ? this.#message.toBuffer() : undefined;
    this.#preparedMs = performance.now() - begin;
  }

  /** What grpc-js is given. */
  get message(): OutgoingMessage {
    return this.#bytes ?? (this as unknown as InferMessage);
  }

  get length(): number {
    return this.byteLength;
  }

  copy(target: Buffer, offset: number): number {
    const begin = performance.now();
    const written = this.#message.copy(target, offset);
    this.#copiedMs = performance.now() - begin;
    return written;
  }

  /** The budget of the call's one answer, which is decoded now. */
  budgetOfReply({ reply, retriedMs }: Tried<UnaryReply<unknown>>): Budget {
    const { sentMs, firstByteMs, endMs, decodeMs, headers, trailers, responseBytes } = reply;
    // Decoding ran beside the wait for the status: it is shown as if behind it.
    const stamps = { sent: sentMs, firstByte: firstByteMs, lastByte: endMs - decodeMs, decoded: performance.now() };
    return this.#budget({ ...stamps, retriedMs }, timingOf(trailers) ?? timingOf(headers), responseBytes);
  }

  /** The budget of a stream up to now. `timing` is the server's, where it has told. */
  budgetOfStream({ reply, retriedMs }: Tried<AnswerStream>, timing: string | undefined): Budget {
    const now = performance.now();
    const { sentMs, responseBytes, trailers } = reply;
    // The server works on behind its first byte, so what is in transit counts up to the last.
    const stamps = { sent: sentMs || now, firstByte: now, lastByte: now, decoded: now };
    return this.#budget({ ...stamps, retriedMs }, timing ?? timingOf(trailers), responseBytes);
  }

  #budget(
    stamps: Pick<CallStamps, 'sent' | 'firstByte' | 'lastByte' | 'decoded'> & {
      readonly retriedMs: number | undefined;
    },
    timing: string | undefined,
    responseBytes: number,
  ): Budget {
    const { calledMs, checkedMs } = this.#options;
    const { retriedMs } = stamps;
    const began = retriedMs ?? checkedMs ?? calledMs;
    // It is written a few turns later, when grpc-js has chosen a connection: those turns count as sending.
    const encoded = began + this.#copiedMs + (retriedMs === undefined ? this.#preparedMs : 0);
    return budgetOf(
      {
        called: calledMs,
        ...(checkedMs !== undefined && { checked: checkedMs }),
        began,
        encoded,
        sent: Math.max(encoded, stamps.sent),
        firstByte: Math.max(encoded, stamps.firstByte),
        lastByte: stamps.lastByte,
        decoded: stamps.decoded,
      },
      parseServerTiming(timing),
      this.byteLength,
      responseBytes,
    );
  }
}

function timingOf(metadata: Metadata): string | undefined {
  return metadata.get('server-timing')[0]?.toString();
}
