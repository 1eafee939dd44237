/**
 * A proxy that knows TCP alone: chooses a backend for each connection, keeps bytes back for as long as a network would, and shows them.
 *
 * Used by the experiments: as a connection-level load balancer, as a network with a round trip, and as a tap. Runs in the bench's own
 * process, on 127.0.0.1. The handshake with it is the kernel's and takes no time, so it is added: the client's first bytes arrive one and
 * a half round trips after it began to connect (SYN, SYN-ACK, data), and those of a server that speaks first after two.
 */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

export interface ProxyOptions {
  /** Port of the backend for a new connection. */
  readonly backend: () => number;
  /** Told when a connection that went to `port` has ended. */
  readonly closed?: (port: number) => void;
  readonly roundTripMs?: number;
  /** Sees bytes as they pass; `connection` counts from 0. */
  readonly tap?: (direction: 'up' | 'down', bytes: Buffer, connection: number) => void;
}

export interface TcpProxy {
  readonly port: number;
  /** Connections accepted so far. */
  connections(): number;
  close(): void;
}

export async function startProxy({ backend, closed, roundTripMs = 0, tap }: ProxyOptions): Promise<TcpProxy> {
  const sockets = new Set<Socket>();
  let accepted = 0;
  const server = createServer({ noDelay: true, allowHalfOpen: true }, (client) => {
    const connection = accepted++;
    const port = backend();
    const upstream = connect({ port, host: '127.0.0.1', noDelay: true, allowHalfOpen: true });
    const began = performance.now();
    const link = (from: Socket, to: Socket, direction: 'up' | 'down'): void => {
      sockets.add(from);
      const later =
        roundTripMs === 0
          ? (act: () => void): void => act()
          : delayLine(roundTripMs / 2, began + (direction === 'up' ? 1.5 : 2) * roundTripMs);
      from.on('data', (bytes: Buffer) => {
        tap?.(direction, bytes, connection);
        later(() => {
          // Without this a large transfer would gather here.
          if (!to.destroyed && !to.write(bytes) && roundTripMs === 0) {
            from.pause();
            to.once('drain', () => from.resume());
          }
        });
      });
      from.once('end', () => later(() => to.end()));
      // 'close' follows; what it does is all that is left to do.
      from.on('error', () => undefined);
      from.once('close', () => {
        sockets.delete(from);
        later(() => to.destroySoon());
      });
    };
    link(client, upstream, 'up');
    link(upstream, client, 'down');
    client.once('close', () => closed?.(port));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    connections: () => accepted,
    close: () => {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** Does what it is given after `delayMs`, not before `earliest`, and in the order in which it was given. */
function delayLine(delayMs: number, earliest: number): (act: () => void) => void {
  const waiting: { readonly at: number; readonly act: () => void }[] = [];
  const wake = (): void => {
    // Node's timers count whole milliseconds and may be early by a part of one.
    while (waiting.length > 0 && waiting[0]!.at <= performance.now() + 0.5) waiting.shift()!.act();
    if (waiting.length > 0) setTimeout(wake, Math.max(1, waiting[0]!.at - performance.now()));
  };
  return (act) => {
    waiting.push({ at: Math.max(performance.now() + delayMs, earliest), act });
    if (waiting.length === 1) setTimeout(wake, waiting[0]!.at - performance.now());
  };
}
