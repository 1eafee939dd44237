/**
 * Reads the messages of one bidirectional call from its HTTP/2 stream: framing, sizes, inflating, and the byte budget, before a byte is
 * kept.
 *
 *   chunk ─▶ head: flag, length ─▶ room in the budget? ─▶ message, put together ─▶ inflated ─▶ onMessage
 *
 * Made by `streaming.ts`. Messages are handed on in order, one after another, and none while its owner says `hold`: then the stream is
 * not read either, and HTTP/2's window stops the caller. What has already arrived is counted on the budget while it waits. Must not
 * know what a message means.
 */
import { nowMs } from '../base/clock.js';
import { ServeError } from '../base/errors.js';
import { Timeline } from '../base/timeline.js';
import type { GatedCall } from './gated-call.js';
import type { Inflater } from './inflate.js';
import { HEAD_BYTES } from './unary.js';
import { WaitingBytes } from './waiting-bytes.js';

/** One message, and what it holds of the call's budget: to be given back by `releaseBytes`. */
export interface ReceivedMessage {
  readonly bytes: Buffer;
  readonly reservedBytes: number;
  /** Its length as it came, before inflating. */
  readonly wireBytes: number;
  /** `firstByte` and `lastByte` are stamped. */
  readonly timeline: Timeline;
}

export interface MessageHandler {
  onMessage(message: ReceivedMessage): void;
  /** The caller has said all; everything has been handed on. */
  onEnd(): void;
  /** Something of this call is still to be answered, after which `go` is called. */
  isBusy(): boolean;
}

/** A message that is less than this part of the memory it lies in is copied, or a few bytes would hold 64 KB while they wait. */
const LEAST_PART = 1 / 8;
/** Messages handed on in one turn of the event loop; ten thousand tiny ones fit into one packet. */
const MESSAGES_PER_TURN = 64;

const NOTHING = Buffer.alloc(0);

export class MessageReader {
  readonly #call: GatedCall;
  readonly #inflater: Inflater;
  readonly #handler: MessageHandler;
  readonly #waiting: WaitingBytes;
  /** What has been taken from the stream and not read yet. */
  #chunk: Buffer = NOTHING;
  #at = 0;
  #headFill = 0;
  #flag = 0;
  #length = 0;
  /** The message begun, and what is there of it. */
  #message: Buffer = NOTHING;
  #filled = 0;
  #isAdmitted = false;
  #reserved = 0;
  #firstByteMs = 0;
  /** Reasons not to read on. */
  #isHeld = false;
  #isInflating = false;
  #isStarved = false;
  #turnLeft = MESSAGES_PER_TURN;
  #hasTurn = false;
  #hasEnded = false;
  #isReading = false;

  constructor(call: GatedCall, inflater: Inflater, handler: MessageHandler) {
    this.#call = call;
    this.#inflater = inflater;
    this.#handler = handler;
    this.#waiting = new WaitingBytes(call);
    const { stream } = call;
    // A stream that fails also closes, which is where the call ends.
    stream.on('error', () => undefined);
    stream.on('data', (chunk: Buffer) => this.#onData(chunk));
    stream.on('end', () => this.#onEnd());
  }

  /** It waits for room in the budget. */
  get isStarved(): boolean {
    return this.#isStarved;
  }

  /** Hands nothing on until `go`. */
  hold(): void {
    this.#isHeld = true;
  }

  /** There may be room again. Hands on what waits, maybe before this returns. */
  go(): void {
    this.#isHeld = false;
    this.#isStarved = false;
    this.#read();
  }

  #onData(chunk: Buffer): void {
    this.#waiting.take(chunk.length);
    if (this.#call.done) return;
    this.#chunk = chunk;
    this.#at = 0;
    this.#read();
  }

  #onEnd(): void {
    const call = this.#call;
    const { stream } = call;
    // Node also ends the readable side of a stream that was reset: that is no half-close.
    if (call.done || stream.aborted || stream.closed || stream.destroyed) return;
    // It does not wait for what was taken from the stream and is still here.
    this.#hasEnded = true;
    this.#read();
  }

  #stops(): boolean {
    return this.#isHeld || this.#isInflating || this.#isStarved || this.#turnLeft === 0 || this.#call.done;
  }

