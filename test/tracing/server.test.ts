/** Tracing as a user has it: the real server, its environment, a real collector, both protocols. */
import { Metadata } from '@grpc/grpc-js';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { call, connect, INFER, inferBytes, inferRequest, RawConnection, type Stub } from '../grpc/front-end.js';
import { takeDeadPort } from '../support/dead-port.js';
import { temporaryDirectory } from '../support/engine.js';
import { writeStories } from '../support/generate.js';
import { identityModel, writeModel } from '../support/onnx.js';
import { startServer, type TestServer } from '../support/server.js';
import { type Collector, type Span, startCollector, TAKE } from './collector.js';

const TRACE = '0af7651916cd43dd8448eb211c80319c';
const SPAN = 'b7ad6b7169203331';
const PARENT = `00-${TRACE}-${SPAN}-01`;
const RPC = 'inference.GRPCInferenceService/ModelInfer';
/** Goes at once with two rows, and waits for them long enough for any machine. */
const PAIRS =
  'max_batch_size: 2\ndynamic_batching { preferred_batch_size: [2] max_queue_delay_microseconds: 60000000 }\n';

const repository = temporaryDirectory();
writeModel(repository, 'identity', { versions: { 1: identityModel('FP32', ['n']) } });
writeModel(repository, 'pairs', { config: PAIRS, versions: { 1: identityModel('FP32', ['n']) } });
writeStories(repository, 'stories');

let collector: Collector;
let server: TestServer;
let stub: Stub;

/** A server that exports to the collector a moment after a request. */
function start(env: Record<string, string> = {}): Promise<TestServer> {
  const traced = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoint, OTEL_BSP_SCHEDULE_DELAY: '20', ...env };
  return startServer({ repository, env: traced, args: ['--log-format', 'json'] });
}

beforeAll(async () => {
  collector = await startCollector();
  server = await start({ OTEL_SERVICE_NAME: 'vision' });
  stub = connect('open', server.grpcPort);
  await server.waitFor(/^ +stories +1 +READY$/m);
});
afterAll(async () => {
  stub?.close();
  await server?.stop();
  await collector?.close();
});

const hex = (bytes: number): string =>
  Buffer.from(Array.from({ length: bytes }, () => 1 + Math.floor(255 * Math.random()))).toString('hex');

/** A context of a trace that no other test knows. */
function newParent(flags = '01'): { traceId: string; spanId: string; traceparent: string } {
  const [traceId, spanId] = [hex(16), hex(8)];
  return { traceId, spanId, traceparent: `00-${traceId}-${spanId}-${flags}` };
}

const rest = (traceparent: string | undefined, model = 'identity', own = server): Promise<Response> =>
  fetch(`http://127.0.0.1:${own.httpPort}/v2/models/${model}/infer`, {
    method: 'POST',
    headers: traceparent === undefined ? {} : { traceparent, tracestate: 'vendor=x' },
    body: '{"inputs":[{"name":"INPUT0","datatype":"FP32","shape":[1,2],"data":[1,2]}]}',
  });

function grpc(traceparent: string | undefined, model = 'identity') {
  const metadata = new Metadata();
  if (traceparent !== undefined) {
    metadata.set('traceparent', traceparent);
    metadata.set('tracestate', 'vendor=x');
  }
  return call(stub, 'ModelInfer', inferRequest(model, Buffer.alloc(8)), {}, metadata);
}

/** The whole trace of one request, once its last span has come: all spans of a request leave together. */
function spansOf(traceId: string): Promise<Span[]> {
  return collector.until((spans) => {
    const own = spans.filter((span) => span.traceId === traceId);
    return own.length > 0 ? own : undefined;
  });
}

/** Each span lies in its parent's time, and siblings follow each other. */
function expectNested(spans: readonly Span[], root: Span): void {
  for (const span of spans) {
    expect(span.end, span.name).toBeGreaterThanOrEqual(span.start);
    if (span === root) continue;
    const parent = spans.find(({ spanId }) => spanId === span.parentSpanId)!;
    expect(span.start, span.name).toBeGreaterThanOrEqual(parent.start);
    expect(span.end, span.name).toBeLessThanOrEqual(parent.end);
  }
  const steps = spans.filter(({ parentSpanId }) => parentSpanId === root.spanId);
  for (let i = 1; i < steps.length; i++) expect(steps[i]!.start).toBeGreaterThanOrEqual(steps[i - 1]!.end);
}

