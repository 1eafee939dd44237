/**
 * What happens before there is a request: malformed heads, timeouts, CONNECT, `Expect`.
 *
 * Called by `server.ts` and `metrics-server.ts` once each. Answers on the bare socket, in the same form as every other error, and tells
 * with which status.
 */
import type { IncomingMessage, OutgoingHttpHeaders, Server, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { nowMs } from '../base/clock.js';
import { errorBodyFor } from './openai-error.js';
import { bodyTooLarge, errorBody, HttpError } from './status.js';

const REASONS: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  405: 'Method Not Allowed',
  408: 'Request Timeout',
  413: 'Content Too Large',
  414: 'URI Too Long',
  431: 'Request Header Fields Too Large',
};

/** What Node tells with `clientError`. */
export interface ConnectionError extends Error {
  code?: string;
  rawPacket?: unknown;
}

/** Told of a request that was refused before there was one. */
export type OnRefused = (status: number) => void;

export interface RefusalOptions {
  readonly onRefused?: OnRefused;
  /** Replies carry their budget. */
  readonly serverTiming?: boolean;
}

/** Answers a connection on which Node found no request it could read, and ends it; the status, or undefined where it could not be said. */
export function answerClientError(error: ConnectionError, socket: Duplex, serverTiming = true): number | undefined {
  if (!socket.writable || error.code === 'ECONNRESET') {
    socket.destroy();
    return undefined;
  }
  // A reply that has begun cannot be taken back, but goes out.
  if ((socket as { _httpMessage?: { headersSent?: boolean } })._httpMessage?.headersSent === true) {
    socket.end(() => socket.destroy());
    return undefined;
  }
  const [status, message] = classify(error);
  answer(socket, status, message, serverTiming ? NO_TIME : '');
  return status;
}

function classify(error: ConnectionError): [number, string] {
  if (error.code === 'ERR_HTTP_REQUEST_TIMEOUT') return [408, 'request was not complete in time'];
  if (error.code === 'HPE_CHUNK_EXTENSIONS_OVERFLOW') return [413, 'chunk extensions are too long'];
  if (error.code === 'HPE_HEADER_OVERFLOW') {
    const lineEnd = Buffer.isBuffer(error.rawPacket) ? error.rawPacket.indexOf('\r\n') : 0;
    return lineEnd < 0 || lineEnd > 8192 ? [414, 'URI is too long'] : [431, 'request header fields are too large'];
  }
  return [400, 'malformed HTTP request'];
}

/** Of a reply that took no time to speak of. */
const NO_TIME = 'server-timing: total;dur=0.000\r\n';

function answer(socket: Duplex, status: number, message: string, fields = ''): void {
  const body = errorBody(message);
  const head =
    `HTTP/1.1 ${status} ${REASONS[status]}\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n` +
    `date: ${new Date().toUTCString()}\r\nconnection: close\r\n${fields}\r\n`;
  socket.on('error', () => socket.destroy());
  socket.end(head + body, () => socket.destroy());
}

/** CONNECT is refused; a body that says `Expect: 100-continue` is invited only when it is not too large. */
export function guardConnections(
  server: Server,
  maxInputSize: number,
  { onRefused, serverTiming = true }: RefusalOptions = {},
): void {
  server.on('connect', (_request, socket) => {
    answer(socket, 405, 'Method Not Allowed', `${serverTiming ? NO_TIME : ''}allow: GET, POST\r\n`);
    onRefused?.(405);
  });
  server.on('checkContinue', (request, response) => {
    const startedMs = nowMs();
    const length = Number(request.headers['content-length'] ?? 0);
    if (length <= maxInputSize) {
      response.writeContinue();
      server.emit('request', request, response);
      return;
    }
    refuse(request, response, bodyTooLarge(length, maxInputSize), timing(startedMs));
    onRefused?.(413);
  });
  server.on('checkExpectation', (request, response) => {
    refuse(request, response, new HttpError(417, 'expectation can not be met'), timing(nowMs()));
    onRefused?.(417);
  });
  function timing(startedMs: number): OutgoingHttpHeaders {
    return serverTiming ? { 'server-timing': `total;dur=${(nowMs() - startedMs).toFixed(3)}` } : {};
  }
}

function refuse(
  request: IncomingMessage,
  response: ServerResponse,
  error: HttpError,
  timing: OutgoingHttpHeaders,
): void {
  const body = errorBodyFor(request.url, error);
  const headers = {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(body),
    ...timing,
    connection: 'close',
  };
  response.writeHead(error.status, headers).end(body);
}
