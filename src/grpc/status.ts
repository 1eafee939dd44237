/**
 * The edge table of errors for gRPC: code of a ServeError -> status number, and the text a client may see.
 *
 * Called by whoever in `grpc/` ends a call. `rest/status.ts` is its sister. Must not invent codes or hide them.
 */
import { status } from '@grpc/grpc-js';
import { type ErrorCode, printable, type ServeError } from '../base/errors.js';

const STATUS: Readonly<Record<ErrorCode, number>> = {
  CANCELLED: status.CANCELLED,
  INVALID_ARGUMENT: status.INVALID_ARGUMENT,
  DEADLINE_EXCEEDED: status.DEADLINE_EXCEEDED,
  NOT_FOUND: status.NOT_FOUND,
  ALREADY_EXISTS: status.ALREADY_EXISTS,
  RESOURCE_EXHAUSTED: status.RESOURCE_EXHAUSTED,
  FAILED_PRECONDITION: status.FAILED_PRECONDITION,
  UNIMPLEMENTED: status.UNIMPLEMENTED,
  INTERNAL: status.INTERNAL,
  UNAVAILABLE: status.UNAVAILABLE,
};

/** Longest status message sent, in characters; a client that gets a megabyte of trailer never sees the status. */
const MESSAGE_MAX = 512;

/** The gRPC status number of a code. */
export function grpcStatus(code: ErrorCode): number {
  return STATUS[code];
}

/** Message of an error as it may leave: printable, bounded, well-formed (a lone surrogate makes `encodeURI` throw). */
export function grpcDetails(error: ServeError): string {
  return printable(error.message, MESSAGE_MAX);
}
