/**
 * Counts of one model's streams, as main sees them; what the worker sees is in the gauges (runtime/generation-messages.ts).
 *
 * Made with the slot, so that they outlive an unloading; written by generate.ts, read by the metrics and the statistics.
 */
export class GenerationCounts {
  /** By finish reason. */
  readonly finished = { stop: 0, length: 0 };
  /** By what ended a stream early. */
  readonly cancelled = { client: 0, deadline: 0, stalled: 0, lost: 0, shutdown: 0 };
  failed = 0;
  promptTokens = 0;
  generatedTokens = 0;
}
