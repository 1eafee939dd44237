/**
 * One request of a ModelStreamInfer call, from its message to its last response.
 *
 *   waiting ──response, final or not──▶ ... ──last response, or an error in the stream──▶ over
 *
 * Made by `infer-stream.ts`. Owns the message's memory and share of the budget, the engine's call, and responses that must wait for
 * earlier requests. Must not know of other requests but through its stream.
 */
import { nowMs } from '../base/clock.js';
import { type ErrorCode, invalid, ServeError } from '../base/errors.js';
import type { Timeline } from '../base/timeline.js';
import type { GenerateCall } from '../engine/generation-types.js';
import type { Engine, InferResponse, InferStreamHandler, Parameters } from '../engine/types.js';
import type { DecodedInfer } from './decoded-infer.js';
import { decodeModelInferRequest } from './infer-decode.js';
import { readRequestId } from './infer-fields.js';
import type { ReceivedMessage } from './message-reader.js';
import { refuseLarge } from './model-infer.js';
import { grpcDetails } from './status.js';
import { encodeStreamError, encodeStreamResponse, lastParameters, MORE_FOLLOWS } from './stream-encode.js';
import type { StreamReply, Taker } from './stream-reply.js';
import { HEAD_BYTES } from './unary.js';

/** Ours always end with a response that says so: whoever asks for an empty one besides, where there is none, has it already. */
const EMPTY_FINAL = 'triton_enable_empty_final_response';

/** The stream of a request, as the request sees it. */
export interface RequestStream {
  readonly reply: StreamReply;
  readonly options: { readonly engine: Engine; readonly maxMessageBytes: number };
  /** Whose turn a request takes where requests wait; as in InferRequest. */
  readonly clientKey: string;
  /** The model answers once: nothing of this request leaves before those that came earlier are answered. */
  keepOrder(request: StreamedRequest): void;
  /** It turned out to answer more than once: it holds nobody up any more. */
  leaveOrder(request: StreamedRequest): void;
  /** Whether what `request` says may leave now. */
  isFirst(request: StreamedRequest): boolean;
  /** The request has its last word. `bytes` is all that it reserved and has not given to a reply. */
  over(request: StreamedRequest, bytes: number): void;
  /** An error that is the stream's own: nothing else is answered. */
  fail(error: ServeError): void;
}

export class StreamedRequest implements InferStreamHandler, Taker {
  /** Bytes of the message, as reserved when it came. */
  readonly messageBytes: number;
  /** Bytes of the message as it came, and of the answers said to it. */
  readonly #requestBytes: number;
  #responseBytes = 0;
  /** Its model answers once. */
  isOrdered = false;
  isOver = false;
  readonly #stream: RequestStream;
  readonly #timeline: Timeline;
  #message: Buffer;
  #decoded: DecodedInfer | undefined;
  /** Reserved beside the message, by decoding. */
  #decodedBytes = 0;
  #engineCall: GenerateCall | undefined;
  #takenEarly = 0;
  #isGenerating = false;
  /** Frames, and at most one error as the stream's status, that wait for earlier requests. */
  #waiting: (Buffer | ServeError)[] = [];

  constructor(stream: RequestStream, { bytes, reservedBytes, wireBytes, timeline }: ReceivedMessage) {
    this.#stream = stream;
    this.#message = bytes;
    this.messageBytes = reservedBytes;
    this.#requestBytes = wireBytes;
    this.#timeline = timeline;
  }

