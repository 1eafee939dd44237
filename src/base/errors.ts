/**
 * The one error class of the server and its closed set of codes (gRPC's names).
 *
 * Called by every layer. The front ends translate codes by one table each (`grpc/status.ts`, `rest/status.ts`).
 * Must not know a protocol. Anything thrown that is not a ServeError is a bug: it leaves as INTERNAL without detail.
 */

export type ErrorCode =
  | 'CANCELLED'
  | 'INVALID_ARGUMENT'
  | 'DEADLINE_EXCEEDED'
  | 'NOT_FOUND'
  | 'ALREADY_EXISTS'
  | 'RESOURCE_EXHAUSTED'
  | 'FAILED_PRECONDITION'
  | 'UNIMPLEMENTED'
  | 'INTERNAL'
  | 'UNAVAILABLE';

/** A failure with a code that a client may see. The message is safe to send: it holds no path, address or stack. */
export class ServeError extends Error {
  override readonly name = 'ServeError';
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }

  /** The one door for caught values: a ServeError passes, anything else becomes INTERNAL with the value as `cause`. */
  static from(value: unknown): ServeError {
    if (value instanceof ServeError) return value;
    return new ServeError('INTERNAL', 'internal error', { cause: value });
  }
}

/** Shorthand for the most common refusal. */
export function invalid(message: string): ServeError {
  return new ServeError('INVALID_ARGUMENT', message);
}

/** A message of a library or of Node with `...` for each path of a file: only then it may be told to clients. */
export function withoutPaths(message: string): string {
  return message.replaceAll(/(file:\/\/)?(\/[\w.@+-]+)+|[A-Z]:\\[^\s'"]+/g, '...');
}

/**
 * Text from a client made fit to be echoed or logged: well-formed, control characters replaced, cut to `max` characters.
 * grpc-js throws on lone surrogates in a status message, and clients drop replies with very long ones.
 */
export function printable(text: string, max = 64): string {
  const cut = text.length > max ? `${text.slice(0, max)}...` : text;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is removed here
  return cut.toWellFormed().replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, '?');
}
