/**
 * The replies of one streaming call, on the bare HTTP/2 stream: frames, then a status behind them.
 *
 *   send, send, ... ─▶ written at the end of the turn, together ─▶ taken by the socket ─▶ `taken` of whoever sent them
 *
 * Made by `streaming.ts` for each call. Owns the frames until the socket has them, and with them the call's share of the budget. The
 * headers go out before the first message: an error before it is a status alone. Must not know what a message means.
 */
import { nowMs } from '../base/clock.js';
import { type ErrorCode, ServeError } from '../base/errors.js';
import { SMALLEST_KEPT_BYTES } from '../base/message-pool.js';
import type { GatedCall, GatedStream } from './gated-call.js';
import { closeAnswered } from './refusal.js';
import { grpcDetails, grpcStatus } from './status.js';
import { type GrpcLog, HEAD_BYTES, REPLY_HEADERS, type ReplyBytes } from './unary.js';

/** Who wants to know that its messages have left: the engine paces what it generates by that. */
export interface Taker {
  taken(messages: number): void;
}

/** A caller that has read nothing for this long, and then gets an error, is not waited for. */
const STALLED_MS = 1000;

export class StreamReply {
  readonly call: GatedCall;
  /** Called whenever the socket has taken a frame. */
  onFlush: (() => void) | undefined;
  /** Bytes of frames that the socket has not taken. */
  unflushedBytes = 0;
  readonly #log: GrpcLog;
  /** Frames that the socket has not taken, from `#first` on, and who sent each. */
  #frames: Buffer[] = [];
  #takers: (Taker | undefined)[] = [];
  #first = 0;
  #isCorked = false;
  #code: ErrorCode | 'OK' = 'OK';
  #message = 'OK';
  /** One for all writes: a write is to cost no closure. */
  readonly #onFlushed = (error?: Error | null): void => this.#flushed(error);

  constructor(call: GatedCall, log: GrpcLog) {
    this.call = call;
    this.#log = log;
    call.endReply = (code, message) => this.#end(code, grpcDetails(new ServeError(code, message)));
  }

  /** A message in its frame, copied from what may be lent; undefined where the byte budget has no room for it. */
  frame(bytes: ReplyBytes): Buffer | undefined {
    const { call } = this;
    const length = bytes.byteLength;
    if (!call.reserve(HEAD_BYTES + length)) return undefined;
    const frame = call.takeMemory(HEAD_BYTES + length);
    frame[0] = 0;
    frame.writeUInt32BE(length, 1);
    bytes.copy(frame, HEAD_BYTES);
    return frame;
  }

  /** Sends a frame made by `frame`, in order. `taker` is told when the socket has it. */
  send(frame: Buffer, taker?: Taker): void {
    const { call } = this;
    const { stream } = call;
    if (call.done || stream.destroyed) return;
    if (stream.closed) {
      // Reset with no error: Node waits for its readable side to be read, which may never be. The caller has gone nevertheless.
      stream.destroy();
      return;
    }
    if (!stream.headersSent) {
      call.phase = 'streaming';
      stream.respond(REPLY_HEADERS, { waitForTrailers: true });
      stream.once('wantTrailers', () => this.#sendTrailers());
    }
    if (!this.#isCorked) {
      // Whatever else is sent in this turn leaves with it, by one write.
      this.#isCorked = true;
      stream.cork();
      process.nextTick(uncork, this);
    }
    if (call.unflushed++ === 0) call.flushedMs = nowMs();
    this.unflushedBytes += frame.length;
    call.responseBytes += frame.length - HEAD_BYTES;
    this.#frames.push(frame);
    this.#takers.push(taker);
    stream.write(frame, this.#onFlushed);
  }

  /** Everything has been sent: OK. */
  finish(): void {
    const { call } = this;
    if (!call.finish()) return;
    call.timeline.encoded = nowMs();
    this.#end('OK', 'OK');
    call.report('OK');
  }

  /** Ends by a status, behind what was sent. One without a cause the client may know of (a bug) goes to the log with its stack. */
  fail(error: ServeError): void {
    const { call } = this;
    this.logCause(error);
    if (!call.finish()) return;
    call.timeline.encoded = nowMs();
    this.#end(error.code, grpcDetails(error));
    call.report(error.code);
  }

  /** Writes down what was behind an error that is our fault. */
  logCause(error: ServeError): void {
    if (error.cause !== undefined) this.#log.error({ error: error.cause, rpc: this.call.method.rpc }, error.message);
  }

  uncork(): void {
    this.#isCorked = false;
    this.call.stream.uncork();
  }

  #flushed(error?: Error | null): void {
    const { call } = this;
    const frame = this.#frames[this.#first]!;
    const taker = this.#takers[this.#first];
    if (++this.#first === this.#frames.length) {
      this.#frames = [];
      this.#takers = [];
      this.#first = 0;
    }
    call.unflushed--;
    this.unflushedBytes -= frame.length;
    call.releaseBytes(frame.length);
    // Of a stream that broke the memory is the collector's: nobody knows who still reads it.
    if (error) return;
    if (frame.length >= SMALLEST_KEPT_BYTES) call.giveMemory(frame);
    call.flushedMs = nowMs();
    taker?.taken(1);
    this.onFlush?.();
  }

  #end(code: ErrorCode | 'OK', message: string): void {
    const { call } = this;
    const { stream } = call;
    const now = nowMs();
    call.phase = 'replying';
    call.repliedMs = now;
    call.replyBytes = this.unflushedBytes;
    call.isStalled = code !== 'OK' && call.unflushed > 0 && now - call.flushedMs > STALLED_MS;
    this.#code = code;
    this.#message = message;
    if (stream.destroyed || stream.closed) return;
    if (stream.headersSent) {
      stream.end();
      return;
    }
    stream.respond({ ...REPLY_HEADERS, ...this.#trailers() }, { endStream: true });
    this.#stopCaller();
  }

  #trailers(): Record<string, string | number> {
    return {
      'grpc-status': this.#code === 'OK' ? 0 : grpcStatus(this.#code),
      'grpc-message': encodeURI(this.#message),
      ...this.call.budgetOf(this.call.timeline),
    };
  }

  #sendTrailers(): void {
    const { stream } = this.call;
    if (stream.destroyed || stream.closed) return;
    stream.sendTrailers(this.#trailers());
    this.#stopCaller();
  }

  /** A caller that has not half-closed would go on sending. Not in this turn: the reset would overtake the status. */
  #stopCaller(): void {
    const { stream } = this.call;
    if (!stream.readableEnded) setImmediate(closeAnswered, stream as GatedStream);
  }
}

function uncork(reply: StreamReply): void {
  reply.uncork();
}
