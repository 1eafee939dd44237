/**
 * How a front end lets a request be traced: it asks at the request's head, and tells how and when the request ended.
 *
 * Made by `src/tracing/`, handed to `grpc/` and `rest/` by the composition root; without a tracer nothing is asked. Not one of the
 * methods throws.
 */
import type { FinishedRequest } from './finished-request.js';

export interface Tracer {
  /**
   * The request's trace, or undefined when it is not sampled, which costs a random number. `target` is of a closed set: the gRPC
   * method's full path, or the pattern of the REST route. The headers are as the client sent them: malformed ones count as none.
   */
  start(target: string, traceparent: unknown, tracestate: unknown): RequestTrace | undefined;
}

/** One sampled request. */
export interface RequestTrace {
  /** For the reply's `traceresponse` field: version, trace, span and flags. */
  readonly traceresponse: string;
  /** One of several requests on one stream has ended: a span of its own below the stream's. */
  message(request: FinishedRequest): void;
  /** The request has its outcome. Once. */
  finished(request: FinishedRequest): void;
  /** The last byte of the reply is out or the connection gone: the spans are made. Once, after `finished`. */
  closed(): void;
}
