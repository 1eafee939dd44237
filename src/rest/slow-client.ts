/**
 * Clients that still send when they are answered, and those that do not read what they asked for.
 *
 * Called by `exchange.ts` when a reply goes out. Owns the timers; they end with the exchange.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';

/** An exchange, as far as it matters here. */
interface Replying {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  onClose(listener: () => void): void;
}

/** A reply of which no byte moves for this long belongs to a client that does not read. */
const WRITE_STALL_MS = 30_000;
/** How long an unread body is taken and dropped behind an early error, so that the client gets to read it. */
const LINGER_MS = 2_000;
/** Unread bodies up to this size are dropped without giving up the connection. */
const LINGER_BYTES = 65_536;

/** Whether what a client still sends is too much to be waited for on a connection that is kept. */
export function bodyIsLong(request: IncomingMessage): boolean {
  const length = request.headers['content-length'];
  return length === undefined ? request.headers['transfer-encoding'] !== undefined : Number(length) > LINGER_BYTES;
}

/** Replies in full but ends only when the client has sent its body or enough time has passed: closing at once resets it. */
export function linger({ request, response }: Replying, body: Uint8Array | string): void {
  const end = (): void => {
    clearTimeout(timer);
    if (!response.writableEnded) response.end();
  };
  const timer = setTimeout(end, LINGER_MS);
  request.once('end', end);
  request.once('close', end);
  response.write(body);
  request.resume();
}

/** Gives up a connection that takes nothing of a reply any more; its buffers would be held for ever. */
export function watchStall(exchange: Replying): void {
  const { socket } = exchange.response;
  let written = socket?.bytesWritten ?? 0;
  const timer = setInterval(() => {
    const now = socket?.bytesWritten ?? 0;
    if (now === written) socket?.destroy();
    written = now;
  }, WRITE_STALL_MS);
  exchange.onClose(() => clearInterval(timer));
}
