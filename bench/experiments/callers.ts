/**
 * Bare clients: gRPC calls on one connection of node:http2, on channels of grpc-js, and REST over an agent of node:http.
 *
 * Used by the experiments. Messages are prepared bytes and answers stay bytes, so that what is measured is protocols and connections,
 * not codecs. Each call rejects unless it was answered with success.
 */

import { Agent as HttpAgent, request as httpRequest } from 'node:http';
import { connect } from 'node:http2';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import * as grpc from '@grpc/grpc-js';
import { GRPC_HEADERS } from '../probe.js';
import { BenchError } from '../result.js';

/** The name in the certificate of the lab's servers. */
const SERVER_NAME = 'localhost';
/** With HTTP/2's own 64 KB a large answer would wait for the client every few microseconds. */
const WINDOW_BYTES = 1 << 20;

export interface Reply {
  readonly body: Buffer;
  /** The server's `server-timing`; '' where a client doesn't show it. */
  readonly timing: string;
}

/** Sends one prepared message; `path` is a method over gRPC and a resource over REST. */
export interface Caller {
  call(path: string, body: Uint8Array, headers?: Readonly<Record<string, string>>): Promise<Reply>;
  close(): void;
}

export interface Target {
  readonly port: number;
  /** PEM of the authority; undefined = plaintext. */
  readonly ca?: Buffer | undefined;
}

/** One HTTP/2 connection, opened with the first call. Bodies are gRPC frames. */
export function http2Caller({ port, ca }: Target): Caller {
  const session = connect(`${ca ? 'https' : 'http'}://127.0.0.1:${port}`, {
    ...(ca && { ca, servername: SERVER_NAME }),
    // Node refuses streams of its own beyond 10 MB of memory for all that is under way.
    maxSessionMemory: 1000,
    settings: { initialWindowSize: WINDOW_BYTES },
  });
  session.once('connect', () => session.setLocalWindowSize(WINDOW_BYTES));
  session.on('error', () => {});
  // All calls of an experiment may be in flight at once, and each listens for the connection's end.
  session.setMaxListeners(0);
  return {
    call: (path, body, headers = {}) =>
      new Promise((resolve, reject) => {
        const stream = session.request({ ':method': 'POST', ':path': path, ...GRPC_HEADERS, ...headers });
        const chunks: Buffer[] = [];
        let last: Record<string, unknown> = {};
        const take = (received: Record<string, unknown>): void => void (last = { ...last, ...received });
        stream.on('response', take);
        stream.on('trailers', take);
        stream.on('data', (chunk: Buffer) => chunks.push(chunk));
        stream.once('error', reject);
        stream.once('close', () => {
          if (last['grpc-status'] === '0') {
            resolve({ body: Buffer.concat(chunks), timing: String(last['server-timing'] ?? '') });
          } else reject(new BenchError(`${path}: grpc-status ${last['grpc-status']}: ${last['grpc-message']}`));
        });
        stream.end(body);
      }),
    close: () => session.destroy(),
  };
}

export interface RestOptions extends Target {
  /** Connections at most; further calls wait in the client, as in a browser. */
  readonly connections: number;
  /** false = a new connection for each call. */
  readonly keepAlive: boolean;
}

export function restCaller({ port, ca, connections, keepAlive }: RestOptions): Caller {
  const common = { keepAlive, maxSockets: connections };
  // With a ticket of an earlier connection TLS would be cheaper than the first one is.
  const secure = { ca, servername: SERVER_NAME, maxCachedSessions: 0 };
  const agent = ca ? new HttpsAgent({ ...common, ...secure }) : new HttpAgent(common);
  const request = ca ? httpsRequest : httpRequest;
  return {
    call: (path, body, headers = { 'content-type': 'application/json' }) =>
      new Promise((resolve, reject) => {
        const own = { ...headers, 'content-length': body.length };
        const options = { host: '127.0.0.1', port, path, method: 'POST', agent, headers: own };
        const sent = request(options, (response) => {
          const chunks: Buffer[] = [];
          response.on('data', (chunk: Buffer) => chunks.push(chunk));
          response.once('error', reject);
          response.once('end', () => {
            const reply = Buffer.concat(chunks);
            const timing = String(response.headers['server-timing'] ?? '');
            if (response.statusCode === 200) resolve({ body: reply, timing });
            else reject(new BenchError(`${path}: status ${response.statusCode}: ${reply.toString('utf8', 0, 300)}`));
          });
        });
        sent.once('error', reject);
        sent.end(body);
      }),
    close: () => agent.destroy(),
  };
}

const asIs = (bytes: Buffer): Buffer => bytes;

/** A channel of grpc-js, the stock client. Bodies are messages without their frame. `addresses`: a target of grpc-js or a port. */
export function channelCaller({ port, ca }: Target, options: grpc.ClientOptions = {}, target?: string): Caller {
  const credentials = ca ? grpc.credentials.createSsl(ca) : grpc.credentials.createInsecure();
  const client = new grpc.Client(target ?? `127.0.0.1:${port}`, credentials, {
    ...(ca && { 'grpc.ssl_target_name_override': SERVER_NAME }),
    'grpc.max_receive_message_length': -1,
    ...options,
  });
  return {
    call: (path, body, headers = {}) =>
      new Promise((resolve, reject) => {
        const metadata = new grpc.Metadata();
        for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
        client.makeUnaryRequest(path, asIs, asIs, body as Buffer, metadata, (error, reply) => {
          if (error) reject(error);
          else resolve({ body: reply!, timing: '' });
        });
      }),
    close: () => client.close(),
  };
}

/** A gRPC frame's message. */
export function unframed(frame: Buffer): Buffer {
  return frame.subarray(5);
}

/** Milliseconds of one phase in a `server-timing` text. */
export function phaseMs(timing: string, phase: string): number {
  return Number(new RegExp(`(?:^|, )${phase};dur=([0-9.]+)`).exec(timing)?.[1] ?? 0);
}
