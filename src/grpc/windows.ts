/**
 * HTTP/2 settings that grpc-js has no option for: flow-control windows, frame size, how many streams a client may reset, and the time a
 * TLS handshake may take.
 *
 * Called by `server.ts`. grpc-js ignores `grpc-node.flow_control_window` on the server, and with the default windows of 64 KiB large
 * messages wait for window updates. It makes its HTTP/2 server through `http2.createServer`, so that function is replaced while it
 * does; `createConnectionInjector` does so before it returns, hence nobody else ever sees the replacement.
 */

import http2, { type Http2SecureServer, type Http2Server } from 'node:http2';
import type { ConnectionInjector, Server, ServerCredentials } from '@grpc/grpc-js';

/** Bytes a client may send on one stream before it must wait for us. As large as most messages, not larger: it is buffered. */
export const STREAM_WINDOW_BYTES = 8 * 1024 * 1024;
/** The same over all streams of a connection. */
export const CONNECTION_WINDOW_BYTES = 16 * 1024 * 1024;
/** Largest frame a client may send; C-core clients use it, for 5-12 % less CPU with large messages. */
export const FRAME_BYTES = 1024 * 1024;
/**
 * Streams that a client may reset at once, and per second from then on; beyond them its connection is ended, with all calls on it. gRPC
 * clients reset whatever they cancel and whatever runs into its deadline, and one connection carries the calls of a whole gateway: with
 * Node's 1000 and 33, short deadlines in a busy hour would fail the calls of everybody behind it.
 */
const RESET_BURST = 20_000;
const RESETS_PER_SECOND = 2_000;

export interface WiredServer {
  /** Takes accepted sockets. */
  readonly injector: ConnectionInjector;
  /** The HTTP/2 server behind it, with grpc-js's listeners attached. */
  readonly http2Server: Http2Server | Http2SecureServer;
}

/** Has grpc-js make an HTTP/2 server with our settings. `handshakeTimeoutMs` is for TLS. */
export function createWiredServer(
  server: Server,
  credentials: ServerCredentials,
  handshakeTimeoutMs: number,
): WiredServer {
  const { createServer, createSecureServer } = http2;
  let made: Http2Server | Http2SecureServer | undefined;
  const withSettings = <Options extends http2.ServerOptions>(options: Options): Options => ({
    ...options,
    settings: { ...options.settings, initialWindowSize: STREAM_WINDOW_BYTES, maxFrameSize: FRAME_BYTES },
    streamResetBurst: RESET_BURST,
    streamResetRate: RESETS_PER_SECOND,
  });
  http2.createServer = ((options: http2.ServerOptions) => (made = createServer(withSettings(options)))) as never;
  http2.createSecureServer = ((options: http2.SecureServerOptions) =>
    (made = createSecureServer({
      ...withSettings(options),
      handshakeTimeout: handshakeTimeoutMs,
    } as http2.SecureServerOptions))) as never;
  let injector: ConnectionInjector;
  try {
    injector = server.createConnectionInjector(credentials);
  } finally {
    http2.createServer = createServer;
    http2.createSecureServer = createSecureServer;
  }
  if (made === undefined) throw new Error('grpc-js made its HTTP/2 server by another function than http2.createServer');
  made.on('session', (session) => session.setLocalWindowSize(CONNECTION_WINDOW_BYTES));
  return { injector, http2Server: made };
}
