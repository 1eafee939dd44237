/** Tracing without a server: timelines in, spans at a real collector out. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { nowMs } from '../../src/base/clock.js';
import type { Log } from '../../src/base/log.js';
import { Metrics } from '../../src/base/metrics.js';
import { Timeline } from '../../src/base/timeline.js';
import type { FinishedRequest } from '../../src/engine/finished-request.js';
import { readTracingSettings } from '../../src/tracing/settings.js';
import { createTracing, type Tracing } from '../../src/tracing/tracer.js';
import { type Collector, type Span, startCollector } from './collector.js';

const INFER = '/inference.GRPCInferenceService/ModelInfer';
const ROUTE = '/v2/models/:model/infer';
const PARENT = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';

let collector: Collector;
const open: Tracing[] = [];

beforeEach(async () => {
  collector = await startCollector();
});
afterEach(async () => {
  await Promise.all(open.splice(0).map((tracing) => tracing.close(100)));
  await collector.close();
});

function start(env: Record<string, string> = {}) {
  const read = readTracingSettings({ OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoint, ...env }, '1.2.3');
  expect(read.warnings).toEqual([]);
  const lines: { level: string; message: string }[] = [];
  const said = (level: string) => (_fields: object, message: string) => void lines.push({ level, message });
  const log: Log = {
    trace: said('trace'),
    debug: said('debug'),
    info: said('info'),
    warn: said('warn'),
    error: said('error'),
    child: () => log,
  };
  const tracing = createTracing(read.settings!, { log, version: '1.2.3' });
  open.push(tracing);
  return { tracing, lines, counts: () => countsOf(tracing) };
}

async function countsOf(tracing: Tracing): Promise<Record<string, number>> {
  const metrics = new Metrics();
  tracing.register(metrics);
  const { body } = await metrics.render();
  return Object.fromEntries(
    [...body.matchAll(/^tensorwire_spans_(?:exported|dropped)_total(?:\{reason="(\w+)"\})? (\d+)$/gm)].map(
      ([, reason = 'exported', count]) => [reason, Number(count)],
    ),
  );
}

/** A request whose steps take 1, 2, 3, ... milliseconds. */
function timelineOf(more: Partial<Timeline> = {}): Timeline {
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

function finished(more: Partial<FinishedRequest> = {}): FinishedRequest {
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

const named = (spans: readonly Span[], name: string): Span => {
  const found = spans.filter((span) => span.name === name);
  expect(found, name).toHaveLength(1);
  return found[0]!;
};

test('a request becomes a server span whose steps lie in it one behind the other', async () => {
  const { tracing, counts } = start();
  const before = BigInt(Date.now() - 1000) * 1_000_000n;
  const trace = tracing.start(INFER, PARENT, 'vendor=x')!;
  const request = finished();
  trace.finished(request);
  trace.closed();
  await tracing.close(2000);

  const server = named(collector.spans, 'inference.GRPCInferenceService/ModelInfer');
  expect(server).toMatchObject({
    traceId: '0af7651916cd43dd8448eb211c80319c',
    parentSpanId: 'b7ad6b7169203331',
    traceState: 'vendor=x',
    kind: 2,
    status: 0,
    flags: 0x301,
    scope: 'tensorwire',
    attributes: {
      'rpc.system': 'grpc',
      'rpc.service': 'inference.GRPCInferenceService',
      'rpc.method': 'ModelInfer',
      'rpc.grpc.status_code': 0,
      'tensorwire.model': 'add',
      'tensorwire.arm': 'grpc_raw',
      'tensorwire.batch.size': 4,
      'tensorwire.request.bytes': 10,
      'tensorwire.response.bytes': 20,
    },
  });
  expect(server.resource).toMatchObject({ 'service.name': 'tensorwire', 'service.version': '1.2.3' });
  expect(trace.traceresponse).toBe(`00-${server.traceId}-${server.spanId}-01`);
  expect(server.start).toBeGreaterThan(before);
  expect(server.end).toBeLessThan(BigInt(Date.now() + 1000) * 1_000_000n);

  const steps = collector.spans.filter(({ parentSpanId }) => parentSpanId === server.spanId);
  expect(steps.map(({ name }) => name)).toEqual(['receive', 'decode', 'queue', 'batch', 'encode', 'send']);
  expect(steps.every(({ traceId, kind }) => traceId === server.traceId && kind === 1)).toBe(true);
  const lengths = steps.slice(0, -1).map(({ start, end }) => Number(end - start) / 1e6);
  for (const [i, expected] of [1, 2, 2.98, 6, 5].entries()) expect(lengths[i]).toBeCloseTo(expected, 3);
  expect(steps[0]!.start).toBe(server.start);
  expect(steps.at(-1)!.end).toBe(server.end);
  const compute = named(collector.spans, 'compute');
  const batch = named(collector.spans, 'batch');
  expect(compute.parentSpanId).toBe(batch.spanId);
  expect(compute.start).toBeGreaterThan(batch.start);
  expect(compute.end).toBeLessThan(batch.end);
  expect(await counts()).toMatchObject({ exported: 8 });
});

test('without a caller that traces, the request starts a trace of its own', async () => {
  const { tracing } = start();
  for (const traceparent of [undefined, 'nonsense']) {
    const trace = tracing.start(ROUTE, traceparent, 'vendor=x')!;
    trace.finished(finished({ protocol: 'rest', status: '200', arm: 'rest_json' }));
    trace.closed();
  }
  await tracing.close(2000);
  const servers = collector.spans.filter(({ name }) => name === 'POST /v2/models/{model}/infer');
  expect(servers).toHaveLength(2);
  expect(new Set(servers.map(({ traceId }) => traceId)).size).toBe(2);
  expect(servers[0]).toMatchObject({ parentSpanId: '', traceState: '', flags: 0x103 });
  expect(servers[0]!.attributes).toMatchObject({
    'http.request.method': 'POST',
    'http.route': '/v2/models/{model}/infer',
    'http.response.status_code': 200,
  });
});

test('requests that ran together are linked by one span of their batch, and it to them', async () => {
  const { tracing } = start();
  const traces = [tracing.start(INFER, PARENT, '')!, tracing.start(INFER, undefined, '')!];
  for (const trace of traces) {
    trace.finished(finished({ timeline: timelineOf({ batchId: 7 }) }));
    trace.closed();
  }
  const other = tracing.start(INFER, undefined, '')!;
  other.finished(finished({ timeline: timelineOf({ batchId: 8 }) }));
  other.closed();
  await tracing.close(2000);

  const batches = collector.spans.filter(({ name }) => name === 'batch add');
  expect(batches.map(({ attributes }) => attributes['tensorwire.batch.id'])).toEqual([7, 8]);
  const [together] = batches;
  expect(together).toMatchObject({ parentSpanId: '', kind: 1 });
  expect(together!.links.map(({ traceId, spanId }) => `00-${traceId}-${spanId}`)).toEqual(
    traces.map(({ traceresponse }) => traceresponse.slice(0, -3)),
  );
  const steps = collector.spans.filter(({ name }) => name === 'batch');
  const { traceId, spanId } = together!;
  expect(steps.slice(0, 2).map(({ links }) => links)).toEqual([[{ traceId, spanId }], [{ traceId, spanId }]]);
  expect(steps[2]!.links).toEqual([{ traceId: batches[1]!.traceId, spanId: batches[1]!.spanId }]);
});

test('of a batch with very many members as many are linked as OpenTelemetry allows', async () => {
  const { tracing } = start();
  for (let i = 0; i < 130; i++) {
    const trace = tracing.start(INFER, undefined, '')!;
    trace.finished(finished({ timeline: timelineOf({ batchId: 1 }) }));
    trace.closed();
  }
  await tracing.close(2000);
  const batch = named(collector.spans, 'batch add');
  expect([batch.links.length, batch.droppedLinks]).toEqual([128, 2]);
});

test('generated text has prefill and compute in place of a batch, and its tokens counted', async () => {
  const { tracing } = start();
  const trace = tracing.start('/v2/models/:model/generate_stream', undefined, '')!;
  const timeline = timelineOf({ tokens: 5 });
  timeline.firstToken = timeline.computeStart + 2;
  trace.finished(finished({ protocol: 'rest', status: '200', timeline }));
  trace.closed();
  await tracing.close(2000);
  const [server, ...steps] = collector.spans;
  expect(server!.attributes['tensorwire.tokens']).toBe(5);
  expect(steps.map(({ name }) => name)).toEqual(['receive', 'decode', 'queue', 'prefill', 'compute', 'encode', 'send']);
});

test("the requests of one stream are spans below the stream's own", async () => {
  const { tracing } = start();
  const trace = tracing.start('/inference.GRPCInferenceService/ModelStreamInfer', PARENT, '')!;
  trace.message(finished());
  trace.message(finished({ status: 'INVALID_ARGUMENT', timeline: new Timeline(nowMs()) }));
  trace.finished(finished({ arm: undefined, modelName: '', timeline: new Timeline(nowMs() - 200) }));
  trace.closed();
  await tracing.close(2000);
  const stream = named(collector.spans, 'inference.GRPCInferenceService/ModelStreamInfer');
  const messages = collector.spans.filter(({ name }) => name === 'request');
  expect(messages.map(({ parentSpanId }) => parentSpanId)).toEqual([stream.spanId, stream.spanId]);
  expect(messages[1]!.attributes['rpc.grpc.status_code']).toBe(3);
  expect(
    collector.spans.some(({ name, parentSpanId }) => name === 'queue' && parentSpanId === messages[0]!.spanId),
  ).toBe(true);
});

test.each([
  ['grpc', 'INTERNAL', 2],
  ['grpc', 'UNAVAILABLE', 2],
  ['grpc', 'INVALID_ARGUMENT', 0],
  ['grpc', 'CANCELLED', 0],
  ['rest', '503', 2],
  ['rest', '400', 0],
  ['rest', '499', 0],
] as const)(
  'the status %s %s is told, and is an error only where the server failed',
  async (protocol, status, code) => {
    const { tracing } = start();
    const trace = tracing.start(protocol === 'grpc' ? INFER : ROUTE, undefined, '')!;
    trace.finished(finished({ protocol, status, timeline: new Timeline(nowMs()) }));
    trace.closed();
    await tracing.close(2000);
    const [server] = collector.spans;
    expect(server!.status).toBe(code);
    expect(server!.attributes['error.type']).toBe(code === 2 ? status : undefined);
    if (status === '499') expect(server!.attributes).not.toHaveProperty('http.response.status_code');
  },
);

test('a caller that does not sample is followed, and nothing is written for it', async () => {
  const { tracing } = start();
  expect(tracing.start(INFER, PARENT.replace(/01$/, '00'), '')).toBeUndefined();
  const off = start({ OTEL_TRACES_SAMPLER: 'always_off' });
  expect(off.tracing.start(INFER, PARENT, '')).toBeUndefined();
  await tracing.close(2000);
  expect(collector.requests).toEqual([]);
});

test('a batch of spans goes at once when it is full, compressed and with the headers that were asked for', async () => {
  const { tracing } = start({
    OTEL_BSP_MAX_EXPORT_BATCH_SIZE: '16',
    OTEL_BSP_SCHEDULE_DELAY: '3600000',
    OTEL_EXPORTER_OTLP_COMPRESSION: 'gzip',
    OTEL_EXPORTER_OTLP_HEADERS: 'x-token=s%20t',
  });
  for (let i = 0; i < 2; i++) {
    const trace = tracing.start(INFER, undefined, '')!;
    trace.finished(finished());
    trace.closed();
  }
  await collector.until((spans) => (spans.length === 16 ? true : undefined));
  const [{ url, headers }] = collector.requests as [(typeof collector.requests)[number]];
  expect(url).toBe('/v1/traces');
  expect(headers).toMatchObject({
    'content-type': 'application/x-protobuf',
    'content-encoding': 'gzip',
    'x-token': 's t',
    'user-agent': 'tensorwire/1.2.3',
  });
});

/** Ends `count` requests of eight spans each. */
function request(tracing: Tracing, count = 1): void {
  for (let i = 0; i < count; i++) {
    const trace = tracing.start(INFER, undefined, '')!;
    trace.finished(finished());
    trace.closed();
  }
}

test('a collector that hangs costs counted drops and no memory, and does not hold the end', async () => {
  collector.answer(() => undefined);
  const { tracing, counts } = start({ OTEL_BSP_MAX_QUEUE_SIZE: '80', OTEL_BSP_MAX_EXPORT_BATCH_SIZE: '40' });
  request(tracing, 5);
  await collector.untilRequests(1);
  request(tracing, 1000);
  expect(await counts()).toMatchObject({ exported: 0, queue_full: 8000 - 80 });
  await tracing.close(50);
  expect(await counts()).toMatchObject({ exported: 0, queue_full: 8000 - 80, shutdown: 120 });
});

test('a collector that is not there is told of once, and once when it is back', async () => {
  const refused = { OTEL_BSP_MAX_EXPORT_BATCH_SIZE: '8', OTEL_EXPORTER_OTLP_TIMEOUT: '100' };
  const { tracing, lines, counts } = start(refused);
  collector.answer((_request, response) => void response.socket!.destroy());
  for (let i = 1; i <= 3; i++) {
    request(tracing);
    await collector.untilRequests(i);
    await expect.poll(async () => (await counts()).export_failed).toBe(8 * i);
  }
  expect(lines).toEqual([
    { level: 'warn', message: 'spans can not be exported: they are dropped and counted until they can' },
  ]);
  collector.answer((_request, response) => void response.writeHead(200).end());
  request(tracing);
  await expect.poll(async () => (await counts()).exported).toBe(8);
  expect(lines.slice(1)).toEqual([{ level: 'info', message: 'spans are exported again' }]);
});

test('a status that passes is tried again after what the collector asks for, another one is final', async () => {
  const { tracing, counts } = start({ OTEL_BSP_MAX_EXPORT_BATCH_SIZE: '8' });
  let tries = 0;
  collector.answer((_request, response) => {
    if (++tries === 1) response.writeHead(503, { 'retry-after': '0' }).end();
    else response.writeHead(200).end();
  });
  request(tracing);
  await expect.poll(async () => (await counts()).exported).toBe(8);
  expect(tries).toBe(2);
  collector.answer((_request, response) => void response.writeHead(500).end());
  request(tracing);
  await expect.poll(async () => (await counts()).export_failed).toBe(8);
  expect(collector.requests).toHaveLength(3);
});

test('spans that the collector refuses in part are counted as such', async () => {
  const { tracing, counts } = start();
  // partial_success { rejected_spans: 3, error_message: "no" }
  const answer = Buffer.from([0x0a, 6, 0x08, 3, 0x12, 2, 0x6e, 0x6f]);
  collector.answer((_request, response) => void response.writeHead(200).end(answer));
  request(tracing);
  await tracing.close(2000);
  expect(await counts()).toMatchObject({ exported: 5, rejected: 3 });
});

test('an answer that is no protobuf, or too long, disturbs nothing', async () => {
  const { tracing, counts } = start({ OTEL_BSP_MAX_EXPORT_BATCH_SIZE: '8' });
  collector.answer((_request, response) => void response.writeHead(200).end('{"partialSuccess":{}}'));
  request(tracing);
  await expect.poll(async () => (await counts()).exported).toBe(8);
  collector.answer((_request, response) => void response.writeHead(200).end(Buffer.alloc(100_000)));
  request(tracing);
  await expect.poll(async () => (await counts()).export_failed).toBe(8);
});
