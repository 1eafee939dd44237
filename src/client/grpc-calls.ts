/**
 * The calls of one client over gRPC: each with its scope, its metadata and its tries, until the client is closed.
 *
 * Owned by `grpc-client.ts`, which knows what messages mean. Owns the connections; closing waits for the calls under way.
 */
import { type Channel, Metadata } from '@grpc/grpc-js';
import type { CallScope } from './call-scope.js';
import { refusal } from './client-error.js';
import { callUnary, type OutgoingMessage, type UnaryReply } from './grpc-call.js';
import { GrpcChannels } from './grpc-channels.js';
import { MODEL_STREAM_INFER, type SmallMethod } from './grpc-methods.js';
import { AnswerStream } from './grpc-stream.js';
import { type Tried, tries } from './grpc-tries.js';
import { type OpenCallOptions, OpenCalls } from './open-calls.js';
import { type RetryPolicy, retryPolicy } from './retry.js';
import { traceHeaders } from './trace-context.js';
import type { CallOptions, ClientOptions } from './types.js';

/** Asks servers with Triton's streams to end them with a gRPC status where they fail, rather than with a text alone. */
const STREAM_ERRORS = { triton_grpc_error: 'true' };

export interface UnaryCall<Answer> {
  readonly path: string;
  readonly message: OutgoingMessage;
  readonly decode: (bytes: Buffer) => Answer;
}

export class GrpcCalls {
  readonly #options: ClientOptions;
  readonly #channels: GrpcChannels;
  readonly #metadata: Metadata;
  readonly #retry: RetryPolicy;
  readonly #open: OpenCalls;

  /** Throws a local INVALID_ARGUMENT. */
  constructor(options: ClientOptions) {
    this.#options = options;
    this.#metadata = withHeaders(new Metadata(), options.headers);
    this.#retry = retryPolicy(options.retry);
    this.#channels = new GrpcChannels(options);
    this.#open = new OpenCalls(options);
  }

  /** Resolves when the calls under way are over and all connections closed. Idempotent. */
  close(): Promise<void> {
    return this.#open.close(() => this.#channels.close());
  }

  /** A call that somebody else ends by `end`. Throws a local FAILED_PRECONDITION once the client is closed. */
  begin(options: CallOptions): CallScope {
    return this.#open.begin(options);
  }

  end(scope: CallScope): void {
    this.#open.end(scope);
  }

  /** Does `work` for a call that ends with it. */
  run<Result>(options: OpenCallOptions, work: (scope: CallScope) => Promise<Result>): Promise<Result> {
    return this.#open.run(options, work);
  }

  /** A call of one of the small methods. */
  small<Answer>(method: SmallMethod<Answer>, request: object, options: OpenCallOptions = {}): Promise<Answer> {
    return this.run(options, async (scope) => {
      const { path, decode } = method;
      const tried = await this.unary({ path, message: method.encode(request), decode }, options, scope);
      return tried.reply.answer;
    });
  }

  /** One message there, one back, with all tries. */
  unary<Answer>(
    { path, message, decode }: UnaryCall<Answer>,
    options: CallOptions,
    scope: CallScope,
  ): Promise<Tried<UnaryReply<Answer>>> {
    const metadata = this.#metadataOf(options);
    return this.#tries(options, scope, (channel) => callUnary({ channel, path, metadata, scope }, message, decode));
  }

  #tries<Reply>(
    options: OpenCallOptions,
    scope: CallScope,
    attemptOn: (channel: Channel) => Promise<Reply>,
  ): Promise<Tried<Reply>> {
    const retry = options.isAside ? { ...this.#retry, attempts: 1 } : this.#retry;
    return tries({ channels: this.#channels, scope, isGzip: this.isGzip(options), retry }, attemptOn);
  }

  isGzip({ compression = this.#options.compression }: CallOptions): boolean {
    return compression === 'gzip';
  }

  /** The client's own, the trace that the caller is in, and the call's. */
  #metadataOf({ headers }: CallOptions): Metadata {
    const trace = traceHeaders();
    if (headers === undefined && Object.keys(trace).length === 0) return this.#metadata;
    return withHeaders(withHeaders(this.#metadata.clone(), trace), headers);
  }

  /** A stream that the server has begun to answer, with all tries until then. */
  open(message: OutgoingMessage, options: CallOptions, scope: CallScope): Promise<Tried<AnswerStream>> {
    const metadata = withHeaders(this.#metadataOf(options).clone(), STREAM_ERRORS);
    return this.#tries(options, scope, async (channel) => {
      const stream = new AnswerStream({ channel, path: MODEL_STREAM_INFER, metadata, scope }, message);
      await stream.opened;
      return stream;
    });
  }
}

function withHeaders(metadata: Metadata, headers: CallOptions['headers']): Metadata {
  for (const [name, value] of Object.entries(headers ?? {})) {
    try {
      metadata.set(name, value);
    } catch (cause) {
      throw refusal(`header '${name}': ${(cause as Error).message}`);
    }
  }
  return metadata;
}
