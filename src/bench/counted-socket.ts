/**
 * Opens a connection whose bytes can be counted where they leave: below TLS, where there is TLS.
 *
 * Called by both transports. Must not know a protocol but the name that TLS agrees on.
 */
import { connect, type Socket } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import type { TlsOptions } from '../client/types.js';
import { BenchError } from './bench-error.js';
import type { WireBytes } from './call.js';

export interface Endpoint {
  readonly host: string;
  readonly port: number;
  readonly tls: TlsOptions | undefined;
}

export interface CountedSocket {
  readonly socket: Socket | TLSSocket;
  bytes(): WireBytes;
}

const CONNECT_TIMEOUT_MS = 10_000;

/** Where `url` leads; the port that its scheme stands for, where it names none. */
export function endpointOf(url: URL, tls: TlsOptions | undefined): Endpoint {
  const port = url.port === '' ? (url.protocol === 'https:' ? 443 : 80) : Number(url.port);
  return { host: url.hostname.replace(/^\[(.*)\]$/, '$1'), port, tls };
}

/** Resolves when the connection stands, TLS included. Throws BenchError. */
export function openSocket({ host, port, tls }: Endpoint, protocol: 'h2' | 'http/1.1'): Promise<CountedSocket> {
  return new Promise((resolve, reject) => {
    const wire = connect({ host, port, noDelay: true });
    const fail = (reason: string): void => {
      wire.destroy();
      reject(new BenchError(`can't connect to ${host}:${port}: ${reason}`));
    };
    const onError = (error: Error): void => fail(error.message || (error as NodeJS.ErrnoException).code || 'failed');
    const timer = setTimeout(fail, CONNECT_TIMEOUT_MS, `no answer within ${CONNECT_TIMEOUT_MS / 1000} s`);
    const ready = (socket: Socket | TLSSocket): void => {
      clearTimeout(timer);
      wire.off('error', onError);
      socket.off('error', onError);
      resolve({ socket, bytes: () => ({ sent: wire.bytesWritten, received: wire.bytesRead }) });
    };
    wire.once('error', onError);
    if (tls === undefined) {
      wire.once('connect', () => ready(wire));
      return;
    }
    const { ca, cert, key, serverName = host } = tls;
    const socket = connectTls({
      socket: wire,
      host: serverName,
      ALPNProtocols: [protocol],
      ...defined({ ca, cert, key }),
    });
    socket.once('error', onError);
    socket.once('secureConnect', () => ready(socket));
  });
}

/** Of all of them together. */
export function bytesOf(sockets: readonly CountedSocket[]): WireBytes {
  let sent = 0;
  let received = 0;
  for (const each of sockets) {
    const bytes = each.bytes();
    sent += bytes.sent;
    received += bytes.received;
  }
  return { sent, received };
}

/** Options that were given: a certificate that is undefined is not the same as none. */
function defined(files: Record<string, Uint8Array | string | undefined>): Record<string, Buffer | string> {
  const given = Object.entries(files).filter((entry): entry is [string, Uint8Array | string] => entry[1] !== undefined);
  return Object.fromEntries(given.map(([name, pem]) => [name, typeof pem === 'string' ? pem : Buffer.from(pem)]));
}
