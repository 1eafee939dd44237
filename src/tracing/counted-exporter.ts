/**
 * The SDK's exporter, counted: how many spans the collector has, how many it has not, and why; and the log's lines on that.
 *
 *   admit ─▶ the SDK's BatchSpanProcessor (its queue holds OTEL_BSP_MAX_QUEUE_SIZE spans) ─▶ export ─▶ the SDK's exporter ─▶ collector
 *
 * Made by `tracer.ts`. Its users ask before they make spans: the processor would drop what it has no room for, but says nothing of it,
 * and the spans would have been made. What the exporter does after `giveUp` counts no more.
 */
import { type ExportResult, ExportResultCode } from '@opentelemetry/core';
import type { ReadableSpan, SpanExporter } from '@opentelemetry/sdk-trace';
import type { Log } from '../base/log.js';

export type DropReason = 'queue_full' | 'export_failed' | 'rejected' | 'shutdown';

export interface CountedExporterOptions {
  readonly exporter: SpanExporter;
  /** The processor's. */
  readonly maxQueueSize: number;
  /** How many spans the collector refused of the export that has just ended well. */
  readonly takeRejected: () => number;
  readonly log: Log;
}

export class CountedExporter implements SpanExporter {
  /** Spans that the collector has. */
  exported = 0;
  readonly dropped: Record<DropReason, number> = { queue_full: 0, export_failed: 0, rejected: 0, shutdown: 0 };
  readonly #options: CountedExporterOptions;
  /** Spans that were admitted and have not come here yet: those in the processor's queue. */
  #waiting = 0;
  #sending = 0;
  #closed = false;
  /** Spans lost since exports fail; undefined while they do not. */
  #lostWhileFailing: number | undefined;

  constructor(options: CountedExporterOptions) {
    this.#options = options;
  }

  /** Whether there is room for this many spans, all of which must be made before the turn is over; else they are counted as dropped. */
  admit(spans: number): boolean {
    const hasRoom = this.#waiting + spans <= this.#options.maxQueueSize;
    if (hasRoom && !this.#closed) {
      this.#waiting += spans;
      return true;
    }
    this.dropped[this.#closed ? 'shutdown' : 'queue_full'] += spans;
    return false;
  }

  export(spans: ReadableSpan[], done: (result: ExportResult) => void): void {
    this.#waiting -= spans.length;
    this.#sending += spans.length;
    this.#options.exporter.export(spans, (result) => {
      if (!this.#closed) this.#count(spans.length, result);
      // A failure is told by now. The processor would tell it again each time, and at the end not wait for the other batches.
      done({ code: ExportResultCode.SUCCESS });
    });
  }

  forceFlush(): Promise<void> {
    return this.#options.exporter.forceFlush?.() ?? Promise.resolve();
  }

  shutdown(): Promise<void> {
    return this.#options.exporter.shutdown();
  }

  /** Counts what the collector has not taken by now as dropped, and tells whether there was nothing. */
  giveUp(): boolean {
    const lost = this.#waiting + this.#sending;
    const first = !this.#closed;
    this.#closed = true;
    if (first && lost > 0) {
      this.dropped.shutdown += lost;
      this.#options.log.warn({ lost }, 'the collector has not taken the last spans in time: they are dropped');
    }
    return lost === 0;
  }

  #count(spans: number, { code, error }: ExportResult): void {
    this.#sending -= spans;
    if (code === ExportResultCode.SUCCESS) {
      const rejected = Math.min(spans, this.#options.takeRejected());
      this.exported += spans - rejected;
      this.dropped.rejected += rejected;
      this.#tellWorking();
    } else {
      this.dropped.export_failed += spans;
      this.#tellFailing(reasonOf(error), spans);
    }
  }

  #tellFailing(reason: string, spans: number): void {
    if (this.#lostWhileFailing === undefined) {
      this.#lostWhileFailing = 0;
      this.#options.log.warn({ reason }, "spans can't be exported: they are dropped and counted until they can");
    }
    this.#lostWhileFailing += spans;
  }

  #tellWorking(): void {
    if (this.#lostWhileFailing === undefined) return;
    this.#options.log.info({ lost: this.#lostWhileFailing }, 'spans are exported again');
    this.#lostWhileFailing = undefined;
  }
}

/** An HTTP status is the error's code, and its phrase the message. */
function reasonOf(error: (Error & { code?: unknown }) | undefined): string {
  const { message = '', code = '' } = error ?? {};
  return typeof code === 'number' ? `HTTP status ${code} ${message}`.trim() : message || String(code) || 'unknown';
}
