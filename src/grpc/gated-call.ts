/**
 * One call as the gate sees it: its HTTP/2 stream from the headers to the close, before and around grpc-js.
 *
 *   receiving --message and half-close--> handling --reply--> replying --stream closed--> gone
 *       |                                    |                ^
 *       |                                    +--first message--> streaming --status--> replying
 *       |                                    |
 *       +------------ refuse() --------------+---------------> gone          (by grpc-js: receiving -> streaming -> gone)
 *
 * A bidirectional call is streaming from its headers on. Made by the gate, found again by handlers through `gatedCall`. Owns the call's share of the byte budget, its deadline timer, and the
 * one way to end a call that grpc-js does not know of. Must not know a message's content.
 */
import type { OutgoingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import { constants, sensitiveHeaders } from 'node:http2';
import { nowMs } from '../base/clock.js';
import { type ErrorCode, ServeError } from '../base/errors.js';
import type { MessagePool } from '../base/message-pool.js';
import { Timeline } from '../base/timeline.js';
import type { FinishedRequest } from '../engine/finished-request.js';
import type { RequestTrace, Tracer } from '../engine/request-trace.js';
import type { Arm, ByteBudget } from '../engine/types.js';
import type { Method } from './method.js';
import { refuseStream } from './refusal.js';

const CALL = Symbol('tensorwire.call');
const NO_BYTES = Buffer.alloc(0);
/** Flag and length before each message. */
const FRAME_HEAD_BYTES = 5;
const NO_FIELDS: BudgetFields = {};
/**
 * Fields that differ from reply to reply are kept out of HPACK's table, where they would push out, one by one, all that is the same in
 * every reply.
 */
const NEVER_INDEXED = ['server-timing', 'traceresponse'];
/** Shared: node:http2 copies what it is given. */
const OK_TRAILERS = { 'grpc-status': 0, 'grpc-message': 'OK' };
const NOTHING_ASKED = { arm: undefined, modelName: '', requestBytes: 0, responseBytes: 0 } as const;

/** A server stream that may carry its call. */
export type GatedStream = ServerHttp2Stream & { [CALL]?: GatedCall };

/** What all calls of one server share. */
export interface CallOwner {
  readonly budget: ByteBudget;
  readonly memory: MessagePool;
  /** Calls whose stream is open, in order of arrival. */
  readonly live: Set<GatedCall>;
  /** Replies carry their budget. */
  readonly serverTiming: boolean;
  /** Set where calls may be traced. */
  readonly tracer?: Tracer | undefined;
  /** Told of each call, and of each message of ModelStreamInfer, when it has its outcome. Must not throw. */
  onFinished(request: FinishedRequest): void;
}

/** What a request of a call tells of itself when it has ended. */
type Outcome = Omit<FinishedRequest, 'protocol' | 'method' | 'status'>;

/** What carries a budget, and the trace of a call that has one. */
export interface BudgetFields {
  'server-timing'?: string;
  traceresponse?: string;
  [sensitiveHeaders]?: string[];
}

export type Encoding = 'identity' | 'gzip' | 'deflate';

/** Where the body guard is in the framing of a body. */
export interface Framing {
  /** Bytes seen of a frame's head, 0-4. */
  headFill: number;
  flag: number;
  length: number;
  /** Bytes of the message still to come. */
  bodyLeft: number;
  messages: number;
}

export class GatedCall {
  readonly stream: GatedStream;
  readonly method: Method;
  readonly timeline: Timeline;
  phase: 'receiving' | 'handling' | 'replying' | 'streaming' = 'receiving';
  /** On the clock of base/clock.ts; Infinity when the caller gave none. */
  deadlineMs = Infinity;
  /** What `grpc-encoding` said. Only with `compressed` does it hold for the message. */
  encoding: Encoding = 'identity';
  /** The flag byte of the (first) message. */
  compressed = false;
  readonly framing: Framing = { headFill: 0, flag: 0, length: 0, bodyLeft: 0, messages: 0 };
  /** The message of a unary call, complete once its handler runs. */
  message: Buffer = NO_BYTES;
  /** Body bytes seen, frame heads included. */
  receivedBytes = 0;
  /** When the reply was handed to the stream and how long it is; for the stall limit. */
  repliedMs = 0;
  replyBytes = 0;
  /** Bytes of the messages sent, without the heads of their frames. */
  responseBytes = 0;
  /** The call has its outcome: a reply, a refusal, or a caller that left. Handlers look before they answer. */
  done = false;
  /** The caller wants the first error of a stream as its status. */
  hasGrpcErrors = false;
  /** When the first byte of a message came that is not whole yet, and how much of it is there; 0 = there is none. For the sweep. */
  partialSinceMs = 0;
  partialBytes = 0;
  /** Frames of a streamed reply that the socket has not taken, and when it last took one. */
  unflushed = 0;
  flushedMs = 0;
  /** Generations that still write to this call: while there are any, how long it may stall is the engine's to say. */
  generations = 0;
  /** When the sweep first saw the stream closed and still there; 0 = it has not. */
  closedMs = 0;
  /** The reply was not read when its status was decided: waiting longer is of no use. */
  isStalled = false;
  /** Ends a reply of which messages have been sent by a status behind them; set where there is such a reply. */
  endReply: ((code: ErrorCode, message: string) => void) | undefined;
  /** Called once when the call ends without a reply (caller gone, deadline passed, refused). */
  onGone: (() => void) | undefined;
  arm: Arm | undefined;
  modelName = '';
  /** Set for a call that is traced. */
  trace: RequestTrace | undefined;
  /** grpc-js's own listeners, called behind ours. */
  relayData: (chunk: Buffer) => void = ignore;
  relayEnd: () => void = ignore;
  readonly #owner: CallOwner;
  #reservedBytes = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(stream: GatedStream, method: Method, owner: CallOwner) {
    this.stream = stream;
    this.method = method;
    this.timeline = new Timeline(nowMs());
    this.#owner = owner;
    stream[CALL] = this;
    owner.live.add(this);
    stream.on('close', onClose);
  }

  /** Memory for a message or a reply. */
  takeMemory(bytes: number): Buffer {
    return this.#owner.memory.take(bytes);
  }

  /** Gives memory back that no one reads any more. */
  giveMemory(bytes: Buffer): void {
    this.#owner.memory.give(bytes);
  }

  /** The request has no reader left: neither the engine nor the inflater. */
  dropMessage(): void {
    this.#owner.memory.give(this.message);
    this.message = NO_BYTES;
  }

  /** Takes `bytes` of the budget until `release`; false when they are not there. */
  reserve(bytes: number): boolean {
    if (!this.#owner.budget.reserve(bytes)) return false;
    this.#reservedBytes += bytes;
    return true;
  }

  /** Gives back a part of what this call holds. */
  releaseBytes(bytes: number): void {
    // All of it may have been given back before: when the call ended.
    const held = Math.min(bytes, this.#reservedBytes);
    this.#owner.budget.release(held);
    this.#reservedBytes -= held;
  }

  /** Gives back all this call holds. */
  release(): void {
    if (this.#reservedBytes === 0) return;
    this.#owner.budget.release(this.#reservedBytes);
    this.#reservedBytes = 0;
  }

  /** Ends the call with DEADLINE_EXCEEDED after `ms`. */
  startTimer(ms: number): void {
    this.#timer = setTimeout(onDeadline, ms, this);
  }

  /**
   * Marks the outcome; true the first time only. What follows (write the reply) is up to the caller.
   */
  finish(): boolean {
    if (this.done) return false;
    this.done = true;
    if (this.#timer !== undefined) clearTimeout(this.#timer);
    return true;
  }

  /** Tells the observer; after `finish`, once. */
  report(status: 'OK' | ErrorCode): void {
    if (!this.#tellsRequests) this.reportRequest(status, this);
    else this.trace?.finished(this.#finished(status, { ...NOTHING_ASKED, timeline: this.timeline }));
  }

  /** Tells the observer of one of this call's requests, once. */
  reportRequest(status: 'OK' | ErrorCode, request: Outcome): void {
    const finished = this.#finished(status, request);
    this.#owner.onFinished(finished);
    if (this.trace === undefined) return;
    if (!this.#tellsRequests) this.trace.finished(finished);
    else if (finished.timeline !== this.timeline) this.trace.message(finished);
  }

  #finished(status: 'OK' | ErrorCode, request: Outcome): FinishedRequest {
    const { arm, modelName, timeline, requestBytes, responseBytes } = request;
    const { rpc: method } = this.method;
    return { protocol: 'grpc', method, status, arm, modelName, timeline, requestBytes, responseBytes };
  }

  /** Each message is a request of its own, and told as such. */
  get #tellsRequests(): boolean {
    return this.method.kind === 'bidi' && this.method.isBare;
  }

  /** Bytes of the messages received so far, without the heads of their frames. */
  get requestBytes(): number {
    return Math.max(0, this.receivedBytes - FRAME_HEAD_BYTES * this.framing.messages);
  }

  /** Headers or trailers with the budget of one of this call's requests; none where replies carry none. */
  budgetOf(timeline: Timeline): BudgetFields {
    const { serverTiming } = this.#owner;
    if (!serverTiming && this.trace === undefined) return NO_FIELDS;
    const fields: BudgetFields = { [sensitiveHeaders]: NEVER_INDEXED };
    if (serverTiming) fields['server-timing'] = timeline.serverTiming();
    if (this.trace !== undefined) fields.traceresponse = this.trace.traceresponse;
    return fields;
  }

  /** Trailers behind a reply that is OK. */
  okTrailers(): OutgoingHttpHeaders {
    const { timeline } = this;
    if (this.trace !== undefined) return { ...OK_TRAILERS, ...this.budgetOf(timeline) };
    if (!this.#owner.serverTiming) return OK_TRAILERS;
    // One literal: the same fields spread from another object cost node:http2 a microsecond more.
    return {
      'grpc-status': 0,
      'grpc-message': 'OK',
      'server-timing': timeline.serverTiming(),
      [sensitiveHeaders]: NEVER_INDEXED,
    } as OutgoingHttpHeaders;
  }

  /** The caller's address without its port: whoever asks from there takes turns with others; '' when it has gone. */
  get peer(): string {
    return this.stream.session?.socket?.remoteAddress ?? '';
  }

  /**
   * Ends the call by a status, behind what was sent of a streamed reply, then closes the stream, so that a client that goes on sending
   * is not read for ever. Does nothing once the call has its outcome.
   */
  refuse(code: ErrorCode, message: string, headers: Record<string, string> = {}): void {
    if (!this.finish()) return;
    this.timeline.encoded = nowMs();
    if (this.endReply !== undefined && this.stream.headersSent) {
      this.endReply(code, message);
      this.onGone?.();
    } else {
      refuseStream(this.stream, code, message, { ...this.budgetOf(this.timeline), ...headers });
      this.onGone?.();
      this.release();
    }
    // What was wrong with a stream of requests was not one of those that it had told of.
    if (this.#tellsRequests) this.reportRequest(code, { ...NOTHING_ASKED, timeline: this.timeline });
    this.report(code);
  }

  closed(): void {
    this.#owner.live.delete(this);
    this.message = NO_BYTES;
    this.release();
    if (this.finish()) {
      this.timeline.encoded = nowMs();
      this.onGone?.();
      this.report(this.#endUnanswered());
    }
    this.trace?.closed();
  }

  /** grpc-js answers some calls itself: without an error they ended well. */
  #endUnanswered(): 'OK' | ErrorCode {
    const { method, stream } = this;
    if (!method.isBare && stream.headersSent && stream.rstCode === constants.NGHTTP2_NO_ERROR) return 'OK';
    return nowMs() >= this.deadlineMs ? 'DEADLINE_EXCEEDED' : 'CANCELLED';
  }
}

/** The call of a stream, if the gate has let it in. */
export function callOfStream(stream: GatedStream): GatedCall | undefined {
  return stream[CALL];
}

/**
 * The call behind a handler's `call` object. grpc-js keeps the HTTP/2 stream in fields that its types call private
 * (`call.call.stream` when no interceptor is set); this is the only place that reads them, and a test pins it.
 */
export function gatedCall(call: unknown): GatedCall {
  const stream = (call as { call?: { stream?: GatedStream } }).call?.stream;
  const gated = stream?.[CALL];
  if (gated === undefined) throw new ServeError('INTERNAL', 'call without a gate');
  return gated;
}

function onClose(this: GatedStream): void {
  this[CALL]?.closed();
}

function onDeadline(call: GatedCall): void {
  call.refuse('DEADLINE_EXCEEDED', 'Deadline exceeded');
}

function ignore(): void {}
