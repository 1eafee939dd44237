/**
 * Which requests are in flight on which connection: told when the client stops sending or goes, asked when the server stops.
 *
 * Made by `server.ts`. Node tells only the oldest of several pipelined requests that their connection has closed, and spares idle
 * connections that never carried a request when it closes; here each request hears, and each idle connection closes.
 */
import type { Server } from 'node:http';
import type { Socket } from 'node:net';
import type { Exchange } from './exchange.js';

export class Connections {
  private readonly exchanges = new Map<Socket, Set<Exchange>>();

  constructor(server: Server, event: 'connection' | 'secureConnection') {
    server.on(event, (socket: Socket) => {
      const open = new Set<Exchange>();
      this.exchanges.set(socket, open);
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
    exchange.onClose(() => open.delete(exchange));
    if (socket.readableEnded) exchange.clientStoppedSending();
  }

  /** Closes connections without a request; the others end with their replies, which say `connection: close`. */
  closeIdle(): void {
    for (const [socket, open] of this.exchanges) if (open.size === 0) socket.destroy();
  }
}
