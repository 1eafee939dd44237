/**
 * StreamingModelInfer of inference.v1: one request of one text, a message for each piece of text that the model writes.
 *
 * Called by `server.ts`, which registers it. The engine's responses come with the outputs asked for here; what is empty is not sent.
 * The engine is told of each message that the socket has taken, and paces the model by that. Must not know how text is made.
 */
import { invalid, printable, ServeError } from '../base/errors.js';
import type { GenerateCall } from '../engine/generation-types.js';
import type { Engine, InferResponse, InferStreamHandler } from '../engine/types.js';
import type { DecodedInfer } from './decoded-infer.js';
import { decodeModelInferRequestV1 } from './infer-decode-v1.js';
import { encodeToken, textOf } from './stream-encode.js';
import type { StreamReply, Taker } from './stream-reply.js';
import { addServerStream } from './streaming.js';
import type { Registry } from './unary.js';

export interface TokenStreamOptions {
  readonly engine: Engine;
  readonly maxMessageBytes: number;
}

/** What the engine is asked for, in this order. */
const OUTPUTS = [{ name: 'text_output' }, { name: 'token_logit' }] as const;

/** Adds the RPC under `path`. */
export function addTokenStream(
  registry: Registry,
  path: string,
  { engine, maxMessageBytes }: TokenStreamOptions,
): void {
  addServerStream(registry, path, { maxMessageBytes }, (bytes, reply) => {
    const { call } = reply;
    const decoded = decodeModelInferRequestV1(bytes);
    const { modelName, modelVersion } = decoded;
    call.timeline.decoded = decoded.decodeEnd;
    call.arm = decoded.arm;
    call.modelName = modelName;
    const aborter = new AbortController();
    // With a reason: without one an abort makes an error with its stack.
    call.onGone = () => aborter.abort('gone');
    engine
      .whenReady(modelName, modelVersion, call.deadlineMs, aborter.signal)
      .then(() => {
        if (call.done) return;
        if (engine.modelContent(modelName, modelVersion).generation === undefined) {
          throw invalid(`model '${printable(modelName)}' generates no text: ask it by ModelInfer`);
        }
        new TokenStream(reply).start(engine, decoded);
      })
      .catch((error: unknown) => reply.fail(ServeError.from(error)));
  });
}

/** One generation and its caller. */
class TokenStream implements InferStreamHandler, Taker {
  readonly #reply: StreamReply;
  #generation: GenerateCall | undefined;
  /** What was taken before the engine said by what call to tell it. */
  #takenEarly = 0;

  constructor(reply: StreamReply) {
    this.#reply = reply;
  }

  start(engine: Engine, { modelName, modelVersion, id, inputs, parameters, arm }: DecodedInfer): void {
    const { call } = this.#reply;
    const { deadlineMs, timeline, peer: clientKey } = call;
    call.generations = 1;
    call.onGone = () => this.#generation?.cancel();
    const request = { modelName, modelVersion, id, inputs, outputs: OUTPUTS, parameters, arm, deadlineMs, timeline };
    this.#generation = engine.inferStream({ ...request, streams: true, clientKey }, this);
    // The caller can have gone while the engine began.
    if (call.done) this.#generation.cancel();
    else if (this.#takenEarly > 0) this.#generation.taken(this.#takenEarly);
  }

  onResponse({ outputs }: InferResponse, final: boolean): void {
    const reply = this.#reply;
    if (reply.call.done) return;
    const text = textOf(outputs[0]!);
    if (text.byteLength === 0) {
      if (!final) this.taken(1);
    } else {
      const frame = reply.frame(encodeToken(text, outputs[1]!));
      if (frame === undefined) {
        this.#generation?.cancel();
        this.onError(new ServeError('RESOURCE_EXHAUSTED', 'the reply would pass the limit of bytes in flight'));
        return;
      }
      reply.send(frame, this);
    }
    if (!final) return;
    reply.call.generations = 0;
    reply.finish();
  }

  onError(error: ServeError): void {
    this.#reply.call.generations = 0;
    this.#reply.fail(error);
  }

  taken(messages: number): void {
    if (this.#reply.call.done) return;
    if (this.#generation === undefined) this.#takenEarly += messages;
    else this.#generation.taken(messages);
  }
}
