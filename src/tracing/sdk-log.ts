/**
 * What OpenTelemetry's SDK says of itself: its warnings go to the server's log, each once, so that a collector can't flood it.
 *
 * Made by `tracer.ts`. The SDK says by such a line alone how many spans a collector refused of an export that it took: that is read here.
 */
import { type DiagLogger, DiagLogLevel, diag } from '@opentelemetry/api';
import { printable } from '../base/errors.js';
import type { Log } from '../base/log.js';

const PARTIAL_SUCCESS = 'Received Partial Success response:';
/** Sentences that differ in more than their numbers, in the life of a server. */
const MAX_SENTENCES = 100;
const MAX_CHARACTERS = 300;

export class SdkLog implements DiagLogger {
  readonly #log: Log;
  readonly #told = new Set<string>();
  #rejected = 0;

  constructor(log: Log) {
    this.#log = log;
  }

  /** Takes the place of the logger before it, of which a process has one. */
  listen(): void {
    diag.setLogger(this, { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true });
  }

  /** Spans refused since it was last asked. */
  takeRejected(): number {
    const rejected = this.#rejected;
    this.#rejected = 0;
    return rejected;
  }

  error(...said: unknown[]): void {
    this.#tell(said);
  }

  warn(...said: unknown[]): void {
    if (said[0] === PARTIAL_SUCCESS) this.#rejected += rejectedSpans(String(said[1]));
    this.#tell(said);
  }

  info(): void {}
  debug(): void {}
  verbose(): void {}

  #tell(said: readonly unknown[]): void {
    const words = said.map((part) => (part instanceof Error ? part.message : part));
    const sentence = printable(words.filter((word) => typeof word === 'string').join(' '), MAX_CHARACTERS);
    const shape = sentence.replace(/\d+/g, '0');
    if (this.#told.has(shape) || this.#told.size >= MAX_SENTENCES) return;
    this.#told.add(shape);
    this.#log.warn({ said: sentence }, "a warning of OpenTelemetry's SDK, told once");
  }
}

function rejectedSpans(json: string): number {
  const { rejectedSpans = 0 } = JSON.parse(json) as { rejectedSpans?: number };
  return Math.max(0, rejectedSpans);
}
