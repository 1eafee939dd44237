/**
 * What a request's status means to tracing: gRPC's number for its name, and whether the server is to blame.
 *
 * Called by `open-trace.ts`. By OpenTelemetry's conventions a server's span is an error only where the server failed: not for what a
 * client did wrong, nor for one that left.
 */
import type { FinishedRequest } from '../engine/finished-request.js';

/** In the order of their numbers. */
const GRPC_STATUSES = [
  'OK',
  'CANCELLED',
  'UNKNOWN',
  'INVALID_ARGUMENT',
  'DEADLINE_EXCEEDED',
  'NOT_FOUND',
  'ALREADY_EXISTS',
  'PERMISSION_DENIED',
  'RESOURCE_EXHAUSTED',
  'FAILED_PRECONDITION',
  'ABORTED',
  'OUT_OF_RANGE',
  'UNIMPLEMENTED',
  'INTERNAL',
  'UNAVAILABLE',
  'DATA_LOSS',
  'UNAUTHENTICATED',
];
const UNKNOWN = 2;
const GRPC_SERVER_ERRORS = new Set([
  'UNKNOWN',
  'DEADLINE_EXCEEDED',
  'UNIMPLEMENTED',
  'INTERNAL',
  'UNAVAILABLE',
  'DATA_LOSS',
]);

export function grpcStatusNumber(name: string): number {
  const number = GRPC_STATUSES.indexOf(name);
  return number < 0 ? UNKNOWN : number;
}

export function isServerError({ protocol, status }: FinishedRequest): boolean {
  return protocol === 'grpc' ? GRPC_SERVER_ERRORS.has(status) : Number(status) >= 500;
}
