/**
 * Tracing, put together of OpenTelemetry's SDK: decides at a request's head whether it is traced, and sees its spans to the collector.
 *
 *   front end ─ start ─▶ OpenTrace ─ closed ─▶ SpanMaker ─▶ BatchSpanProcessor ─▶ CountedExporter ─▶ OTLPTraceExporter ─▶ collector
 *                            └─ join ─▶ BatchSpans ─▶┘
 *
 * Made by the composition root when the environment asks for it (`settings.ts`), and loaded only then. Owns all of the above until
 * `close`. The SDK reads the variables of the exporter and of the resource itself, from the process's environment.
 */
import { ROOT_CONTEXT, type SpanContext, type TextMapGetter, trace } from '@opentelemetry/api';
import { W3CTraceContextPropagator } from '@opentelemetry/core';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import {
  defaultResource,
  detectResources,
  type Resource,
  resourceAttributesEnvDetector,
  resourceFromAttributes,
  serviceInstanceIdDetector,
  serviceNameEnvDetector,
} from '@opentelemetry/resources';
import { BatchSpanProcessor } from '@opentelemetry/sdk-trace';
import type { Log } from '../base/log.js';
import type { Metrics } from '../base/metrics.js';
import type { RequestTrace, Tracer } from '../engine/request-trace.js';
import { BatchSpans } from './batch-spans.js';
import { CountedExporter } from './counted-exporter.js';
import { OpenTrace } from './open-trace.js';
import { samplerOf } from './sampler.js';
import { SdkLog } from './sdk-log.js';
import type { TracingSettings } from './settings.js';
import { SpanMaker } from './span-maker.js';

export interface Tracing extends Tracer {
  /** Shows what became of the spans. */
  register(metrics: Metrics): void;
  /**
   * Sends what waits, for at most this long. After the last request has ended. False where an export was still under way: the SDK can't
   * end it, and until it fails by itself it holds the process.
   */
  close(boundMs: number): Promise<boolean>;
}

export function createTracing(settings: TracingSettings, { log, version }: { log: Log; version: string }): Tracing {
  const { sampling, readsContext, queue } = settings;
  const sdkLog = new SdkLog(log);
  sdkLog.listen();
  const exporter = new CountedExporter({
    exporter: new OTLPTraceExporter({ userAgent: `tensorwire/${version}` }),
    maxQueueSize: queue.maxQueueSize,
    takeRejected: () => sdkLog.takeRejected(),
    log,
  });
  const processor = new BatchSpanProcessor({ ...queue, exporter });
  const maker = new SpanMaker({ resource: resourceOf(settings, version, log), processor, version });
  const batches = new BatchSpans(maker, exporter);
  const owner = { maker, exporter, batches };
  const isSampled = samplerOf(sampling);

  return {
    start(called, traceparent, tracestate): RequestTrace | undefined {
      const caller = readsContext && traceparent !== undefined ? callerOf(traceparent, tracestate) : undefined;
      if (!isSampled(caller)) return undefined;
      const own = maker.newContext(caller?.traceId ?? maker.newTraceId(), caller?.traceState);
      return new OpenTrace({ parent: caller, own, called }, owner);
    },

    register(metrics) {
      metrics.counter({ name: 'tensorwire_spans_exported_total', help: 'Spans that the collector has taken' }, () => [
        [{}, exporter.exported],
      ]);
      metrics.counter(
        { name: 'tensorwire_spans_dropped_total', help: 'Spans that no collector has, and why', labels: ['reason'] },
        () => Object.entries(exporter.dropped).map(([reason, count]) => [{ reason }, count] as const),
      );
    },

    async close(boundMs) {
      batches.flush();
      let timer: NodeJS.Timeout | undefined;
      const bound = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, boundMs);
      });
      await Promise.race([processor.shutdown().catch(() => undefined), bound]);
      clearTimeout(timer);
      return exporter.giveUp();
    },
  };
}

/** Whose spans these are; what the environment says wins. */
function resourceOf({ hasAttributes }: TracingSettings, version: string, log: Log): Resource {
  if (hasAttributes && Object.keys(resourceAttributesEnvDetector.detect().attributes ?? {}).length === 0) {
    const expected = 'a list of key=value pairs, percent-encoded and of at most 255 characters each';
    log.warn({}, `OTEL_RESOURCE_ATTRIBUTES is not ${expected}: nothing is taken from it`);
  }
  const detectors = [serviceInstanceIdDetector, resourceAttributesEnvDetector, serviceNameEnvDetector];
  return defaultResource()
    .merge(resourceFromAttributes({ 'service.name': 'tensorwire', 'service.version': version }))
    .merge(detectResources({ detectors }));
}

const PROPAGATOR = new W3CTraceContextPropagator();
const HEADERS: TextMapGetter<Readonly<Record<string, unknown>>> = {
  get(headers, name) {
    const value = headers[name];
    return typeof value === 'string' ? value : undefined;
  },
  keys: (headers) => Object.keys(headers),
};

/** The caller's span; none for anything that is not a valid `traceparent`. */
function callerOf(traceparent: unknown, tracestate: unknown): SpanContext | undefined {
  return trace.getSpanContext(PROPAGATOR.extract(ROOT_CONTEXT, { traceparent, tracestate }, HEADERS));
}
