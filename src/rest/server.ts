/**
 * The REST front end: HTTP/1.1 (or HTTPS) in front of the routes.
 *
 * Made by the composition root. The one file that knows fastify, which brings routing and CORS; requests are taken over from it at
 * the first hook, so that no body is parsed and no reply serialized by it. Owns the listening socket and the connections.
 *
 *   connection ─▶ head parsed (limits, timeouts: connection-errors.ts) ─▶ route found ─▶ Exchange ─▶ routes.ts / infer-route.ts
 */
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import cors from '@fastify/cors';
import { type FastifyInstance, type FastifyReply, type FastifyRequest, fastify } from 'fastify';
import { nowMs } from '../base/clock.js';
import type { ConnectionCounts } from '../base/connection-counts.js';
import { ServeError } from '../base/errors.js';
import { Timeline } from '../base/timeline.js';
import type { FinishedRequest, RequestObserver } from '../engine/finished-request.js';
import type { RequestTrace, Tracer } from '../engine/request-trace.js';
import { answerClientError, type ConnectionError, guardConnections } from './connection-errors.js';
import { Connections } from './connections.js';
import { Exchange, type ExchangeServer } from './exchange.js';
import type { Route } from './route.js';
import { allowedMethods, createRoutes, type RouteOptions } from './routes.js';
import { HttpError } from './status.js';

export interface RestServerOptions extends RouteOptions {
  readonly host: string;
  /** 0 = any free port. */
  readonly port: number;
  /** Origins that browsers may call from; '*' for any; none = no CORS. */
  readonly corsOrigins: readonly string[];
  /** PEM texts. `mutual`: only clients with a certificate that `ca` signed. */
  readonly tls?: {
    readonly cert: string | Buffer;
    readonly key: string | Buffer;
    readonly ca?: string | Buffer | undefined;
    readonly mutual?: boolean;
  };
  /** How long close() waits for requests in flight before it drops their connections. */
  readonly closeGraceMs?: number;
  /** For the log: what a client was told only as "internal error". */
  readonly onInternalError?: (error: ServeError) => void;
  /** Where connections are counted. */
  readonly connections?: ConnectionCounts;
  /** Replies carry their budget. Default true. */
  readonly serverTiming?: boolean;
  /** Traces inferences. */
  readonly tracer?: Tracer;
  /** Told of each request when its reply is out or its connection gone, whatever it was for. */
  readonly onFinished?: RequestObserver;
}

export interface RestServer {
  /** Resolves when connections are taken; rejects with the system's error when the port cannot be had. */
  listen(): Promise<{ address: string; port: number }>;
  /** Takes no more connections, finishes requests in flight, closes the others at once. */
  close(): Promise<void>;
}

/** Head of a request, with its URL. */
const MAX_HEADER_BYTES = 16_384;
/** Node ignores header fields past its own bound; a request whose fields count cannot be trusted is refused instead. */
const MAX_HEADER_FIELDS = 1000;

/** The status of a request whose client has gone. */
const LEFT = 499;

/** Routes of inference: a trace of every look at the server's health is of no use to anybody. */
const TRACED = /\/(infer|generate|generate_stream|embeddings|completions)$/;

const TIMEOUTS = { headersTimeout: 10_000, requestTimeout: 30_000, connectionsCheckingInterval: 2_000 } as const;