const STEPS = ['receive', 'decode', 'queue', 'batch', 'compute', 'encode', 'send'];
/** Without those that are there only where they took long. */
const stepNames = (spans: readonly Span[]): string[] =>
  spans
    .slice(1)
    .map(({ name }) => name)
    .filter((name) => name !== 'admit' && name !== 'preprocess');

describe('a request with a context', () => {
  test("over REST continues its caller's trace, says its span in the reply, and has a span for each step", async () => {
    const { traceId, spanId, traceparent } = newParent();
    const response = await rest(traceparent);
    expect(response.status).toBe(200);
    const spans = await spansOf(traceId);
    const [root] = spans as [Span];
    expect(root).toMatchObject({
      name: 'POST /v2/models/{model}/infer',
      parentSpanId: spanId,
      kind: 2,
      traceState: 'vendor=x',
      attributes: {
        'http.request.method': 'POST',
        'http.route': '/v2/models/{model}/infer',
        'http.response.status_code': 200,
        'tensorwire.model': 'identity',
        'tensorwire.arm': 'rest_json',
        'tensorwire.batch.size': 1,
      },
    });
    expect(root.resource['service.name']).toBe('vision');
    expect(response.headers.get('traceresponse')).toBe(`00-${traceId}-${root.spanId}-01`);
    expect(stepNames(spans)).toEqual(STEPS);
    expectNested(spans, root);
  });

  test('over gRPC likewise, with the reply in its trailers', async () => {
    const { traceId, spanId, traceparent } = newParent();
    const { error, trailer } = await grpc(traceparent);
    expect(error).toBeNull();
    const spans = await spansOf(traceId);
    const [root] = spans as [Span];
    expect(root).toMatchObject({ name: RPC, parentSpanId: spanId, kind: 2, traceState: 'vendor=x', status: 0 });
    expect(root.attributes).toMatchObject({
      'rpc.system': 'grpc',
      'rpc.grpc.status_code': 0,
      'tensorwire.arm': 'grpc_raw',
    });
    expect(trailer!.get('traceresponse')).toEqual([`00-${traceId}-${root.spanId}-01`]);
    expect(stepNames(spans)).toEqual(STEPS);
    expectNested(spans, root);
  });

  test('that is refused has its status, and no steps that it did not come to', async () => {
    const [first, second] = [newParent(), newParent()];
    const response = await rest(first.traceparent, 'unknown');
    expect(response.headers.get('traceresponse')).toMatch(`00-${first.traceId}-`);
    const { error, trailer } = await grpc(second.traceparent, 'unknown');
    expect(error!.code).toBe(5);
    expect(String(trailer?.get('traceresponse') ?? error!.metadata.get('traceresponse'))).toMatch(
      `00-${second.traceId}-`,
    );
    const [overRest, ...restSteps] = await spansOf(first.traceId);
    expect(overRest!.attributes['http.response.status_code']).toBe(response.status);
    expect(restSteps.map(({ name }) => name)).toEqual(['receive', 'decode', 'send']);
    const [overGrpc, ...grpcSteps] = await spansOf(second.traceId);
    expect(overGrpc!.attributes['rpc.grpc.status_code']).toBe(5);
    expect(overGrpc!.status).toBe(0);
    expect(grpcSteps.map(({ name }) => name)).toEqual(['receive', 'decode', 'send']);
  });

  test('whose caller leaves is traced up to there', async () => {
    const { traceId, traceparent } = newParent();
    const connection = new RawConnection(server.grpcPort);
    const stream = connection.open(INFER, { traceparent });
    stream.on('error', () => undefined);
    // Alone in a queue that waits for two.
    const message = inferBytes('pairs', Buffer.alloc(8));
    const head = Buffer.alloc(5);
    head.writeUInt32BE(message.length, 1);
    await new Promise((sent) => stream.end(Buffer.concat([head, message]), () => sent(undefined)));
    // What was sent before a ping has been read when that is answered.
    await new Promise((answered) => connection.session.ping(answered));
    stream.close(8);
    const [root] = await spansOf(traceId);
    expect(root!.attributes['rpc.grpc.status_code']).toBe(1);
    expect(root!.status).toBe(0);
    connection.session.destroy();
  });
});

