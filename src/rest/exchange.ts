/**
 * One HTTP request and its one reply, without the framework: writes the reply, notices that the client has gone.
 *
 * Made by `server.ts` for every request, used by the routes. Owns what every reply has: `server-timing`, the content length, the
 * coding that the client asked for, `connection: close` while the server stops; and what the observer is told when it ends. A reply to a
 * connection that is gone is dropped.
 * Replies whose length nobody knows before are begun and ended here and written by `event-stream.ts`.
 */
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { nowMs } from '../base/clock.js';
import { ServeError } from '../base/errors.js';
import { Timeline } from '../base/timeline.js';
import type { FinishedRequest } from '../engine/finished-request.js';
import type { RequestTrace } from '../engine/request-trace.js';
import type { Arm } from '../engine/types.js';
import { chooseCoding, compress } from './content-coding.js';
import { errorBodyFor } from './openai-error.js';
import { bodyIsLong, linger, watchStall } from './slow-client.js';
import { HttpError, statusOf } from './status.js';

export interface Reply {
  readonly status: number;
  readonly body: Uint8Array | string;
  readonly headers?: OutgoingHttpHeaders;
  /** Whether the body is JSON text; else tensors follow it. */
  readonly text?: boolean;
  /** Called when the body is ready: stamps the end of the timeline, and gives the `server-timing` value; '' for none. */
  readonly timing?: () => string;
}

/** What a reply needs from the server it belongs to. */
export interface ExchangeServer {
  /** True: connections are not kept. */
  stopping(): boolean;
  /** A failure that is our own fault, with the cause that the client is not told. */
  onInternalError(error: ServeError): void;
  /** Replies carry their budget. */
  readonly serverTiming: boolean;
  /** Told of each exchange when its reply is out or its connection gone. Must not throw. */
  onFinished(request: FinishedRequest): void;
}

/** After a client's half-close: when the network is first asked whether anybody is still there; then at doubling intervals. */
const FIRST_PROBE_MS = 50;
const LAST_PROBE_MS = 10_000;

export interface ExchangeOptions {
  readonly server: ExchangeServer;
  readonly route: string;
  readonly extraHeaders: OutgoingHttpHeaders;
  /** Set for a request that is traced. */
  readonly trace?: RequestTrace | undefined;
}

