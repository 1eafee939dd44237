/**
 * Counts of one model version with Triton's meanings (statistics extension): durations are summed per request, `batch_stats` per
 * execution. Plain numbers on the hot path; Prometheus reads them at scrape time.
 *
 * Called by the scheduler and the engine. Sums are kept in milliseconds and given out in whole nanoseconds.
 */
import type { Timeline } from '../base/timeline.js';
import type { ResponseCounts } from './generation-counts.js';
import type { ModelStatistics, ResponseStatistics, StatisticDuration } from './types.js';

/** Triton's reasons of `nv_inference_request_failure`. */
export type FailureReason = 'REJECTED' | 'CANCELED' | 'BACKEND' | 'OTHER';

class Duration {
  count = 0;
  ms = 0;

  add(ms: number): void {
    this.count++;
    this.ms += ms;
  }

  snapshot(): StatisticDuration {
    return { count: this.count, ns: Math.round(this.ms * 1e6) };
  }
}

class BatchCounts {
  readonly computeInput = new Duration();
  readonly computeInfer = new Duration();
  readonly computeOutput = new Duration();
}

export class Statistics {
  lastInferenceMs = 0;
  inferenceCount = 0;
  executionCount = 0;
  /** Tokens of texts computed, padding included; requests of raw tensors are not counted. */
  tokenCount = 0;
  /** Those of them that were padding. */
  paddingTokenCount = 0;
  readonly success = new Duration();
  readonly fail = new Duration();
  readonly queue = new Duration();
  readonly computeInput = new Duration();
  readonly computeInfer = new Duration();
  readonly computeOutput = new Duration();
  readonly failures: Record<FailureReason, number> = { REJECTED: 0, CANCELED: 0, BACKEND: 0, OTHER: 0 };
  readonly #batches = new Map<number, BatchCounts>();

  /** One run over texts of `real` tokens together, padded to `computed`. */
  padded(computed: number, real: number): void {
    this.tokenCount += computed;
    this.paddingTokenCount += computed - real;
  }

  /** One run of the model over `rows` rows; times in milliseconds. */
  executed(rows: number, inputMs: number, inferMs: number, outputMs: number): void {
    this.executionCount++;
    let batch = this.#batches.get(rows);
    if (!batch) this.#batches.set(rows, (batch = new BatchCounts()));
    batch.computeInput.add(inputMs);
    batch.computeInfer.add(inferMs);
    batch.computeOutput.add(outputMs);
  }

  /** One request answered; `nowMs` is when its reply had been handed over. */
  succeeded(rows: number, timeline: Timeline, nowMs: number): void {
    this.lastInferenceMs = Date.now();
    this.inferenceCount += rows;
    this.success.add(nowMs - timeline.queued);
    this.queue.add(timeline.dispatched - timeline.queued);
    this.computeInput.add(timeline.computeStart - timeline.dispatched);
    this.computeInfer.add(timeline.computeEnd - timeline.computeStart);
    this.computeOutput.add(nowMs - timeline.computeEnd);
  }

  /** One request refused or failed, `ms` after it had been received. */
  failed(reason: FailureReason, ms: number): void {
    this.failures[reason]++;
    this.fail.add(ms);
  }

  /** Executions by rows in the batch, ascending. */
  batchSizes(): [rows: number, executions: number][] {
    return [...this.#batches]
      .map(([rows, batch]): [number, number] => [rows, batch.computeInfer.count])
      .sort((a, b) => a[0] - b[0]);
  }

  /**
   * Triton's ModelStatistics. `memoryBytes` is what the loaded model was measured to cost, 0 where that is not known; `responses` those of a
   * model that answers with several, by their numbers.
   */
  snapshot(
    name: string,
    version: string,
    memoryBytes: number,
    responses: readonly ResponseCounts[] = [],
  ): ModelStatistics {
    const none: StatisticDuration = { count: 0, ns: 0 };
    return {
      name,
      version,
      last_inference: this.lastInferenceMs,
      inference_count: this.inferenceCount,
      execution_count: this.executionCount,
      inference_stats: {
        success: this.success.snapshot(),
        fail: this.fail.snapshot(),
        queue: this.queue.snapshot(),
        compute_input: this.computeInput.snapshot(),
        compute_infer: this.computeInfer.snapshot(),
        compute_output: this.computeOutput.snapshot(),
        cache_hit: none,
        cache_miss: none,
      },
      batch_stats: [...this.#batches]
        .sort((a, b) => a[0] - b[0])
        .map(([rows, batch]) => ({
          batch_size: rows,
          compute_input: batch.computeInput.snapshot(),
          compute_infer: batch.computeInfer.snapshot(),
          compute_output: batch.computeOutput.snapshot(),
        })),
      memory_usage: memoryBytes > 0 ? [{ type: 'CPU', id: 0, byte_size: memoryBytes }] : [],
      ...(responses.some(({ count }) => count > 0) && { response_stats: responseStatistics(responses) }),
    };
  }
}

/** Triton's, by the number of the response. */
function responseStatistics(responses: readonly ResponseCounts[]): Record<string, ResponseStatistics> {
  const none: StatisticDuration = { count: 0, ns: 0 };
  const counted = responses.filter(({ count }) => count > 0);
  return Object.fromEntries(
    counted.map(({ count, inferMs, outputMs }, index) => {
      const duration = (ms: number): StatisticDuration => ({ count, ns: Math.round(ms * 1e6) });
      const response: ResponseStatistics = {
        compute_infer: duration(inferMs),
        compute_output: duration(outputMs),
        success: duration(inferMs + outputMs),
        fail: none,
        empty_response: none,
        cancel: none,
      };
      return [String(index), response];
    }),
  );
}