  #read(): void {
    if (this.#isReading) return;
    const call = this.#call;
    this.#isReading = true;
    try {
      while (this.#at < this.#chunk.length && !this.#stops()) this.#step();
      // A head that waited for room is at the end of its chunk, maybe.
      if (this.#headFill === HEAD_BYTES && !this.#isAdmitted && !this.#stops()) this.#step();
    } catch (error) {
      const { code, message } = ServeError.from(error);
      call.refuse(code, message);
    } finally {
      this.#isReading = false;
    }
    if (call.done) {
      this.#chunk = NOTHING;
      return;
    }
    if (this.#stops()) this.#pause();
    else this.#resume();
  }

  #pause(): void {
    const { stream } = this.#call;
    this.#call.partialSinceMs = 0;
    if (!stream.isPaused()) stream.pause();
    if (this.#turnLeft > 0 || this.#hasTurn) return;
    this.#hasTurn = true;
    setImmediate(nextTurn, this);
  }

  /** Everything of the chunk has been read: on with the next. */
  #resume(): void {
    const call = this.#call;
    this.#chunk = NOTHING;
    this.#at = 0;
    if (this.#hasEnded) {
      if (this.#headFill > 0) call.refuse('INTERNAL', 'the request ends inside a message');
      else this.#handler.onEnd();
      return;
    }
    if (call.stream.isPaused()) {
      // That a message waited here is not its sender's fault.
      this.#firstByteMs = nowMs();
      call.stream.resume();
    }
    call.partialSinceMs = this.#headFill > 0 ? this.#firstByteMs : 0;
    call.partialBytes = this.#filled;
  }

  /** For `setImmediate`. */
  nextTurn(): void {
    this.#hasTurn = false;
    this.#turnLeft = MESSAGES_PER_TURN;
    this.#read();
  }

  /** Takes one byte of a head, or what there is of a message. */
  #step(): void {
    if (this.#headFill < HEAD_BYTES) {
      const byte = this.#chunk[this.#at++]!;
      if (this.#headFill++ === 0) {
        this.#flag = byte;
        this.#length = 0;
        this.#filled = 0;
        this.#firstByteMs = nowMs();
      } else this.#length = this.#length * 256 + byte;
      if (this.#headFill < HEAD_BYTES) return;
      this.#checkHead();
    }
    if (!this.#isAdmitted && !this.#admit()) return;
    const part = Math.min(this.#length - this.#filled, this.#chunk.length - this.#at);
    if (part === 0 && this.#length > 0) return;
    this.#keep(part);
    this.#filled += part;
    this.#at += part;
    if (this.#filled === this.#length) this.#complete();
  }

  #checkHead(): void {
    const { method, encoding } = this.#call;
    if (this.#flag > 1) refuse('INTERNAL', `unknown message flag ${this.#flag}, expected 0 or 1`);
    if (this.#flag === 1 && encoding === 'identity') refuse('INTERNAL', 'compressed message without a grpc-encoding');
    if (this.#length > method.maxMessageBytes) {
      const sizes = `${this.#length} vs ${method.maxMessageBytes}`;
      refuse('RESOURCE_EXHAUSTED', `Received message larger than max (${sizes})`);
    }
  }

  /** Reserves the message's bytes; without room it waits for the call's own requests, and fails where there are none. */
  #admit(): boolean {
    if (!this.#call.reserve(this.#length)) {
      if (!this.#handler.isBusy()) {
        refuse('RESOURCE_EXHAUSTED', `request of ${this.#length} bytes would pass the limit of bytes in flight`);
      }
      this.#isStarved = true;
      return false;
    }
    this.#reserved = this.#length;
    this.#isAdmitted = true;
    return true;
  }

  #keep(bytes: number): void {
    const chunk = this.#chunk;
    const at = this.#at;
    if (bytes === this.#length) {
      const view = chunk.subarray(at, at + bytes);
      this.#message = bytes < chunk.buffer.byteLength * LEAST_PART ? Buffer.from(view) : view;
      return;
    }
    if (this.#filled === 0) this.#message = this.#call.takeMemory(this.#length);
    chunk.copy(this.#message, this.#filled, at, at + bytes);
  }

  #complete(): void {
    const timeline = new Timeline(this.#firstByteMs);
    timeline.lastByte = nowMs();
    const bytes = this.#message;
    this.#message = NOTHING;
    this.#headFill = 0;
    this.#isAdmitted = false;
    this.#turnLeft--;
    if (this.#flag === 0) this.#handOn(bytes, timeline);
    else this.#inflate(bytes, timeline);
  }

  #inflate(bytes: Buffer, timeline: Timeline): void {
    const call = this.#call;
    this.#isInflating = true;
    this.#inflater.add({
      bytes,
      encoding: call.encoding === 'deflate' ? 'deflate' : 'gzip',
      maxBytes: call.method.maxMessageBytes,
      reserve: (more) => {
        if (call.done) return true;
        if (!call.reserve(more)) return false;
        this.#reserved += more;
        return true;
      },
      isWanted: () => !call.done,
      done: (result) => {
        this.#isInflating = false;
        if (call.done) return;
        if (result instanceof ServeError) {
          call.refuse(result.code, result.message);
          return;
        }
        call.giveMemory(bytes);
        this.#handOn(result, timeline);
        this.#read();
      },
    });
  }

  #handOn(bytes: Buffer, timeline: Timeline): void {
    const reservedBytes = this.#reserved;
    this.#reserved = 0;
    this.#handler.onMessage({ bytes, reservedBytes, wireBytes: this.#length, timeline });
  }
}

function nextTurn(reader: MessageReader): void {
  reader.nextTurn();
}

function refuse(code: ServeError['code'], message: string): never {
  throw new ServeError(code, message);
}
