/**
 * One span for all requests that ran together, in a trace of its own, linked to those of them that are traced.
 *
 * Called by `open-trace.ts` when a sampled request has its outcome. Members of one batch end at different times (large JSON is printed by
 * another thread), so a batch is kept until it is one to two seconds old, or more batches wait than are kept; a member that comes even
 * later gets a second span of the same `tensorwire.batch.id`. Owns the waiting batches and their timer.
 */
import type { Timeline } from '../base/timeline.js';
import type { OtlpRequest, SpanLink } from './otlp-request.js';
import type { Recorded } from './span-queue.js';
import { newSpanId, RANDOM, randomWord, SAMPLED, type SpanId, type TraceId } from './trace-context.js';

const KEPT_MS = 1000;
const MAX_WAITING = 1024;
/** What OpenTelemetry's SDKs allow. */
const MAX_LINKS = 128;

export class BatchSpans {
  readonly #add: (batch: Recorded) => void;
  #young = new Map<number, BatchSpan>();
  #old = new Map<number, BatchSpan>();
  #timer: NodeJS.Timeout | undefined;

  /** `add` takes a batch whose members have come. */
  constructor(add: (batch: Recorded) => void) {
    this.#add = add;
  }

  /** The span of the batch that this request was in, linked to `member`; undefined where it was in none. */
  join(timeline: Timeline, modelName: string, member: SpanLink): SpanLink | undefined {
    const { batchId } = timeline;
    if (batchId === 0) return undefined;
    let batch = this.#young.get(batchId) ?? this.#old.get(batchId);
    if (batch === undefined) {
      if (this.#young.size >= MAX_WAITING) this.#turn();
      batch = new BatchSpan(timeline, modelName);
      this.#young.set(batchId, batch);
      this.#timer ??= setTimeout(() => this.#turn(), KEPT_MS).unref();
    }
    batch.link(member);
    return batch;
  }

  /** Hands over all that wait. */
  flush(): void {
    this.#turn();
    this.#turn();
  }

  /** The old are handed over, the young are old. */
  #turn(): void {
    clearTimeout(this.#timer);
    for (const batch of this.#old.values()) this.#add(batch);
    this.#old = this.#young;
    this.#young = new Map();
    this.#timer = this.#old.size > 0 ? setTimeout(() => this.#turn(), KEPT_MS).unref() : undefined;
  }
}

class BatchSpan implements Recorded, SpanLink {
  readonly spans = 1;
  readonly traceId: TraceId = [randomWord(), randomWord(), randomWord(), randomWord() || 1];
  readonly spanId: SpanId = newSpanId();
  readonly flags = SAMPLED | RANDOM;
  readonly #timeline: Timeline;
  readonly #modelName: string;
  readonly #links: SpanLink[] = [];
  #droppedLinks = 0;
  #endMs = 0;

  constructor(timeline: Timeline, modelName: string) {
    this.#timeline = timeline;
    this.#modelName = modelName;
    this.#endMs = Math.max(timeline.dispatched, timeline.computeEnd);
  }

  link({ traceId, spanId, flags }: SpanLink): void {
    if (this.#links.length < MAX_LINKS) this.#links.push({ traceId, spanId, flags });
    else this.#droppedLinks++;
  }

  writeTo(request: OtlpRequest): void {
    const { batchId, batchSize, dispatched } = this.#timeline;
    request.span({
      traceId: this.traceId,
      spanId: this.spanId,
      flags: this.flags,
      parent: undefined,
      name: `batch ${this.#modelName}`,
      kind: 'internal',
      startMs: dispatched,
      endMs: this.#endMs,
      attributes: [
        ['tensorwire.model', this.#modelName],
        ['tensorwire.batch.id', batchId],
        ['tensorwire.batch.size', batchSize],
      ],
      links: this.#links,
      droppedLinks: this.#droppedLinks,
    });
  }
}
