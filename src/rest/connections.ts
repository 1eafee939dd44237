/**
 * Which connections have a request in flight, so that those without one can be closed when the server stops.
 *
 * Node's own closeIdleConnections() spares connections that never carried a request; an open browser tab would hold up a stop.
 */
import type { Server } from 'node:http';
import type { Socket } from 'node:net';

export class Connections {
  /** Open connections and the requests in flight on each. */
  private readonly requests = new Map<Socket, number>();

  constructor(server: Server, event: 'connection' | 'secureConnection') {
    server.on(event, (socket: Socket) => {
      this.requests.set(socket, 0);
      socket.once('close', () => this.requests.delete(socket));
    });
  }

  /** A request began on `socket`. */
  busy(socket: Socket): void {
    this.requests.set(socket, (this.requests.get(socket) ?? 0) + 1);
  }

  /** A request on `socket` is over. */
  idle(socket: Socket): void {
    const count = this.requests.get(socket);
    if (count !== undefined) this.requests.set(socket, count - 1);
  }

  /** Closes connections without a request; the others end with their replies, which say `connection: close`. */
  closeIdle(): void {
    for (const [socket, count] of this.requests) if (count === 0) socket.destroy();
  }
}
