/**
 * One ModelStreamInfer call: requests for any models come in, their responses go out.
 *
 *   message ─▶ StreamedRequest ─▶ engine ─▶ in order, where the model answers once ─▶ StreamReply
 *
 * Made by `model-stream-infer.ts`. Owns the requests that are not answered yet, their order, and the bounds on them: at a bound the
 * stream is not read on. Models that generate text may overtake; all others answer in the order of their requests, which is how clients
 * without ids tell responses apart. Must not know what is in a request or a response.
 */
import { nowMs } from '../base/clock.js';
import { ServeError } from '../base/errors.js';
import type { Engine } from '../engine/types.js';
import { DRAINING } from './gate.js';
import type { MessageReader, ReceivedMessage } from './message-reader.js';
import type { StreamReply } from './stream-reply.js';
import { type RequestStream, StreamedRequest } from './streamed-request.js';
import type { BidiHandler } from './streaming.js';

/** Requests of one stream that the engine works on at a time. */
const MAX_REQUESTS = 128;
/** What they may take together; a single one may take more. */
const MAX_REQUEST_BYTES = 32 * 1024 * 1024;
/** Replies that wait to be read before no more requests are taken. */
const MAX_UNFLUSHED = 1024;
const MAX_UNFLUSHED_BYTES = 4 * 1024 * 1024;

export interface InferStreamOptions {
  readonly engine: Engine;
  readonly maxMessageBytes: number;
}

export class InferStream implements BidiHandler, RequestStream {
  readonly reply: StreamReply;
  readonly options: InferStreamOptions;
  readonly clientKey: string;
  readonly #requests = new Set<StreamedRequest>();
  /** Those of models that answer once, in the order in which they came. */
  readonly #ordered: StreamedRequest[] = [];
  #requestBytes = 0;
  #reader: MessageReader | undefined;
  #isHeld = false;
  #isHalfClosed = false;
  #isDraining = false;

  /** `onOver` is called once, when nothing can come any more. */
  constructor(reply: StreamReply, options: InferStreamOptions, onOver: (stream: InferStream) => void) {
    this.reply = reply;
    this.options = options;
    this.clientKey = reply.call.peer;
    reply.call.stream.once('close', () => onOver(this));
    reply.call.onGone = () => this.#cancelAll();
    reply.onFlush = () => this.#goOn();
  }

  start(reader: MessageReader): void {
    this.#reader = reader;
  }

  onMessage(message: ReceivedMessage): void {
    const request = new StreamedRequest(this, message);
    this.#requests.add(request);
    this.#requestBytes += message.reservedBytes;
    if (this.#isDraining) request.refuse(new ServeError('UNAVAILABLE', DRAINING));
    else request.start();
    if (this.#isFull()) {
      this.#isHeld = true;
      this.#reader!.hold();
    }
  }

  onEnd(): void {
    this.#isHalfClosed = true;
    this.reply.call.timeline.lastByte = nowMs();
    this.#settle();
  }

  isBusy(): boolean {
    return this.#requests.size > 0;
  }

  /** No new requests; those that run are finished, then the stream ends. */
  drain(): void {
    this.#isDraining = true;
    // What waits unread is refused.
    this.#goOn();
    this.#settle();
  }

  keepOrder(request: StreamedRequest): void {
    this.#ordered.push(request);
  }

  leaveOrder(request: StreamedRequest): void {
    const at = this.#ordered.indexOf(request);
    if (at < 0) return;
    this.#ordered.splice(at, 1);
    request.flush();
    if (at === 0) this.#flushOrdered();
  }

  isFirst(request: StreamedRequest): boolean {
    return !request.isOrdered || this.#ordered[0] === request;
  }

  fail(error: ServeError): void {
    this.reply.fail(error);
    this.#cancelAll();
  }

  over(request: StreamedRequest, bytes: number): void {
    if (!this.#requests.delete(request)) return;
    this.#requestBytes -= request.messageBytes;
    this.reply.call.releaseBytes(bytes);
    this.#flushOrdered();
    this.#goOn();
    this.#settle();
  }

  #flushOrdered(): void {
    let first = this.#ordered[0];
    while (first !== undefined) {
      first.flush();
      if (!first.isOver) return;
      this.#ordered.shift();
      first = this.#ordered[0];
    }
  }

  #isFull(): boolean {
    if (this.#isDraining) return false;
    const { call, unflushedBytes } = this.reply;
    return (
      this.#requests.size >= MAX_REQUESTS ||
      this.#ordered.length >= MAX_REQUESTS ||
      this.#requestBytes >= MAX_REQUEST_BYTES ||
      call.unflushed >= MAX_UNFLUSHED ||
      unflushedBytes >= MAX_UNFLUSHED_BYTES
    );
  }

  #goOn(): void {
    if (this.reply.call.done || this.#isFull()) return;
    const isWaited = this.#isHeld || this.#reader!.isStarved;
    this.#isHeld = false;
    if (isWaited) this.#reader!.go();
  }

  #settle(): void {
    const { call } = this.reply;
    if (this.#requests.size > 0 || call.done) return;
    call.timeline.scattered = nowMs();
    if (this.#isHalfClosed) this.reply.finish();
    else if (this.#isDraining) this.fail(new ServeError('UNAVAILABLE', DRAINING));
  }

  #cancelAll(): void {
    const requests = [...this.#requests];
    this.#requests.clear();
    this.#ordered.length = 0;
    for (const request of requests) request.cancel();
  }
}
