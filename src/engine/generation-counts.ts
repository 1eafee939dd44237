/**
 * Counts of one model's streams, as main sees them; what the worker sees is in the gauges (runtime/generation-messages.ts).
 *
 * Made with the slot, so that they outlive an unloading; written by `generate-call.ts`, read by the metrics and the statistics. Plain
 * numbers and buckets: a token costs one observation.
 */
import { BucketCounts } from '../base/bucket-counts.js';

/** Milliseconds; fine at the lower end, where small models on a CPU are. */
const REQUEST_BOUNDS_MS = [1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1e3, 2.5e3, 5e3, 10e3, 20e3, 40e3, 80e3, 160e3, 640e3];
const TOKEN_BOUNDS_MS = [0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 75, 100, 150, 200, 300, 500, 1e3, 2.5e3, 5e3, 10e3];
const COUNT_BOUNDS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 10e3, 20e3, 50e3, 100e3];
/** Triton's defaults. */
const FIRST_RESPONSE_BOUNDS_MS = [100, 500, 2e3, 5e3];

/** Responses of a stream that are counted each by its number, so that the statistics have a bound. */
export const COUNTED_RESPONSES = 16;

export type CancelReason = 'client' | 'deadline' | 'stalled' | 'lost' | 'shutdown';

/** Of all streams' responses with one number: how long they took to come, and to be handed over. Milliseconds. */
export interface ResponseCounts {
  count: number;
  inferMs: number;
  outputMs: number;
}

export class GenerationCounts {
  /** By finish reason. */
  readonly finished = { stop: 0, length: 0 };
  /** By what ended a stream early. */
  readonly cancelled: Record<CancelReason, number> = { client: 0, deadline: 0, stalled: 0, lost: 0, shutdown: 0 };
  failed = 0;
  promptTokens = 0;
  generatedTokens = 0;
  /** From the first byte of the request to the first token. */
  readonly firstTokenMs = new BucketCounts(REQUEST_BOUNDS_MS);
  /** From token to token. */
  readonly betweenTokensMs = new BucketCounts(TOKEN_BOUNDS_MS);
  /** The mean of that, by request. */
  readonly meanBetweenTokensMs = new BucketCounts(TOKEN_BOUNDS_MS);
  /** From the first byte to the handing over of the last token. */
  readonly requestMs = new BucketCounts(REQUEST_BOUNDS_MS);
  /** Waiting for a place; then until the first token; then until the last. */
  readonly queueMs = new BucketCounts(REQUEST_BOUNDS_MS);
  readonly prefillMs = new BucketCounts(REQUEST_BOUNDS_MS);
  readonly decodeMs = new BucketCounts(REQUEST_BOUNDS_MS);
  readonly promptSizes = new BucketCounts(COUNT_BOUNDS);
  readonly generatedSizes = new BucketCounts(COUNT_BOUNDS);
  readonly firstResponseMs = new BucketCounts(FIRST_RESPONSE_BOUNDS_MS);
  /** By the number of the response; those past the last are not counted. */
  readonly responses: ResponseCounts[] = Array.from({ length: COUNTED_RESPONSES }, () => ({
    count: 0,
    inferMs: 0,
    outputMs: 0,
  }));

  /** Whether there is anything to show. */
  get isUsed(): boolean {
    return this.generatedTokens > 0 || Object.values(this.cancelled).some((count) => count > 0) || this.failed > 0;
  }
}
