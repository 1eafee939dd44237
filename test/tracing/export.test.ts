/** What becomes of spans: how they are sent, and what it costs when the collector does not do its part. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { startCollector } from './collector.js';
import { collector, endRequests, start, useCollector } from './traced-requests.js';

useCollector();

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
    'user-agent': 'tensorwire/1.2.3',
  });
});

test('a collector that hangs costs counted drops and no memory, and does not hold the end', async () => {
  collector.answer(() => undefined);
  const { tracing, counts } = start({ OTEL_BSP_MAX_QUEUE_SIZE: '80', OTEL_BSP_MAX_EXPORT_BATCH_SIZE: '40' });
  endRequests(tracing, 5);
  await collector.untilRequests(1);
  endRequests(tracing, 1000);
  expect(await counts()).toMatchObject({ exported: 0, queue_full: 8000 - 80 });
  await tracing.close(50);
  expect(await counts()).toMatchObject({ exported: 0, queue_full: 8000 - 80, shutdown: 120 });
});

test('a collector that is not there is told of once, and once when it is back', async () => {
  const refused = { OTEL_BSP_MAX_EXPORT_BATCH_SIZE: '8', OTEL_EXPORTER_OTLP_TIMEOUT: '100' };
  const { tracing, lines, counts } = start(refused);
  collector.answer((_request, response) => void response.socket!.destroy());
  for (let i = 1; i <= 3; i++) {
    endRequests(tracing);
    await collector.untilRequests(i);
    await expect.poll(async () => (await counts()).export_failed).toBe(8 * i);
  }
  expect(lines).toEqual([
    { level: 'warn', message: "spans can't be exported: they are dropped and counted until they can" },
  ]);
  collector.answer((_request, response) => void response.writeHead(200).end());
  endRequests(tracing);
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
  endRequests(tracing);
  await expect.poll(async () => (await counts()).exported).toBe(8);
  expect(tries).toBe(2);
  collector.answer((_request, response) => void response.writeHead(500).end());
  endRequests(tracing);
  await expect.poll(async () => (await counts()).export_failed).toBe(8);
  expect(collector.requests).toHaveLength(3);
});

test('spans that the collector refuses in part are counted as such', async () => {
  const { tracing, counts } = start();
  // partial_success { rejected_spans: 3, error_message: "no" }
  const answer = Buffer.from([0x0a, 6, 0x08, 3, 0x12, 2, 0x6e, 0x6f]);
  collector.answer((_request, response) => void response.writeHead(200).end(answer));
  endRequests(tracing);
  await tracing.close(2000);
  expect(await counts()).toMatchObject({ exported: 5, rejected: 3 });
});

test('an answer that is no protobuf, or too long, disturbs nothing', async () => {
  const { tracing, counts } = start({ OTEL_BSP_MAX_EXPORT_BATCH_SIZE: '8' });
  collector.answer((_request, response) => void response.writeHead(200).end('{"partialSuccess":{}}'));
  endRequests(tracing);
  await expect.poll(async () => (await counts()).exported).toBe(8);
  collector.answer((_request, response) => void response.writeHead(200).end(Buffer.alloc(100_000)));
  endRequests(tracing);
  await expect.poll(async () => (await counts()).export_failed).toBe(8);
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
  await trusted.tracing.close(5000);
  expect(await trusted.counts()).toMatchObject({ exported: 8 });
  const stranger = start({ ...env, OTEL_EXPORTER_OTLP_TIMEOUT: '100', OTEL_BSP_MAX_EXPORT_BATCH_SIZE: '8' });
  endRequests(stranger.tracing);
  await expect.poll(async () => (await stranger.counts()).export_failed).toBe(8);
  await secured.close();
});
