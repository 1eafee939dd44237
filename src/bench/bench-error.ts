/** A benchmark can't give a figure, and why, in words for whoever started it: no server, an arm that a server doesn't have. */
export class BenchError extends Error {
  override readonly name = 'BenchError';
}