test('requests that ran together over both protocols have one span of their batch, linked both ways', async () => {
  const [first, second] = [newParent(), newParent()];
  await Promise.all([rest(first.traceparent, 'pairs'), grpc(second.traceparent, 'pairs')]);
  const roots = [(await spansOf(first.traceId))[0]!, (await spansOf(second.traceId))[0]!];
  expect(roots.map(({ attributes }) => attributes['tensorwire.batch.size'])).toEqual([2, 2]);
  const isMember = ({ spanId }: { spanId: string }) => roots.some((root) => root.spanId === spanId);
  const batch = await collector.until((spans) =>
    spans.find(({ name, links }) => name === 'batch pairs' && links.some(isMember)),
  );
  expect(batch.parentSpanId).toBe('');
  expect(batch.links.map(({ spanId }) => spanId).sort()).toEqual(roots.map(({ spanId }) => spanId).sort());
  expect(batch.attributes).toMatchObject({ 'tensorwire.model': 'pairs', 'tensorwire.batch.size': 2 });
  for (const root of roots) {
    const step = collector.spans.find(({ name, parentSpanId }) => name === 'batch' && parentSpanId === root.spanId)!;
    expect(step.links).toEqual([{ traceId: batch.traceId, spanId: batch.spanId }]);
  }
});

test('generated text is traced with its prefill, its computing and its tokens, streamed or not', async () => {
  const body = { model: 'stories', prompt: 'Once', max_tokens: 5, temperature: 0, ignore_eos: true };
  for (const stream of [false, true]) {
    const { traceId, traceparent } = newParent();
    const response = await fetch(`http://127.0.0.1:${server.httpPort}/v1/completions`, {
      method: 'POST',
      headers: { traceparent },
      body: JSON.stringify({ ...body, stream }),
    });
    await response.text();
    const spans = await spansOf(traceId);
    const [root] = spans as [Span];
    expect(root).toMatchObject({ name: 'POST /v1/completions', attributes: { 'tensorwire.tokens': 5 } });
    expect(response.headers.get('traceresponse')).toBe(`00-${traceId}-${root.spanId}-01`);
    expect(stepNames(spans)).toEqual(['receive', 'decode', 'queue', 'prefill', 'compute', 'encode', 'send']);
    expectNested(spans, root);
  }
});

test('the requests of a stream are spans below that of the stream', async () => {
  const { traceId, spanId, traceparent } = newParent();
  const metadata = new Metadata();
  metadata.set('traceparent', traceparent);
  const stream = stub.ModelStreamInfer(metadata);
  const trailers = new Promise<Metadata>((resolve) =>
    stream.on('status', ({ metadata }: { metadata: Metadata }) => resolve(metadata)),
  );
  for (let i = 0; i < 2; i++) stream.write(inferRequest('identity', Buffer.alloc(8)));
  stream.end();
  for await (const { error_message } of stream) expect(error_message).toBe('');
  const ended = await collector.until((spans) =>
    spans.find(({ name, traceId: own }) => own === traceId && name.endsWith('ModelStreamInfer')),
  );
  expect(ended.parentSpanId).toBe(spanId);
  expect((await trailers).get('traceresponse')).toEqual([`00-${traceId}-${ended.spanId}-01`]);
  // Two exports may overtake each other on their ways here.
  const requests = await collector.until((spans) => {
    const own = spans.filter(({ name, parentSpanId }) => name === 'request' && parentSpanId === ended.spanId);
    return own.length >= 2 ? own : undefined;
  });
  expect(requests).toHaveLength(2);
  for (const { spanId: request } of requests) {
    const steps = collector.spans.filter(({ parentSpanId }) => parentSpanId === request).map(({ name }) => name);
    expect(steps).toEqual(expect.arrayContaining(['decode', 'queue', 'batch', 'encode']));
  }
});

