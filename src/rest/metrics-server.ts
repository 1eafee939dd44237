/**
 * GET /metrics on a port of its own, for Prometheus.
 *
 * Made by the composition root. A bare node:http server: one path, no framework, no body ever read.
 */
import { createServer, type IncomingMessage, type OutgoingHttpHeaders, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { nowMs } from '../base/clock.js';
import { answerClientError, guardConnections } from './connection-errors.js';
import { errorBody } from './status.js';

export interface MetricsServerOptions {
  readonly host: string;
  /** 0 = any free port. */
  readonly port: number;
  /** The exposition; a rejection answers 500. */
  render(): Promise<{ contentType: string; body: string | Buffer }>;
}

export interface MetricsServer {
  listen(): Promise<{ address: string; port: number }>;
  close(): Promise<void>;
}

export function createMetricsServer(options: MetricsServerOptions): MetricsServer {
  const limits = {
    maxHeaderSize: 16_384,
    headersTimeout: 10_000,
    requestTimeout: 10_000,
    connectionsCheckingInterval: 2_000,
  };
  const server = createServer(limits, (request, response) => void answer(request, response, options));
  server.on('clientError', (error, socket) => void answerClientError(error, socket));
  guardConnections(server, 0);
  return {
    listen() {
      return new Promise((resolve, reject) => {
        server.once('error', reject);
        server.listen(options.port, options.host, () => {
          server.off('error', reject);
          const { address, port } = server.address() as AddressInfo;
          resolve({ address, port });
        });
      });
    },
    close() {
      return new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      });
    },
  };
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  options: MetricsServerOptions,
): Promise<void> {
  const startedMs = nowMs();
  const send = (status: number, contentType: string, body: string | Buffer, more: OutgoingHttpHeaders = {}): void => {
    const timing = `total;dur=${(nowMs() - startedMs).toFixed(3)}`;
    const headers = { 'content-type': contentType, 'content-length': Buffer.byteLength(body), 'server-timing': timing };
    response.writeHead(status, { ...headers, ...more }).end(body);
  };
  // Whatever stands before the path in an absolute URL does not matter; nothing is parsed that could throw.
  const path = (request.url ?? '').replace(/^https?:\/\/[^/?#]*/i, '').split(/[?#]/, 1)[0];
  if (path !== '/metrics' && path !== '/metrics/') {
    send(404, 'application/json', errorBody('Not Found'));
    return;
  }
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    send(405, 'application/json', errorBody('Method Not Allowed'), { allow: 'GET, HEAD' });
    return;
  }
  try {
    const { contentType, body } = await options.render();
    send(200, contentType, body);
  } catch {
    send(500, 'application/json', errorBody('internal error'));
  }
}
