/** A benchmark can't give a figure, and why, in words for whoever started it: no server, an arm that a server doesn't have. */
export class BenchError extends Error {
  override readonly name: string = 'BenchError';
}

/** A server that takes requests and answers none. */
export class SilenceError extends BenchError {
  override readonly name = 'SilenceError';
}

/** What was typed can't be used: an option, a file or directory that it names. */
export class UsageError extends BenchError {
  override readonly name = 'UsageError';
}