test.each([undefined, 'nonsense', PARENT.toUpperCase(), `${PARENT}, ${PARENT}`, `ff${PARENT.slice(2)}`])(
  'a request with the context %j starts a trace of its own, and is answered like any other',
  async (traceparent) => {
    const response = await rest(traceparent);
    expect(response.status).toBe(200);
    const { error, trailer } = await grpc(traceparent);
    expect(error).toBeNull();
    for (const told of [response.headers.get('traceresponse')!, trailer!.get('traceresponse')[0] as string]) {
      const [, traceId, spanId] = /^00-([0-9a-f]{32})-([0-9a-f]{16})-01$/.exec(told)!;
      expect(traceId).not.toBe(TRACE);
      const [root] = await spansOf(traceId!);
      expect(root).toMatchObject({ spanId, parentSpanId: '', traceState: '' });
    }
  },
);

test('a caller that does not sample gets no trace, nor does a look at the health', async () => {
  const { traceId, traceparent } = newParent('00');
  expect((await rest(traceparent)).headers.get('traceresponse')).toBeNull();
  expect((await grpc(traceparent)).trailer!.get('traceresponse')).toEqual([]);
  const live = await fetch(`http://127.0.0.1:${server.httpPort}/v2/health/live`, { headers: { traceparent: PARENT } });
  expect(live.headers.get('traceresponse')).toBeNull();
  // What comes later has been exported behind it.
  const after = newParent();
  await rest(after.traceparent);
  await spansOf(after.traceId);
  expect(collector.spans.some((span) => span.traceId === traceId || span.traceId === TRACE)).toBe(false);
});

test('the metrics tell how many spans the collector has', async () => {
  const { traceId, traceparent } = newParent();
  await rest(traceparent);
  await spansOf(traceId);
  // Spans of batches come later than those of their requests.
  await expect.poll(async () => (await counts(server)).exported! - collector.spans.length).toBe(0);
  expect(await counts(server)).toMatchObject({ queue_full: 0, export_failed: 0, rejected: 0 });
});

async function counts(own: TestServer): Promise<Record<string, number>> {
  const text = await (await fetch(`http://127.0.0.1:${own.metricsPort}/metrics`)).text();
  const lines = text.matchAll(/^tensorwire_spans_(?:exported|dropped)_total(?:\{reason="(\w+)"\})? (\d+)$/gm);
  return Object.fromEntries([...lines].map(([, reason = 'exported', count]) => [reason, Number(count)]));
}

