/**
 * Where the time of one call went, from the caller's call to its answer: the client's own phases, those the server told, and what
 * neither saw. They add up to what the caller waited.
 *
 *   check     asking for the model's metadata                               measured here, of a model's first call
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
  /** The model's metadata were there, where they had to be asked for. */
  readonly checked?: number;
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
  /**
   * Bytes of the message each way, as on the wire (compressed where it was), without headers and framing of the transport. Over gRPC those
   * before compression: what grpc-js makes of them is not to be seen.
   */
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

/**
 * The budget of one answered call. The server may begin to read before we have sent all, and send its head before it computes: what it
 * says it took beyond our wait for the first byte was part of `send`, then of `read`. A server that says it took longer than there was
 * between the two has told nothing of use.
 */
export function budgetOf(
  stamps: CallStamps,
  server: ServerTiming | undefined,
  requestBytes: number,
  responseBytes: number,
): Budget {
  const { called, checked = called, began, encoded, sent, firstByte, lastByte, decoded } = stamps;
  const told = server ? phasesOf(server) : [];
  const toldMs = told.reduce((sum, { ms }) => sum + ms, 0);
  const isCredible = toldMs <= lastByte - encoded;
  const serverMs = isCredible ? toldMs : 0;
  const waitMs = firstByte - sent;
  const inSendMs = Math.min(sent - encoded, Math.max(0, serverMs - waitMs));
  const inReadMs = Math.max(0, serverMs - waitMs - inSendMs);
  const client = (name: string, ms: number): BudgetPhase => ({ side: 'client', name, ms });
  return {
    totalMs: decoded - called,
    phases: [
      ...(checked > called ? [client('check', checked - called)] : []),
      ...(began > checked ? [client('retry', began - checked)] : []),
      client('encode', encoded - began),
      client('send', sent - encoded - inSendMs),
      ...(isCredible ? told : []),
      { side: 'between', name: 'transit', ms: Math.max(0, waitMs - serverMs) },
      client('read', lastByte - firstByte - inReadMs),
      client('decode', decoded - lastByte),
    ],
    serverMs: server?.totalMs,
    requestBytes,
    responseBytes,
  };
}

/** Digits that a server cuts off are no phase. */
const ROUNDING_MS = 0.01;

/** The server's phases, and what of its total they leave out. */
function phasesOf({ phases, totalMs }: ServerTiming): BudgetPhase[] {
  const restMs = totalMs - phases.reduce((sum, { ms }) => sum + ms, 0);
  const named = phases.map(({ name, ms }): BudgetPhase => ({ side: 'server', name, ms }));
  return restMs > ROUNDING_MS ? [...named, { side: 'server', name: 'other', ms: restMs }] : named;
}
