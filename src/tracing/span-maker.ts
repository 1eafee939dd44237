/**
 * Makes spans of what is already over, and hands them to the SDK's processor.
 *
 * Made by `tracer.ts`, used by `open-trace.ts` and `batch-spans.ts`. The SDK's own spans are made to be open: each asks a sampler, reads
 * three clocks and copies its attributes twice, which costs four times as much, and all of that is known here. So these are no more
 * than what the SDK reads when it exports (`ReadableSpan`). Owns the ids and the clock.
 */
import {
  type Attributes,
  type HrTime,
  type Link,
  type SpanContext,
  SpanKind,
  type SpanStatus,
  SpanStatusCode,
  TraceFlags,
} from '@opentelemetry/api';
import type { Resource } from '@opentelemetry/resources';
import { RandomIdGenerator, type ReadableSpan, type SpanProcessor } from '@opentelemetry/sdk-trace';
import { EpochClock } from './epoch-clock.js';

/** Times are stamps on the clock of base/clock.ts; the end is not before the start. Nothing of it changes any more. */
export interface SpanPlan {
  readonly name: string;
  readonly context: SpanContext;
  /** Undefined for the first span of a trace. */
  readonly parent: SpanContext | undefined;
  /** Internal, where nothing is said. */
  readonly kind?: SpanKind;
  readonly startMs: number;
  readonly endMs: number;
  readonly attributes?: Attributes;
  readonly links?: Link[];
  /** Links that there was no room for. */
  readonly droppedLinks?: number;
  readonly isError?: boolean;
}

type Scope = ReadableSpan['instrumentationScope'];

export interface SpanMakerOptions {
  readonly processor: SpanProcessor;
  readonly resource: Resource;
  /** The server's: it is the scope's, too. */
  readonly version: string;
}

export class SpanMaker {
  readonly #processor: SpanProcessor;
  readonly #resource: Resource;
  readonly #scope: Scope;
  readonly #ids = new RandomIdGenerator();
  readonly #clock = new EpochClock();

  constructor({ processor, resource, version }: SpanMakerOptions) {
    this.#processor = processor;
    this.#resource = resource;
    this.#scope = { name: 'tensorwire', version };
  }

  newTraceId(): string {
    return this.#ids.generateTraceId();
  }

  /** What a new sampled span of the trace is going to be. */
  newContext(traceId: string, traceState: SpanContext['traceState']): SpanContext {
    const context = { traceId, spanId: this.#ids.generateSpanId(), traceFlags: TraceFlags.SAMPLED };
    return traceState === undefined ? context : { ...context, traceState };
  }

  /** Call it before the spans of one trace, which need one clock. */
  follow(): void {
    this.#clock.compare();
  }

  add(plan: SpanPlan): void {
    this.#processor.onEnd(new FinishedSpan(plan, this.#clock.offsetMs, this.#resource, this.#scope));
  }
}

const NO_ATTRIBUTES: Attributes = {};
const NONE: never[] = [];
const UNSET: SpanStatus = { code: SpanStatusCode.UNSET };
const ERROR: SpanStatus = { code: SpanStatusCode.ERROR };

class FinishedSpan implements ReadableSpan {
  readonly #plan: SpanPlan;
  readonly #offsetMs: number;
  readonly resource: Resource;
  readonly instrumentationScope: Scope;

  constructor(plan: SpanPlan, offsetMs: number, resource: Resource, scope: Scope) {
    this.#plan = plan;
    this.#offsetMs = offsetMs;
    this.resource = resource;
    this.instrumentationScope = scope;
  }

  spanContext(): SpanContext {
    return this.#plan.context;
  }

  get parentSpanContext(): SpanContext {
    // The SDK's type has no undefined, but its own spans have.
    return this.#plan.parent as SpanContext;
  }

  get name(): string {
    return this.#plan.name;
  }

  get kind(): SpanKind {
    return this.#plan.kind ?? SpanKind.INTERNAL;
  }

  get startTime(): HrTime {
    return hrTime(this.#plan.startMs + this.#offsetMs);
  }

  get endTime(): HrTime {
    return hrTime(this.#plan.endMs + this.#offsetMs);
  }

  get duration(): HrTime {
    return hrTime(this.#plan.endMs - this.#plan.startMs);
  }

  get status(): SpanStatus {
    return this.#plan.isError ? ERROR : UNSET;
  }

  get attributes(): Attributes {
    return this.#plan.attributes ?? NO_ATTRIBUTES;
  }

  get links(): Link[] {
    return this.#plan.links ?? NONE;
  }

  get droppedLinksCount(): number {
    return this.#plan.droppedLinks ?? 0;
  }

  get events(): never[] {
    return NONE;
  }

  get ended(): boolean {
    return true;
  }

  get droppedAttributesCount(): number {
    return 0;
  }

  get droppedEventsCount(): number {
    return 0;
  }
}

/** Seconds and nanoseconds. */
function hrTime(ms: number): HrTime {
  const seconds = Math.floor(ms / 1000);
  return [seconds, Math.floor((ms - seconds * 1000) * 1e6)];
}
