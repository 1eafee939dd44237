/**
 * What waits to be exported: a bounded queue of records, sent in batches, one at a time.
 *
 *   add ─▶ queue (OTEL_BSP_MAX_QUEUE_SIZE spans; full = dropped, counted) ─▶ written as OTLP ─▶ sent ─▶ exported or dropped, counted
 *
 * Made by `tracing.ts`. A batch goes when there are OTEL_BSP_MAX_EXPORT_BATCH_SIZE spans or OTEL_BSP_SCHEDULE_DELAY has passed. While one
 * is on its way, or the collector is dead, adding costs a comparison. Owns the queue, its timer, the counts and the log's two lines.
 */
import type { Log } from '../base/log.js';
import type { OtlpRequest } from './otlp-request.js';

/** Something that is one or more spans. */
export interface Recorded {
  readonly spans: number;
  writeTo(request: OtlpRequest): void;
}

/** Takes the bytes of an OTLP request to the collector. */
export interface Sender {
  /** Resolves with the number of spans that the collector took but refused; rejects with why it has none. */
  send(body: Buffer): Promise<number>;
  /** Ends what is on its way; `send` rejects from then on. */
  abort(): void;
}

export type DropReason = 'queue_full' | 'export_failed' | 'rejected' | 'shutdown';

export interface SpanQueueOptions {
  readonly maxQueueSize: number;
  readonly maxExportBatchSize: number;
  readonly scheduleDelayMs: number;
  readonly request: OtlpRequest;
  readonly sender: Sender;
  readonly log: Log;
}

export class SpanQueue {
  /** Spans that the collector has. */
  exported = 0;
  readonly dropped: Record<DropReason, number> = { queue_full: 0, export_failed: 0, rejected: 0, shutdown: 0 };
  readonly #options: SpanQueueOptions;
  #waiting: Recorded[] = [];
  /** Spans in `#waiting`. */
  #spans = 0;
  #timer: NodeJS.Timeout | undefined;
  #sending: Promise<void> | undefined;
  #closed = false;
  /** Spans lost since exports fail; undefined while they do not. */
  #lostWhileFailing: number | undefined;

  constructor(options: SpanQueueOptions) {
    this.#options = options;
  }

  add(record: Recorded): void {
    const { maxQueueSize, maxExportBatchSize, scheduleDelayMs } = this.#options;
    if (this.#closed) this.dropped.shutdown += record.spans;
    else if (this.#spans + record.spans > maxQueueSize) this.dropped.queue_full += record.spans;
    else {
      this.#waiting.push(record);
      this.#spans += record.spans;
      if (this.#sending !== undefined) return;
      if (this.#spans >= maxExportBatchSize) this.#export();
      else this.#timer ??= setTimeout(() => this.#export(), scheduleDelayMs).unref();
    }
  }

  /** Takes no more, sends what waits, and gives up what is not sent after `boundMs`. */
  async close(boundMs: number): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    const { sender } = this.#options;
    const timer = setTimeout(() => sender.abort(), boundMs);
    // After the abort each of them fails at once.
    while (this.#sending !== undefined || this.#spans > 0) {
      if (this.#sending === undefined) this.#export();
      await this.#sending;
    }
    clearTimeout(timer);
    sender.abort();
  }

  #export(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#sending = this.#send().finally(() => {
      this.#sending = undefined;
      if (this.#closed || this.#spans === 0) return;
      const { maxExportBatchSize, scheduleDelayMs } = this.#options;
      if (this.#spans >= maxExportBatchSize) this.#export();
      else this.#timer = setTimeout(() => this.#export(), scheduleDelayMs).unref();
    });
  }

  async #send(): Promise<void> {
    const { request, sender } = this.#options;
    const records = this.#take();
    const spans = records.reduce((sum, record) => sum + record.spans, 0);
    try {
      request.begin();
      for (const record of records) record.writeTo(request);
      const rejected = await sender.send(request.end());
      this.exported += spans - rejected;
      this.dropped.rejected += rejected;
      this.#tellWorking();
    } catch (error) {
      this.dropped[this.#closed ? 'shutdown' : 'export_failed'] += spans;
      this.#tellFailing(error as Error, spans);
    }
  }

  /** The oldest records, at least one, of up to a batch's spans. */
  #take(): Recorded[] {
    let spans = 0;
    let count = 0;
    for (const record of this.#waiting) {
      if (count > 0 && spans + record.spans > this.#options.maxExportBatchSize) break;
      spans += record.spans;
      count++;
    }
    this.#spans -= spans;
    return this.#waiting.splice(0, count);
  }

  #tellFailing(error: Error, spans: number): void {
    if (this.#lostWhileFailing === undefined) {
      this.#lostWhileFailing = 0;
      const message = "spans can't be exported: they are dropped and counted until they can";
      this.#options.log.warn({ reason: error.message }, message);
    }
    this.#lostWhileFailing += spans;
  }

  #tellWorking(): void {
    if (this.#lostWhileFailing === undefined) return;
    this.#options.log.info({ lost: this.#lostWhileFailing }, 'spans are exported again');
    this.#lostWhileFailing = undefined;
  }
}
