/**
 * How long connections take from being accepted to the peer's first SETTINGS: TCP's part of the way is the kernel's, TLS and HTTP/2's
 * are here.
 *
 * Made by `server.ts`. Owns the times of those that are not ready yet. A session knows its socket's addresses and not the socket, which
 * TLS wraps, so they are found by the peer's.
 */
import type { ServerHttp2Session } from 'node:http2';
import type { Socket } from 'node:net';
import { nowMs } from '../base/clock.js';
import type { ConnectionCounts } from '../base/connection-counts.js';

export class ConnectionSetups {
  readonly #counts: ConnectionCounts | undefined;
  readonly #acceptedMs = new Map<string, number>();

  /** Without `counts` nothing is measured. */
  constructor(counts: ConnectionCounts | undefined) {
    this.#counts = counts;
  }

  accepted(socket: Socket): void {
    if (this.#counts === undefined) return;
    this.#counts.count(socket);
    const key = keyOf(socket);
    this.#acceptedMs.set(key, nowMs());
    // By its time too: the peer may use the port again before this is heard.
    const acceptedMs = this.#acceptedMs.get(key);
    socket.once('close', () => {
      if (this.#acceptedMs.get(key) === acceptedMs) this.#acceptedMs.delete(key);
    });
  }

  /** The peer of `session` has said its first SETTINGS. */
  ready(session: ServerHttp2Session): void {
    const { socket } = session;
    if (this.#counts === undefined || socket === undefined) return;
    const key = keyOf(socket);
    const acceptedMs = this.#acceptedMs.get(key);
    if (acceptedMs === undefined) return;
    this.#acceptedMs.delete(key);
    this.#counts.setupMs.observe(nowMs() - acceptedMs);
  }
}

function keyOf({ remoteAddress, remotePort }: Pick<Socket, 'remoteAddress' | 'remotePort'>): string {
  return `${remoteAddress} ${remotePort}`;
}
