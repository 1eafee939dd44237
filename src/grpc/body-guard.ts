/**
 * Reads the gRPC framing of each body ahead of grpc-js: sizes, flags, counts, and the byte budget, before a byte is kept.
 *
 *   | flag 1 | length 4, big-endian | message | ...
 *
 * Called by the gate once grpc-js has attached to the stream. grpc-js sees only chunks that passed: after an error it would go on
 * reading for ever, it takes any flag byte, and it knows no bound over all calls. Must not keep body bytes.
 */
import { nowMs } from '../base/clock.js';
import { type ErrorCode, ServeError } from '../base/errors.js';
import { callOfStream, type GatedCall, type GatedStream } from './gated-call.js';

const HEAD_BYTES = 5;

/** Messages accepted on one bidirectional stream; a megabyte of empty frames is 200,000 messages. */
const BIDI_MESSAGES_MAX = 10_000;

/** Position in the framing of one body. */
interface Framing {
  headFill: number;
  flag: number;
  length: number;
  bodyLeft: number;
  messages: number;
}

const FRAMING = Symbol('tensorwire.framing');
type GuardedStream = GatedStream & { [FRAMING]?: Framing };

/** Puts the guard between the stream and the listeners that grpc-js has just attached to it. */
export function guardBody(call: GatedCall): void {
  const stream: GuardedStream = call.stream;
  stream[FRAMING] = { headFill: 0, flag: 0, length: 0, bodyLeft: 0, messages: 0 };
  call.relayData = takeOver(stream, 'data', onData);
  call.relayEnd = takeOver(stream, 'end', onEnd);
}

/** Replaces the newest listener of `event` and returns it. */
function takeOver(stream: GatedStream, event: 'data' | 'end', ours: (...args: never[]) => void): () => void {
  const theirs = stream.listeners(event).at(-1) as (() => void) | undefined;
  if (theirs === undefined) throw new ServeError('INTERNAL', `no ${event} listener to guard`);
  stream.removeListener(event, theirs);
  stream.on(event, ours as () => void);
  return theirs;
}

function onData(this: GuardedStream, chunk: Buffer): void {
  const call = callOfStream(this)!;
  if (call.done) return;
  try {
    readFraming(call, this[FRAMING]!, chunk);
  } catch (error) {
    const { code, message } = ServeError.from(error);
    call.refuse(code, message);
    return;
  }
  call.relayData.call(this, chunk);
}

function onEnd(this: GuardedStream): void {
  const call = callOfStream(this)!;
  const framing = this[FRAMING]!;
  // Node also ends the readable side of a stream that was reset: that is no half-close, and nothing must run for it.
  if (call.done || this.aborted || this.closed || this.destroyed) return;
  if (framing.headFill !== 0 || framing.bodyLeft !== 0) {
    call.refuse('INTERNAL', 'the request ends inside a message');
    return;
  }
  call.relayEnd.call(this);
}

function readFraming(call: GatedCall, framing: Framing, chunk: Buffer): void {
  call.receivedBytes += chunk.length;
  let at = 0;
  while (at < chunk.length) {
    if (framing.bodyLeft > 0) {
      const part = Math.min(framing.bodyLeft, chunk.length - at);
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
    admitMessage(call, framing);
    framing.bodyLeft = framing.length;
  }
  if (framing.bodyLeft === 0 && framing.headFill === 0) call.timeline.lastByte = nowMs();
}

/** Decides on a message by its frame head. */
function admitMessage(call: GatedCall, framing: Framing): void {
  const { method } = call;
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
