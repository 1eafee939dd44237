/**
 * Tracing as OpenTelemetry's environment variables ask for it: whether at all, which requests, and where to.
 *
 * Called by the composition root with the environment. By the specification a variable that makes no sense is warned of and then as
 * if it were not set; where spans could then only go astray, tracing stays off. It never stops the start of the server.
 */
import { readFileSync } from 'node:fs';
import type { Attributes } from './otlp-request.js';
import type { OtlpTarget } from './otlp-sender.js';
import { parsePairs, resourceAttributes } from './resource.js';
import type { Sampling } from './sampler.js';

export type Environment = Readonly<Record<string, string | undefined>>;

export interface TracingSettings {
  readonly target: OtlpTarget;
  readonly sampling: Sampling;
  /** Whether the caller's `traceparent` is read. */
  readonly readsContext: boolean;
  readonly resource: Attributes;
  readonly scheduleDelayMs: number;
  readonly maxQueueSize: number;
  readonly maxExportBatchSize: number;
}

export interface ReadSettings {
  /** Undefined: off. */
  readonly settings: TracingSettings | undefined;
  /** Sentences for the log, each naming its variable. */
  readonly warnings: readonly string[];
}

const DEFAULT_ENDPOINT = 'http://localhost:4318';

/** Reads the environment; `version` is the server's. */
export function readTracingSettings(env: Environment, version: string): ReadSettings {
  const reader = new Reader(env);
  const { warnings } = reader;
  if (!isWanted(reader)) return { settings: undefined, warnings };
  const target = readTarget(reader);
  if (target === undefined) return { settings: undefined, warnings };
  const maxQueueSize = reader.number('OTEL_BSP_MAX_QUEUE_SIZE', 2048, 1);
  const settings: TracingSettings = {
    target: { ...target, headers: { 'user-agent': `tensorwire/${version}`, ...target.headers } },
    sampling: readSampling(reader),
    readsContext: readsContext(reader),
    resource: resourceAttributes(reader, version),
    scheduleDelayMs: reader.number('OTEL_BSP_SCHEDULE_DELAY', 5000, 0),
    maxQueueSize,
    maxExportBatchSize: Math.min(maxQueueSize, reader.number('OTEL_BSP_MAX_EXPORT_BATCH_SIZE', 512, 1)),
  };
  return { settings, warnings };
}

/** Looks variables up; empty ones count as not set. */
export class Reader {
  readonly warnings: string[] = [];
  readonly #env: Environment;

  constructor(env: Environment) {
    this.#env = env;
  }

  text(name: string): string | undefined {
    const text = this.#env[name]?.trim();
    return text === '' ? undefined : text;
  }

  /** The variable for traces, else that for all signals, and the name of the one that is set. */
  otlp(rest: string): { name: string; text: string } | undefined {
    for (const name of [`OTEL_EXPORTER_OTLP_TRACES_${rest}`, `OTEL_EXPORTER_OTLP_${rest}`]) {
      const text = this.text(name);
      if (text !== undefined) return { name, text };
    }
    return undefined;
  }

  /** A whole number of at least `least`. */
  number(name: string, fallback: number, least: number): number {
    const text = this.text(name);
    if (text === undefined) return fallback;
    if (/^\d{1,9}$/.test(text) && Number(text) >= least) return Number(text);
    this.wrong(name, text, `a whole number from ${least}`, `${fallback} is used`);
    return fallback;
  }

  wrong(name: string, value: string, expected: string, so: string): void {
    this.warnings.push(`${name} is '${value}', expected ${expected}: ${so}`);
  }
}

function isWanted(reader: Reader): boolean {
  if (reader.text('OTEL_SDK_DISABLED')?.toLowerCase() === 'true') return false;
  const exporters = reader
    .text('OTEL_TRACES_EXPORTER')
    ?.split(',')
    .map((name) => name.trim());
  if (exporters === undefined) return reader.otlp('ENDPOINT') !== undefined;
  for (const name of exporters) {
    if (name !== 'otlp' && name !== 'none')
      reader.wrong('OTEL_TRACES_EXPORTER', name, 'otlp or none', 'nothing goes there');
  }
  return exporters.includes('otlp');
}

