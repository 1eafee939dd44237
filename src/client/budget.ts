/**
 * Where the time of one call went, from the caller's call to its answer: the client's own phases, those the server told, and what
 * neither saw. They add up to what the caller waited.
 *
 *   retry     earlier tries and the waits between them (0 mostly)
 *   encode    tensors -> message                                            measured here
 *   send      message -> handed to the connection, waiting for one included measured here
 *   (server)  receive .. encode, as its `server-timing` says                measured there
 *   transit   the wait for the first byte of the answer, less the server's phases: wire, kernels, queues of both event loops
 *   read      first byte of the answer -> last one                          measured here
 *   decode    message -> tensors                                            measured here
 *
 * Made by both transports from their stamps. Owns the reading of `server-timing`; must not know a protocol.
 */

/** Stamps of one call on one monotonic clock of the client, in milliseconds; of the try that was answered. */
export interface CallStamps {
  /** The caller called. */
  readonly called: number;
  /** The try that was answered began: later than `called` where others failed before. */
  readonly began: number;
  readonly encoded: number;
  /** The request was handed to its connection. */
  readonly sent: number;
  readonly firstByte: number;
  readonly lastByte: number;
  readonly decoded: number;
}

export interface BudgetPhase {
  readonly side: 'client' | 'server' | 'between';
  readonly name: string;
  readonly ms: number;
}

export interface Budget {
  /** What the caller waited, in milliseconds. */
  readonly totalMs: number;
  /** In order of time, those of the server in the middle; they add up to `totalMs`. */
  readonly phases: readonly BudgetPhase[];
  /** What the server says it took from first byte to encoded reply; undefined where it told nothing. */
  readonly serverMs: number | undefined;
  /** Bytes of the message each way, as on the wire (compressed where it was), without headers and framing of the transport. */
  readonly requestBytes: number;
  readonly responseBytes: number;
}

export interface ServerTiming {
  readonly phases: readonly { readonly name: string; readonly ms: number }[];
  readonly totalMs: number;
}

/** Reads a `Server-Timing` value (W3C); metrics without `dur` are passed over. Undefined when there is nothing in it. */
export function parseServerTiming(value: string | undefined): ServerTiming | undefined {
  if (!value) return undefined;
  const phases: { name: string; ms: number }[] = [];
  let totalMs: number | undefined;
  for (const metric of value.split(',')) {
    const [name = '', ...parameters] = metric.trim().split(';');
    const duration = parameters.map((parameter) => /^\s*dur\s*=\s*"?([\d.]+)"?\s*$/.exec(parameter)?.[1]).find(Boolean);
    if (name === '' || duration === undefined) continue;
    const ms = Number(duration);
    if (!Number.isFinite(ms)) continue;
    if (name === 'total') totalMs = ms;
    else phases.push({ name, ms });
  }
  if (phases.length === 0 && totalMs === undefined) return undefined;
  return { phases, totalMs: totalMs ?? phases.reduce((sum, { ms }) => sum + ms, 0) };
}

/** The budget of one answered call. `receivedMs` of the server may overlap with our sending, so the rest is never below 0. */
export function budgetOf(
  stamps: CallStamps,
  server: ServerTiming | undefined,
  requestBytes: number,
  responseBytes: number,
): Budget {
  const { called, began, encoded, sent, firstByte, lastByte, decoded } = stamps;
  const waitMs = firstByte - sent;
  const client = (name: string, ms: number): BudgetPhase => ({ side: 'client', name, ms });
  // A server that reads while we still write has begun before `sent`: what it took beyond our wait was part of `send`.
  const overlapMs = Math.max(0, (server?.totalMs ?? 0) - waitMs);
  return {
    totalMs: decoded - called,
    phases: [
      ...(began > called ? [client('retry', began - called)] : []),
      client('encode', encoded - began),
      client('send', Math.max(0, sent - encoded - overlapMs)),
      ...(server?.phases ?? []).map(({ name, ms }): BudgetPhase => ({ side: 'server', name, ms })),
      { side: 'between', name: 'transit', ms: Math.max(0, waitMs - (server?.totalMs ?? 0)) },
      client('read', lastByte - firstByte),
      client('decode', decoded - lastByte),
    ],
    serverMs: server?.totalMs,
    requestBytes,
    responseBytes,
  };
}
