/**
 * Adds unary RPCs and carries each call from its message to its reply, on the bare HTTP/2 stream: grpc-js makes two more streams, a
 * dozen closures and a fresh buffer for each, which is a third of a small call and half of a large one.
 *
 * Called by the services. The gate says when the message is there; inflating, decoding and errors are here, so that every reply, also
 * an error, carries its budget in the trailer `server-timing` and nothing thrown escapes. Must not know what an RPC means.
 */
import type { Server } from '@grpc/grpc-js';
import { nowMs } from '../base/clock.js';
import { ServeError } from '../base/errors.js';
import type { Timeline } from '../base/timeline.js';
import { receiveOne } from './body-guard.js';
import { callOfStream, type GatedCall, type GatedStream } from './gated-call.js';
import type { Inflater } from './inflate.js';
import type { Method, MethodTable } from './method.js';
import { grpcDetails, grpcStatus } from './status.js';

/** Where the front end writes what an operator should see; pino's shape. */
export interface GrpcLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** What services register with. */
export interface Registry {
  readonly server: Server;
  readonly methods: MethodTable;
  /** Takes calls over that are served without grpc-js, by full path. */
  readonly bare: Map<string, (call: GatedCall) => void>;
  readonly inflater: Inflater;
  readonly log: GrpcLog;
}

/**
 * A message to send: it is copied straight into the frame, inside `send`. A Buffer fits too.
 */
export interface ReplyBytes {
  readonly byteLength: number;
  copy(target: Buffer, offset: number): unknown;
}

/** Serves one call: answers by `reply`, now or later, or throws. */
export type ServeUnary = (bytes: Buffer, reply: Reply) => void;

export interface UnaryOptions {
  readonly maxMessageBytes: number;
  readonly whileDraining?: boolean;
}

/** Largest request of an RPC that carries no tensors; grpc-js's own default for all. */
export const CONTROL_MESSAGE_BYTES = 4 * 1024 * 1024;

/** Adds a unary RPC under its full path. */
export function addUnary(registry: Registry, path: string, options: UnaryOptions, serve: ServeUnary): void {
  addMethod(registry, { path, kind: 'unary', isBare: true, ...options });
  const answer = (call: GatedCall): void => serveOne(registry.inflater, new Reply(call, registry.log), serve);
  registry.bare.set(path, (call) => receiveOne(call, answer));
}

/** What answers a call: so much of it as this file must know. */
interface Answering {
  readonly call: GatedCall;
  fail(error: ServeError): void;
}

/** Hands the one message of a call, which is there, to `serve`, inflated where it was compressed. */
export function serveOne<To extends Answering>(
  inflater: Inflater,
  reply: To,
  serve: (bytes: Buffer, reply: To) => void,
): void {
  const { call } = reply;
  call.phase = 'handling';
  if (call.compressed) inflate(inflater, call.message, reply, serve);
  else run(call.message, reply, serve);
}

/** Adds an RPC that exists and is always refused, before its body is read. */
export function addRefused(registry: Registry, path: string, refusal: NonNullable<Method['refusal']>): void {
  addMethod(registry, { path, kind: 'unary', isBare: true, maxMessageBytes: 0, refusal });
}

/** Tells the gate about an RPC. */
export function addMethod(
  registry: Registry,
  method: Pick<Method, 'path' | 'kind' | 'isBare' | 'maxMessageBytes'> &
    Partial<Pick<Method, 'whileDraining' | 'refusal'>>,
): void {
  const rpc = method.path.slice(method.path.lastIndexOf('/') + 1);
  registry.methods.set(method.path, { rpc, whileDraining: false, refusal: undefined, ...method });
}

function inflate<To extends Answering>(
  inflater: Inflater,
  bytes: Buffer,
  reply: To,
  serve: (bytes: Buffer, reply: To) => void,
): void {
  const { call } = reply;
  inflater.add({
    bytes,
    encoding: call.encoding === 'deflate' ? 'deflate' : 'gzip',
    maxBytes: call.method.maxMessageBytes,
    reserve: (more) => call.done || call.reserve(more),
    isWanted: () => !call.done,
    done: (result) => {
      if (result instanceof ServeError) reply.fail(result);
      else run(result, reply, serve);
    },
  });
}

function run<To extends Answering>(bytes: Buffer, reply: To, serve: (bytes: Buffer, reply: To) => void): void {
  if (reply.call.done) return;
  try {
    serve(bytes, reply);
  } catch (error) {
    reply.fail(ServeError.from(error));
  }
}

/** The one answer of one call. Whoever comes second, after the caller left or after another answer, is ignored. */
export class Reply {
  readonly call: GatedCall;
  readonly timeline: Timeline;
  readonly #log: GrpcLog;

  constructor(call: GatedCall, log: GrpcLog) {
    this.call = call;
    this.timeline = call.timeline;
    this.#log = log;
  }

  /** Sends a message and OK. `bytes` are copied before this returns: lent memory may be lent on afterwards. */
  send(bytes: ReplyBytes): void {
    const { call } = this;
    if (call.done) return;
    // The request's share is free now; the reply takes its own until it is out, as a slow reader holds it.
    call.release();
    if (!call.reserve(bytes.byteLength)) {
      const message = `reply of ${bytes.byteLength} bytes would pass the limit of bytes in flight`;
      this.fail(new ServeError('RESOURCE_EXHAUSTED', message));
      return;
    }
    call.finish();
    call.phase = 'replying';
    call.replyBytes = call.responseBytes = bytes.byteLength;
    if (!call.compressed) call.dropMessage();
    const frame = call.takeMemory(HEAD_BYTES + bytes.byteLength);
    frame[0] = 0;
    frame.writeUInt32BE(bytes.byteLength, 1);
    bytes.copy(frame, HEAD_BYTES);
    this.timeline.encoded = call.repliedMs = nowMs();
    const { stream } = call;
    if (!stream.destroyed && !stream.closed) {
      stream.respond(REPLY_HEADERS, { waitForTrailers: true });
      stream.once('wantTrailers', onWantTrailers);
      // Comes when the socket has taken all of it; of a stream that breaks before, the memory is the collector's.
      stream.once('finish', () => call.giveMemory(frame));
      stream.end(frame);
    }
    call.report('OK');
  }

  /** Sends an error. One without a cause the client may know of (INTERNAL by a bug) goes to the log with its stack. */
  fail(error: ServeError): void {
    if (error.cause !== undefined) this.#log.error({ error: error.cause, rpc: this.call.method.rpc }, error.message);
    if (!this.call.finish()) return;
    this.timeline.encoded = this.call.repliedMs = nowMs();
    this.call.phase = 'replying';
    const { stream } = this.call;
    if (!stream.destroyed && !stream.closed) {
      stream.respond(
        {
          ...REPLY_HEADERS,
          'grpc-status': grpcStatus(error.code),
          'grpc-message': encodeURI(grpcDetails(error)),
          ...this.call.budgetOf(this.timeline),
        },
        { endStream: true },
      );
    }
    this.call.report(error.code);
  }
}

/** Length of a frame's head: flag and length. */
export const HEAD_BYTES = 5;

export const REPLY_HEADERS = {
  ':status': 200,
  'content-type': 'application/grpc+proto',
  'grpc-accept-encoding': 'identity,deflate,gzip',
};

/** Sends the trailers behind the last byte, as late as the budget is read. */
function onWantTrailers(this: GatedStream): void {
  this.sendTrailers(callOfStream(this)!.okTrailers());
}