function readTarget(reader: Reader): OtlpTarget | undefined {
  const OFF = 'tracing stays off';
  const protocol = reader.otlp('PROTOCOL');
  if (protocol?.text === 'grpc') {
    // Its port is another one, where HTTP is not understood.
    return void reader.wrong(protocol.name, protocol.text, 'http/protobuf', OFF);
  }
  if (protocol !== undefined && protocol.text !== 'http/protobuf') {
    reader.wrong(protocol.name, protocol.text, 'http/protobuf', 'http/protobuf is used');
  }
  const url = readUrl(reader);
  if (url === undefined) return undefined;
  const files: { ca?: Buffer; cert?: Buffer; key?: Buffer } = {};
  for (const [part, rest] of [
    ['ca', 'CERTIFICATE'],
    ['cert', 'CLIENT_CERTIFICATE'],
    ['key', 'CLIENT_KEY'],
  ] as const) {
    const file = reader.otlp(rest);
    if (file === undefined) continue;
    try {
      files[part] = readFileSync(file.text);
    } catch (error) {
      const reason = (error as NodeJS.ErrnoException).code ?? 'unreadable';
      return void reader.wrong(file.name, file.text, `a file that can be read (${reason})`, OFF);
    }
  }
  const compression = reader.otlp('COMPRESSION');
  if (compression !== undefined && compression.text !== 'gzip' && compression.text !== 'none') {
    reader.wrong(compression.name, compression.text, 'gzip or none', 'nothing is compressed');
  }
  const timeout = reader.otlp('TIMEOUT');
  return {
    url,
    headers: {
      ...readHeaders(reader, 'OTEL_EXPORTER_OTLP_HEADERS'),
      ...readHeaders(reader, 'OTEL_EXPORTER_OTLP_TRACES_HEADERS'),
    },
    timeoutMs: timeout === undefined ? 10_000 : reader.number(timeout.name, 10_000, 1),
    gzip: compression?.text === 'gzip',
    ...files,
  };
}

function readUrl(reader: Reader): URL | undefined {
  const found = reader.otlp('ENDPOINT') ?? { name: 'OTEL_EXPORTER_OTLP_ENDPOINT', text: DEFAULT_ENDPOINT };
  let url: URL | undefined;
  try {
    url = new URL(found.text);
  } catch {
    // Said below.
  }
  if (url === undefined || !/^https?:$/.test(url.protocol)) {
    reader.wrong(found.name, found.text, 'a URL that begins http:// or https://', 'tracing stays off');
    return undefined;
  }
  // The one for traces is the whole address, the other one is where each signal's path begins.
  if (found.name === 'OTEL_EXPORTER_OTLP_ENDPOINT') url.pathname = `${url.pathname.replace(/\/$/, '')}/v1/traces`;
  return url;
}

function readHeaders(reader: Reader, name: string): Record<string, string> {
  const text = reader.text(name);
  if (text === undefined) return {};
  const pairs = parsePairs(text);
  // Their values may be secrets: none is told.
  if (
    pairs === undefined ||
    pairs.some(([key, value]) => !/^[\w!#$%&'*+.^`|~-]+$/.test(key) || /[^\t -~]/.test(value))
  ) {
    reader.warnings.push(`${name} is no list of key=value pairs: no header is taken from it`);
    return {};
  }
  return Object.fromEntries(pairs.map(([key, value]) => [key.toLowerCase(), value]));
}

const SAMPLERS: Readonly<Record<string, { parentBased: boolean; ratio: number | undefined }>> = {
  always_on: { parentBased: false, ratio: 1 },
  always_off: { parentBased: false, ratio: 0 },
  traceidratio: { parentBased: false, ratio: undefined },
  parentbased_always_on: { parentBased: true, ratio: 1 },
  parentbased_always_off: { parentBased: true, ratio: 0 },
  parentbased_traceidratio: { parentBased: true, ratio: undefined },
};

function readSampling(reader: Reader): Sampling {
  const name = reader.text('OTEL_TRACES_SAMPLER') ?? 'parentbased_always_on';
  const sampler = Object.hasOwn(SAMPLERS, name) ? SAMPLERS[name] : undefined;
  if (sampler === undefined) {
    const names = Object.keys(SAMPLERS).join(', ');
    reader.wrong('OTEL_TRACES_SAMPLER', name, `one of ${names}`, 'parentbased_always_on is used');
    return { parentBased: true, ratio: 1 };
  }
  const { parentBased } = sampler;
  if (sampler.ratio !== undefined) return { parentBased, ratio: sampler.ratio };
  const text = reader.text('OTEL_TRACES_SAMPLER_ARG');
  const ratio = Number(text ?? 1);
  if (ratio >= 0 && ratio <= 1) return { parentBased, ratio };
  reader.wrong('OTEL_TRACES_SAMPLER_ARG', text!, 'a number from 0 to 1', '1 is used');
  return { parentBased, ratio: 1 };
}

/** Of all formats of context W3C's alone is known here; baggage is nothing to a server that calls nobody. */
function readsContext(reader: Reader): boolean {
  const names = reader
    .text('OTEL_PROPAGATORS')
    ?.split(',')
    .map((name) => name.trim());
  if (names === undefined) return true;
  for (const name of names) {
    if (!['tracecontext', 'baggage', 'none'].includes(name)) {
      reader.wrong('OTEL_PROPAGATORS', name, 'tracecontext, baggage or none', 'it is passed over');
    }
  }
  return names.includes('tracecontext');
}
