/**
 * One span for all requests that ran together, in a trace of its own, linked to those of them that are traced.
 *
 * Called by `open-trace.ts` when a sampled request has its outcome. Members of one batch end at different times (large JSON is printed by
 * another thread), so a batch is kept until it is one to two seconds old, or more batches wait than are kept; a member that comes even
 * later gets a second span of the same `tensorwire.batch.id`. Owns the waiting batches and their timer.
 */
import type { Link, SpanContext } from '@opentelemetry/api';
import type { Timeline } from '../base/timeline.js';
import type { CountedExporter } from './counted-exporter.js';
import type { SpanMaker } from './span-maker.js';

const KEPT_MS = 1000;
const MAX_WAITING = 1024;

/** What OpenTelemetry's SDKs allow. */
const MAX_LINKS = 128;

interface WaitingBatch {
  readonly timeline: Timeline;
  readonly modelName: string;
  readonly context: SpanContext;
  readonly links: Link[];
  droppedLinks: number;
}

export class BatchSpans {
  readonly #maker: SpanMaker;
  readonly #exporter: CountedExporter;
  #young = new Map<number, WaitingBatch>();
  #old = new Map<number, WaitingBatch>();
  #timer: NodeJS.Timeout | undefined;

  constructor(maker: SpanMaker, exporter: CountedExporter) {
    this.#maker = maker;
    this.#exporter = exporter;
  }

  /** The span of the batch that this request was in, linked to `member`; undefined where it was in none. */
  join(timeline: Timeline, modelName: string, member: SpanContext): SpanContext | undefined {
    const { batchId } = timeline;
    if (batchId === 0) return undefined;
    let batch = this.#young.get(batchId) ?? this.#old.get(batchId);
    if (batch === undefined) {
      if (this.#young.size >= MAX_WAITING) this.#turn();
      const context = this.#maker.newContext(this.#maker.newTraceId(), undefined);
      batch = { timeline, modelName, context, links: [], droppedLinks: 0 };
      this.#young.set(batchId, batch);
      this.#timer ??= setTimeout(() => this.#turn(), KEPT_MS).unref();
    }
    if (batch.links.length < MAX_LINKS) batch.links.push({ context: member });
    else batch.droppedLinks++;
    return batch.context;
  }

  /** Makes spans of all that wait. */
  flush(): void {
    this.#turn();
    this.#turn();
  }

  /** The old become spans, the young are old. */
  #turn(): void {
    clearTimeout(this.#timer);
    for (const batch of this.#old.values()) if (this.#exporter.admit(1)) this.#add(batch);
    this.#old = this.#young;
    this.#young = new Map();
    this.#timer = this.#old.size > 0 ? setTimeout(() => this.#turn(), KEPT_MS).unref() : undefined;
  }
  #add({ timeline, modelName, context, links, droppedLinks }: WaitingBatch): void {
    const { batchId, batchSize, dispatched, computeEnd } = timeline;
    this.#maker.add({
      name: `batch ${modelName}`,
      context,
      parent: undefined,
      startMs: dispatched,
      endMs: Math.max(dispatched, computeEnd),
      attributes: {
        'tensorwire.model': modelName,
        'tensorwire.batch.id': batchId,
        'tensorwire.batch.size': batchSize,
      },
      links,
      droppedLinks,
    });
  }
}
