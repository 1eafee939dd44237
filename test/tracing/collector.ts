/**
 * A collector for OTLP over HTTP that runs in the test: decodes what it is sent by OpenTelemetry's own schema, and answers as told.
 *
 * Used by the tests of tracing. The schema is the part of opentelemetry-proto that spans use, by field numbers, read by protobufjs, so
 * that nothing of the server's own protobuf is trusted.
 */
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { gunzipSync } from 'node:zlib';
import protobuf from 'protobufjs';

const SCHEMA = protobuf
  .parse(`
  syntax = "proto3";
  message ExportTraceServiceRequest { repeated ResourceSpans resource_spans = 1; }
  message ResourceSpans { Resource resource = 1; repeated ScopeSpans scope_spans = 2; }
  message Resource { repeated KeyValue attributes = 1; }
  message ScopeSpans { InstrumentationScope scope = 1; repeated Span spans = 2; }
  message InstrumentationScope { string name = 1; string version = 2; }
  message KeyValue { string key = 1; AnyValue value = 2; }
  message AnyValue { oneof value { string string_value = 1; bool bool_value = 2; int64 int_value = 3; double double_value = 4; } }
  message Link { bytes trace_id = 1; bytes span_id = 2; string trace_state = 3; fixed32 flags = 6; }
  message Status { string message = 2; int32 code = 3; }
  message Span {
    bytes trace_id = 1; bytes span_id = 2; string trace_state = 3; bytes parent_span_id = 4; string name = 5; int32 kind = 6;
    fixed64 start_time_unix_nano = 7; fixed64 end_time_unix_nano = 8; repeated KeyValue attributes = 9; repeated Link links = 13;
    uint32 dropped_links_count = 14; Status status = 15; fixed32 flags = 16;
  }
`)
  .root.lookupType('ExportTraceServiceRequest');

export type Attributes = Record<string, string | number | boolean>;

export interface Link {
  readonly traceId: string;
  readonly spanId: string;
}

export interface Span extends Link {
  readonly parentSpanId: string;
  readonly traceState: string;
  readonly name: string;
  /** 1 = internal, 2 = server. */
  readonly kind: number;
  readonly start: bigint;
  readonly end: bigint;
  readonly attributes: Attributes;
  readonly links: readonly Link[];
  readonly droppedLinks: number;
  /** 2 = error. */
  readonly status: number;
  readonly flags: number;
  readonly resource: Attributes;
  readonly scope: string;
}

/** Messages as protobufjs gives them; what was not on the wire is not set. */
interface RawAttribute {
  readonly key: string;
  readonly value: { readonly stringValue?: string; readonly boolValue?: boolean; readonly intValue?: string };
}
interface RawLink {
  readonly traceId?: Uint8Array;
  readonly spanId?: Uint8Array;
}
interface RawSpan extends RawLink {
  readonly parentSpanId?: Uint8Array;
  readonly traceState?: string;
  readonly name: string;
  readonly kind?: number;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly attributes?: readonly RawAttribute[];
  readonly links?: readonly RawLink[];
  readonly droppedLinksCount?: number;
  readonly status?: { readonly code?: number };
  readonly flags?: number;
}
interface RawRequest {
  readonly resourceSpans?: readonly {
    readonly resource: { readonly attributes?: readonly RawAttribute[] };
    readonly scopeSpans?: readonly { readonly scope: { readonly name: string }; readonly spans?: readonly RawSpan[] }[];
  }[];
}

/** The spans of one request's bytes. */
export function decodeSpans(body: Uint8Array): Span[] {
  const { resourceSpans = [] } = SCHEMA.toObject(SCHEMA.decode(body), { longs: String }) as RawRequest;
  return resourceSpans.flatMap(({ resource, scopeSpans = [] }) =>
    scopeSpans.flatMap(({ scope, spans = [] }) =>
      spans.map((span) => ({
        ...linkOf(span),
        parentSpanId: hex(span.parentSpanId),
        traceState: span.traceState ?? '',
        name: span.name,
        kind: span.kind ?? 0,
        start: BigInt(span.startTimeUnixNano),
        end: BigInt(span.endTimeUnixNano),
        attributes: attributesOf(span.attributes),
        links: (span.links ?? []).map(linkOf),
        droppedLinks: span.droppedLinksCount ?? 0,
        status: span.status?.code ?? 0,
        flags: span.flags ?? 0,
        resource: attributesOf(resource.attributes),
        scope: scope.name,
      })),
    ),
  );
}

/** Says what becomes of a request; the default takes it. */
export type Answer = (request: IncomingMessage, response: ServerResponse) => void;

export interface Collector {
  readonly port: number;
  readonly endpoint: string;
  /** All spans taken so far. */
  readonly spans: readonly Span[];
  /** Heads of the requests that have come as a whole so far, whatever was answered. */
  readonly requests: readonly { readonly url: string; readonly headers: IncomingHttpHeaders }[];
  /** Answers from now on. */
  answer(answer: Answer): void;
  /** Resolves once `found` finds something in what has come. */
  until<T>(found: (spans: readonly Span[]) => T | undefined): Promise<T>;
  /** Resolves once this many requests have come. */
  untilRequests(count: number): Promise<void>;
  close(): Promise<void>;
}

export const TAKE: Answer = (_request, response) => void response.writeHead(200).end();

/** A collector on a free port; with `tls` it takes only clients that the authority knows. */
export async function startCollector(tls?: { cert: Buffer; key: Buffer; ca: Buffer }): Promise<Collector> {
  const spans: Span[] = [];
  const requests: { url: string; headers: IncomingHttpHeaders }[] = [];
  const waiting = new Set<() => void>();
  let answer = TAKE;
  const take = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part as Buffer);
    requests.push({ url: request.url!, headers: request.headers });
    const body = Buffer.concat(parts);
    if (answer === TAKE) {
      spans.push(...decodeSpans(request.headers['content-encoding'] === 'gzip' ? gunzipSync(body) : body));
    }
    answer(request, response);
    for (const look of waiting) look();
  };
  const server = tls === undefined ? createServer(take) : createSecureServer({ ...tls, requestCert: true }, take);
  const sockets = new Set<Socket>();
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const until = <T>(found: () => T | undefined): Promise<T> =>
    new Promise((resolve) => {
      const look = (): void => {
        const value = found();
        if (value === undefined) return;
        waiting.delete(look);
        resolve(value);
      };
      waiting.add(look);
      look();
    });
  return {
    port,
    endpoint: `http${tls === undefined ? '' : 's'}://127.0.0.1:${port}`,
    spans,
    requests,
    answer(next) {
      answer = next;
    },
    until: (found) => until(() => found(spans)),
    untilRequests: (count) => until(() => (requests.length >= count ? true : undefined)).then(() => undefined),
    close() {
      for (const socket of sockets) socket.destroy();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}

function linkOf({ traceId, spanId }: RawLink): Link {
  return { traceId: hex(traceId), spanId: hex(spanId) };
}

function hex(bytes: Uint8Array | undefined): string {
  return Buffer.from(bytes ?? []).toString('hex');
}

function attributesOf(attributes: readonly RawAttribute[] = []): Attributes {
  return Object.fromEntries(
    attributes.map(({ key, value: { stringValue, boolValue, intValue } }) => [
      key,
      stringValue ?? boolValue ?? Number(intValue),
    ]),
  );
}
