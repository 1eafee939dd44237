/** From requests to spans: timelines in, spans at a real collector out. */
import { expect, test } from 'vitest';
import { nowMs } from '../../src/base/clock.js';
import { Timeline } from '../../src/base/timeline.js';
import type { Span } from './collector.js';
import {
  collector,
  finished,
  INFER,
  PARENT,
  PATIENCE_MS,
  ROUTE,
  start,
  timelineOf,
  useCollector,
} from './traced-requests.js';

useCollector();

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
  await tracing.close(PATIENCE_MS);

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
  await tracing.close(PATIENCE_MS);
  const servers = collector.spans.filter(({ name }) => name === 'POST /v2/models/{model}/infer');
  expect(servers).toHaveLength(2);
  expect(new Set(servers.map(({ traceId }) => traceId)).size).toBe(2);
  expect(servers[0]).toMatchObject({ parentSpanId: '', traceState: '', flags: 0x101 });
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
  await tracing.close(PATIENCE_MS);

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
  await tracing.close(PATIENCE_MS);
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
  await tracing.close(PATIENCE_MS);
  const [server, ...steps] = collector.spans;
  expect(server!.attributes['tensorwire.tokens']).toBe(5);
  expect(steps.map(({ name }) => name)).toEqual(['receive', 'decode', 'queue', 'prefill', 'compute', 'encode', 'send']);
});

test("the requests of one stream are spans below the stream's own", async () => {
  const { tracing } = start();
  const trace = tracing.start('/inference.GRPCInferenceService/ModelStreamInfer', PARENT, '')!;
  trace.message(finished());
  trace.message(finished({ status: 'INVALID_ARGUMENT', timeline: new Timeline(nowMs()) }));
  const timeline = new Timeline(nowMs() - 200);
  timeline.lastByte = nowMs() - 150;
  timeline.scattered = timeline.encoded = nowMs() - 10;
  trace.finished(finished({ arm: undefined, modelName: '', timeline }));
  trace.closed();
  await tracing.close(PATIENCE_MS);
  const stream = named(collector.spans, 'inference.GRPCInferenceService/ModelStreamInfer');
  // Its own stamps lie across those of its requests, and bytes are counted there.
  const own = collector.spans.filter(({ parentSpanId }) => parentSpanId === stream.spanId).map(({ name }) => name);
  expect(own).toEqual(['request', 'request']);
  expect(stream.attributes).not.toHaveProperty('tensorwire.request.bytes');
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
    await tracing.close(PATIENCE_MS);
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
  await tracing.close(PATIENCE_MS);
  expect(collector.requests).toEqual([]);
});
