/**
 * Tracing as OpenTelemetry's environment variables ask for it: whether at all, which requests, and what of the rest can't be done.
 *
 * Called by the composition root with the environment. Reads what the SDK doesn't read, and looks at what it takes without a word: by the
 * specification a variable that makes no sense is warned of and then as if it were not set; where spans could then only go astray,
 * tracing stays off. It never stops the start of the server, and loads nothing of the SDK.
 */
import { accessSync, constants } from 'node:fs';

export type Environment = Readonly<Record<string, string | undefined>>;

export interface Sampling {
  /** Of traces that are decided here, 0 to 1. */
  readonly ratio: number;
  /** Whether a caller's own decision is followed. */
  readonly parentBased: boolean;
}

/** Options of the SDK's `BatchSpanProcessor`. */
export interface QueueSettings {
  readonly scheduledDelayMillis: number;
  readonly exportTimeoutMillis: number;
  readonly maxQueueSize: number;
  readonly maxExportBatchSize: number;
}

export interface TracingSettings {
  readonly sampling: Sampling;
  /** Whether the caller's `traceparent` is read. */
  readonly readsContext: boolean;
  readonly queue: QueueSettings;
  /** Whether the environment has attributes for the resource: the SDK reads them, but says nothing of those it can't. */
  readonly hasAttributes: boolean;
}

export interface ReadSettings {
  /** Undefined: off. */
  readonly settings: TracingSettings | undefined;
  /** Sentences for the log, each naming its variable. */
  readonly warnings: readonly string[];
}

export function readTracingSettings(env: Environment): ReadSettings {
  const reader = new Reader(env);
  const { warnings } = reader;
  if (!isWanted(reader) || !hasTarget(reader)) return { settings: undefined, warnings };
  checkHeaders(reader);
  const settings = {
    sampling: readSampling(reader),
    readsContext: readsContext(reader),
    queue: readQueue(reader),
    hasAttributes: reader.text('OTEL_RESOURCE_ATTRIBUTES') !== undefined,
  };
  return { settings, warnings };
}

/** Looks variables up; empty ones count as not set. */
class Reader {
  readonly warnings: string[] = [];
  readonly #env: Environment;

  constructor(env: Environment) {
    this.#env = env;
  }

  text(name: string): string | undefined {
    const text = this.#env[name]?.trim();
    return text === '' ? undefined : text;
  }

  /** Names of things, which count in any case; undefined where the variable is not set. */
  names(name: string): string[] | undefined {
    return this.text(name)
      ?.toLowerCase()
      .split(',')
      .map((each) => each.trim());
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
  const disabled = reader.text('OTEL_SDK_DISABLED');
  if (disabled?.toLowerCase() === 'true') return false;
  if (disabled !== undefined && disabled.toLowerCase() !== 'false')
    reader.wrong('OTEL_SDK_DISABLED', disabled, 'true or false', 'it counts as false');
  const exporters = reader.names('OTEL_TRACES_EXPORTER');
  if (exporters === undefined) return reader.otlp('ENDPOINT') !== undefined;
  for (const name of exporters) {
    if (name !== 'otlp' && name !== 'none')
      reader.wrong('OTEL_TRACES_EXPORTER', name, 'otlp or none', 'nothing goes there');
  }
  return exporters.includes('otlp');
}

/** Whether the SDK's exporter is going to find its collector; it would look for it elsewhere, or say nothing, where it can't. */
function hasTarget(reader: Reader): boolean {
  const OFF = 'tracing stays off';
  const protocol = reader.otlp('PROTOCOL');
  const name = protocol?.text.toLowerCase();
  if (protocol !== undefined && name === 'grpc') {
    // Its port is another one, where HTTP is not understood.
    reader.wrong(protocol.name, protocol.text, 'http/protobuf', OFF);
    return false;
  }
  if (protocol !== undefined && name !== 'http/protobuf') {
    reader.wrong(protocol.name, protocol.text, 'http/protobuf', 'http/protobuf is used');
  }
  const endpoint = reader.otlp('ENDPOINT');
  if (endpoint !== undefined && (!/^https?:/i.test(endpoint.text) || !URL.canParse(endpoint.text))) {
    reader.wrong(endpoint.name, endpoint.text, 'a URL that begins http:// or https://', OFF);
    return false;
  }
  for (const rest of ['CERTIFICATE', 'CLIENT_CERTIFICATE', 'CLIENT_KEY']) {
    const file = reader.otlp(rest);
    if (file === undefined) continue;
    try {
      accessSync(file.text, constants.R_OK);
    } catch (error) {
      const reason = (error as NodeJS.ErrnoException).code ?? 'unreadable';
      reader.wrong(file.name, file.text, `a file that can be read (${reason})`, OFF);
      return false;
    }
  }
  return true;
}

/** The SDK passes over what is no header without a word. Their values may be secrets: none is told. */
function checkHeaders(reader: Reader): void {
  for (const name of ['OTEL_EXPORTER_OTLP_HEADERS', 'OTEL_EXPORTER_OTLP_TRACES_HEADERS']) {
    const headers = reader.text(name)?.split(',') ?? [];
    if (headers.every((header) => header.trim() === '' || isHeader(header))) continue;
    reader.warnings.push(`${name} is no list of key=value pairs: what is of another form is not sent`);
  }
}

function isHeader(text: string): boolean {
  try {
    return /^\s*[\w!#$%&'*+.^`|~-]+\s*=[\t -~]+$/.test(decodeURIComponent(text));
  } catch {
    // A percent sign that stands for nothing.
    return false;
  }
}

function readQueue(reader: Reader): QueueSettings {
  const maxQueueSize = reader.number('OTEL_BSP_MAX_QUEUE_SIZE', 2048, 1);
  return {
    scheduledDelayMillis: reader.number('OTEL_BSP_SCHEDULE_DELAY', 5000, 0),
    exportTimeoutMillis: reader.number('OTEL_BSP_EXPORT_TIMEOUT', 30_000, 1),
    maxQueueSize,
    maxExportBatchSize: Math.min(maxQueueSize, reader.number('OTEL_BSP_MAX_EXPORT_BATCH_SIZE', 512, 1)),
  };
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
  const known = name.toLowerCase();
  const sampler = Object.hasOwn(SAMPLERS, known) ? SAMPLERS[known] : undefined;
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
  const names = reader.names('OTEL_PROPAGATORS');
  if (names === undefined) return true;
  for (const name of names) {
    if (!['tracecontext', 'baggage', 'none'].includes(name)) {
      reader.wrong('OTEL_PROPAGATORS', name, 'tracecontext, baggage or none', 'it is passed over');
    }
  }
  return names.includes('tracecontext');
}
