/**
 * The one error class of the client: gRPC's code names for both protocols.
 *
 * Thrown by every call of the client. REST statuses become codes by `rest-status.ts`; what never reached a server is UNAVAILABLE, a
 * deadline DEADLINE_EXCEEDED, an abort CANCELLED, a request that can't be right INVALID_ARGUMENT (`local` is then true).
 */
export type ClientErrorCode =
  | 'CANCELLED'
  | 'UNKNOWN'
  | 'INVALID_ARGUMENT'
  | 'DEADLINE_EXCEEDED'
  | 'NOT_FOUND'
  | 'ALREADY_EXISTS'
  | 'PERMISSION_DENIED'
  | 'RESOURCE_EXHAUSTED'
  | 'FAILED_PRECONDITION'
  | 'ABORTED'
  | 'OUT_OF_RANGE'
  | 'UNIMPLEMENTED'
  | 'INTERNAL'
  | 'UNAVAILABLE'
  | 'DATA_LOSS'
  | 'UNAUTHENTICATED';

export interface ClientErrorDetails extends ErrorOptions {
  /** Found here, before anything was sent. */
  readonly local?: boolean;
  /** HTTP status, over REST. */
  readonly httpStatus?: number;
  /** How often it was tried. */
  readonly attempts?: number;
}

export class ClientError extends Error {
  override readonly name = 'ClientError';
  readonly code: ClientErrorCode;
  readonly local: boolean;
  readonly httpStatus: number | undefined;
  readonly attempts: number;

  constructor(code: ClientErrorCode, message: string, details: ClientErrorDetails = {}) {
    super(message, details);
    this.code = code;
    this.local = details.local ?? false;
    this.httpStatus = details.httpStatus;
    this.attempts = details.attempts ?? 1;
  }
}

/** OpenSSL's `<thread>:error:<number>:<library>:<function>:<reason>:<source>:<line>:<more>`. */
const OPENSSL = /\b[\dA-F]+:error:[\dA-F]+:([^:]*):[^:]*:([^:]*):.*/s;
/** grpc-js's time of day behind each failure to connect. */
const TIMESTAMP = / \(\d{4}-\d\d-\d\dT[\d:.]+Z\)/g;

/** Why there is no connection, as somebody says it who does not say where in his source: on one line, and the same each time. */
export function plainReason(reason: string): string {
  return reason.replace(OPENSSL, '$1: $2').replace(TIMESTAMP, '').trim();
}

/** What is found here, before anything is sent. */
export function refusal(message: string, code: ClientErrorCode = 'INVALID_ARGUMENT'): ClientError {
  return new ClientError(code, message, { local: true });
}
