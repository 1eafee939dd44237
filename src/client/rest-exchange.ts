/**
 * One HTTP request and what comes back, as undici tells it: stamps, head, body, trailers, or why there was no answer.
 *
 * Made by `rest-call.ts` for each try. Collects a body in one piece of memory where its length is known, such that binary tensors in it
 * can be views; the body of a stream goes to its sink instead, piece by piece. Never throws and never rejects: failures are data.
 */
import type { IncomingHttpHeaders } from 'node:http';
import { type Dispatcher, errors } from 'undici';
import { ClientError, type ClientErrorCode, plainReason } from './client-error.js';
import { bodyMemory } from './rest-decode.js';

export interface RestAnswer {
  readonly ok: true;
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** As it came, still compressed where `content-encoding` says so; empty where a sink takes it. */
  readonly body: Buffer;
  readonly sentMs: number;
  readonly firstByteMs: number;
  readonly lastByteMs: number;
}

/** There was no answer, or not all of it. */
export interface RestFailure {
  readonly ok: false;
  readonly code: ClientErrorCode;
  readonly message: string;
  readonly cause: unknown;
  /** No connection came about: the server never saw anything. */
  readonly unreachable: boolean;
  /** The answer had begun, or it is the caller who ends it: not to be tried again. */
  readonly final: boolean;
  /** Found here before anything was sent. */
  readonly local: boolean;
}

/** Takes the body of a successful answer that is a stream. */
export interface BodySink {
  chunk(chunk: Buffer, controller: Dispatcher.DispatchController): void;
  end(trailers: IncomingHttpHeaders): void;
  fail(failure: RestFailure): void;
}

export interface ExchangeOptions {
  /** `host:port`, for messages. */
  readonly address: string;
  readonly maxReceiveBytes: number;
  /** Takes the body of an answer of status 200; the exchange is then settled by its head. */
  readonly sink?: BodySink;
  /** Called once, when undici has done with the request. */
  readonly onOver: () => void;
}

export class Exchange implements Dispatcher.DispatchHandler {
  readonly #options: ExchangeOptions;
  readonly #settle: (result: RestAnswer | RestFailure) => void;
  #controller: Dispatcher.DispatchController | undefined;
  #cancelled: ClientError | undefined;
  #settled = false;
  #streaming = false;
  #sentMs = 0;
  #firstByteMs = 0;
  #status = 0;
  #headers: IncomingHttpHeaders = {};
  /** Memory for the whole body where its length is known, else the pieces. */
  #memory: Buffer | undefined;
  #chunks: Buffer[] = [];
  #received = 0;

  /** `settle` is called once. */
  constructor(options: ExchangeOptions, settle: (result: RestAnswer | RestFailure) => void) {
    this.#options = options;
    this.#settle = settle;
  }

  /** Nobody waits for the answer any more; its connection is closed, for HTTP/1.1 has no other way to say so. */
  cancel(error: ClientError): void {
    this.#cancelled = error;
    this.#controller?.abort(error);
    // One whose connection is being opened can't be taken back; it is over when that is there.
    this.#fail(error);
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#cancelled) controller.abort(this.#cancelled);
  }

  onRequestSent(): void {
    this.#sentMs = performance.now();
  }

  /** Also before each interim answer, so the last one counts. */
  onResponseStarted(): void {
    this.#firstByteMs = performance.now();
  }

