/**
 * An address that nobody can be reached at, for as long as a test needs it.
 *
 * Called by tests of clients. A port that was free a moment ago may be another process's by now, and a client that connects to a free
 * port of its own range may even meet itself; so this one is taken, by the near end of a connection, at which nobody listens.
 */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';

export interface DeadPort {
  readonly port: number;
  /** Gives the port back. */
  release(): void;
}

/** A port on 127.0.0.1 that refuses connections and that nobody else can be given. */
export async function takeDeadPort(): Promise<DeadPort> {
  const listener = createServer().listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const accepted = once(listener, 'connection');
  const { port: far } = listener.address() as AddressInfo;
  // With an address of its own the port is bound before it is connected, as a listener's would be.
  const holder = connect({ port: far, host: '127.0.0.1', localAddress: '127.0.0.1' });
  await once(holder, 'connect');
  const [peer] = await accepted;
  // Neither end keeps the process.
  holder.unref();
  peer.unref();
  listener.close();
  return {
    port: holder.localPort!,
    release() {
      peer.destroy();
      holder.destroy();
    },
  };
}
