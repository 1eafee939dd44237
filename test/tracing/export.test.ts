/** What becomes of spans: how they are sent, and what it costs when the collector does not do its part. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterEach, expect, test, vi } from 'vitest';
import { startCollector } from './collector.js';
import { collector, endRequests, PATIENCE_MS, start, useCollector } from './traced-requests.js';

useCollector();
afterEach(() => {
  vi.useRealTimers();
});

/** What an export may take: longer than any machine needs. */
const EXPORT_MS = 60_000;

test('a batch of spans goes at once when it is full, compressed and with the headers that were asked for', async () => {
  const { tracing } = start({
    OTEL_BSP_MAX_EXPORT_BATCH_SIZE: '16',
    OTEL_BSP_SCHEDULE_DELAY: '3600000',
    OTEL_EXPORTER_OTLP_COMPRESSION: 'gzip',
    OTEL_EXPORTER_OTLP_HEADERS: 'x-token=s%20t',
  });
  endRequests(tracing, 2);
  await collector.until((spans) => (spans.length === 16 ? true : undefined));
  const [{ url, headers }] = collector.requests as [(typeof collector.requests)[number]];
  expect(url).toBe('/v1/traces');
  expect(headers).toMatchObject({
    'content-type': 'application/x-protobuf',
    'content-encoding': 'gzip',
    'x-token': 's t',
    'user-agent': expect.stringMatching(/^tensorwire\/1\.2\.3 /),
  });
});

test('a collector that hangs costs counted drops and no memory, and does not hold the end', async () => {
  collector.answer(() => undefined);
  const { tracing, counts } = start({ OTEL_BSP_MAX_QUEUE_SIZE: '80', OTEL_BSP_MAX_EXPORT_BATCH_SIZE: '40' });
  endRequests(tracing, 5);
  await collector.untilRequests(1);
  endRequests(tracing, 1000);
  expect(await counts()).toMatchObject({ exported: 0, queue_full: 8000 - 80 });
  // Held by what can't be ended.
  expect(await tracing.close(50)).toBe(false);
  expect(await counts()).toMatchObject({ exported: 0, queue_full: 8000 - 80, shutdown: 120 });
});

test('a collector that is not there is told of once, and once when it is back', async () => {
  const refused = { OTEL_BSP_MAX_EXPORT_BATCH_SIZE: '8', OTEL_EXPORTER_OTLP_TIMEOUT: String(EXPORT_MS) };
  const { tracing, lines, counts } = start(refused);
  // The time is over when the connection breaks, so that it is not tried for a minute.
  vi.useFakeTimers({ toFake: ['Date'] });
  collector.answer((_request, response) => {
    vi.setSystemTime(Date.now() + EXPORT_MS);
    response.socket!.destroy();
  });
  for (let i = 1; i <= 3; i++) {
    endRequests(tracing);
    await collector.untilRequests(i);
    await expect.poll(async () => (await counts()).export_failed).toBe(8 * i);
  }
  expect(lines).toEqual([
    {
      level: 'warn',
      message: "spans can't be exported: they are dropped and counted until they can",
      fields: { reason: 'socket hang up' },
    },
  ]);
  collector.answer((_request, response) => void response.writeHead(200).end());
  endRequests(tracing);
  await expect.poll(async () => (await counts()).exported).toBe(8);
  expect(lines.slice(1)).toEqual([{ level: 'info', message: 'spans are exported again', fields: { lost: 24 } }]);
});

test('a status that passes is tried again after what the collector asks for, another one is final', async () => {
  const { tracing, counts } = start({ OTEL_BSP_MAX_EXPORT_BATCH_SIZE: '8' });
  let tries = 0;
  collector.answer((_request, response) => {
    if (++tries === 1) response.writeHead(503, { 'retry-after': '0' }).end();
    else response.writeHead(200).end();
  });
  endRequests(tracing);
  await expect.poll(async () => (await counts()).exported).toBe(8);
  expect(tries).toBe(2);
  collector.answer((_request, response) => void response.writeHead(500).end());
  endRequests(tracing);
  await expect.poll(async () => (await counts()).export_failed).toBe(8);
  expect(collector.requests).toHaveLength(3);
});

test('spans that the collector refuses in part are counted as such, and told of once', async () => {
  const { tracing, lines, counts } = start({ OTEL_BSP_MAX_EXPORT_BATCH_SIZE: '8' });
  // partial_success { rejected_spans: 3, error_message: "no" }
  const answer = Buffer.from([0x0a, 6, 0x08, 3, 0x12, 2, 0x6e, 0x6f]);
  collector.answer((_request, response) => void response.writeHead(200).end(answer));
  for (let i = 1; i <= 2; i++) {
    endRequests(tracing);
    await expect.poll(counts).toMatchObject({ exported: 5 * i, rejected: 3 * i, export_failed: 0 });
  }
  const said = 'Received Partial Success response: {"rejectedSpans":3,"errorMessage":"no"}';
  expect(lines.map(({ fields }) => fields)).toEqual([{ said }]);
});

