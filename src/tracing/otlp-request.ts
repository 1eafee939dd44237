/**
 * An `ExportTraceServiceRequest` of OTLP: the resource, the scope, and spans behind each other.
 *
 * Used by `span-queue.ts`, which lets each of its records write its spans. The field numbers are those of opentelemetry-proto 1.x.
 */
import { EpochClock } from './epoch-clock.js';
import { OtlpWriter } from './otlp-writer.js';
import type { SpanId, TraceId } from './trace-context.js';

export type AttributeValue = string | number | boolean;
export type Attributes = readonly (readonly [key: string, value: AttributeValue])[];

/** A span elsewhere that has to do with this one. */
export interface SpanLink {
  readonly traceId: TraceId;
  readonly spanId: SpanId;
  readonly flags: number;
}

export interface Span {
  readonly traceId: TraceId;
  readonly spanId: SpanId;
  readonly flags: number;
  /** Undefined for the first span of a trace. */
  readonly parent: SpanId | undefined;
  /** Its parent is another process's. */
  readonly isRemoteChild?: boolean;
  readonly tracestate?: string;
  readonly name: string;
  readonly kind: 'internal' | 'server';
  /** On the clock of base/clock.ts; the end is not before the start. */
  readonly startMs: number;
  readonly endMs: number;
  readonly attributes?: Attributes;
  readonly links?: readonly SpanLink[];
  /** Links that there was no room for. */
  readonly droppedLinks?: number;
  readonly isError?: boolean;
}

const KINDS = { internal: 1, server: 2 } as const;
const STATUS_ERROR = 2;
/** Span and link flags above the eight bits of W3C: whether the next bit is known, and the bit. */
const HAS_IS_REMOTE = 0x100;
const IS_REMOTE = 0x200;

export class OtlpRequest {
  readonly #resource: Attributes;
  readonly #version: string;
  readonly #writer = new OtlpWriter();
  readonly #clock = new EpochClock();
  #resourceStart = 0;
  #scopeStart = 0;

  /** `version` is the server's: it is the scope's, too. */
  constructor(resource: Attributes, version: string) {
    this.#resource = resource;
    this.#version = version;
  }

  /** Starts a request; spans follow, then `end`. */
  begin(): void {
    const writer = this.#writer;
    this.#clock.compare();
    writer.clear();
    this.#resourceStart = writer.open(1);
    const resource = writer.open(1);
    for (const [key, value] of this.#resource) this.#attribute(1, key, value);
    writer.close(resource);
    this.#scopeStart = writer.open(2);
    const scope = writer.open(1);
    writer.text(1, 'tensorwire');
    writer.text(2, this.#version);
    writer.close(scope);
  }

  span(span: Span): void {
    const writer = this.#writer;
    const start = writer.open(2);
    writer.traceId(1, span.traceId);
    writer.spanId(2, span.spanId);
    if (span.tracestate) writer.text(3, span.tracestate);
    if (span.parent !== undefined) writer.spanId(4, span.parent);
    writer.text(5, span.name);
    writer.number(6, KINDS[span.kind]);
    this.#clock.nanoseconds(span.startMs, (high, low) => writer.fixed64(7, high, low));
    this.#clock.nanoseconds(span.endMs, (high, low) => writer.fixed64(8, high, low));
    if (span.attributes !== undefined) for (const [key, value] of span.attributes) this.#attribute(9, key, value);
    if (span.links !== undefined) for (const link of span.links) this.#link(link);
    if (span.droppedLinks) writer.number(14, span.droppedLinks);
    if (span.isError) {
      const status = writer.open(15);
      writer.number(3, STATUS_ERROR);
      writer.close(status);
    }
    writer.fixed32(16, span.flags | HAS_IS_REMOTE | (span.isRemoteChild ? IS_REMOTE : 0));
    writer.close(start);
  }

  /** The request's bytes; the next one may begin. */
  end(): Buffer {
    this.#writer.close(this.#scopeStart);
    this.#writer.close(this.#resourceStart);
    return this.#writer.copy();
  }

  #link({ traceId, spanId, flags }: SpanLink): void {
    const writer = this.#writer;
    const start = writer.open(13);
    writer.traceId(1, traceId);
    writer.spanId(2, spanId);
    writer.fixed32(6, flags | HAS_IS_REMOTE);
    writer.close(start);
  }

  #attribute(field: number, key: string, value: AttributeValue): void {
    const writer = this.#writer;
    const start = writer.open(field);
    writer.text(1, key);
    const any = writer.open(2);
    if (typeof value === 'string') writer.text(1, value);
    else if (typeof value === 'boolean') writer.number(2, value ? 1 : 0);
    else writer.number(3, value);
    writer.close(any);
    writer.close(start);
  }
}
