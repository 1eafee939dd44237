import { describe, expect, test } from 'vitest';
import { readTracingSettings } from '../../src/tracing/settings.js';

const ON = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318' };
const read = (env: Record<string, string>) => readTracingSettings(env);
const settings = (env: Record<string, string> = {}) => read({ ...ON, ...env }).settings!;

describe('whether at all', () => {
  test.each([
    ['nothing is set', {}],
    ['the SDK is disabled', { ...ON, OTEL_SDK_DISABLED: 'true' }],
    ['no exporter is asked for', { ...ON, OTEL_TRACES_EXPORTER: 'none' }],
    ['no exporter is asked for in capitals', { ...ON, OTEL_TRACES_EXPORTER: 'NONE' }],
    ['the endpoint is empty', { OTEL_EXPORTER_OTLP_ENDPOINT: '' }],
    ['only metrics have an endpoint', { OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: 'http://collector' }],
  ])('tracing is off when %s', (_what, env) => {
    expect(read(env)).toEqual({ settings: undefined, warnings: [] });
  });

  test.each([
    ['an endpoint', ON],
    ['an endpoint of traces', { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'http://collector:4318/x' }],
    ['the exporter', { OTEL_TRACES_EXPORTER: 'otlp' }],
  ])('tracing is on by %s', (_what, env) => {
    expect(read(env).settings).toBeDefined();
  });

  test.each([
    [
      { ...ON, OTEL_TRACES_EXPORTER: 'zipkin' },
      "OTEL_TRACES_EXPORTER is 'zipkin', expected otlp or none: nothing goes there",
    ],
    [
      { ...ON, OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' },
      "OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc', expected http/protobuf: tracing stays off",
    ],
    [
      { OTEL_EXPORTER_OTLP_ENDPOINT: 'collector:4318' },
      "OTEL_EXPORTER_OTLP_ENDPOINT is 'collector:4318', expected a URL that begins http:// or https://: tracing stays off",
    ],
    [
      { ...ON, OTEL_EXPORTER_OTLP_CERTIFICATE: 'no/such/file' },
      "OTEL_EXPORTER_OTLP_CERTIFICATE is 'no/such/file', expected a file that can be read (ENOENT): tracing stays off",
    ],
  ])('where spans could only go astray tracing stays off and says why: %j', (env, warning) => {
    expect(read(env)).toEqual({ settings: undefined, warnings: [warning] });
  });
});

test('headers that are none are warned of without telling their secrets', () => {
  const warning = 'OTEL_EXPORTER_OTLP_HEADERS is no list of key=value pairs: what is of another form is not sent';
  for (const headers of ['token%zz=secret', 'secret', 'a=line%0Abreak', 'a b=secret']) {
    const { settings: found, warnings } = read({ ...ON, OTEL_EXPORTER_OTLP_HEADERS: headers });
    expect(found).toBeDefined();
    expect(warnings).toEqual([warning]);
  }
  expect(read({ ...ON, OTEL_EXPORTER_OTLP_HEADERS: 'a=1, Authorization = Basic%20eA%3D%3D,' }).warnings).toEqual([]);
});

describe('which and how many', () => {
  test.each([
    ['always_on', undefined, { parentBased: false, ratio: 1 }],
    ['always_off', '0.5', { parentBased: false, ratio: 0 }],
    ['traceidratio', '0.25', { parentBased: false, ratio: 0.25 }],
    ['parentbased_always_off', undefined, { parentBased: true, ratio: 0 }],
    ['parentbased_traceidratio', '0.1', { parentBased: true, ratio: 0.1 }],
    ['parentbased_traceidratio', undefined, { parentBased: true, ratio: 1 }],
    ['ALWAYS_OFF', undefined, { parentBased: false, ratio: 0 }],
  ])('the sampler %s with %s', (name, arg, sampling) => {
    expect(settings({ OTEL_TRACES_SAMPLER: name, ...(arg && { OTEL_TRACES_SAMPLER_ARG: arg }) }).sampling).toEqual(
      sampling,
    );
  });

  test('without a sampler all is traced that no parent refuses', () => {
    expect(settings().sampling).toEqual({ parentBased: true, ratio: 1 });
  });

  test.each([
    [{ OTEL_TRACES_SAMPLER: 'toString' }, /^OTEL_TRACES_SAMPLER is 'toString', expected one of always_on, /],
    [
      { OTEL_TRACES_SAMPLER: 'traceidratio', OTEL_TRACES_SAMPLER_ARG: '10%' },
      /^OTEL_TRACES_SAMPLER_ARG is '10%', expected a number from 0 to 1: 1 is used$/,
    ],
    [
      { OTEL_BSP_MAX_QUEUE_SIZE: '-1' },
      /^OTEL_BSP_MAX_QUEUE_SIZE is '-1', expected a whole number from 1: 2048 is used$/,
    ],
    [{ OTEL_SDK_DISABLED: '1' }, /^OTEL_SDK_DISABLED is '1', expected true or false: it counts as false$/],
    [{ OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json' }, /: http\/protobuf is used$/],
    [{ OTEL_PROPAGATORS: 'b3' }, /^OTEL_PROPAGATORS is 'b3'/],
  ])('%j is warned of, and tracing goes on', (env, warning) => {
    const { settings: found, warnings } = read({ ...ON, ...(env as unknown as Record<string, string>) });
    expect(found).toBeDefined();
    expect(warnings).toEqual([expect.stringMatching(warning)]);
  });

  test("the queue has OpenTelemetry's defaults", () => {
    expect(settings().queue).toEqual({
      scheduledDelayMillis: 5000,
      exportTimeoutMillis: 30_000,
      maxQueueSize: 2048,
      maxExportBatchSize: 512,
    });
  });

  test('names count in any case, without a warning', () => {
    const env = {
      OTEL_TRACES_EXPORTER: 'OTLP',
      OTEL_EXPORTER_OTLP_PROTOCOL: 'HTTP/protobuf',
      OTEL_SDK_DISABLED: 'False',
    };
    const { settings: found, warnings } = read({ ...ON, ...env, OTEL_PROPAGATORS: 'TraceContext' });
    expect(found).toMatchObject({ readsContext: true });
    expect(warnings).toEqual([]);
  });

  test('a batch is never larger than the queue', () => {
    const env = { OTEL_BSP_MAX_QUEUE_SIZE: '100', OTEL_BSP_SCHEDULE_DELAY: '200', OTEL_BSP_EXPORT_TIMEOUT: '300' };
    expect(settings(env).queue).toEqual({
      scheduledDelayMillis: 200,
      exportTimeoutMillis: 300,
      maxQueueSize: 100,
      maxExportBatchSize: 100,
    });
  });

  test("W3C's context is read unless other propagators are asked for", () => {
    expect(settings().readsContext).toBe(true);
    expect(settings({ OTEL_PROPAGATORS: 'baggage,tracecontext' }).readsContext).toBe(true);
    expect(settings({ OTEL_PROPAGATORS: 'none' }).readsContext).toBe(false);
  });
});
