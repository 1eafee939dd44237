/**
 * Reads the gRPC framing of each body ahead of grpc-js: sizes, flags, counts, and the byte budget, before a byte is kept.
 *
 *   | flag 1 | length 4, big-endian | message | ...
 *
 * Called by the gate and by what serves calls of one request message without grpc-js (`message-reader.ts` reads those of many): each
 * chunk is copied into place when it arrives, in memory that is used again. Of the calls that grpc-js serves it sees only what passed:
 * after an error it would go on reading for ever, it takes any flag byte, and it knows no bound over all calls.
 */
import { Duplex } from 'node:stream';
import { nowMs } from '../base/clock.js';
import { type ErrorCode, ServeError } from '../base/errors.js';
import { callOfStream, type GatedCall, type GatedStream } from './gated-call.js';

const HEAD_BYTES = 5;
/** A message that is less than this part of the memory it lies in is copied, or a few bytes would hold 64 KB while they wait. */
const LEAST_PART = 1 / 8;

/** Messages accepted on one bidirectional stream; a megabyte of empty frames is 200,000 messages. */
const BIDI_MESSAGES_MAX = 10_000;

/**
 * Has the listeners that `attach` puts on the stream for its body called behind ours. Only while `attach` runs: Node itself listens for
 * 'end' later.
 */
export function guardBody(call: GatedCall, attach: () => void): void {
  const { stream } = call;
  const { on } = stream;
  stream.on = guardedOn;
  try {
    attach();
  } finally {
    stream.on = on;
  }
}

/** Receives a call of one request message, then has `serve` answer it. */
export function receiveOne(call: GatedCall, serve: (call: GatedCall) => void): void {
  call.relayData = ignore;
  call.relayEnd = () => {
    if (call.framing.messages > 0) serve(call);
    else call.refuse('UNIMPLEMENTED', `Received no request message for method ${call.method.path}`);
  };
  // A stream that fails also closes, which is where the call ends.
  call.stream.on('error', ignore);
  call.stream.on('data', onData);
  call.stream.on('end', onEnd);
}

function ignore(): void {}

// Typed for any event; the type of `on` has an overload for each.
const guardedOn = function (this: GatedStream, event: string, listener: (...args: never[]) => void): GatedStream {
  const call = callOfStream(this)!;
  let ours = listener;
  if (event === 'data') {
    call.relayData = listener as typeof call.relayData;
    ours = onData;
  } else if (event === 'end') {
    call.relayEnd = listener as typeof call.relayEnd;
    ours = onEnd;
  }
  return Duplex.prototype.on.call(this, event, ours as () => void) as GatedStream;
} as GatedStream['on'];

function onData(this: GatedStream, chunk: Buffer): void {
  const call = callOfStream(this)!;
  if (call.done) return;
  try {
    readFraming(call, chunk);
  } catch (error) {
    const { code, message } = ServeError.from(error);
    call.refuse(code, message);
    return;
  }
  call.relayData.call(this, chunk);
}

function onEnd(this: GatedStream): void {
  const call = callOfStream(this)!;
  const { framing } = call;
  // Node also ends the readable side of a stream that was reset: that is no half-close, and nothing must run for it.
  if (call.done || this.aborted || this.closed || this.destroyed) return;
  if (framing.headFill !== 0 || framing.bodyLeft !== 0) {
    call.refuse('INTERNAL', 'the request ends inside a message');
    return;
  }
  call.relayEnd.call(this);
}

function readFraming(call: GatedCall, chunk: Buffer): void {
  const { framing } = call;
  call.receivedBytes += chunk.length;
  // Most chunks of a large message.
  if (framing.bodyLeft > chunk.length) {
    keep(call, chunk, 0, chunk.length);
    framing.bodyLeft -= chunk.length;
    return;
  }
  let at = 0;
  while (at < chunk.length) {
    if (framing.bodyLeft > 0) {
      const part = Math.min(framing.bodyLeft, chunk.length - at);
      keep(call, chunk, at, part);
      framing.bodyLeft -= part;
      at += part;
      continue;
    }
    const byte = chunk[at++]!;
    if (framing.headFill === 0) {
      framing.flag = byte;
      framing.length = 0;
    } else {
      framing.length = framing.length * 256 + byte;
    }
    framing.headFill++;
    if (framing.headFill < HEAD_BYTES) continue;
    framing.headFill = 0;
    admitMessage(call);
    framing.bodyLeft = framing.length;
  }
  if (isComplete(call)) call.timeline.lastByte = nowMs();
}

/** Whether the body so far ends with a message: for a unary call true once, as a second message is refused. */
function isComplete({ framing }: GatedCall): boolean {
  return framing.bodyLeft === 0 && framing.headFill === 0;
}

/** Puts `bytes` of the one message from `chunk` where they belong. */
function keep(call: GatedCall, chunk: Buffer, at: number, bytes: number): void {
  if (!call.method.isBare) return;
  const { length, bodyLeft } = call.framing;
  if (bytes === length) {
    const view = chunk.subarray(at, at + bytes);
    call.message = bytes < chunk.buffer.byteLength * LEAST_PART ? Buffer.from(view) : view;
    return;
  }
  if (bodyLeft === length) call.message = call.takeMemory(length);
  chunk.copy(call.message, length - bodyLeft, at, at + bytes);
}

/** Decides on a message by its frame head. */
function admitMessage(call: GatedCall): void {
  const { method, framing } = call;
  framing.messages++;
  if (method.kind === 'bidi') {
    if (framing.messages > BIDI_MESSAGES_MAX) refuse('RESOURCE_EXHAUSTED', `more than ${BIDI_MESSAGES_MAX} messages`);
    call.release();
  } else if (framing.messages > 1) {
    refuse('UNIMPLEMENTED', `more than one request message for ${method.rpc}`);
  }
  if (framing.flag > 1) refuse('INTERNAL', `unknown message flag ${framing.flag}, expected 0 or 1`);
  if (framing.flag === 1 && call.encoding === 'identity') {
    refuse('INTERNAL', 'compressed message without a grpc-encoding');
  }
  call.compressed = framing.flag === 1;
  if (framing.length > method.maxMessageBytes) {
    refuse('RESOURCE_EXHAUSTED', `Received message larger than max (${framing.length} vs ${method.maxMessageBytes})`);
  }
  if (!call.reserve(framing.length)) {
    refuse('RESOURCE_EXHAUSTED', `request of ${framing.length} bytes would pass the limit of bytes in flight`);
  }
}

function refuse(code: ErrorCode, message: string): never {
  throw new ServeError(code, message);
}
