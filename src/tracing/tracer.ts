/**
 * Tracing, put together: decides at a request's head whether it is traced, and sees its spans to the collector.
 *
 *   front end ─ start ─▶ OpenTrace ─ closed ─▶ SpanQueue ─▶ OtlpRequest ─▶ OtlpSender ─▶ collector
 *                            └─ join ─▶ BatchSpans ─▶┘
 *
 * Made by the composition root when the environment asks for it (`settings.ts`). Owns all of the above until `close`.
 */
import type { Log } from '../base/log.js';
import type { Metrics } from '../base/metrics.js';
import type { RequestTrace, Tracer } from '../engine/request-trace.js';
import { BatchSpans } from './batch-spans.js';
import { OpenTrace, type TraceOwner } from './open-trace.js';
import { OtlpRequest } from './otlp-request.js';
import { OtlpSender } from './otlp-sender.js';
import { Sampler } from './sampler.js';
import type { TracingSettings } from './settings.js';
import { SpanQueue } from './span-queue.js';
import { newSpanId, parseTraceparent, parseTracestate, RANDOM, randomWord, SAMPLED } from './trace-context.js';

export interface Tracing extends Tracer {
  /** Shows what became of the spans. */
  register(metrics: Metrics): void;
  /** Sends what waits, for at most this long; then nothing is under way any more. After the last request has ended. */
  close(boundMs: number): Promise<void>;
}

export function createTracing(settings: TracingSettings, { log, version }: { log: Log; version: string }): Tracing {
  const { sampling, readsContext, target } = settings;
  const sampler = new Sampler(sampling);
  const queue = new SpanQueue({
    ...settings,
    request: new OtlpRequest(settings.resource, version),
    sender: new OtlpSender(target),
    log,
  });
  const batches = new BatchSpans((batch) => queue.add(batch));
  const owner: TraceOwner = { batches, add: (record) => queue.add(record) };

  return {
    start(called, traceparent, tracestate): RequestTrace | undefined {
      const parent = readsContext ? parseTraceparent(traceparent) : undefined;
      if (parent !== undefined) {
        if (!sampler.child(parent)) return undefined;
        const place = {
          traceId: parent.traceId,
          spanId: newSpanId(),
          flags: parent.flags | SAMPLED,
          parent: parent.spanId,
          tracestate: parseTracestate(tracestate),
          target: called,
        };
        return new OpenTrace(place, owner);
      }
      const high = randomWord();
      const low = randomWord();
      if (!sampler.root(high, low)) return undefined;
      const traceId = [randomWord() || 1, randomWord(), high, low] as const;
      const place = { traceId, spanId: newSpanId(), flags: SAMPLED | RANDOM, parent: undefined, tracestate: '' };
      return new OpenTrace({ ...place, target: called }, owner);
    },

    register(metrics) {
      metrics.counter({ name: 'tensorwire_spans_exported_total', help: 'Spans that the collector has taken' }, () => [
        [{}, queue.exported],
      ]);
      metrics.counter(
        { name: 'tensorwire_spans_dropped_total', help: 'Spans that no collector has, and why', labels: ['reason'] },
        () => Object.entries(queue.dropped).map(([reason, count]) => [{ reason }, count] as const),
      );
    },

    close(boundMs) {
      batches.flush();
      return queue.close(boundMs);
    },
  };
}
