/**
 * Registers unary RPCs with grpc-js and carries each call from its message to its reply.
 *
 * Called by the services. grpc-js says when the message is there (`body-guard.ts` has its bytes); inflating, decoding and errors are
 * here, so that every reply, also an error, carries its budget in the trailer `server-timing` and nothing thrown escapes. Must not
 * know what an RPC means.
 */
import { Metadata, type Server, type sendUnaryData } from '@grpc/grpc-js';
import { nowMs } from '../base/clock.js';
import { ServeError } from '../base/errors.js';
import type { Timeline } from '../base/timeline.js';
import { type GatedCall, gatedCall } from './gated-call.js';
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
  readonly inflater: Inflater;
  readonly log: GrpcLog;
}

/**
 * A message to send. grpc-js reads only these two members, inside `callback()`, and copies straight into its frame buffer; a Buffer
 * fits too.
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
  addMethod(registry, { path, kind: 'unary', ...options });
  registry.server.register(
    path,
    (call: unknown, callback: sendUnaryData<ReplyBytes>) => {
      const reply = new Reply(gatedCall(call), callback, registry.log);
      reply.call.phase = 'handling';
      const bytes = reply.call.takeMessage();
      if (reply.call.compressed) inflate(registry.inflater, bytes, reply, serve);
      else run(bytes, reply, serve);
    },
    // Duck-typed: see ReplyBytes.
    (bytes: ReplyBytes) => bytes as Buffer,
    (bytes: Buffer) => bytes,
    'unary',
  );
}

/** Adds an RPC that exists and is always refused, before its body is read. */
export function addRefused(registry: Registry, path: string, refusal: NonNullable<Method['refusal']>): void {
  addMethod(registry, { path, kind: 'unary', maxMessageBytes: 0, refusal });
}

/** Tells the gate about an RPC. */
export function addMethod(
  registry: Registry,
  method: Pick<Method, 'path' | 'kind' | 'maxMessageBytes'> & Partial<Pick<Method, 'whileDraining' | 'refusal'>>,
): void {
  const rpc = method.path.slice(method.path.lastIndexOf('/') + 1);
  registry.methods.set(method.path, { rpc, whileDraining: false, refusal: undefined, ...method });
}

function inflate(inflater: Inflater, bytes: Buffer, reply: Reply, serve: ServeUnary): void {
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

function run(bytes: Buffer, reply: Reply, serve: ServeUnary): void {
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
  readonly #callback: sendUnaryData<ReplyBytes>;
  readonly #log: GrpcLog;

  constructor(call: GatedCall, callback: sendUnaryData<ReplyBytes>, log: GrpcLog) {
    this.call = call;
    this.timeline = call.timeline;
    this.#callback = callback;
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
    call.replyBytes = bytes.byteLength;
    this.#callback(null, bytes, new TimingTrailer(this.timeline));
    this.timeline.encoded = call.repliedMs = nowMs();
    call.report('OK');
  }

  /** Sends an error. One without a cause the client may know of (INTERNAL by a bug) goes to the log with its stack. */
  fail(error: ServeError): void {
    if (error.cause !== undefined) this.#log.error({ error: error.cause, rpc: this.call.method.rpc }, error.message);
    if (!this.call.finish()) return;
    this.timeline.encoded = this.call.repliedMs = nowMs();
    this.call.phase = 'replying';
    const metadata = new TimingTrailer(this.timeline);
    this.#callback({ code: grpcStatus(error.code), details: grpcDetails(error), metadata });
    this.call.report(error.code);
  }
}

/**
 * Trailing metadata with the budget of one call. Filled in when grpc-js asks for the headers, which is after the message was encoded:
 * only then is the time it took known. It has no other entries, so a clone would be the same.
 */
class TimingTrailer extends Metadata {
  readonly #timeline: Timeline;

  constructor(timeline: Timeline) {
    super();
    this.#timeline = timeline;
  }

  override clone(): Metadata {
    return this;
  }

  override toHttp2Headers(): { 'server-timing': string } {
    return { 'server-timing': this.#timeline.serverTiming() };
  }
}
