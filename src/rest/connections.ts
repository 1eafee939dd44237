/**
 * Which requests are in flight on which connection: told when the client stops sending or goes, asked when the server stops.
 *
 * Made by `server.ts`. Node tells only the oldest of several pipelined requests that their connection has closed, and spares idle
 * connections that never carried a request when it closes; here each request hears, and each idle connection closes.
 */
import type { Server } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Exchange } from './exchange.js';

/** Turns of the event loop without anything new, after which what had arrived has been read; and the most, whatever still comes. */
const QUIET_TURNS = 3;
const MOST_TURNS = 1000;

export class Connections {
  private readonly exchanges = new Map<Socket, Set<Exchange>>();
  /** Connections and requests so far. */
  private arrivals = 0;

  constructor(server: Server, event: 'connection' | 'secureConnection') {
    server.on(event, (socket: Socket) => {
      const open = new Set<Exchange>();
      this.exchanges.set(socket, open);
      this.arrivals++;
      socket.once('end', () => {
        for (const exchange of open) exchange.clientStoppedSending();
      });
      socket.once('close', () => {
        this.exchanges.delete(socket);
        for (const exchange of open) exchange.end();
      });
    });
  }

  /** A request has begun; it is forgotten when it ends. */
  add(exchange: Exchange): void {
    const { socket } = exchange.request;
    const open = this.exchanges.get(socket);
    if (open === undefined) {
      exchange.end();
      return;
    }
    open.add(exchange);
    this.arrivals++;
    exchange.onClose(() => open.delete(exchange));
    if (socket.readableEnded) exchange.clientStoppedSending();
  }

  /** A connection was answered in place of the requests that it has; false where it has none. */
  refused(socket: Duplex, status: number): boolean {
    const open = this.exchanges.get(socket as Socket);
    if (open === undefined || open.size === 0) return false;
    for (const exchange of open) exchange.status = status;
    return true;
  }

  /** Resolves when what has arrived by now is accepted and read: libuv accepts one connection in a turn. */
  async untilRead(): Promise<void> {
    let before = this.arrivals;
    for (let turns = 0, quiet = 0; turns < MOST_TURNS && quiet < QUIET_TURNS; turns++) {
      await nextTurn();
      quiet = this.arrivals === before ? quiet + 1 : 0;
      before = this.arrivals;
    }
  }

  /** Closes connections without a request; the others end with their replies, which say `connection: close`. */
  closeIdle(): void {
    for (const [socket, open] of this.exchanges) if (open.size === 0) socket.destroy();
  }
}
