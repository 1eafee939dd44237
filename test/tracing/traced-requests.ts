/**
 * Tracing without a server: a collector, tracing that exports to it, and requests whose timelines are made up.
 *
 * Used by the tests of tracing, one `startTracing` a file: what it starts ends with the test.
 */
import { afterEach, beforeEach, expect, vi } from 'vitest';
import { nowMs } from '../../src/base/clock.js';
import type { Log } from '../../src/base/log.js';
import { Metrics } from '../../src/base/metrics.js';
import { Timeline } from '../../src/base/timeline.js';
import type { FinishedRequest } from '../../src/engine/finished-request.js';
import { readTracingSettings } from '../../src/tracing/settings.js';
import { createTracing, type Tracing } from '../../src/tracing/tracer.js';
import { type Collector, startCollector } from './collector.js';

export const INFER = '/inference.GRPCInferenceService/ModelInfer';
export const ROUTE = '/v2/models/:model/infer';
export const PARENT = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';

/** How long the end waits for the last spans, on any machine: no test waits for so long. */
export const PATIENCE_MS = 120_000;

export let collector: Collector;
const open: Tracing[] = [];

/** Gives each test of the file a collector, and ends what it has started. */
export function useCollector(): void {
  beforeEach(async () => {
    collector = await startCollector();
  });
  afterEach(async () => {
    await Promise.all(open.splice(0).map((tracing) => tracing.close(100)));
    await collector.close();
  });
}

/** Tracing as these variables ask for it, what it logs, and its counts as Prometheus gets them. */
export function start(more: Record<string, string> = {}) {
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoint, ...more };
  const read = readTracingSettings(env);
  expect(read.warnings).toEqual([]);
  const lines: { level: string; message: string; fields: object }[] = [];
  const said = (level: string) => (fields: object, message: string) => void lines.push({ level, message, fields });
  const log: Log = {
    trace: said('trace'),
    debug: said('debug'),
    info: said('info'),
    warn: said('warn'),
    error: said('error'),
    child: () => log,
  };
  // The SDK reads its part of the variables when it is made.
  for (const [name, value] of Object.entries(env)) vi.stubEnv(name, value);
  const tracing = createTracing(read.settings!, { log, version: '1.2.3' });
  vi.unstubAllEnvs();
  open.push(tracing);
  return { tracing, lines, counts: () => countsOf(tracing) };
}

async function countsOf(tracing: Tracing): Promise<Record<string, number>> {
  const metrics = new Metrics();
  tracing.register(metrics);
  const { body } = await metrics.render();
  return Object.fromEntries(
    [...String(body).matchAll(/^tensorwire_spans_(?:exported|dropped)_total(?:\{reason="(\w+)"\})? (\d+)$/gm)].map(
      ([, reason = 'exported', count]) => [reason, Number(count)],
    ),
  );
}

/** A request whose steps take 1, 2, 3, ... milliseconds. */
export function timelineOf(more: Partial<Timeline> = {}): Timeline {
  const at = nowMs() - 100;
  const timeline = new Timeline(at);
  Object.assign(timeline, {
    lastByte: at + 1,
    decoded: at + 3,
    admitted: at + 3.01,
    queued: at + 3.02,
    dispatched: at + 6,
    computeStart: at + 7,
    computeEnd: at + 11,
    scattered: at + 12,
    encoded: at + 17,
    batchSize: 4,
    ...more,
  });
  return timeline;
}

export function finished(more: Partial<FinishedRequest> = {}): FinishedRequest {
  return {
    protocol: 'grpc',
    method: 'ModelInfer',
    status: 'OK',
    arm: 'grpc_raw',
    modelName: 'add',
    timeline: timelineOf(),
    requestBytes: 10,
    responseBytes: 20,
    ...more,
  };
}

/** Ends `count` requests of eight spans each. */
export function endRequests(tracing: Tracing, count = 1): void {
  for (let i = 0; i < count; i++) {
    const trace = tracing.start(INFER, undefined, '')!;
    trace.finished(finished());
    trace.closed();
  }
}