test('an answer that is no protobuf, or too long, disturbs nothing', async () => {
  const { tracing, counts } = start({ OTEL_BSP_MAX_EXPORT_BATCH_SIZE: '8' });
  collector.answer((_request, response) => void response.writeHead(200).end('{"partialSuccess":{}}'));
  endRequests(tracing);
  await expect.poll(async () => (await counts()).exported).toBe(8);
  collector.answer((_request, response) => void response.writeHead(200).end(Buffer.alloc(5_000_000)));
  endRequests(tracing);
  await expect.poll(async () => (await counts()).export_failed).toBe(8);
});

test('the address for traces is taken as it is, and its headers win over those for all', async () => {
  const { tracing } = start({
    OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:9',
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: `${collector.endpoint}/own`,
    OTEL_EXPORTER_OTLP_HEADERS: 'a=1,b=1',
    OTEL_EXPORTER_OTLP_TRACES_HEADERS: 'a=2',
  });
  endRequests(tracing);
  expect(await tracing.close(PATIENCE_MS)).toBe(true);
  expect(collector.requests).toMatchObject([{ url: '/own', headers: { a: '2', b: '1' } }]);
});

test("the service's name and attributes come from the environment, the name's own variable first", async () => {
  const attributes = 'service.name=x,deployment.environment=a%2Cb';
  const { tracing } = start({ OTEL_RESOURCE_ATTRIBUTES: attributes, OTEL_SERVICE_NAME: 'vision' });
  endRequests(tracing);
  await tracing.close(PATIENCE_MS);
  expect(collector.spans[0]!.resource).toMatchObject({
    'service.name': 'vision',
    'service.version': '1.2.3',
    'service.instance.id': expect.stringMatching(/^[0-9a-f-]{36}$/),
    'deployment.environment': 'a,b',
    'telemetry.sdk.name': 'opentelemetry',
  });
});

test.each([
  [{ OTEL_RESOURCE_ATTRIBUTES: 'novalue' }, /OTEL_RESOURCE_ATTRIBUTES is not a list of key=value pairs/],
  [{ OTEL_EXPORTER_OTLP_COMPRESSION: 'br' }, /OTEL_EXPORTER_OTLP_COMPRESSION is invalid/],
  [{ OTEL_EXPORTER_OTLP_TIMEOUT: '-1' }, /OTEL_EXPORTER_OTLP_TIMEOUT is invalid/],
  [{ OTEL_EXPORTER_OTLP_TRACES_TIMEOUT: '10s' }, /'10s' for OTEL_EXPORTER_OTLP_TRACES_TIMEOUT/],
])('%j is warned of, and spans are exported', async (env, warning) => {
  const { tracing, lines, counts } = start(env as unknown as Record<string, string>);
  expect(lines.map(({ level }) => level)).toEqual(['warn']);
  expect(JSON.stringify(lines)).toMatch(warning);
  endRequests(tracing);
  await tracing.close(PATIENCE_MS);
  expect(await counts()).toMatchObject({ exported: 8 });
});

test('a collector that takes longer than an export may is not waited for, and what it takes then is counted', async () => {
  const { tracing, counts } = start({ OTEL_BSP_MAX_EXPORT_BATCH_SIZE: '8', OTEL_BSP_EXPORT_TIMEOUT: '20' });
  const answers: (() => void)[] = [];
  collector.answer((_request, response) => void answers.push(() => response.writeHead(200).end()));
  endRequests(tracing);
  await collector.untilRequests(1);
  endRequests(tracing);
  // The second one goes though the first one has no answer.
  await collector.untilRequests(2);
  for (const answer of answers) answer();
  await expect.poll(async () => (await counts()).exported).toBe(16);
});

const file = (name: string): string => fileURLToPath(new URL(`../fixtures/tls/${name}`, import.meta.url));

test('a collector behind mutual TLS gets spans by the certificates that are named', async () => {
  const pem = (name: string): Buffer => readFileSync(file(name));
  const secured = await startCollector({ cert: pem('server.pem'), key: pem('server.key'), ca: pem('authority.pem') });
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: secured.endpoint, OTEL_EXPORTER_OTLP_CERTIFICATE: file('authority.pem') };
  const trusted = start({
    ...env,
    OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE: file('client.pem'),
    OTEL_EXPORTER_OTLP_CLIENT_KEY: file('client.key'),
  });
  endRequests(trusted.tracing);
  await trusted.tracing.close(PATIENCE_MS);
  expect(await trusted.counts()).toMatchObject({ exported: 8 });
  const stranger = start({ ...env, OTEL_EXPORTER_OTLP_TIMEOUT: '100', OTEL_BSP_MAX_EXPORT_BATCH_SIZE: '8' });
  endRequests(stranger.tracing);
  await expect.poll(async () => (await stranger.counts()).export_failed).toBe(8);
  await secured.close();
});
