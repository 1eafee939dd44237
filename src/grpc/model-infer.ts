/**
 * ModelInfer of both services, and MultimodalInfer: message -> InferRequest -> engine -> message.
 *
 * Called by the services with the codec of their message. Inputs are views on the received message, outputs are copied once, from
 * shared memory into the frame that is sent, before the engine's lease ends. Must not look at tensors.
 */

import { ServeError } from '../base/errors.js';
import type { Engine, InferResponse } from '../engine/types.js';
import type { DecodedInfer } from './decoded-infer.js';
import { addUnary, type Registry, type Reply, type ReplyBytes } from './unary.js';

/** One service's wire form. */
export interface InferCodec {
  /** Throws ServeError. */
  decode(bytes: Buffer): DecodedInfer;
  /** Must be copied out before the response's lease ends. */
  encode(response: InferResponse): ReplyBytes;
}

export interface ModelInferOptions {
  readonly engine: Engine;
  readonly codec: InferCodec;
  readonly maxMessageBytes: number;
  /** Of a model that generates text the whole text is the answer; else such a model is refused. */
  readonly wholeText?: boolean;
}

/** Typed contents that became more than this took several milliseconds; the engine's checks and copy get a turn of their own. */
const LARGE_BYTES = 1024 * 1024;

/** Adds an inference RPC under `path`. */
export function addModelInfer(
  registry: Registry,
  path: string,
  { engine, codec, maxMessageBytes, wholeText = false }: ModelInferOptions,
): void {
  addUnary(registry, path, { maxMessageBytes }, (bytes, reply) => {
    const { call, timeline } = reply;
    const decoded = codec.decode(bytes);
    timeline.decoded = decoded.decodeEnd;
    call.arm = decoded.arm;
    call.modelName = decoded.modelName;
    const made = decoded.byteLength - bytes.length;
    reserveDecoded(reply, made);
    if (made <= LARGE_BYTES) infer(reply, decoded);
    else setImmediate(infer, reply, decoded);
  });

  function infer(reply: Reply, decoded: DecodedInfer): void {
    const { call, timeline } = reply;
    if (call.done) return;
    const { modelName, modelVersion, id, inputs, outputs, parameters, arm, note } = decoded;
    const { deadlineMs } = call;
    // Where only batches are meant, nobody takes turns.
    const clientKey = wholeText ? call.peer : '';
    call.onGone = engine.infer(
      { modelName, modelVersion, id, inputs, outputs, parameters, arm, deadlineMs, timeline, wholeText, clientKey },
      {
        onResponse: (response) => {
          if (call.done) return;
          try {
            refuseLarge(response, maxMessageBytes);
            reply.send(codec.encode(response));
          } catch (error) {
            reply.fail(ServeError.from(error));
          }
        },
        onError: (error) => reply.fail(note === '' || takesPrompt(decoded) ? error : withNote(error, note)),
      },
    );
  }

  /** What such a model takes is text: that a text was taken as one explains nothing. */
  function takesPrompt({ modelName, modelVersion }: DecodedInfer): boolean {
    try {
      return engine.modelContent(modelName, modelVersion).generation !== undefined;
    } catch {
      return false;
    }
  }
}

function withNote(error: ServeError, note: string): ServeError {
  return error.code === 'INVALID_ARGUMENT'
    ? new ServeError(error.code, `${error.message.replace(/\.$/, '')}. ${note}`)
    : error;
}

/** Throws: what a few bytes of request can ask a model for has no bound, and it is copied in one go. */
export function refuseLarge({ modelName, outputs }: InferResponse, maxBytes: number): void {
  let bytes = 0;
  for (const { data } of outputs) bytes += data.byteLength;
  if (bytes <= maxBytes) return;
  throw new ServeError(
    'RESOURCE_EXHAUSTED',
    `outputs of model '${modelName}' take ${bytes} bytes, at most ${maxBytes} are sent. Use --grpc-max-input-size to increase the limit.`,
  );
}

/** Memory that decoding made beside the message: typed contents written out as raw tensors. */
function reserveDecoded({ call }: Reply, bytes: number): void {
  if (bytes <= 0 || call.reserve(bytes)) return;
  throw new ServeError('RESOURCE_EXHAUSTED', `request of ${bytes} more bytes would pass the limit of bytes in flight`);
}
