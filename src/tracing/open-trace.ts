/**
 * One sampled request, from its head to its last byte, and what its spans say.
 *
 *   server span ── receive ── decode ── queue ── batch (─ compute) ── encode ── send
 *
 * Made by `tracer.ts`, told by the front end how the request ended. The spans are written when they are exported, from the request's
 * timeline: until then a trace is this object. Names and attributes are OpenTelemetry's semantic conventions, ours begin `tensorwire.`.
 */
import { nowMs } from '../base/clock.js';
import { printable } from '../base/errors.js';
import type { FinishedRequest } from '../engine/finished-request.js';
import type { RequestTrace } from '../engine/request-trace.js';
import type { BatchSpans } from './batch-spans.js';
import type { AttributeValue, OtlpRequest, SpanLink } from './otlp-request.js';
import { grpcStatusNumber, isServerError } from './outcome.js';
import type { Recorded } from './span-queue.js';
import { type Step, stepsOf } from './steps.js';
import { formatContext, newSpanId, type SpanId } from './trace-context.js';

/** Where a span stands. */
export interface TracePlace extends SpanLink {
  /** Undefined where the request starts the trace. */
  readonly parent: SpanId | undefined;
  readonly tracestate: string;
  /** What is called: the gRPC method's full path, or the pattern of the REST route. */
  readonly target: string;
}

export interface TraceOwner {
  readonly batches: BatchSpans;
  add(record: Recorded): void;
}

export class OpenTrace implements RequestTrace {
  readonly #place: TracePlace;
  readonly #owner: TraceOwner;
  #request: FinishedRequest | undefined;
  #batch: SpanLink | undefined;

  constructor(place: TracePlace, owner: TraceOwner) {
    this.#place = place;
    this.#owner = owner;
  }

  get traceresponse(): string {
    const { traceId, spanId, flags } = this.#place;
    return formatContext(traceId, spanId, flags);
  }

  message(request: FinishedRequest): void {
    const { traceId, spanId, flags, tracestate, target } = this.#place;
    const place = { traceId, spanId: newSpanId(), flags, parent: spanId, tracestate, target };
    const batch = this.#join(request, place);
    const endMs = Math.max(request.timeline.encoded, request.timeline.firstByte);
    this.#owner.add(new RequestSpans({ place, request, batch, endMs, isMessage: true }));
  }

  finished(request: FinishedRequest): void {
    this.#request = request;
    this.#batch = this.#join(request, this.#place);
  }

  closed(): void {
    const request = this.#request;
    if (request === undefined) return;
    this.#request = undefined;
    this.#owner.add(
      new RequestSpans({ place: this.#place, request, batch: this.#batch, endMs: nowMs(), isMessage: false }),
    );
  }

  #join({ timeline, modelName }: FinishedRequest, place: TracePlace): SpanLink | undefined {
    return this.#owner.batches.join(timeline, modelName, place);
  }
}

interface Ended {
  readonly place: TracePlace;
  readonly request: FinishedRequest;
  readonly batch: SpanLink | undefined;
  readonly endMs: number;
  /** One of the requests of a stream: its span is the stream's child. */
  readonly isMessage: boolean;
}

/** A request that has ended, waiting for its export. */
class RequestSpans implements Recorded {
  readonly spans: number;
  readonly #ended: Ended;
  readonly #steps: readonly Step[];

  constructor(ended: Ended) {
    this.#ended = ended;
    this.#steps = stepsOf(ended.request.timeline, ended.endMs);
    this.spans = 1 + this.#steps.length;
  }

  writeTo(otlp: OtlpRequest): void {
    const { place, request, batch, endMs, isMessage } = this.#ended;
    const { traceId, flags, tracestate } = place;
    const { firstByte } = request.timeline;
    otlp.span({
      ...place,
      name: isMessage ? 'request' : nameOf(place.target, request),
      kind: isMessage ? 'internal' : 'server',
      isRemoteChild: !isMessage && place.parent !== undefined,
      startMs: firstByte,
      endMs: Math.max(firstByte, endMs),
      attributes: attributesOf(place.target, request, isMessage),
      isError: isServerError(request),
    });
    const ids: SpanId[] = [];
    for (const { name, startMs, endMs, inside } of this.#steps) {
      const spanId = newSpanId();
      ids.push(spanId);
      const parent = inside === undefined ? place.spanId : ids[inside]!;
      const links = name === 'batch' && batch !== undefined ? [batch] : undefined;
      otlp.span({
        traceId,
        spanId,
        flags,
        parent,
        tracestate,
        name,
        kind: 'internal',
        startMs,
        endMs,
        ...(links && { links }),
      });
    }
  }
}

function nameOf(target: string, { protocol }: FinishedRequest): string {
  return protocol === 'grpc' ? target.slice(1) : `POST ${routeOf(target)}`;
}

/** `/v2/models/:model/infer` as OpenTelemetry writes it. */
function routeOf(target: string): string {
  return target.replace(/:(\w+)/g, '{$1}');
}

function attributesOf(
  target: string,
  request: FinishedRequest,
  isMessage: boolean,
): (readonly [string, AttributeValue])[] {
  const { protocol, status, arm, modelName, timeline, requestBytes, responseBytes } = request;
  const attributes: (readonly [string, AttributeValue])[] = [];
  if (protocol === 'grpc') {
    const slash = target.lastIndexOf('/');
    if (!isMessage) {
      attributes.push(['rpc.system', 'grpc'], ['rpc.service', target.slice(1, slash)]);
      attributes.push(['rpc.method', target.slice(slash + 1)]);
    }
    attributes.push(['rpc.grpc.status_code', grpcStatusNumber(status)]);
  } else {
    attributes.push(['http.request.method', 'POST'], ['http.route', routeOf(target)]);
    // Nothing was answered: the client had gone.
    if (status !== '499') attributes.push(['http.response.status_code', Number(status)]);
  }
  if (isServerError(request)) attributes.push(['error.type', status]);
  if (modelName !== '') attributes.push(['tensorwire.model', printable(modelName)]);
  if (arm !== undefined) attributes.push(['tensorwire.arm', arm]);
  if (timeline.batchSize > 0) attributes.push(['tensorwire.batch.size', timeline.batchSize]);
  if (timeline.tokens > 0) attributes.push(['tensorwire.tokens', timeline.tokens]);
  attributes.push(['tensorwire.request.bytes', requestBytes], ['tensorwire.response.bytes', responseBytes]);
  return attributes;
}
