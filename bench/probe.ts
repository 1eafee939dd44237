/**
 * One request whose reply is looked at: what h2load sends later must have been answered rightly once.
 *
 * Used by the benches before each load. Plain node:http2 and node:http, so nothing of the server is trusted to check itself.
 */
import { request as httpRequest } from 'node:http';
import { connect } from 'node:http2';
import { BenchError } from './result.js';

const TIMEOUT_MS = 30_000;

/** Sends a framed gRPC message; resolves with the framed reply once the trailers say OK. */
export function probeGrpc(origin: string, path: string, frame: Uint8Array): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const session = connect(origin);
    const fail = (reason: string): void => {
      session.destroy();
      reject(new BenchError(`${origin}${path}: ${reason}`));
    };
    session.setTimeout(TIMEOUT_MS, () => fail('no answer'));
    session.once('error', (error) => fail(error.message));
    const stream = session.request({ ':method': 'POST', ':path': path, ...GRPC_HEADERS });
    const chunks: Buffer[] = [];
    let status = '';
    let details = '';
    const take = (headers: Record<string, unknown>): void => {
      status = String(headers['grpc-status'] ?? status);
      details = String(headers['grpc-message'] ?? details);
    };
    stream.on('response', take);
    stream.on('trailers', take);
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.once('error', (error) => fail(error.message));
    stream.once('end', () => {
      if (status !== '0') return fail(`grpc-status ${status}: ${details}`);
      session.close();
      resolve(Buffer.concat(chunks));
    });
    stream.end(frame);
  });
}

/** What a gRPC client sends as headers beside the pseudo ones. */
export const GRPC_HEADERS = { 'content-type': 'application/grpc', te: 'trailers' };

/** POST over HTTP/1.1; resolves with the body of a reply of status 200. */
export function probeHttp(url: string, headers: Readonly<Record<string, string>>, body: Uint8Array): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const length = { 'content-length': body.length };
    const sent = httpRequest(url, { method: 'POST', headers: { ...headers, ...length }, agent: false }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.once('end', () => {
        const reply = Buffer.concat(chunks);
        if (response.statusCode === 200) resolve(reply);
        else reject(new BenchError(`${url}: status ${response.statusCode}: ${reply.toString('utf8', 0, 300)}`));
      });
    });
    sent.setTimeout(TIMEOUT_MS, () => sent.destroy(new BenchError(`${url}: no answer`)));
    sent.once('error', reject);
    sent.end(body);
  });
}

/** Throws unless both hold the same bytes. */
export function assertBytes(what: string, actual: Uint8Array, expected: Uint8Array): void {
  if (Buffer.compare(actual, expected) === 0) return;
  throw new BenchError(
    `${what}: the reply's tensor (${actual.length} bytes) is not what was expected (${expected.length})`,
  );
}
