/**
 * The one table from error codes to HTTP statuses, and the body every error has.
 *
 * Called by everything in `rest/` that answers with an error; `grpc/status.ts` is its twin.
 */
import type { ErrorCode, ServeError } from '../base/errors.js';

/** Triton's table, where Triton has the code. 499 is what proxies log for a client that went away. */
export const HTTP_STATUS: Readonly<Record<ErrorCode, number>> = {
  INVALID_ARGUMENT: 400,
  FAILED_PRECONDITION: 400,
  ALREADY_EXISTS: 400,
  NOT_FOUND: 404,
  RESOURCE_EXHAUSTED: 429,
  CANCELLED: 499,
  INTERNAL: 500,
  UNIMPLEMENTED: 501,
  UNAVAILABLE: 503,
  DEADLINE_EXCEEDED: 504,
};

/** A failure that HTTP has a status for and the closed set of codes does not; thrown inside `rest/` only. */
export class HttpError extends Error {
  override readonly name = 'HttpError';
  readonly status: number;
  /** Header fields that belong to the status, such as `allow`. */
  readonly headers: Readonly<Record<string, string>>;

  constructor(status: number, message: string, headers: Readonly<Record<string, string>> = {}) {
    super(message);
    this.status = status;
    this.headers = headers;
  }
}

/** The status of an error. */
export function statusOf(error: ServeError | HttpError): number {
  return error instanceof HttpError ? error.status : HTTP_STATUS[error.code];
}

/** `{"error": ...}`, as Triton writes it. */
export function errorBody(message: string): string {
  return JSON.stringify({ error: message.toWellFormed() });
}

/** How a larger body can be sent, where the bound is the server's. */
const INCREASE_LIMIT = 'Use --http-max-input-size to increase the limit.';

/** 413 with the text that Triton's users know. */
export function bodyTooLarge(bytes: number | string, maxInputSize: number, advice = INCREASE_LIMIT): HttpError {
  return new HttpError(
    413,
    `request JSON size of ${bytes} bytes exceeds the maximum allowed input size of ${maxInputSize} bytes. ${advice}`,
  );
}

/** As {@link bodyTooLarge}, for text that fits and whose tensors do not. */
export function tensorsTooLarge(bytes: number, maxInputSize: number): HttpError {
  return new HttpError(
    413,
    `tensors of the request take ${bytes} bytes, which exceeds the maximum allowed input size of ${maxInputSize} bytes. Use --http-max-input-size to increase the limit.`,
  );
}
