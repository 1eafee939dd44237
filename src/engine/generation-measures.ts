/**
 * What one stream adds to the counts of its model and to the stamps of its request.
 *
 * Made by generate-call.ts when the prompt is handed to the model's thread. A token costs one look at the buckets, no clock.
 */
import { nowMs } from '../base/clock.js';
import type { Timeline } from '../base/timeline.js';
import type { EndDetail } from '../runtime/generation-messages.js';
import { COUNTED_RESPONSES, type GenerationCounts } from './generation-counts.js';
import type { Statistics } from './statistics.js';

export interface MeasuredStream {
  readonly timeline: Timeline;
  readonly counts: GenerationCounts;
  readonly statistics: Statistics;
  readonly promptTokens: number;
}

export class GenerationMeasures {
  readonly #stream: MeasuredStream;
  /** Tokens chosen so far. */
  tokens = 0;
  /** Of the last token; before the first, when the stream was handed over. */
  #lastMs: number;
  /** Of the one before. */
  #beforeMs = 0;
  /** Tokens whose deltas have been handed over. */
  #handedOver = 0;

  constructor(stream: MeasuredStream) {
    this.#stream = stream;
    this.#lastMs = stream.timeline.queued;
  }

  /** A token was chosen at `timeMs`. */
  chosen(timeMs: number): void {
    const { timeline, counts } = this.#stream;
    if (this.tokens === 0) {
      timeline.firstToken = timeMs;
      counts.firstTokenMs.observe(timeMs - timeline.firstByte);
    } else {
      counts.betweenTokensMs.observe(timeMs - this.#lastMs);
    }
    counts.generatedTokens++;
    this.tokens++;
    this.#beforeMs = this.#lastMs;
    this.#lastMs = timeMs;
  }

  /** The delta of the last token has been handed over. */
  handedOver(): void {
    if (this.tokens === this.#handedOver) return;
    this.#handedOver = this.tokens;
    if (this.tokens > COUNTED_RESPONSES) return;
    const { timeline, counts } = this.#stream;
    const response = counts.responses[this.tokens - 1]!;
    const now = nowMs();
    response.count++;
    response.inferMs += Math.max(0, this.#lastMs - this.#beforeMs);
    response.outputMs += Math.max(0, now - this.#lastMs);
    if (this.tokens === 1) counts.firstResponseMs.observe(now - timeline.firstByte);
  }

  /** The last record is here: the stamps of the whole request are known. */
  ended(end: EndDetail): void {
    const { timeline } = this.#stream;
    timeline.dispatched = end.scheduledMs;
    timeline.computeStart = end.prefillMs;
    timeline.computeEnd = Math.max(this.#lastMs, end.prefillMs);
    timeline.batchSize = 1;
    timeline.tokens = this.tokens;
    timeline.scattered = nowMs();
  }

  /** Its last delta, too, has been handed over. */
  answered({ finishReason }: EndDetail): void {
    const { timeline, counts, statistics, promptTokens } = this.#stream;
    const { firstToken, dispatched, computeEnd } = timeline;
    counts.finished[finishReason]++;
    counts.promptTokens += promptTokens;
    counts.promptSizes.observe(promptTokens);
    counts.generatedSizes.observe(this.tokens);
    counts.queueMs.observe(dispatched - timeline.queued);
    counts.requestMs.observe(timeline.scattered - timeline.firstByte);
    if (this.tokens > 0) {
      counts.prefillMs.observe(firstToken - dispatched);
      counts.decodeMs.observe(computeEnd - firstToken);
    }
    if (this.tokens > 1) counts.meanBetweenTokensMs.observe((computeEnd - firstToken) / (this.tokens - 1));
    statistics.executionCount++;
    statistics.succeeded(1, timeline, nowMs());
  }
}