  onResponseStart(controller: Dispatcher.DispatchController, status: number, headers: IncomingHttpHeaders): void {
    if (status < 200) return;
    this.#status = status;
    this.#headers = headers;
    if (status === 200 && this.#options.sink) {
      this.#streaming = true;
      this.#answer(EMPTY);
      return;
    }
    const length = Number(headers['content-length'] ?? Number.NaN);
    if (length > this.#options.maxReceiveBytes) this.#refuse(controller, length);
    else if (length >= 0) this.#memory = bodyMemory(length, jsonLengthOf(headers));
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#streaming) {
      this.#received += chunk.length;
      this.#options.sink!.chunk(chunk, controller);
      return;
    }
    if (this.#received + chunk.length > this.#options.maxReceiveBytes) {
      this.#refuse(controller, this.#received + chunk.length);
      return;
    }
    if (this.#memory) chunk.copy(this.#memory, this.#received);
    else this.#chunks.push(chunk);
    this.#received += chunk.length;
  }

  onResponseEnd(_: Dispatcher.DispatchController, trailers: IncomingHttpHeaders): void {
    if (this.#streaming) this.#options.sink!.end(trailers);
    else this.#answer(this.#memory ?? this.#joined());
    this.#options.onOver();
  }

  onResponseError(_: Dispatcher.DispatchController | null, error: Error): void {
    this.#fail(error);
    this.#options.onOver();
  }

  #joined(): Buffer {
    const body = bodyMemory(this.#received, jsonLengthOf(this.#headers));
    let at = 0;
    for (const chunk of this.#chunks) at += chunk.copy(body, at);
    return body;
  }

  #answer(body: Buffer): void {
    if (this.#settled) return;
    this.#settled = true;
    this.#settle({
      ok: true,
      status: this.#status,
      headers: this.#headers,
      body,
      sentMs: this.#sentMs,
      firstByteMs: this.#firstByteMs,
      lastByteMs: performance.now(),
    });
  }

  #fail(error: Error): void {
    const failure = this.#failureOf(error);
    if (!this.#settled) {
      this.#settled = true;
      this.#settle(failure);
    } else if (this.#streaming) {
      this.#streaming = false;
      this.#options.sink!.fail(failure);
    }
  }

  #refuse(controller: Dispatcher.DispatchController, bytes: number): void {
    const { maxReceiveBytes } = this.#options;
    const message = `the answer has at least ${bytes} bytes, maxReceiveBytes allows ${maxReceiveBytes}`;
    controller.abort(new ClientError('RESOURCE_EXHAUSTED', message));
  }

  #failureOf(error: Error): RestFailure {
    const begun = this.#status !== 0;
    if (error instanceof ClientError) {
      const { code, message, cause } = error;
      return { ok: false, code, message, cause, unreachable: false, final: true, local: false };
    }
    const { address } = this.#options;
    const why = reasonOf(error);
    const failed = {
      ok: false,
      code: 'UNAVAILABLE',
      cause: error,
      unreachable: false,
      final: begun,
      local: false,
    } as const;
    const kind = (error as NodeJS.ErrnoException).code ?? '';
    if (UNSENDABLE.has(kind)) {
      return {
        ...failed,
        code: 'INVALID_ARGUMENT',
        message: `the request can't be sent: ${why}`,
        final: true,
        local: true,
      };
    }
    if (begun) {
      const message = `the answer of ${address} ended after ${this.#received} bytes of its body: ${why}`;
      return { ...failed, message };
    }
    if (this.#controller === undefined) {
      return { ...failed, message: `no connection to ${address}: ${why}`, unreachable: true };
    }
    if (error instanceof errors.HTTPParserError || error instanceof errors.HeadersOverflowError) {
      return { ...failed, code: 'INTERNAL', message: `${address} doesn't answer in HTTP/1.1: ${why}`, final: true };
    }
    return { ...failed, message: `connection to ${address} lost before it answered: ${why}` };
  }
}

/** Where the tensors of a binary answer begin; undefined for an answer that is JSON alone, NaN for a header that is no number. */
export function jsonLengthOf(headers: IncomingHttpHeaders): number | undefined {
  const text = headers['inference-header-content-length'];
  if (text === undefined) return undefined;
  return typeof text === 'string' && /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
}

const EMPTY = Buffer.alloc(0);

/** undici's codes for requests that it does not send, such as for the headers that a caller gave. */
const UNSENDABLE: ReadonlySet<string> = new Set([
  'UND_ERR_INVALID_ARG',
  'UND_ERR_NOT_SUPPORTED',
  'UND_ERR_REQ_CONTENT_LENGTH_MISMATCH',
]);

/** Node's message; of several tries to connect (one for each address of a name), the first one's. */
function reasonOf(error: Error): string {
  const first = error instanceof AggregateError ? (error.errors[0] as Error | undefined) : undefined;
  return plainReason(first?.message || error.message || error.name);
}