export function createRestServer(options: RestServerOptions): RestServer {
  const { tls, closeGraceMs = 30_000, serverTiming = true } = options;
  let closing = false;
  const stopping = (): boolean => closing || options.draining();
  const exchangeServer: ExchangeServer = {
    stopping,
    serverTiming,
    onInternalError: (error) => options.onInternalError?.(error),
    onFinished: (request) => options.onFinished?.(request),
  };
  const routes = createRoutes(options);
  const app = createApp(tls, {
    onBadPath: (request, reply) => begin('', request, reply).fail(new HttpError(400, 'malformed path')),
    onClientError(error, socket) {
      const status = answerClientError(error, socket, serverTiming);
      if (status === undefined) return;
      // A client that ends in the middle of a body has left.
      const own = error.code === 'HPE_INVALID_EOF_STATE' ? LEFT : status;
      if (!connections.refused(socket, own)) onRefused(status);
    },
  });
  const { server } = app;
  // Not in Node's types: keeps the reply possible after a client closed its sending side (see Exchange.clientStoppedSending).
  Object.assign(server, { httpAllowHalfOpen: true, maxHeadersCount: 0 });
  guardConnections(server, options.maxInputSize, { onRefused, serverTiming });
  server.on('connection', (socket: Socket) => options.connections?.count(socket));
  const connections = new Connections(server, tls === undefined ? 'connection' : 'secureConnection');

  const withCors = options.corsOrigins.length > 0;
  if (withCors) {
    const origin = options.corsOrigins.includes('*') ? '*' : [...options.corsOrigins];
    const exposedHeaders = ['inference-header-content-length', 'server-timing', 'traceresponse'];
    // Takes effect when listen() makes the app ready.
    void app.register(cors, { origin, exposedHeaders, methods: ['GET', 'POST'] });
  }

  function onRefused(status: number): void {
    options.onFinished?.(refusedRequest(status));
  }

  function begin(route: string, request: FastifyRequest, reply: FastifyReply): Exchange {
    reply.hijack();
    const extraHeaders = withCors ? (reply.getHeaders() as OutgoingHttpHeaders) : {};
    const exchange = new Exchange(request.raw as IncomingMessage, reply.raw as ServerResponse, {
      server: exchangeServer,
      route,
      extraHeaders,
      trace: options.tracer === undefined ? undefined : startTrace(options.tracer, route, request),
    });
    connections.add(exchange);
    return exchange;
  }

  function serve(route: Route, request: FastifyRequest, reply: FastifyReply): void {
    const exchange = begin(route.path, request, reply);
    try {
      if (exchange.request.rawHeaders.length > 2 * MAX_HEADER_FIELDS)
        throw new HttpError(431, 'too many header fields');
      if (route.always !== true && stopping()) throw new ServeError('UNAVAILABLE', 'server is stopping');
      const { model = '', version = '' } = request.params as { model?: string; version?: string };
      if (model === '' && route.path.includes(':model')) throw new HttpError(404, 'Not Found');
      const done = route.handle(exchange, { model, version });
      done?.catch((error: unknown) => exchange.fail(error));
    } catch (error) {
      exchange.fail(error);
    }
  }

  for (const route of routes) {
    app.route({
      method: route.method,
      url: route.path,
      onRequest: (request, reply) => serve(route, request, reply),
      // The hook has taken the reply over, so fastify never gets here.
      handler: (_request, reply) => reply,
    });
  }
  app.setNotFoundHandler((request, reply) => {
    const exchange = begin('', request, reply);
    const allowed = allowedMethods(routes, request.url.split('?', 1)[0]!);
    if (allowed.length === 0) exchange.fail(new HttpError(404, 'Not Found'));
    else exchange.fail(new HttpError(405, 'Method Not Allowed', { allow: allowed.join(', ') }));
  });
  app.setErrorHandler((error: { statusCode?: number; message: string }, request, reply) => {
    const status = error.statusCode ?? 500;
    begin('', request, reply).fail(status < 500 ? new HttpError(status, error.message) : error);
  });

  return {
    async listen() {
      await app.listen({ host: options.host, port: options.port });
      const { address, port } = server.address() as AddressInfo;
      return { address, port };
    },
    async close() {
      closing = true;
      // A connection with a request that was not read yet looks idle; closing it would be a reset in place of an answer.
      await connections.untilRead();
      const closed = app.close();
      connections.closeIdle();
      const timer = setTimeout(() => server.closeAllConnections(), closeGraceMs);
      await closed;
      clearTimeout(timer);
    },
  };
}

function startTrace(tracer: Tracer, route: string, { headers }: FastifyRequest): RequestTrace | undefined {
  return TRACED.test(route) ? tracer.start(route, headers.traceparent, headers.tracestate) : undefined;
}

/** What the observer is told of a request of which there is no more than its refusal. */
function refusedRequest(status: number): FinishedRequest {
  return {
    protocol: 'rest',
    method: '',
    status: String(status),
    arm: undefined,
    modelName: '',
    timeline: new Timeline(nowMs()),
    requestBytes: 0,
    responseBytes: 0,
  };
}

interface AppListeners {
  onBadPath(request: FastifyRequest, reply: FastifyReply): void;
  onClientError(error: ConnectionError, socket: Duplex): void;
}

/** A fastify that routes and nothing else. */
function createApp(tls: RestServerOptions['tls'], { onBadPath, onClientError }: AppListeners): FastifyInstance {
  const http = { ...TIMEOUTS, maxHeaderSize: MAX_HEADER_BYTES };
  const https = tls && {
    ...http,
    cert: tls.cert,
    key: tls.key,
    ...(tls.ca !== undefined && { ca: tls.ca }),
    requestCert: tls.mutual === true,
    rejectUnauthorized: tls.mutual === true,
    minVersion: 'TLSv1.2' as const,
    handshakeTimeout: 10_000,
  };
  const app = fastify({
    logger: false,
    requestTimeout: TIMEOUTS.requestTimeout,
    return503OnClosing: false,
    clientErrorHandler: onClientError,
    frameworkErrors: (_error, request, reply) => onBadPath(request as FastifyRequest, reply as unknown as FastifyReply),
    // A request line may carry a whole URL; anything else that is no path becomes one that no route has.
    rewriteUrl: (request) => pathOf(request.url ?? '/'),
    routerOptions: { ignoreTrailingSlash: true, maxParamLength: MAX_HEADER_BYTES },
    ...(https === undefined ? { http } : { https }),
  }) as unknown as FastifyInstance;
  app.removeAllContentTypeParsers();
  return app;
}

function pathOf(url: string): string {
  if (url.startsWith('/')) return url;
  const path = /^https?:\/\/[^/?#]*(\/.*)?$/i.exec(url);
  return path === null ? '/' : (path[1] ?? '/');
}