export class Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** Path pattern of its route; '' where it has none. */
  readonly route: string;
  /** Begins when the request's head was there. Stamped by the route; one that has a better one puts it here. */
  timeline = new Timeline(nowMs());
  /** Status of the reply; 499 until there is one. */
  status = 499;
  /** Set by routes of inference when the request is decoded; the model's name as soon as it is known. */
  arm: Arm | undefined;
  modelName = '';
  /** Bytes of the bodies, as they are on the wire. */
  requestBytes = 0;
  responseBytes = 0;
  private readonly server: ExchangeServer;
  private readonly trace: RequestTrace | undefined;
  /** Header fields that the framework's plugins want on the reply (CORS). */
  private readonly extraHeaders: OutgoingHttpHeaders;
  private readonly closeListeners: (() => void)[] = [];
  private ended = false;
  private halfClosed = false;
  private waiting = false;
  private probeTimer: NodeJS.Timeout | undefined;
  private aborter: AbortController | undefined;

  constructor(request: IncomingMessage, response: ServerResponse, options: ExchangeOptions) {
    this.request = request;
    this.response = response;
    this.server = options.server;
    this.route = options.route;
    this.trace = options.trace;
    this.extraHeaders =
      options.trace === undefined
        ? options.extraHeaders
        : { ...options.extraHeaders, traceresponse: options.trace.traceresponse };
    response.once('close', () => this.end());
  }

  /** `listener` is called once, when the reply is out or the connection gone. */
  onClose(listener: () => void): void {
    if (this.ended) listener();
    else this.closeListeners.push(listener);
  }

  /** The reply is out or the connection gone. Idempotent. */
  end(): void {
    if (this.ended) return;
    this.ended = true;
    clearTimeout(this.probeTimer);
    for (const listener of this.closeListeners) listener();
    this.tell();
  }

  private tell(): void {
    const { timeline, route: method, arm, modelName, requestBytes, responseBytes } = this;
    if (timeline.encoded === 0) timeline.encoded = nowMs();
    const status = statusText(this.status);
    const finished: FinishedRequest = {
      protocol: 'rest',
      method,
      status,
      arm,
      modelName,
      timeline,
      requestBytes,
      responseBytes,
    };
    this.server.onFinished(finished);
    this.trace?.finished(finished);
    this.trace?.closed();
  }

  /** True when nobody can read a reply any more. */
  get gone(): boolean {
    return this.ended;
  }

  /** Aborted when the reply is out or the connection gone: for waits that hold what the client sent. */
  get signal(): AbortSignal {
    if (!this.aborter) {
      const aborter = new AbortController();
      this.aborter = aborter;
      // With a reason: without one each abort makes an error with its stack.
      this.onClose(() => aborter.abort('gone'));
    }
    return this.aborter.signal;
  }

  sendJson(status: number, value: unknown): void {
    this.send({ status, body: JSON.stringify(value) });
  }

  /** Answers with the error; anything but ServeError and HttpError is INTERNAL without detail. */
  fail(error: unknown, timing?: () => string): void {
    const known = error instanceof HttpError ? error : ServeError.from(error);
    this.report(known);
    const headers = known instanceof HttpError ? known.headers : {};
    const body = errorBodyFor(this.request.url, known);
    this.send({ status: statusOf(known), body, headers, ...(timing && { timing }) });
  }

  /** Tells the log of a failure that is our own fault. */
  report(error: ServeError | HttpError): void {
    if (error instanceof ServeError && error.code === 'INTERNAL') this.server.onInternalError(error);
  }

  send(reply: Reply): void {
    const { body } = reply;
    const coding = chooseCoding(
      this.request.headers['accept-encoding'] as string | undefined,
      body.length,
      reply.text ?? true,
    );
    if (coding === undefined) {
      this.write(reply, body);
      return;
    }
    const bytes = typeof body === 'string' ? Buffer.from(body) : body;
    compress(bytes, coding).then(
      (packed) => this.write(reply, packed, { 'content-encoding': coding, vary: 'accept-encoding' }),
      () => this.write(reply, bytes),
    );
  }

  private write(reply: Reply, body: Uint8Array | string, coded?: OutgoingHttpHeaders): void {
    const { request, response } = this;
    if (this.ended || response.headersSent) return;
    this.status = reply.status;
    const length = typeof body === 'string' ? Buffer.byteLength(body) : body.length;
    if (request.method !== 'HEAD') this.responseBytes = length;
    const timing = reply.timing?.() ?? this.totalTiming();
    const headers: OutgoingHttpHeaders = {
      'content-type': 'application/json',
      'content-length': length,
      ...(timing !== '' && { 'server-timing': timing }),
      ...this.extraHeaders,
      ...reply.headers,
      ...coded,
    };
    const lingering = !request.complete && bodyIsLong(request);
    if (lingering || this.server.stopping()) headers.connection = 'close';
    response.writeHead(reply.status, headers);
    if (lingering) linger(this, body);
    else {
      response.end(body);
      if (!request.complete) request.resume();
      if (response.writableLength > 0) watchStall(this);
    }
  }

  /** Stamps the end; the budget by phases, '' where replies carry none. */
  budget(): string {
    this.timeline.encoded = nowMs();
    return this.server.serverTiming ? this.timeline.serverTiming() : '';
  }

  /** The budget of what has no phases. */
  private totalTiming(): string {
    const { timeline } = this;
    timeline.encoded = nowMs();
    if (!this.server.serverTiming) return '';
    return `total;dur=${(timeline.encoded - timeline.firstByte).toFixed(3)}`;
  }

  /**
   * Begins a reply that is written bit by bit, with `server-timing` in its trailer; false when nobody can read one any more. HTTP/1.0
   * has neither chunks nor trailers: there the reply ends with the connection.
   */
  begin(status: number, headers: OutgoingHttpHeaders): boolean {
    const { request, response } = this;
    if (this.ended || response.headersSent) return false;
    this.status = status;
    const head: OutgoingHttpHeaders = { ...headers, ...this.extraHeaders };
    if (request.httpVersion !== '1.0' && this.server.serverTiming) head.trailer = 'server-timing';
    if (this.server.stopping()) head.connection = 'close';
    // A write that fails says that the client has gone, which 'close' tells, too.
    response.on('error', () => undefined);
    response.writeHead(status, head);
    return true;
  }

  /** Ends what was begun. */
  finish(timing: string): void {
    const { response } = this;
    if (this.ended) return;
    if (timing !== '') response.addTrailers({ 'server-timing': timing });
    // A server that has come to stop since the head went out keeps the connection no longer, nor waits for the client to see that.
    if (this.server.stopping()) response.once('finish', () => this.request.socket.destroySoon());
    response.end();
    if (response.writableLength > 0) watchStall(this);
  }

  /** The request is with the engine from now on; whether its client is still there matters. Idempotent. */
  waitForEngine(): void {
    if (this.waiting) return;
    this.waiting = true;
    if (this.halfClosed) this.probe(FIRST_PROBE_MS);
  }

  /**
   * The client closed its sending side: it may have gone or may wait for its answer, TCP does not tell. So interim 102 replies are
   * written now and then. A waiting client passes over them; the machine of one that has gone resets the connection, at which the
   * next write fails and the connection closes.
   */
  clientStoppedSending(): void {
    this.halfClosed = true;
    if (this.waiting) this.probe(FIRST_PROBE_MS);
  }

  private probe(delayMs: number): void {
    // HTTP/1.0 has no interim replies.
    if (this.request.httpVersion === '1.0') return;
    this.probeTimer = setTimeout(() => {
      if (this.ended || this.response.headersSent) return;
      this.response.writeProcessing();
      this.probe(Math.min(2 * delayMs, LAST_PROBE_MS));
    }, delayMs);
  }
}

/** Statuses as texts: there are few. */
const texts = new Map<number, string>();

function statusText(status: number): string {
  let text = texts.get(status);
  if (text === undefined) {
    text = String(status);
    texts.set(status, text);
  }
  return text;
}