describe('a server of its own', () => {
  let own: TestServer | undefined;
  afterEach(async () => {
    collector.answer(TAKE);
    await own?.stop();
  });

  test('traces nothing, and shows no counts of it, when nothing asks for it', async () => {
    own = await startServer({ repository });
    await own.waitFor(/^ +identity +1 +READY$/m);
    expect((await rest(PARENT, 'identity', own)).headers.get('traceresponse')).toBeNull();
    expect(await counts(own)).toEqual({});
  });

  test.each([
    ['off', {}],
    ['on', { OTEL_TRACES_EXPORTER: 'otlp', OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:9' }],
  ])("has OpenTelemetry's SDK loaded only where it traces: %s", async (how, env) => {
    // prom-client brings the API along.
    const hook = `import { registerHooks } from 'node:module';
      registerHooks({ load(url, context, next) {
        if (/@opentelemetry.(?!api)/.test(url)) process.stderr.write('loaded ' + url + '\\n');
        return next(url, context);
      } });`;
    const NODE_OPTIONS = `--import=data:text/javascript,${encodeURIComponent(hook)}`;
    own = await startServer({ repository, env: { ...env, NODE_OPTIONS } });
    await own.waitFor(/^ +identity +1 +READY$/m);
    // All of its output has come when it has ended.
    expect(await own.stop()).toBe(0);
    expect(/loaded .*@opentelemetry.sdk-trace/.test(own.stderr)).toBe(how === 'on');
    expect(/loaded .*@opentelemetry/.test(own.stderr)).toBe(how === 'on');
  });

  test('traces nothing where the SDK is disabled, whatever else is set', async () => {
    const nobodys = await startCollector();
    own = await start({ OTEL_SDK_DISABLED: 'true', OTEL_EXPORTER_OTLP_ENDPOINT: nobodys.endpoint });
    await own.waitFor(/^ +identity +1 +READY$/m);
    expect((await rest(PARENT, 'identity', own)).headers.get('traceresponse')).toBeNull();
    expect(await own.stop()).toBe(0);
    expect(nobodys.requests).toEqual([]);
    await nobodys.close();
  });

  test('samples nothing at a ratio of 0, and says so of a variable that it does not understand', async () => {
    own = await start({
      OTEL_TRACES_SAMPLER: 'parentbased_traceidratio',
      OTEL_TRACES_SAMPLER_ARG: '0',
      OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json',
    });
    await own.waitFor(/OTEL_EXPORTER_OTLP_PROTOCOL is 'http\/json', expected http\/protobuf: http\/protobuf is used/);
    await own.waitFor(/^ +identity +1 +READY$/m);
    expect((await rest(undefined, 'identity', own)).headers.get('traceresponse')).toBeNull();
    const { traceId, traceparent } = newParent();
    expect((await rest(traceparent, 'identity', own)).headers.get('traceresponse')).toMatch(traceId);
  });

  test('sends what waits when it stops', async () => {
    let spans: Span[] = [];
    // An end waits for its last spans for some seconds, in which a machine may stand still: it is seen a few times.
    for (let ends = 0; ends < 5 && spans.length === 0; ends++) {
      own = await start({ OTEL_BSP_SCHEDULE_DELAY: '3600000' });
      await own.waitFor(/^ +identity +1 +READY$/m);
      const { traceId, traceparent } = newParent();
      await rest(traceparent, 'identity', own);
      expect(await own.stop()).toBe(0);
      spans = collector.spans.filter((span) => span.traceId === traceId || span.links[0]?.traceId === traceId);
    }
    expect(spans.map(({ name }) => name)).toContain('batch identity');
    expect(stepNames(spans.filter(({ name }) => name !== 'batch identity'))).toEqual(STEPS);
  });

  test('serves on and stops in time with a collector that hangs, and counts what it dropped', async () => {
    collector.answer(() => undefined);
    // An export would hold the process for longer than the launcher waits.
    const forEver = { OTEL_EXPORTER_OTLP_TIMEOUT: '3600000', OTEL_BSP_EXPORT_TIMEOUT: '3600000' };
    own = await start({ ...forEver, OTEL_BSP_MAX_QUEUE_SIZE: '16', OTEL_BSP_MAX_EXPORT_BATCH_SIZE: '8' });
    await own.waitFor(/^ +identity +1 +READY$/m);
    for (let i = 0; i < 20; i++) expect((await rest(undefined, 'identity', own)).status).toBe(200);
    await expect.poll(async () => (await counts(own!)).queue_full).toBeGreaterThanOrEqual(8 * (20 - 3));
    // The launcher would end it by force, with another status.
    expect(await own.stop()).toBe(0);
  });

  test('serves on with no collector at all, and says so once', async () => {
    const nobody = await takeDeadPort();
    const endpoint = `http://127.0.0.1:${nobody.port}`;
    own = await start({ OTEL_EXPORTER_OTLP_ENDPOINT: endpoint, OTEL_EXPORTER_OTLP_TIMEOUT: '50' });
    await own.waitFor(/^ +identity +1 +READY$/m);
    for (let i = 1; i <= 3; i++) {
      const before = (await counts(own)).export_failed!;
      expect((await rest(undefined, 'identity', own)).status).toBe(200);
      await expect.poll(async () => (await counts(own!)).export_failed).toBeGreaterThan(before);
    }
    expect(await own.stop()).toBe(0);
    expect(own.stderr.match(/spans can't be exported/g)).toHaveLength(1);
    nobody.release();
  });
});
