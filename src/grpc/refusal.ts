/**
 * Ends HTTP/2 streams with headers alone, where nothing was replied yet: a status without a message, or one of HTTP's.
 *
 * Called by whoever refuses a call, in front of grpc-js and of the services. Owns that the caller gets the headers and then stops
 * sending. Must not know what a call is.
 */
import { constants, type ServerHttp2Stream } from 'node:http2';
import { type ErrorCode, ServeError } from '../base/errors.js';
import { grpcDetails, grpcStatus } from './status.js';

/** Trailers-only reply on a bare stream, then RST_STREAM(NO_ERROR): "the answer is complete, stop sending". */
export function refuseStream(
  stream: ServerHttp2Stream,
  code: ErrorCode,
  message: string,
  headers: Record<string, string>,
): void {
  respondAndClose(stream, {
    ':status': 200,
    'content-type': 'application/grpc+proto',
    'grpc-status': grpcStatus(code),
    'grpc-message': encodeURI(grpcDetails(new ServeError(code, message))),
    ...headers,
  });
}

/** Sends headers that end the reply and closes the stream behind them. */
export function respondAndClose(stream: ServerHttp2Stream, headers: Record<string, string | number>): void {
  stream.removeAllListeners('data');
  stream.on('error', ignore);
  if (stream.destroyed || stream.closed) return;
  if (stream.headersSent) {
    stream.close(constants.NGHTTP2_CANCEL);
    return;
  }
  stream.respond(headers, { endStream: true });
  // grpc-js may still hold a timer for this stream and would answer a second time, which throws.
  stream.respond = ignore;
  // An RST_STREAM submitted in this turn would overtake the headers: nghttp2 drops what waits on a closing stream.
  setImmediate(closeAnswered, stream);
}

/** Stops a caller from sending on once it has its status. */
export function closeAnswered(stream: ServerHttp2Stream): void {
  if (stream.destroyed) return;
  stream.close(constants.NGHTTP2_NO_ERROR);
  // Node destroys a stream closed without error only after its readable side was consumed.
  stream.resume();
}

function ignore(): void {}
