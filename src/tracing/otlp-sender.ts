/**
 * Sends OTLP requests over HTTP to the collector: one POST, tried again as the protocol says, never longer than its timeout.
 *
 * Used by `span-queue.ts`, one request at a time. Owns the connection. What fails for now (no connection, 429, 502, 503, 504) is tried
 * again after a growing pause or what `retry-after` says; all else is final. `abort` ends whatever is under way, pauses included: a
 * collector that hangs must not hold the process at its exit, which is why OpenTelemetry's own exporter, which can't be ended, is not used.
 */
import { type ClientRequest, Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { nowMs } from '../base/clock.js';
import { DELIMITED, VARINT, WireReader } from '../base/wire-reader.js';
import type { Sender } from './span-queue.js';

export interface OtlpTarget {
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  /** For a request with all its tries. */
  readonly timeoutMs: number;
  readonly gzip: boolean;
  /** PEM: authorities for the collector's certificate, and our own. */
  readonly ca?: Buffer;
  readonly cert?: Buffer;
  readonly key?: Buffer;
}

const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 5000;
const PAUSE_GROWTH = 1.5;
const MAX_ANSWER_BYTES = 64 * 1024;
const TRY_AGAIN = new Set([429, 502, 503, 504]);

const compress = promisify(gzip);

/** A failure that a later try may not have. */
class PassingError extends Error {
  readonly afterMs: number | undefined;

  constructor(message: string, afterMs?: number) {
    super(message);
    this.afterMs = afterMs;
  }
}

export class OtlpSender implements Sender {
  readonly #target: OtlpTarget;
  readonly #agent: HttpAgent | HttpsAgent;
  readonly #aborter = new AbortController();

  constructor(target: OtlpTarget) {
    this.#target = target;
    const { ca, cert, key } = target;
    this.#agent =
      target.url.protocol === 'https:'
        ? new HttpsAgent({
            keepAlive: true,
            maxSockets: 1,
            ...(ca && { ca }),
            ...(cert && { cert }),
            ...(key && { key }),
          })
        : new HttpAgent({ keepAlive: true, maxSockets: 1 });
  }

  abort(): void {
    this.#aborter.abort();
    this.#agent.destroy();
  }

  async send(body: Buffer): Promise<number> {
    const endMs = nowMs() + this.#target.timeoutMs;
    const bytes = this.#target.gzip ? await compress(body) : body;
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * PAUSE_GROWTH, LONGEST_PAUSE_MS)) {
      try {
        return await this.#post(bytes, endMs - nowMs());
      } catch (error) {
        const wait =
          error instanceof PassingError ? (error.afterMs ?? pauseMs * (0.8 + 0.4 * Math.random())) : Infinity;
        if (nowMs() + wait >= endMs || this.#aborter.signal.aborted) throw error;
        await pause(wait, undefined, { signal: this.#aborter.signal, ref: false }).catch(() => {
          throw error;
        });
      }
    }
  }

  #post(body: Buffer, timeoutMs: number): Promise<number> {
    const { url, headers, gzip: isGzip } = this.#target;
    const { signal } = this.#aborter;
    return new Promise((resolve, reject) => {
      if (signal.aborted) {
        reject(new Error('the server stops'));
        return;
      }
      const options = {
        method: 'POST',
        agent: this.#agent,
        headers: {
          ...headers,
          'content-type': 'application/x-protobuf',
          'content-length': body.length,
          ...(isGzip && { 'content-encoding': 'gzip' }),
        },
      };
      const request: ClientRequest = (url.protocol === 'https:' ? httpsRequest : httpRequest)(url, options);
      const timeout = (): void =>
        void request.destroy(new PassingError(`no answer within ${this.#target.timeoutMs} ms`));
      const timer = setTimeout(timeout, timeoutMs).unref();
      const abort = (): void => void request.destroy(new Error('the server stops'));
      signal.addEventListener('abort', abort, { once: true });
      const done = (): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', abort);
      };
      request.once('response', (response) => readAnswer(response).then(resolve, reject).finally(done));
      request.on('error', (error) => {
        done();
        reject(error instanceof PassingError ? error : new PassingError(reasonOf(error)));
      });
      request.end(body);
    });
  }
}

/** Spans that the collector took but refused; throws what its status means. */
async function readAnswer(response: IncomingMessage): Promise<number> {
  const { statusCode = 0 } = response;
  const parts: Buffer[] = [];
  let length = 0;
  for await (const part of response as AsyncIterable<Buffer>) {
    length += part.length;
    if (length > MAX_ANSWER_BYTES) throw new Error(`the collector's answer is longer than ${MAX_ANSWER_BYTES} bytes`);
    parts.push(part);
  }
  if (statusCode >= 200 && statusCode < 300) return rejectedSpans(Buffer.concat(parts));
  const message = `the collector answered with HTTP status ${statusCode}`;
  if (!TRY_AGAIN.has(statusCode)) throw new Error(message);
  const seconds = Number(response.headers['retry-after'] ?? Number.NaN);
  throw new PassingError(message, seconds >= 0 ? seconds * 1000 : undefined);
}

/** `ExportTraceServiceResponse.partial_success.rejected_spans`; 0 for an answer that is something else. */
function rejectedSpans(body: Buffer): number {
  const PARTIAL_SUCCESS = (1 << 3) | DELIMITED;
  const REJECTED_SPANS = (1 << 3) | VARINT;
  try {
    const reader = new WireReader(body, 'ExportTraceServiceResponse');
    while (reader.pos < reader.limit) {
      const tag = reader.tag();
      // The fields of the message within are read as if they were this one's: nothing else is in it.
      if (tag === PARTIAL_SUCCESS) reader.length();
      else if (tag === REJECTED_SPANS) return reader.int64Number();
      else reader.skip(tag);
    }
  } catch {
    // Some collectors answer with text.
  }
  return 0;
}

function reasonOf(error: NodeJS.ErrnoException): string {
  return error.message || error.code || 'the connection failed';
}