  /** Decodes and asks the engine; everything that fails is said in the stream. */
  start(): void {
    try {
      const decoded = decodeModelInferRequest(this.#message);
      this.#decoded = decoded;
      this.#timeline.decoded = decoded.decodeEnd;
      this.#classify(decoded);
      this.#reserveDecoded(decoded.byteLength - this.#message.length);
      this.#infer(decoded);
    } catch (error) {
      this.onError(ServeError.from(error));
    }
  }

  /** Answers with an error, without a look at the rest of the message. */
  refuse(error: ServeError): void {
    this.onError(error);
  }

  onResponse(response: InferResponse, final: boolean): void {
    const { reply, options } = this.#stream;
    if (this.isOver || reply.call.done) return;
    if (!final && this.isOrdered) this.#overtake();
    if (final) this.#timeline.encoded = nowMs();
    try {
      refuseLarge(response, options.maxMessageBytes);
      const parameters = final ? this.#lastParameters() : MORE_FOLLOWS;
      const frame = reply.frame(encodeStreamResponse(response, parameters));
      if (frame === undefined) throw new ServeError('RESOURCE_EXHAUSTED', OVER_BUDGET);
      this.#say(frame);
    } catch (error) {
      this.#engineCall?.cancel();
      this.onError(ServeError.from(error));
      return;
    }
    if (final) this.#end('OK');
  }

  onError(error: ServeError): void {
    const { reply } = this.#stream;
    if (this.isOver || reply.call.done) return;
    reply.logCause(error);
    this.isOver = true;
    this.#timeline.encoded = nowMs();
    if (reply.call.hasGrpcErrors) this.#say(error);
    else {
      const frame = reply.frame(this.#errorMessage(error));
      // So short of memory there is nothing left to say it with.
      this.#say(frame ?? error);
    }
    this.#end(error.code);
  }

  taken(messages: number): void {
    if (this.isOver) return;
    if (this.#engineCall === undefined) this.#takenEarly += messages;
    else this.#engineCall.taken(messages);
  }

  /** The caller has gone, or the stream has ended. */
  cancel(): void {
    if (this.isOver) return;
    this.isOver = true;
    this.#waiting = [];
    this.#timeline.encoded = nowMs();
    this.#stopGenerating();
    this.#engineCall?.cancel();
    this.#report('CANCELLED');
  }

  /** Sends what waited; called when nothing earlier is unanswered. */
  flush(): void {
    const { reply } = this.#stream;
    for (const each of this.#waiting.splice(0)) {
      if (each instanceof ServeError) this.#stream.fail(each);
      else reply.send(each, this);
    }
  }

  #classify({ modelName, modelVersion }: DecodedInfer): void {
    const { engine } = this.#stream.options;
    try {
      this.#isGenerating = engine.modelContent(modelName, modelVersion).generation !== undefined;
    } catch {
      // Unknown, or to be loaded first: if it generates, its first response will tell.
    }
    if (this.#isGenerating) this.#stream.reply.call.generations++;
    else this.#keepOrder();
  }

  #keepOrder(): void {
    this.isOrdered = true;
    this.#stream.keepOrder(this);
  }

  #overtake(): void {
    this.isOrdered = false;
    this.#isGenerating = true;
    this.#stream.reply.call.generations++;
    this.#stream.leaveOrder(this);
  }

  #reserveDecoded(bytes: number): void {
    if (bytes <= 0) return;
    if (!this.#stream.reply.call.reserve(bytes)) {
      throw new ServeError(
        'RESOURCE_EXHAUSTED',
        `request of ${bytes} more bytes would pass the limit of bytes in flight`,
      );
    }
    this.#decodedBytes = bytes;
  }

  #infer({ modelName, modelVersion, id, inputs, outputs, parameters, arm }: DecodedInfer): void {
    const { call } = this.#stream.reply;
    const { deadlineMs } = call;
    const { clientKey } = this.#stream;
    const timeline = this.#timeline;
    const request = { modelName, modelVersion, id, inputs, outputs, arm, deadlineMs, timeline, clientKey };
    this.#engineCall = this.#stream.options.engine.inferStream({ ...request, parameters: known(parameters) }, this);
    if (call.done) this.#engineCall.cancel();
    else if (this.#takenEarly > 0) this.#engineCall.taken(this.#takenEarly);
  }

  /** Sends, or keeps until it is this request's turn. */
  #say(what: Buffer | ServeError): void {
    if (!(what instanceof ServeError)) this.#responseBytes += what.length - HEAD_BYTES;
    this.#waiting.push(what);
    if (this.#stream.isFirst(this)) this.flush();
  }

  #errorMessage(error: ServeError) {
    const text = grpcDetails(error);
    const decoded = this.#decoded;
    const parameters = this.#lastParameters();
    if (decoded !== undefined) return encodeStreamError(text, decoded, parameters);
    const ref = { modelName: '', modelVersion: '', id: readRequestId(this.#message) };
    return encodeStreamError(text, ref, parameters);
  }

  #lastParameters(): Buffer {
    return lastParameters(this.#stream.reply.call.budgetOf(this.#timeline)['server-timing']);
  }

  #end(status: 'OK' | ErrorCode): void {
    this.isOver = true;
    const { reply } = this.#stream;
    this.#stopGenerating();
    // The engine has answered: nobody reads the message any more.
    reply.call.giveMemory(this.#message);
    this.#message = NOTHING;
    this.#report(status);
    this.#stream.over(this, this.messageBytes + this.#decodedBytes);
  }

  #stopGenerating(): void {
    if (!this.#isGenerating) return;
    this.#isGenerating = false;
    this.#stream.reply.call.generations--;
  }

  #report(status: 'OK' | ErrorCode): void {
    const { arm, modelName = '' } = this.#decoded ?? { arm: undefined };
    const bytes = { requestBytes: this.#requestBytes, responseBytes: this.#responseBytes };
    this.#stream.reply.call.reportRequest(status, { arm, modelName, timeline: this.#timeline, ...bytes });
  }
}

const NOTHING = Buffer.alloc(0);
const OVER_BUDGET = 'the reply would pass the limit of bytes in flight';

/** The parameters that are the engine's to know. */
function known(parameters: Parameters): Parameters {
  const value = parameters.get(EMPTY_FINAL);
  if (value === undefined) return parameters;
  if (typeof value !== 'boolean')
    throw invalid(`invalid value type for '${EMPTY_FINAL}' parameter, expected bool_param.`);
  const rest = new Map(parameters);
  rest.delete(EMPTY_FINAL);
  return rest;
}
