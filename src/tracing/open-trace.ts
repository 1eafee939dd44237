/**
 * One sampled request, from its head to its last byte, and what its spans say.
 *
 *   server span ── receive ── decode ── queue ── batch (─ compute) ── encode ── send
 *
 * Made by `tracer.ts`, told by the front end how the request ended. The spans are made when the reply is out, from the request's
 * timeline: until then a trace is this object. Names and attributes are OpenTelemetry's semantic conventions, ours begin `tensorwire.`.
 */
import { type Attributes, type SpanContext, SpanKind } from '@opentelemetry/api';
import { nowMs } from '../base/clock.js';
import { printable } from '../base/errors.js';
import type { FinishedRequest } from '../engine/finished-request.js';
import type { RequestTrace } from '../engine/request-trace.js';
import type { BatchSpans } from './batch-spans.js';
import type { CountedExporter } from './counted-exporter.js';
import { grpcStatusNumber, isServerError } from './outcome.js';
import type { SpanMaker } from './span-maker.js';
import { stepsOf } from './steps.js';

/** Where a span stands. */
export interface TracePlace {
  /** The caller's span; undefined where the request starts its trace. */
  readonly parent: SpanContext | undefined;
  /** What the request's span is going to be. */
  readonly own: SpanContext;
  /** What is called: the gRPC method's full path, or the pattern of the REST route. */
  readonly called: string;
}

export interface TraceOwner {
  readonly maker: SpanMaker;
  readonly exporter: CountedExporter;
  readonly batches: BatchSpans;
}

interface Ended {
  readonly request: FinishedRequest;
  readonly batch: SpanContext | undefined;
  readonly endMs: number;
  readonly role: Role;
}

/** A call is one request, or a stream whose requests have spans of their own below the stream's. */
type Role = 'request' | 'stream' | 'message of a stream';

export class OpenTrace implements RequestTrace {
  readonly #place: TracePlace;
  readonly #owner: TraceOwner;
  #request: FinishedRequest | undefined;
  #batch: SpanContext | undefined;
  #role: Role = 'request';

  constructor(place: TracePlace, owner: TraceOwner) {
    this.#place = place;
    this.#owner = owner;
  }

  get traceresponse(): string {
    const { traceId, spanId } = this.#place.own;
    return `00-${traceId}-${spanId}-01`;
  }

  message(request: FinishedRequest): void {
    this.#role = 'stream';
    const { own, called } = this.#place;
    const place = { parent: own, own: this.#owner.maker.newContext(own.traceId, own.traceState), called };
    const batch = this.#join(request, place.own);
    const endMs = Math.max(request.timeline.encoded, request.timeline.firstByte);
    makeSpans(this.#owner, place, { request, batch, endMs, role: 'message of a stream' });
  }

  finished(request: FinishedRequest): void {
    this.#request = request;
    this.#batch = this.#join(request, this.#place.own);
  }

  closed(): void {
    const request = this.#request;
    if (request === undefined) return;
    this.#request = undefined;
    makeSpans(this.#owner, this.#place, { request, batch: this.#batch, endMs: nowMs(), role: this.#role });
  }

  #join({ timeline, modelName }: FinishedRequest, own: SpanContext): SpanContext | undefined {
    return this.#owner.batches.join(timeline, modelName, own);
  }
}

/** The request's span and those of its steps, in this order; nothing where there is no room for all of them. */
function makeSpans({ maker, exporter }: TraceOwner, place: TracePlace, ended: Ended): void {
  const { parent, own, called } = place;
  const { request, batch, endMs, role } = ended;
  const { firstByte } = request.timeline;
  const isMessage = role === 'message of a stream';
  // What a stream's own timeline says lies across the steps of its requests.
  const steps = role === 'stream' ? [] : stepsOf(request.timeline, endMs);
  if (!exporter.admit(1 + steps.length)) return;
  maker.follow();
  maker.add({
    name: isMessage ? 'request' : nameOf(called, request),
    context: own,
    parent,
    kind: isMessage ? SpanKind.INTERNAL : SpanKind.SERVER,
    startMs: firstByte,
    endMs: Math.max(firstByte, endMs),
    attributes: attributesOf(called, request, role),
    isError: isServerError(request),
  });
  const contexts: SpanContext[] = [];
  for (const { name, startMs, endMs, inside } of steps) {
    const context = maker.newContext(own.traceId, own.traceState);
    contexts.push(context);
    const step = { name, context, parent: inside === undefined ? own : contexts[inside]!, startMs, endMs };
    maker.add(name === 'batch' && batch !== undefined ? { ...step, links: [{ context: batch }] } : step);
  }
}

function nameOf(called: string, { protocol }: FinishedRequest): string {
  return protocol === 'grpc' ? called.slice(1) : `POST ${routeOf(called)}`;
}

/** `/v2/models/:model/infer` as OpenTelemetry writes it. */
function routeOf(called: string): string {
  return called.replace(/:(\w+)/g, '{$1}');
}

function attributesOf(called: string, request: FinishedRequest, role: Role): Attributes {
  const { protocol, status, arm, modelName, timeline, requestBytes, responseBytes } = request;
  const attributes: Attributes = {};
  if (protocol === 'grpc') {
    if (role !== 'message of a stream') {
      const slash = called.lastIndexOf('/');
      attributes['rpc.system'] = 'grpc';
      attributes['rpc.service'] = called.slice(1, slash);
      attributes['rpc.method'] = called.slice(slash + 1);
    }
    attributes['rpc.grpc.status_code'] = grpcStatusNumber(status);
  } else {
    attributes['http.request.method'] = 'POST';
    attributes['http.route'] = routeOf(called);
    // Nothing was answered: the client had gone.
    if (status !== '499') attributes['http.response.status_code'] = Number(status);
  }
  if (isServerError(request)) attributes['error.type'] = status;
  if (modelName !== '') attributes['tensorwire.model'] = printable(modelName);
  if (arm !== undefined) attributes['tensorwire.arm'] = arm;
  if (timeline.batchSize > 0) attributes['tensorwire.batch.size'] = timeline.batchSize;
  if (timeline.tokens > 0) attributes['tensorwire.tokens'] = timeline.tokens;
  if (role !== 'stream') {
    attributes['tensorwire.request.bytes'] = requestBytes;
    attributes['tensorwire.response.bytes'] = responseBytes;
  }
  return attributes;
}
